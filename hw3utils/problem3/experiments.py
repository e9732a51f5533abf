"""The experiments of Problem 3: what is finetuned, which last layers are trained, and on what.

Descriptions, and the calls that follow them; `tables` shows what came of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hw3utils import text
from hw3utils.data import datasets
from hw3utils.data.images import (
    FlipAndCrop,
    ImageSet,
    ResizedScale,
    Splits,
    mirrored,
    stratified_order,
)
from hw3utils.problem3 import resnet
from hw3utils.problem3.arithmetic import (
    FAR_SLOWER,
    FEW,
    Arithmetic,
    compare_arithmetic,
    speed_up,
)
from hw3utils.problem3.finetuning import Finetuned, Finetuning, finetune_all
from hw3utils.problem3.last_layer import Head, HeadResult
from hw3utils.settings import Problem3
from hw3utils.training import fingerprints, sweeps, workers
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Steps

FINETUNE_RATES = (0.001, 0.01, 0.1)
HEAD_RATES = (1.0, 0.1, 0.01, 0.001)
WEIGHT_DECAY = 5e-4
DROPS = (0.25, 0.5, 0.75)
LAST_LAYER = "last layer"
ALL_LAYERS = "all layers"
PROBE_FROZEN = "last layer first, statistics frozen"
PROBE_TRAINED = "last layer first, statistics trained"
HEAD_FROZEN = "all layers, statistics frozen"
SLOW_TRUNK = "all layers, last layer ten times faster"
RANDOM_START = "all layers, random start"
# The rate of each approach where rates are not what is compared, chosen before any of these runs.
RATES = {
    ALL_LAYERS: 0.01, PROBE_FROZEN: 0.001, PROBE_TRAINED: 0.001, HEAD_FROZEN: 0.001,
    SLOW_TRUNK: 0.001, RANDOM_START: 0.01,
}  # fmt: skip
CROP = 4  # pixels by which training images are shifted, of 32
# Arms with one seed, each with the rate of plain finetuning from which it differs in one thing.
ONE_SEED = {HEAD_FROZEN: 0.001, SLOW_TRUNK: 0.01, RANDOM_START: 0.01}


@dataclass(frozen=True)
class Setup:
    """What all experiments share."""

    base: resnet.Base  # the ImageNet weights by name, without the tensors, which `build` reads
    target: datasets.Target  # the whole dataset, and which wanted sets could not be had
    scale: ResizedScale  # ImageNet's own normalisation, after enlarging to the settings' size
    parts: Splits  # the training, validation and test images that are used
    refit: bool  # whether the last layer is trained on all images there are, in the end

    @property
    def everything(self) -> ImageSet:
        """Training images, then validation images, for the last layer at the end, made anew."""
        train, validation, _ = self.target.parts if self.refit else self.parts
        return ImageSet(
            torch.cat([train.images, validation.images]),
            torch.cat([train.labels, validation.labels]),
            train.class_names,
        )

    @property
    def augment(self) -> FlipAndCrop:
        """What finetuning does to training images; no mirror where that has another meaning."""
        return FlipAndCrop(CROP, 0.5 if self.target.mirrors else 0.0)

    def views(self, images: ImageSet) -> list[ImageSet]:
        """Return the images, and their mirror images where these mean the same."""
        return [images, mirrored(images)] if self.target.mirrors else [images]

    def drawn(self, n: int, seed: int) -> ImageSet:
        """Return the ``n`` training images that a run with this seed draws."""
        train = self.parts.train
        return train.subset(drawn(train.labels, n, seed))


def drawn(labels: Tensor, n: int, seed: int) -> Tensor:
    """Return the indices of the ``n`` images that a run with this seed draws, as all runs do."""
    return stratified_order(labels, torch.Generator().manual_seed(seed))[:n]


def load(settings: Problem3) -> Setup:
    """Fetch weights and images as the settings say, before anything is trained.

    Raises a ValueError for an unknown name, an image size below 32, or too few images to cover the
    classes, and a `resnet.WeightsError` or a `downloads.SourcesExhaustedError` where weights or
    images cannot be had.
    """
    scale = imagenet_scale(settings.image_size)
    target = datasets.load_target(settings.dataset, size=settings.image_size)
    parts = target.parts.at_most(settings.n_train, settings.n_validation, settings.n_test)
    try:
        base = resnet.load_base(settings.weights)
    except resnet.WeightsError as error:
        raise resnet.WeightsError(text.without_digests(str(error))) from None
    return Setup(base._replace(state={}), target, scale, parts, settings.refit)


def check(settings: Problem3) -> None:
    """Raise a ValueError where a dataset's or the weights' name is unknown, or images too small.

    For whoever wants to know before anything is fetched.
    """
    datasets.check_names(settings.dataset)
    names = [name.strip() for name in settings.weights.split(" or ")]
    if unknown := [name for name in names if name not in resnet.WEIGHTS]:
        known = ", ".join(resnet.WEIGHTS)
        raise ValueError(f"unknown weights {', '.join(unknown)}: choose from {known}")
    imagenet_scale(settings.image_size)


class Size(NamedTuple):
    """How many training images, and how often they are seen."""

    images: int
    epochs: int


def sizes(setup: Setup, settings: Problem3) -> tuple[list[Size], list[Size], Size]:
    """Return the curve's sizes, the longer runs', and that of 3.1b and 3.1c.

    Where the dataset has fewer images, the largest number there is takes their place, with as many
    more epochs; never one that leaves a batch of a single image.
    """
    most = len(setup.parts.train)
    most -= most % settings.batch_size == 1

    def feasible(images: int, epochs: int) -> Size:
        return Size(images, epochs) if images <= most else Size(most, -(-epochs * images // most))

    curve = sorted({Size(min(n, most), 0): feasible(n, e) for n, e in settings.curve}.values())
    longer = sorted({feasible(min(n, most), e) for n, e in settings.longer} - set(curve))
    asked = feasible(min(settings.finetune_images, most), settings.finetune_epochs)
    return curve, longer, asked


class Arm(NamedTuple):
    """One finetuning run by name."""

    approach: str
    images: int
    epochs: int
    learning_rate: float
    seed: int


def arms(setup: Setup, settings: Problem3) -> list[Arm]:
    """Return all runs, those of 3.1b and 3.1c with the first seed only; none stands there twice.

    The order is that in which they are run: first what tests the mechanism.
    """
    curve, longer, asked = sizes(setup, settings)
    middle, seeds = curve[len(curve) // 2], range(settings.seeds)
    both = (PROBE_FROZEN, ALL_LAYERS)
    wanted = [(name, middle, seed) for seed in seeds for name in (*both, PROBE_TRAINED)]
    wanted += [(name, size, seed) for size in curve for seed in seeds for name in both]
    single = list(ONE_SEED)[: settings.more_arms]
    wanted += [(name, middle, 0) for name in single]
    found = [Arm(name, *size, RATES[name], seed) for name, size, seed in wanted]
    found += [Arm(ALL_LAYERS, *middle, ONE_SEED[name], 0) for name in single]
    found += [Arm(ALL_LAYERS, *asked, lr, 0) for lr in FINETUNE_RATES]
    found += [Arm(name, *size, RATES[name], 0) for size in longer for name in both]
    return list(dict.fromkeys(found))


def best_validation(result: HeadResult | Finetuned) -> float:
    """Return the validation accuracy of the best epoch, 0 where no epoch counts."""
    return float(result.history["validation_accuracy"].fillna(0).max())


def more_seeds(setup: Setup, settings: Problem3, finetuned: Mapping[Arm, Finetuned]) -> list[Arm]:
    """Return the other seeds of 3.1c's winner: the learning rate best on validation images."""
    asked = sizes(setup, settings)[2]
    tried = [Arm(ALL_LAYERS, *asked, lr, 0) for lr in FINETUNE_RATES]
    best = max(tried, key=lambda arm: best_validation(finetuned[arm]))
    return [best._replace(seed=seed) for seed in range(1, settings.finetune_seeds)]


ARITHMETIC_SIZE = Size(640, 3)


def compare_outcomes(
    setup: Setup, heads: Mapping[tuple[int, int], Head], settings: Problem3
) -> dict[tuple[str, bool, int], Finetuned]:
    """Finetune small runs in bf16 and in float32, by approach, whether it is bf16, and seed.

    Of plain finetuning, whose gradients bf16 changes more than those of frozen statistics. They are
    judged on the validation images: the test set stays shut. ``heads`` as `finetunings` takes them.
    Nothing is compared where the dataset has too few images.
    """
    size = ARITHMETIC_SIZE
    if len(setup.parts.train) < size.images:
        return {}
    runs = [
        Arm(ALL_LAYERS, *size, RATES[ALL_LAYERS], seed) for seed in range(settings.arithmetic_seeds)
    ]
    wanted = {
        (arm.approach, bf16, arm.seed): run
        for bf16 in (True, False)
        for arm, run in finetunings(setup, runs, heads, settings, bf16).items()
    }
    shut = setup.parts._replace(test=setup.parts.validation)
    return finetune_all(wanted, shut, setup.scale) if wanted else {}


def compare_gradients(
    setup: Setup,
    head: Head,
    settings: Problem3,
    batches: int = 8,
    cache_dir: Path | None = None,
) -> dict[str, Arithmetic]:
    """Compare bf16 with float32 where finetuning starts: a new, and a trained last layer.

    What was measured is kept: a run that is resumed goes on in the arithmetic in which it began.
    """
    images = setup.drawn(min(len(setup.parts.train), batches * settings.batch_size), 0)
    tasks = {
        approach: (setup.base.weights, start, setup.scale, images.num_classes, settings.batch_size)
        for approach, start in ((ALL_LAYERS, None), (PROBE_FROZEN, tuple(head)))
    }
    found = sweeps.map_cached(
        _compare_gradients,
        tasks,
        [images.images, images.labels],
        [setup.base.digest, images.checksum],
        title="arithmetic",
        n_jobs=workers.processes(),
        cache_dir=cache_dir,
    )
    return {approach: Arithmetic(**compared) for approach, compared in found.items()}


@fingerprints.task
def _compare_gradients(
    weights: str,
    head: tuple[Tensor, Tensor] | None,
    scale: ResizedScale,
    num_classes: int,
    batch_size: int,
    images: Tensor,
    labels: Tensor,
) -> dict[str, float]:
    """Compare on these images; with a ``head`` given, statistics are frozen. An `Arithmetic`.

    Where bf16 is far slower, as on a processor without it, the rest would take minutes to refuse
    it: all that is measured then is that.
    """
    device = workers.pick_device()
    model = resnet.build(weights, num_classes, 0).to(device).train()
    if head is not None:
        model.fc.load_state_dict(Head(*head)._asdict())
        resnet.freeze_statistics(model)
    batches = [
        (scale(pixels), truth)
        for pixels, truth in zip(
            images.to(device).split(batch_size), labels.to(device).split(batch_size), strict=True
        )
    ]
    quick = speed_up(model, *(part[:FEW] for part in batches[0]))
    if quick < FAR_SLOWER:
        return Arithmetic(0, quick, rounding=math.nan, bias=math.nan, cosine=math.nan)._asdict()
    return compare_arithmetic(model, batches)._asdict()


def finetunings(
    setup: Setup,
    wanted: Sequence[Arm],
    heads: Mapping[tuple[int, int], Head],
    settings: Problem3,
    bf16: bool,
) -> dict[Arm, Finetuning]:
    """Describe each arm's run; ``heads`` are what those start from that train the last layer first.

    That the last layer comes first is Kumar et al.'s (2022, 2202.10054).
    """
    described = {}
    for arm in wanted:
        run = Run(
            "resnet50",
            Steps(arm.learning_rate, factor=0.1, at=DROPS),
            arm.epochs,
            batch_size=settings.batch_size,
            weight_decay=WEIGHT_DECAY,
            seed=arm.seed,
        )
        probe_first = arm.approach in (PROBE_FROZEN, PROBE_TRAINED)
        described[arm] = Finetuning(
            run,
            arm.images,
            resnet.RANDOM if arm.approach == RANDOM_START else setup.base.weights,
            setup.base.digest,
            head=tuple(heads[arm.images, arm.seed]) if probe_first else None,
            head_factor=10.0 if arm.approach == SLOW_TRUNK else 1.0,
            frozen_statistics=arm.approach in (PROBE_FROZEN, HEAD_FROZEN),
            augment=setup.augment,
            bf16=bf16,
        )
    return described


def imagenet_scale(size: int) -> ResizedScale:
    """Return ImageNet's own normalisation after enlarging to ``size`` pixels of a side."""
    scale = resnet.IMAGENET_SCALE
    return ResizedScale(scale.mean, scale.std, size)
