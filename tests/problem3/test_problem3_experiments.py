"""Which runs Problem 3 makes, for every profile and for data sets of all sizes."""

import itertools
import math

import pandas as pd
import pytest
import torch

from hw3utils.data import datasets
from hw3utils.data.images import ImageSet, ResizedScale, Splits
from hw3utils.problem3 import experiments, resnet
from hw3utils.problem3.arithmetic import Arithmetic
from hw3utils.problem3.experiments import ALL_LAYERS, Arm, Setup, Size
from hw3utils.problem3.finetuning import check_finetuning
from hw3utils.problem3.last_layer import Head
from hw3utils.settings import PROFILES, Problem3
from made_up import decathlon_archive, make_images

BASE = resnet.Base(resnet.RANDOM, "drawn", {}, "none")
SCALE = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)


def setup_of(n, name="cifar10", num_classes=2):
    """Return a set-up with ``n`` training images of one pixel, and four of each other part."""

    def part(n):
        labels = torch.arange(n) % num_classes
        pixels = torch.randint(0, 256, (n, 3, 1, 1), generator=torch.Generator().manual_seed(n))
        names = tuple(map(str, range(num_classes)))
        return ImageSet(pixels.to(torch.uint8), labels, names)

    parts = Splits(part(n), part(4), part(4))
    return Setup(BASE, datasets.Target(name, parts, {}), SCALE, parts, refit=False)


def stand_in_heads(arms):
    return {(arm.images, arm.seed): Head(torch.zeros(2, 2048), torch.zeros(2)) for arm in arms}


class TestLoading:
    @pytest.fixture(autouse=True)
    def no_weights(self, monkeypatch):
        monkeypatch.setattr(resnet, "load_base", lambda name: BASE)

    @pytest.mark.parametrize("profile", PROFILES)
    def test_the_same_settings_work_for_another_archive(self, tmp_path, monkeypatch, profile):
        """All it takes is the name: a small set of the Decathlon, as an archive put there."""
        decathlon_archive(tmp_path, train=101, validation=60)
        monkeypatch.setenv("HW3_DATA", str(tmp_path))
        settings = Problem3.for_profile(profile, dataset="decathlon/dtd", image_size=32)
        setup = experiments.load(settings)
        whole = setup.target.parts
        assert [len(part) for part in whole] == [162, 40, 120]
        assert len(setup.parts.train) == min(162, settings.n_train)
        expected = whole if settings.refit else setup.parts
        assert len(setup.everything) == len(expected.train) + len(expected.validation)
        curve, longer, asked = experiments.sizes(setup, settings)
        assert all(64 <= size.images <= 162 for size in (*curve, *longer, asked))
        wanted = experiments.arms(setup, settings)
        for run in experiments.finetunings(
            setup, wanted, stand_in_heads(wanted), settings, bf16=False
        ).values():
            check_finetuning(run, len(setup.parts.train))

    @pytest.mark.parametrize(("name", "mirrored"), [("dtd", True), ("svhn", False)])
    def test_digits_are_shifted_but_never_mirrored(self, tmp_path, monkeypatch, name, mirrored):
        decathlon_archive(tmp_path, name=name, train=40, validation=60)
        monkeypatch.setenv("HW3_DATA", str(tmp_path))
        wanted = f"decathlon/{name}"
        settings = Problem3.for_profile("smoke", dataset=wanted, image_size=32, n_validation=8)
        setup = experiments.load(settings)
        assert len(setup.views(setup.parts.train)) == 1 + mirrored
        ramp = torch.arange(0, 96, 3, dtype=torch.uint8).expand(30, 3, 32, 32).contiguous()
        images = ImageSet(ramp, torch.zeros(30, dtype=torch.int64), ("a", "b"))
        seen = setup.augment(images, torch.Generator().manual_seed(0)).images[:, 0, 16, 8:24].int()
        falls = (seen[:, 0] > seen[:, -1]).sum()
        assert 5 < falls < 25 if mirrored else falls == 0
        assert len(seen.unique(dim=0)) > 5, "nothing is shifted"

    def test_validation_and_test_images_are_the_same_for_every_number_of_training_images(self):
        loaded = [
            experiments.load(
                Problem3.for_profile("smoke", dataset="cifar10", n_train=n, n_test=1_000)
            )
            for n in (896, 5_000, 1_000_000)
        ]
        assert [len(setup.parts.train) for setup in loaded] == [896, 5_000, 40_000]
        for part in ("validation", "test"):
            assert len({getattr(setup.parts, part).checksum for setup in loaded}) == 1, part
        few, more, every = (setup.parts.train.images for setup in loaded)
        assert torch.equal(few, more[:896]) and torch.equal(more, every[:5_000])

    def test_an_image_size_below_32_is_refused_before_anything_is_fetched(self, monkeypatch):
        monkeypatch.setattr(datasets, "load_target", lambda *_, **__: pytest.fail("fetched"))
        with pytest.raises(ValueError, match="must be at least 32"):
            experiments.load(Problem3.for_profile("smoke", image_size=16))


class TestSizes:
    OVERNIGHT = Problem3.for_profile("overnight")

    def test_with_enough_images_they_are_the_settings(self):
        curve, longer, asked = experiments.sizes(setup_of(40_000), self.OVERNIGHT)
        assert curve == [Size(*size) for size in self.OVERNIGHT.curve]
        assert longer == [Size(*size) for size in self.OVERNIGHT.longer]
        assert asked == Size(self.OVERNIGHT.finetune_images, self.OVERNIGHT.finetune_epochs)

    @pytest.mark.parametrize(
        ("n", "largest"), [(10_241, 10_240), (1_880, 1_880), (1_025, 1_024), (257, 256)]
    )
    def test_with_fewer_images_all_there_are_take_the_place_of_more(self, n, largest):
        """As often seen as the more would have been; and no batch is a single image."""
        curve, longer, asked = experiments.sizes(setup_of(n), self.OVERNIGHT)
        assert curve == sorted(set(curve)) and curve[-1].images == largest
        for images, epochs in self.OVERNIGHT.curve:
            if images >= largest:
                seen = curve[-1].images * curve[-1].epochs
                assert images * epochs <= seen < images * epochs + largest
            else:
                assert Size(images, epochs) in curve
        assert asked == Size(min(2_560, largest), self.OVERNIGHT.finetune_epochs)
        assert all(size.images % self.OVERNIGHT.batch_size != 1 for size in (*curve, asked))
        assert not set(longer) & set(curve)

    @pytest.mark.parametrize("profile", PROFILES)
    def test_the_curves_sizes_have_as_many_updates_each(self, profile):
        """Otherwise it would show the length of training, not the number of images."""
        settings = Problem3.for_profile(profile)
        assert len({images * epochs for images, epochs in settings.curve}) == 1


class TestArms:
    @pytest.mark.parametrize(
        ("profile", "n"), [*itertools.product(PROFILES, (40_000, 12_801, 1_880, 1_025, 162, 65))]
    )
    def test_no_run_is_made_twice_and_each_can_be_trained(self, profile, n):
        settings, setup = Problem3.for_profile(profile), setup_of(n)
        wanted = experiments.arms(setup, settings)
        assert len(set(wanted)) == len(wanted)
        runs = experiments.finetunings(setup, wanted, stand_in_heads(wanted), settings, False)
        for run in runs.values():
            check_finetuning(run, n)

    @pytest.mark.parametrize("profile", PROFILES)
    def test_every_difference_can_be_paired_by_seed(self, profile):
        settings, setup = Problem3.for_profile(profile), setup_of(40_000)
        wanted = set(experiments.arms(setup, settings))
        curve, _, asked = experiments.sizes(setup, settings)
        for size, seed in itertools.product(curve, range(settings.seeds)):
            for name in (ALL_LAYERS, experiments.PROBE_FROZEN):
                assert Arm(name, *size, experiments.RATES[name], seed) in wanted
        for lr in (0.001, 0.01, 0.1):
            assert Arm(ALL_LAYERS, *asked, lr, 0) in wanted, "3.1b asks for it"

    @pytest.mark.parametrize("bf16", [False, True])
    def test_each_arm_differs_in_what_its_name_says_and_in_nothing_else(self, bf16):
        settings, setup = Problem3.for_profile("overnight"), setup_of(40_000, "svhn")
        heads = {(640, seed): Head(torch.full((2, 2048), seed), torch.zeros(2)) for seed in (0, 1)}
        names = list(experiments.RATES)
        wanted = [Arm(name, 640, 3, 0.01, seed) for name in names for seed in (0, 1)]
        found = experiments.finetunings(setup, wanted, heads, settings, bf16)
        assert list(found) == wanted
        for arm, run in found.items():
            starts = arm.approach in (experiments.PROBE_FROZEN, experiments.PROBE_TRAINED)
            frozen = arm.approach in (experiments.PROBE_FROZEN, experiments.HEAD_FROZEN)
            assert (run.head is not None) is starts and run.frozen_statistics is frozen
            if starts:
                assert run.head[0].unique() == arm.seed, "another seed's last layer"
            assert (run.weights == "random") or arm.approach != experiments.RANDOM_START
            assert run.head_factor == (10 if arm.approach == experiments.SLOW_TRUNK else 1)
            assert (run.images, run.bf16, run.augment.mirror) == (640, bf16, 0)
            assert (run.run.seed, run.run.epochs, run.run.schedule.lr) == (arm.seed, 3, 0.01)
            assert (run.run.weight_decay, run.run.schedule.at) == (5e-4, (0.25, 0.5, 0.75))

    def test_more_seeds_are_those_of_the_rate_that_is_best_on_validation_images(self):
        settings, setup = Problem3.for_profile("overnight", finetune_seeds=3), setup_of(40_000)
        asked = experiments.sizes(setup, settings)[2]

        class Ended:
            def __init__(self, *accuracies):
                self.history = pd.DataFrame({"validation_accuracy": accuracies})

        scores = {0.001: Ended(0.4, 0.5), 0.01: Ended(0.7, 0.6), 0.1: Ended(math.nan, math.nan)}
        finished = {Arm(ALL_LAYERS, *asked, lr, 0): ended for lr, ended in scores.items()}
        found = experiments.more_seeds(setup, settings, finished)
        assert found == [Arm(ALL_LAYERS, *asked, 0.01, seed) for seed in (1, 2)]
        for name in scores:
            finished[Arm(ALL_LAYERS, *asked, name, 0)] = scores[0.1]
        assert {arm.seed for arm in experiments.more_seeds(setup, settings, finished)} == {1, 2}


class TestArithmetic:
    def test_outcomes_are_paired_and_the_test_set_stays_shut(self, monkeypatch):
        settings, setup = Problem3.for_profile("overnight", arithmetic_seeds=2), setup_of(40_000)
        seen = {}

        def finetune_all(wanted, parts, scale):
            seen.update(wanted=wanted, parts=parts)
            return wanted

        monkeypatch.setattr(experiments, "finetune_all", finetune_all)
        size = experiments.ARITHMETIC_SIZE.images
        heads = {(size, seed): Head(torch.zeros(2, 2048), torch.zeros(2)) for seed in (0, 1)}
        found = experiments.compare_outcomes(setup, heads, settings)
        assert seen["parts"].test is setup.parts.validation
        exact = {name: run for name, run in found.items() if not run.bf16}
        assert len(found) == 2 * len(exact) > 0
        for (approach, _, seed), run in exact.items():
            other = found[approach, True, seed]
            assert other.bf16 and vars(other) | {"bf16": False} == vars(run)
            assert run.run.seed == seed

    def test_gradients_are_compared_once_where_finetuning_starts(self, tmp_path, monkeypatch):
        """With a new last layer in training mode, and with the given one on kept statistics."""
        compared = []

        def compare(model, batches):
            compared.append((model, batches))
            return Arithmetic(len(batches), speed_up=2.0, rounding=0.1, bias=0.0, cosine=0.9)

        monkeypatch.setenv("HW3_JOBS", "1")
        monkeypatch.setattr(experiments, "speed_up", lambda *_: 1.0)
        monkeypatch.setattr(experiments, "compare_arithmetic", compare)
        images = make_images(40, shape=(3, 32, 32))
        parts = Splits(images, images, images)
        setup = Setup(BASE, datasets.Target("cifar10", parts, {}), SCALE, parts, refit=False)
        head = Head(torch.full((10, 2048), 0.5), torch.ones(10))
        settings = Problem3.for_profile("smoke", batch_size=8)
        found, again = (
            experiments.compare_gradients(setup, head, settings, batches=3, cache_dir=tmp_path)
            for _ in range(2)
        )
        assert again == found and len(compared) == 2, "measured anew, it could choose otherwise"
        assert set(found) == {ALL_LAYERS, experiments.PROBE_FROZEN}
        (new, batches), (given, same) = compared
        assert [len(labels) for _, labels in batches] == [8, 8, 8]
        assert torch.equal(batches[0][0], SCALE(setup.drawn(24, 0).images[:8]))
        assert torch.equal(same[2][1], setup.drawn(24, 0).labels[16:])
        assert new.training and new.bn1.training and not given.bn1.training
        assert torch.equal(given.fc.weight, head.weight) and not torch.equal(
            new.fc.weight[0], head.weight[0]
        )

    @pytest.mark.parametrize("quick", [0.1, 0.6])
    def test_where_bf16_is_far_slower_nothing_else_is_measured(self, quick, monkeypatch):
        timed, compared = [], []

        def speed_up(model, images, labels):
            timed.append((len(images), len(labels)))
            return quick

        def compare(model, batches):
            compared.append(batches)
            return Arithmetic(len(batches), 0.6, 0.1, 0.0, 0.9)

        monkeypatch.setattr(experiments, "speed_up", speed_up)
        monkeypatch.setattr(experiments, "compare_arithmetic", compare)
        images = make_images(40, shape=(3, 32, 32))
        found = Arithmetic(
            **experiments._compare_gradients(
                BASE.weights, None, SCALE, 10, 16, images.images, images.labels
            )
        )
        assert timed == [(8, 8)] and not found.use
        if quick < 0.5:
            assert found[:2] == (0, quick) and not compared
        else:
            assert found.batches == 3 and compared
