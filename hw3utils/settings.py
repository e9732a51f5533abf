"""How large a run is: the numbers behind the profiles of `PROFILES`.

One frozen dataclass for each problem. Its defaults are the numbers of one profile, ``SIZES`` holds
what the others change. Change a number here; those of a notebook's parameters cell also by name for
one run: in that cell, or with ``python -m hw3utils run problem1 -p seeds=3``.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hw3utils import paths
from hw3utils.checks import check_whole_number

PROFILES = {  # and what each is for
    "smoke": "a quick try on a few images, whose numbers mean nothing",
    "laptop": "what two cores do in twenty minutes, on a part of the images; most things are done "
    "once, so that a small difference cannot be told from chance",
    "overnight": "several seeds and longer runs, to be left alone for a night",
    "full": "the handout's sizes everywhere, for a GPU",
}


def profile_name(profile: str | None = None) -> str:
    """Return the profile to use: the argument, else ``HW3_PROFILE``, else ``"laptop"``.

    Raises a ValueError where it is not one of `PROFILES`.
    """
    name = profile or os.environ.get("HW3_PROFILE") or "laptop"
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return name


def jobs() -> int | None:
    """Return the number of training processes that ``HW3_JOBS`` asks for, None where it is not set.

    Raises a ValueError where it is not a whole number of at least 1.
    """
    asked = os.environ.get("HW3_JOBS")
    if not asked:
        return None
    if not (asked.isdecimal() and int(asked) >= 1):
        raise ValueError(f"HW3_JOBS={asked!r}: must be a whole number of at least 1")
    return int(asked)


@dataclass(frozen=True)
class Settings:
    """What every problem's settings share."""

    profile: str  # one of PROFILES
    changed: tuple[str, ...] = ()  # the numbers overridden by name, as "name=value"
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {}  # what a profile changes

    @classmethod
    def for_profile(cls, profile: str | None = None, **changes: Any) -> "Settings":
        """Return the settings of a profile; ``changes`` override numbers (None changes nothing).

        Raises a ValueError where the profile or a name is unknown, or a value makes no sense; so
        does ``HW3_JOBS``, which would otherwise be read only when something is trained.
        """
        name = profile_name(profile)
        jobs()
        defaults = cls(profile=name, **cls.SIZES.get(name, {}))
        allowed = {field.name for field in dataclasses.fields(cls)} - {"profile", "changed"}
        changes = {key: value for key, value in changes.items() if value is not None}
        if unknown := sorted(set(changes) - allowed):
            raise ValueError(
                f"unknown number {', '.join(unknown)}: choose from {', '.join(sorted(allowed))}"
            )
        for key, value in changes.items():
            _check_change(key, value, getattr(defaults, key))
        changed = tuple(
            f"{key}={value}"
            for key, value in sorted(changes.items())
            if value != getattr(defaults, key)
        )
        return dataclasses.replace(defaults, **changes, changed=changed)

    @property
    def sentence(self) -> str:
        """Which run a reader has before them, in Markdown."""
        changed = f" Changed by hand: {', '.join(self.changed)}." if self.changed else ""
        purpose = PROFILES[self.profile]
        return f"You are reading a run of the profile **`{self.profile}`**: {purpose}.{changed}"

    @property
    def output(self) -> Path:
        """The folder into which this run writes; changed numbers never mix with the profile's."""
        return paths.output_dir(self.profile + ("-changed" if self.changed else ""))

    @property
    def figures(self) -> Path:
        """The folder for this run's figures."""
        return self.output / "figures"

    @property
    def results(self) -> Path:
        """The folder for this run's JSON and CSV files."""
        return self.output / "answers" / "results"


@dataclass(frozen=True)
class Problem1(Settings):
    """Sizes of Problem 1; the defaults are the handout's own numbers, on all images there are."""

    n_train: int = 48_000  # training images: at least 4,096, the largest batch
    n_validation: int = 12_000
    n_test: int = 10_000
    sweep_epochs: int = 5  # for each learning rate of 1.1
    sweep_seeds: int = 1  # repetitions of 1.1, 1.3d and the range test
    extra_rates: int = 0  # learning rates between 1e-3 and 0.5 beside the handout's ten
    range_updates: int = 400  # of the range test, for each factor of ten of the learning rate
    budget_epochs: int = 8  # for each schedule of 1.2
    cycles: int = 3  # whole cycles within that budget; Smith advises at least 3
    final_amplitude: float = 0.1  # of the cycle's amplitude, left at the end of the budget
    constant_rates: int = 3  # between lr_min and lr_max, of which the best is the constant rate
    stage_epochs: int = 1  # at each of the eight batch sizes of 1.3a to 1.3c
    separate_epochs: int = 3  # for each batch size of 1.3d
    noise_epochs: int = 2  # for each batch size where the noise is held fixed
    seeds: int = 1  # repetitions of the other runs of 1.2 and 1.3

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "n_train": 4_096,
            "n_validation": 500,
            "n_test": 500,
            "sweep_epochs": 1,
            "range_updates": 40,
            "budget_epochs": 3,
            "constant_rates": 2,
            "separate_epochs": 1,
            "noise_epochs": 1,
        },
        "laptop": {
            "n_train": 16_384,
            "n_validation": 4_000,
            "budget_epochs": 6,
            "separate_epochs": 2,
        },
        "overnight": {
            "sweep_seeds": 3,
            "extra_rates": 10,
            "budget_epochs": 12,
            "constant_rates": 5,
            "separate_epochs": 5,
            "noise_epochs": 4,
            "seeds": 5,
        },
        "full": {
            "sweep_seeds": 5,
            "extra_rates": 10,
            "budget_epochs": 15,
            "constant_rates": 7,
            "separate_epochs": 5,
            "noise_epochs": 5,
            "seeds": 10,
        },
    }

    def __post_init__(self) -> None:
        for name, most in (("n_train", 48_000), ("n_validation", 12_000), ("n_test", 10_000)):
            if getattr(self, name) > most:
                raise ValueError(f"{name}={getattr(self, name)}: there are {most} such images")
        check_whole_number("n_train", self.n_train, at_least=4_096)
        check_whole_number("range_updates", self.range_updates, at_least=10)
        check_whole_number("constant_rates", self.constant_rates, at_least=2)
        updates = self.budget_epochs * self.n_train // 64
        if self.cycles > updates // 10:
            raise ValueError(f"cycles={self.cycles}: too many for {updates} updates in 1.2")
        if not 0 < self.final_amplitude <= 1:
            raise ValueError(f"final_amplitude={self.final_amplitude}: must lie in (0, 1]")


@dataclass(frozen=True)
class Problem2(Settings):
    """Sizes of Problem 2's region proposal network; the defaults are those of `laptop`."""

    n_train: int = 20_000  # garments from which canvases are composed for training,
    n_validation: int = 2_000  # for the loss on unseen ones,
    n_test: int = 10_000  # and for measuring the proposals
    rpn_seeds: int = 4  # networks, each with canvases of its own
    rpn_canvases: int = 180  # composed for training
    rpn_epochs: int = 10
    unseen_canvases: int = 40  # on which proposals are measured, the same ones for all networks

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "n_train": 500,
            "n_validation": 200,
            "n_test": 200,
            "rpn_seeds": 2,
            "rpn_canvases": 20,
            "rpn_epochs": 4,
            "unseen_canvases": 3,
        },
        "overnight": {
            "n_train": 48_000,
            "rpn_seeds": 5,
            "rpn_canvases": 640,
            "unseen_canvases": 100,
        },
        "full": {
            "n_train": 48_000,
            "rpn_seeds": 5,
            "rpn_canvases": 4_000,
            "rpn_epochs": 20,
            "unseen_canvases": 500,
        },
    }


@dataclass(frozen=True)
class Problem3(Settings):
    """Sizes of Problem 3; the defaults are the handout's own numbers."""

    dataset: str = "cifar100 or cifar10"  # of data.datasets.DATASETS; of "A or B" the first found
    weights: str = "IMAGENET1K_V1 or KERAS_V1"  # of resnet.WEIGHTS, likewise
    image_size: int = 224  # pixels of a side as the network sees the images, at least 32
    n_train: int = 1_000_000  # images of each part, at most
    n_validation: int = 1_000_000
    n_test: int = 1_000_000
    batch_size: int = 64
    seeds: int = 3  # repetitions: each draws its own training images
    head_images: tuple[int, ...] = (160, 640, 2_560, 12_800, 40_000)  # for the last layer alone
    head_epochs: int = 60  # with the last layer alone
    refit: bool = True  # whether it is trained on all images there are, once it is chosen
    finetune_images: int = 1_000_000  # 3.1b and 3.1c: images,
    finetune_epochs: int = 60  # and epochs with all layers,
    finetune_seeds: int = 3  # and repetitions of the learning rate that is best
    # Images and epochs of the curve, with the same number of updates; its middle is the size at
    # which the arms that test the mechanism are compared.
    curve: tuple[tuple[int, int], ...] = ((640, 100), (2_560, 25), (12_800, 5))
    longer: tuple[tuple[int, int], ...] = ((12_800, 25),)  # likewise, with one seed
    more_arms: int = 3  # so many of the arms that have one seed
    crop_views: int = 4  # of each image, where the last layer is trained on crops
    adapted_updates: int = 80  # of BatchNorm's statistics: 0.9**80, 0.02 %, of ImageNet's are left
    arithmetic_seeds: int = 5  # small runs in bf16 and in float32
    compared_sizes: tuple[int, ...] = (32, 64, 96, 224)  # pixels, in the figure of image sizes
    compared_images: int = 5_120  # training images in that figure, at most

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "image_size": 32,
            "n_train": 128,
            "n_validation": 60,
            "n_test": 60,
            "seeds": 2,
            "head_images": (64, 128),
            "head_epochs": 8,
            "refit": False,
            "finetune_images": 64,
            "finetune_epochs": 2,
            "finetune_seeds": 2,
            "curve": ((64, 2), (128, 1)),
            "longer": (),
            "more_arms": 1,
            "crop_views": 2,
            "adapted_updates": 8,
            "arithmetic_seeds": 0,
            "compared_sizes": (32, 64),
            "compared_images": 128,
        },
        "laptop": {
            "image_size": 64,
            "n_train": 768,
            "n_validation": 300,
            "n_test": 750,
            "seeds": 1,
            "head_images": (128, 256, 512, 768),
            "refit": False,
            "finetune_images": 768,
            "finetune_epochs": 4,
            "finetune_seeds": 1,
            "curve": ((256, 12), (768, 4)),
            "longer": (),
            "more_arms": 0,
            "crop_views": 2,
            "adapted_updates": 48,
            "arithmetic_seeds": 0,
            "compared_sizes": (32, 64, 96),
            "compared_images": 256,
        },
        "overnight": {
            "image_size": 64,
            "n_validation": 500,
            "head_images": (160, 640, 2_560, 10_240, 40_000),
            "finetune_images": 2_560,
            "finetune_epochs": 32,
            "curve": ((640, 32), (2_560, 8), (10_240, 2)),
            "longer": ((10_240, 10),),
            "compared_sizes": (32, 64, 96),
            "compared_images": 2_560,
        },
    }


@dataclass(frozen=True)
class Problem4(Settings):
    """Sizes of Problem 4; the defaults are those of `overnight`, the committed run."""

    n_train: int = 48_000  # at most as many images as Problem 1 has
    n_validation: int = 6_000
    n_test: int = 10_000
    label_seeds: int = 5  # repetitions in 4.2
    student_seeds: int = 5  # and in 4.3
    noise_images: int = 20_000  # images with noisy labels
    noise_updates: int = 1_000  # weight updates on them,
    longer_updates: int = 3_000  # and where the same is trained for longer
    probe_images: int = 200  # clean images of each class under which frozen features are judged
    tail_largest: int = 4_000  # images of the most frequent class of the long-tailed set
    tail_exponent: float = 2.0  # rank r has tail_largest / r**tail_exponent images; Zipf: 1
    tail_updates: int = 800
    labelled: int = 50  # images of each class in the labelled set D
    pool: int = 30_000  # images in the unlabelled pool U
    teacher_updates: int = 300  # weight updates of the teacher on D
    student_updates: int = 1_500  # of the student on D̂
    finetune_updates: int = 150  # and then on D
    k: int = 1_000  # images for each class, where K is not what is varied
    p: int = 3  # classes for each image, where P is not what is varied
    ks: tuple[int, ...] = (25, 100, 500, 1_000, 2_000, 3_000, 4_500, 6_000)  # of 4.3d
    judged_ks: tuple[int, ...] = (100, 3_000, 6_000)  # between which it is asked: rise or fall?
    ps: tuple[int, ...] = (1, 2, 3, 5)  # of 4.3b, and of the precisions in 4.3d
    judged_ps: tuple[int, ...] = (1, 3)  # between which it is asked what P > 1 brings
    rare_classes: int = 3  # in 4.3b: classes of which D has
    rare_labelled: int = 4  # so few images each,
    rare_k: int = 1_500  # and K
    temperature: float = 2.0  # of distillation with soft labels

    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "n_train": 4_000,
            "n_validation": 300,
            "n_test": 300,
            "label_seeds": 2, "student_seeds": 2,
            "noise_images": 960,
            "noise_updates": 15,
            "longer_updates": 25,
            "probe_images": 30,
            "tail_largest": 300,
            "tail_updates": 15,
            "labelled": 20,
            "pool": 1_280,
            "teacher_updates": 30,
            "student_updates": 20,
            "finetune_updates": 10,
            "k": 60,
            "ks": (25, 128, 256),
            "judged_ks": (25, 128, 256),
            "ps": (1, 3),
            "rare_k": 60,
        },
        # A student's updates are one pass over U; as overnight, the middle K is what U has of a
        # class, and the largest K twice that.
        "laptop": {
            "n_validation": 2_000,
            "n_test": 5_000,
            "label_seeds": 2, "student_seeds": 2,
            "noise_updates": 300,
            "longer_updates": 750,
            "tail_updates": 300,
            "pool": 12_000,
            "student_updates": 190,
            "finetune_updates": 60,
            "ks": (100, 600, 1_200, 2_400),
            "judged_ks": (100, 1_200, 2_400),
            "ps": (1, 3),
            "k": 600,
            "rare_k": 600,
        },
        "full": {
            "n_validation": 12_000,
            "noise_images": 40_000,
            "noise_updates": 6_000,
            "longer_updates": 12_000,
            "tail_updates": 2_000,
            "student_updates": 3_000,
            "finetune_updates": 300,
            "ks": (25, 50, 100, 250, 500, 1_000, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000, 6_000,
                   8_000),
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        for tried, number in (("ks", 3), ("ps", 2)):
            asked = getattr(self, f"judged_{tried}")
            if list(asked) != sorted(set(asked)) or len(asked) != number:
                raise ValueError(f"judged_{tried}={asked}: must be {number} numbers that rise")
            if missing := set(asked) - set(getattr(self, tried)):
                raise ValueError(f"judged_{tried}: {sorted(missing)} must be among {tried} too")


def _check_change(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than the profile's, or one that is not positive."""
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name}={value!r}: expected {wanted.__name__}, like {default!r}")
    if wanted in (int, float) and not value > 0:
        raise ValueError(f"{name}={value!r}: must be greater than 0")
