"""The experiments with the last layer alone, on made-up features that tell an image's class.

Wherever features met another image's label, accuracy would be that of guessing.
"""

import pandas as pd
import pytest
import torch

from hw3utils.data import datasets
from hw3utils.data.images import ImageSet, ResizedScale, Splits, stratified_order
from hw3utils.problem3 import features, head_experiments, last_layer, resnet
from hw3utils.problem3.experiments import Setup, Size, best_validation, sizes
from hw3utils.problem3.last_layer import HeadResult
from hw3utils.settings import Problem3

CLASSES = 5
SETTINGS = Problem3.for_profile(
    "smoke", seeds=2, head_images=(40, 60), head_epochs=4, batch_size=20, curve=((40, 2), (80, 1)),
    finetune_images=60, compared_images=50, compared_sizes=(32, 64),
)  # fmt: skip


def told(images):
    """Return what stands for features: the class, which the brightest pixel tells, and noise."""
    values = images.images.amax((2, 3)).float()
    one_hot = torch.nn.functional.one_hot(values[:, 0].long() % CLASSES, CLASSES)
    return torch.cat([3.0 * one_hot, values[:, 1:] / 256], dim=1)


def part(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    pixels = torch.randint(0, 256, (n, 3, 12, 12), generator=generator)
    pixels[:, 0] = labels[:, None, None]
    return ImageSet(pixels.to(torch.uint8), labels, tuple("abcde"))


def setup_of(n_train=80, n_validation=30, refit=False, name="cifar10"):
    """Return a set-up that uses so many of 80 training, 30 validation and 30 test images."""
    whole = Splits(part(80, 1), part(30, 2), part(30, 3))
    parts = whole.at_most(n_train, n_validation, 30)
    base = resnet.Base(resnet.RANDOM, "drawn", {}, "none")
    scale = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
    return Setup(base, datasets.Target(name, whole, {}), scale, parts, refit)


@pytest.fixture(autouse=True)
def made_up_features(monkeypatch, tmp_path):
    def extract(base, sets, scale):
        found = [torch.stack([told(view) for view in views]) for views in sets]
        return features.Extracted(found, 1.0)

    monkeypatch.setattr(features, "extract", extract)
    monkeypatch.setenv("HW3_DATA", str(tmp_path))
    monkeypatch.setenv("HW3_JOBS", "1")


@pytest.mark.parametrize(
    ("n_train", "n_validation", "refit"),
    [(80, 30, True), (50, 20, True), (80, 20, True), (50, 30, True), (50, 20, False)],
)
def test_features_of_each_part_are_those_of_its_images(n_train, n_validation, refit):
    setup = setup_of(n_train, n_validation, refit)
    found = head_experiments.extract_features(setup)
    train, validation, test = setup.parts
    assert torch.equal(found.everything[0], told(setup.everything))
    assert torch.equal(found.train[0], told(train)) and len(found.train) == 2
    assert torch.equal(found.validation, told(validation))
    assert torch.equal(found.test, told(test))


def test_a_set_with_handed_images_has_one_view():
    assert len(head_experiments.extract_features(setup_of(name="svhn")).train) == 1


class TestHeads:
    def test_every_number_that_something_is_compared_with_is_trained_with_every_seed(self):
        setup = setup_of()
        found = head_experiments.extract_features(setup)
        heads = head_experiments.train_heads(setup, found, SETTINGS)
        curve, longer, asked = sizes(setup, SETTINGS)
        numbers = {40, 60} | {size.images for size in (*curve, *longer, asked)}
        assert set(heads) == {(n, seed) for n in numbers for seed in (0, 1)}
        for (_, seed), results in heads.items():
            assert [head.lr for head in results] == [1.0, 0.1, 0.01, 0.001]
            assert {head.seed for head in results} == {seed}
            assert max(map(best_validation, results)) > 0.9, "features met others' labels"

    def test_a_data_set_with_fewer_images_takes_all_there_are(self):
        setup = setup_of(n_train=44)
        found = head_experiments.extract_features(setup)
        heads = head_experiments.train_heads(setup, found, SETTINGS)
        assert max(n for n, _ in heads) == 44

    def test_the_images_drawn_are_those_that_finetuning_draws(self):
        setup = setup_of()
        found = head_experiments.extract_features(setup)
        run = head_experiments.head_run(SETTINGS, 1, 40, epochs=1)
        drawn = setup.drawn(40, 1)
        order = stratified_order(setup.parts.train.labels, torch.Generator().manual_seed(1))
        assert torch.equal(drawn.images, setup.parts.train.images[order[:40]])
        given = found.validation, setup.parts.validation.labels, CLASSES
        whole = last_layer.fit_heads(run, found.train[:1], setup.parts.train.labels, *given)
        alone = head_experiments.head_run(SETTINGS, 1, None, epochs=1)
        part = last_layer.fit_heads(alone, told(drawn)[None], drawn.labels, *given)
        for one, other in zip(whole, part, strict=True):
            torch.testing.assert_close(one.final.weight, other.final.weight)

    def test_after_refitting_the_validation_images_were_seen(self):
        setup = setup_of(refit=True)
        found = head_experiments.extract_features(setup)
        heads = head_experiments.refit_heads(setup, found, SETTINGS, 0.1)
        assert set(heads) == {0, 1} and all(head.lr == 0.1 for head in heads.values())
        run = last_layer.HeadRun((0.1,), 1, SETTINGS.head_epochs, 20, weight_decay=5e-4)
        [expected] = last_layer.fit_heads(
            run, found.everything, setup.everything.labels, found.validation,
            setup.parts.validation.labels, CLASSES,
        )  # fmt: skip
        assert torch.equal(heads[1].final.weight, expected.final.weight)
        assert len(setup.everything) == 110

    def test_protocols_differ_from_the_standard_in_one_respect(self):
        setup = setup_of()
        found = head_experiments.extract_features(setup)
        results = head_experiments.compare_protocols(setup, found, SETTINGS, Size(40, 9))
        names = (head_experiments.SAME_EPOCHS, head_experiments.CROPS)
        assert set(results) == {(name, seed) for name in names for seed in (0, 1)}
        for (name, _), heads in results.items():
            epochs = 9 if name == head_experiments.SAME_EPOCHS else SETTINGS.head_epochs
            assert all(len(head.history) == epochs for head in heads)
            assert max(map(best_validation, heads)) > 0.9, "features met others' labels"

    def test_adapted_features_meet_the_labels_of_the_images_drawn(self, monkeypatch):
        setup = setup_of(name="svhn")
        asked = []

        def adapted_features(wanted, parts, scale):
            asked.extend(wanted)
            drawn = [setup.drawn(each.images, each.seed) for each in wanted]
            return [
                [torch.stack([told(images), 0 * told(images)]), told(parts[1]), told(parts[2])]
                for images in drawn
            ]

        monkeypatch.setattr(features, "adapted_features", adapted_features)
        rows = head_experiments.adapt_statistics(setup, SETTINGS, Size(40, 2))
        assert [row.seed for row in rows] == [each.seed for each in asked] == [0, 1]
        assert all(each.augment.mirror == 0 for each in asked)
        for row in rows:
            assert len(row.train) == 1, "mirror images of digits"
            assert max(map(best_validation, row.heads)) > 0.9, "features met others' labels"

    def test_image_sizes_are_compared_on_the_same_images(self):
        table = head_experiments.compare_image_sizes(setup_of(), SETTINGS)
        assert table["size"].tolist() == [32, 64] and table["images"].tolist() == [50, 50]
        assert (table[["sgd", "optimum"]] > 0.9).all(axis=None)


def ended(lr, seed, *accuracies, diverged=False):
    history = pd.DataFrame({"validation_accuracy": accuracies})
    return HeadResult(lr, seed, history, None, None, diverged)


class TestBestHeads:
    def test_one_rate_for_each_number_by_the_mean_over_seeds(self):
        """Not each seed's own best: that would be the best of several draws."""
        results = {
            (40, 0): [ended(1.0, 0, 0.9, 0.5), ended(0.1, 0, 0.7)],
            (40, 1): [ended(1.0, 1, 0.3), ended(0.1, 1, 0.6)],
            (80, 0): [ended(1.0, 0, 0.8), ended(0.1, 0, 0.2)],
            (80, 1): [ended(1.0, 1, 0.8), ended(0.1, 1, 0.9)],
        }
        chosen = head_experiments.best_heads(results)
        assert {key: head.lr for key, head in chosen.items()} == {
            (40, 0): 0.1, (40, 1): 0.1, (80, 0): 1.0, (80, 1): 1.0
        }  # fmt: skip
        assert all(head.seed == seed for (_, seed), head in chosen.items())

    def test_a_rate_that_diverged_with_any_seed_is_taken_only_where_all_did(self):
        dead = ended(1.0, 1, 0.9, float("nan"), diverged=True)
        results = {
            (40, 0): [ended(1.0, 0, 0.9), ended(0.1, 0, 0.2)],
            (40, 1): [dead, ended(0.1, 1, 0.2)],
        }
        assert {head.lr for head in head_experiments.best_heads(results).values()} == {0.1}
        assert head_experiments.best_heads({(40, 1): [dead]}) == {(40, 1): dead}

    def test_the_first_of_equals_is_taken(self):
        results = {(40, 0): [ended(1.0, 0, 0.5), ended(0.1, 0, 0.5)]}
        assert head_experiments.best_heads(results)[40, 0].lr == 1.0
