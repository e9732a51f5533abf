"""Problem 3: real weights, small archives, frozen and stacked layers, and the committed run."""

import copy
import importlib.util
import io
import json
import math
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage
import torch
from PIL import Image
from torch import nn
from torchvision.models import resnet18

from hw3utils import paths
from hw3utils.data import datasets, downloads
from hw3utils.data.images import FlipAndCrop, ImageSet, ResizedScale, Splits
from hw3utils.problem3 import (
    answers,
    experiments,
    figures,
    finetuning,
    keras_weights,
    last_layer,
    resnet,
    tables,
)
from hw3utils.settings import Problem3
from hw3utils.training.batches import accumulate_gradient
from hw3utils.training.linear import optimal_head
from hw3utils.training.runs import Run
from hw3utils.training.schedules import Steps, learning_rates
from made_up import make_images

EGYPTIAN_CAT, ESPRESSO = 285, 967
SMALL = Problem3.for_profile("smoke")


@pytest.fixture(scope="module")
def imagenet():
    """The weights that this machine can have, as the notebook takes them."""
    return resnet.load_base(SMALL.weights)


@pytest.fixture
def colours():
    return make_images(64, shape=(3, 32, 32))


class TestWeights:
    @pytest.mark.parametrize(("photo", "label"), [("chelsea", EGYPTIAN_CAT), ("coffee", ESPRESSO)])
    def test_the_network_sees_what_is_on_a_real_photograph(self, imagenet, photo, label):
        pixels = torch.from_numpy(getattr(skimage.data, photo)()).permute(2, 0, 1)[None]
        scale = resnet.IMAGENET_SCALE
        model = resnet.network(imagenet).eval()
        with torch.no_grad():
            probabilities = model(ResizedScale(scale.mean, scale.std, 224)(pixels)).softmax(1)[0]
        assert int(probabilities.argmax()) == label
        assert float(probabilities[label]) > 0.5

    def test_a_new_head_leaves_all_other_weights_and_the_random_state_alone(self, imagenet):
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        model = resnet.replace_head(resnet.network(imagenet), 7, seed=0)
        assert torch.equal(torch.rand(1), expected)
        assert model.fc.weight.shape == (7, 2048)
        for name, value in model.state_dict().items():
            assert name.startswith("fc.") or torch.equal(value, imagenet.state[name]), name

    @pytest.mark.parametrize("name", ["IMAGENET1K_V3", "", "resnet", "KERAS_V1 or else"])
    def test_unknown_weights_are_refused_with_the_known_ones(self, name):
        with pytest.raises(ValueError, match="choose from IMAGENET1K_V1"):
            resnet.load_base(name)

    def test_weights_of_other_shapes_are_refused(self):
        state = resnet18(weights=None).state_dict()
        with pytest.raises(resnet.WeightsError, match="not ResNet-50's weights"):
            resnet.network(resnet.Base("IMAGENET1K_V1", "a file", state, ""))

    def test_a_head_for_one_class_is_refused(self, imagenet):
        with pytest.raises(ValueError, match="must be at least 2"):
            resnet.replace_head(resnet.network(imagenet), 1, seed=0)

    def test_a_damaged_converted_copy_is_made_again(self, tmp_path):
        source = paths.data_dir() / "weights" / "resnet50-keras"
        if not source.is_dir():
            pytest.skip("torchvision's weights could be had; the Keras form was not fetched")
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "resnet50-keras").symlink_to(source)
        kept = tmp_path / "weights" / f"resnet50-keras-{keras_weights.fingerprint()}.pt"
        kept.write_bytes(b"half a file")
        base = resnet.load_base("KERAS_V1", tmp_path)
        assert base.digest == resnet.load_base("KERAS_V1").digest
        assert kept.stat().st_size > 90_000_000

    @pytest.mark.parametrize(
        ("old", "new", "changed"),
        [
            ("that computes the same function", "that does the same", False),
            ("layer[0].conv1.stride", "layer[1].conv1.stride", False),
            ("kernel.permute(3, 2, 0, 1)", "kernel.permute(3, 2, 1, 0)", True),
            ("= 1e-3, 1e-5", "= 1e-3, 1e-6", True),
            ('"weight": "gamma"', '"weight": "beta"', True),
            ('dtype="<f4"', 'dtype=">f4"', True),
        ],
    )
    def test_the_kept_copy_is_named_after_the_code_that_converts(
        self, tmp_path, monkeypatch, old, new, changed
    ):
        """Prose and strides, which are no weights, change no name: tried on an edited copy."""
        text = Path(keras_weights.__file__).read_text(encoding="utf-8")
        assert old in text, f"no {old!r}: bring this test up to date"
        edited = tmp_path / "edited.py"
        edited.write_text(text.replace(old, new), encoding="utf-8")
        name = f"hw3utils.problem3.{tmp_path.name}"
        spec = importlib.util.spec_from_file_location(name, edited)
        copied = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, copied)
        spec.loader.exec_module(copied)
        assert (copied.fingerprint() != keras_weights.fingerprint()) is changed

    def test_weights_that_cannot_be_had_say_what_was_tried(self, tmp_path, monkeypatch):
        def no_network(*arguments, **options):
            raise OSError("no network")

        monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
        monkeypatch.setattr(downloads, "run_command", no_network)
        with pytest.raises(resnet.WeightsError) as error:
            resnet.load_base("IMAGENET1K_V2 or KERAS_V1", tmp_path)
        message = str(error.value)
        assert "IMAGENET1K_V2: no network (put resnet50-" in message
        assert "KERAS_V1: ResNet-50's ImageNet weights in Keras form could not be had" in message

    def test_folding_biases_and_epsilon_computes_the_same(self):
        """One convolution with bias and one BatchNorm with Keras' epsilon, as conversion folds."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, 3, 8, 8, generator=generator)
        convolution, theirs = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3)
        theirs.running_mean.normal_(generator=generator)
        theirs.running_var.uniform_(0.001, 1, generator=generator)
        ours = copy.deepcopy(theirs)
        ours.eps = 1e-5
        ours.running_mean -= convolution.bias.detach()
        ours.running_var += keras_weights.KERAS_EPSILON - keras_weights.TORCH_EPSILON
        expected = theirs.eval()(convolution(x))
        found = ours.eval()(nn.functional.conv2d(x, convolution.weight))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def picture(colour, size=(40, 30)):
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()


def decathlon_archive(folder, empty_class=False):
    """Write ``dtd.tar`` in the Decathlon's layout: two classes, five training images each."""
    (folder / "decathlon").mkdir(parents=True)
    with tarfile.open(folder / "decathlon" / "dtd.tar", "w") as tar:
        for part, n in (("train", 5), ("val", 3)):
            for name, colour in (("0001", (200, 0, 0)), ("0002", (0, 0, 200))):
                if empty_class and part == "val" and name == "0002":
                    continue
                for index in range(n):
                    content = picture(colour)
                    info = tarfile.TarInfo(f"dtd/{part}/{name}/{index}.png")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


class TestTargets:
    def test_a_decathlon_archive_gives_three_parts_without_a_shared_image(self, tmp_path):
        decathlon_archive(tmp_path)
        parts = datasets.load_dataset(
            "decathlon/dtd", torch.Generator().manual_seed(0), size=32, data_dir=tmp_path
        )
        assert [len(part) for part in parts] == [8, 2, 6]
        assert parts.validation.class_counts().tolist() == [1, 1]
        assert parts.train.class_names == ("0001", "0002")
        assert parts.train.images.shape == (8, 3, 32, 32)
        assert (parts.train.images[parts.train.labels == 0][:, 0] == 200).all()

    def test_a_class_without_images_is_refused_by_name(self, tmp_path):
        decathlon_archive(tmp_path, empty_class=True)
        with pytest.raises(ValueError, match="no image of 1 classes .0002"):
            datasets.load_dataset("decathlon/dtd", torch.Generator(), data_dir=tmp_path)

    def test_no_archive_says_where_to_put_it(self, tmp_path):
        with pytest.raises(downloads.SourcesExhaustedError, match=r"put decathlon-1.0-data.tar.gz"):
            datasets.load_dataset("decathlon/aircraft", torch.Generator(), data_dir=tmp_path)

    def test_a_truncated_archive_is_refused(self, tmp_path):
        (tmp_path / "decathlon").mkdir()
        (tmp_path / "decathlon" / "decathlon-1.0-data.tar.gz").write_bytes(b"half")
        with pytest.raises(downloads.SourcesExhaustedError, match="truncated"):
            datasets.load_dataset("decathlon/dtd", torch.Generator(), data_dir=tmp_path)

    def test_cifar10_is_split_class_by_class_and_the_seed_decides(self):
        def load(seed, **sizes):
            return datasets.load_dataset("cifar10", torch.Generator().manual_seed(seed), **sizes)

        parts = load(0, n_train=200, n_validation=50, n_test=100)
        assert [len(part) for part in parts] == [200, 50, 100]
        assert parts.train.class_counts().tolist() == [20] * 10
        assert parts.train.checksum == load(0, n_train=200).train.checksum
        assert parts.train.checksum != load(1, n_train=200).train.checksum
        whole = load(0)
        assert [len(part) for part in whole] == [40_000, 10_000, 10_000]

    def test_a_stand_in_is_named_together_with_what_it_stands_in_for(self, tmp_path):
        decathlon_archive(tmp_path)
        found = datasets.load_target(
            "decathlon/svhn or decathlon/dtd", torch.Generator(), size=32, data_dir=tmp_path
        )
        assert found.name == "decathlon/dtd" and list(found.not_found) == ["decathlon/svhn"]

    @pytest.mark.parametrize(
        ("name", "sizes", "words"),
        [
            ("imagenet", {}, "unknown dataset 'imagenet': choose from cifar10"),
            ("cifar10", {"n_train": 5}, "5 images cannot cover 10 classes"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, name, sizes, words):
        with pytest.raises(ValueError, match=words):
            datasets.load_dataset(name, torch.Generator(), **sizes)


class TestInputs:
    def test_flips_and_crops_are_those_of_torchvision(self, colours):
        """Every changed image is one of the 2 · 9 · 9 that padding, shifting and flipping give."""
        changed = FlipAndCrop(4)(colours, torch.Generator().manual_seed(0))
        flipped = 0
        for before, after in zip(colours.images[:8], changed.images[:8], strict=True):
            padded = [nn.functional.pad(image, [4] * 4) for image in (before, before.flip(2))]
            options = [
                [torch.equal(after, p[:, r : r + 32, c : c + 32]) for r in range(9)
                 for c in range(9)] for p in padded
            ]  # fmt: skip
            assert any(map(any, options))
            flipped += any(options[1])
        assert 0 < flipped < 8
        assert torch.equal(changed.labels, colours.labels)
        again = FlipAndCrop(4)(colours, torch.Generator().manual_seed(0))
        assert torch.equal(again.images, changed.images)

    def test_an_image_size_below_32_is_refused(self):
        with pytest.raises(ValueError, match="must be at least 32"):
            ResizedScale((0.5,) * 3, (0.5,) * 3, 31)
        with pytest.raises(ValueError, match="must be at least 32"):
            experiments.load(Problem3.for_profile("smoke", image_size=16))

    def test_enlarging_keeps_a_flat_image_flat(self):
        flat = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
        seen = ResizedScale((0.5,) * 3, (0.5,) * 3, 64)(flat)
        assert seen.shape == (1, 3, 64, 64)
        torch.testing.assert_close(seen, torch.full_like(seen, (128 / 255 - 0.5) / 0.5))


class TestFrozen:
    def test_frozen_means_weights_and_statistics_whatever_train_says(self, colours):
        model = resnet.freeze(resnet.random_resnet50(10))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model.train()
        scale = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
        with resnet.fixed(model) as unchanged:
            for batch in torch.arange(32).split(16):
                optimizer.zero_grad()
                accumulate_gradient(model, colours, batch, scale)
                optimizer.step()
        assert {name for name, same in unchanged.items() if not same} == {"fc.weight", "fc.bias"}

    def test_without_freezing_statistics_the_check_would_notice(self, colours):
        model = resnet.random_resnet50(10).train()
        with resnet.fixed(model) as unchanged, torch.no_grad():
            model(torch.randn(4, 3, 32, 32))
        assert not unchanged["bn1.running_mean"] and unchanged["conv1.weight"]

    def test_how_far_a_network_moved_by_hand(self):
        before = {"conv1.weight": torch.tensor([3.0, 4.0]), "bn1.running_mean": torch.zeros(2),
                  "bn1.running_var": torch.ones(2), "fc.weight": torch.ones(1)}  # fmt: skip
        after = before | {"conv1.weight": torch.tensor([3.0, 4.5]), "fc.weight": torch.zeros(1)}
        moved = resnet.moved(before, after)
        assert moved["weights"] == pytest.approx(0.1)
        assert moved["running_var"] == 0
        assert math.isnan(moved["running_mean"]), "nothing to compare with"


@pytest.fixture(scope="module")
def features():
    """Two views of 150 points round four centres, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (150,), generator=generator)
    centres = torch.randn(4, 12, generator=generator)
    x = centres[labels] + 1.5 * torch.randn(2, 150, 12, generator=generator)
    return x, labels


class TestHeads:
    def test_the_stack_equals_the_plain_loop(self, features):
        x, labels = features
        run = last_layer.HeadRun((0.5, 0.01), seeds=(0, 3), epochs=4, batch_size=64)
        found = last_layer.fit_heads(run, x[:, :100], labels[:100], x[0, 100:], labels[100:], 4)
        for result in found:
            plain = last_layer.initial_head(12, 4, result.seed)
            optimizer = torch.optim.SGD(
                plain.parameters(), lr=result.lr, momentum=0.9, weight_decay=5e-4
            )
            rates = learning_rates(Steps(result.lr), 8)
            order = torch.Generator().manual_seed(result.seed)
            states, accuracies = [], []
            for epoch in range(4):
                shuffled = torch.randperm(100, generator=order)
                view = torch.randint(2, (100,), generator=order)
                for number, batch in enumerate(shuffled.split(64)):
                    optimizer.param_groups[0]["lr"] = rates[2 * epoch + number]
                    optimizer.zero_grad()
                    logits = plain(x[view[batch], batch])
                    nn.functional.cross_entropy(logits, labels[batch]).backward()
                    optimizer.step()
                hits = plain(x[0, 100:]).argmax(1) == labels[100:]
                accuracies.append(hits.double().mean().item())
                states.append(copy.deepcopy(plain.state_dict()))
            np.testing.assert_allclose(result.history["validation_accuracy"], accuracies, atol=1e-9)
            best = states[int(np.argmax(accuracies))]
            torch.testing.assert_close(result.weight, best["weight"], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(result.bias, best["bias"], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("epochs", "batch_size", "lr"), [(4, 64, 1e30), (1, 100, 3e38)])
    def test_a_head_that_diverged_is_marked_keeps_finite_weights_and_is_not_the_best(
        self, features, epochs, batch_size, lr
    ):
        """Within its first epoch, or by the very last update, which no training loss sees."""
        x, labels = features
        run = last_layer.HeadRun((lr, 0.01), epochs=epochs, batch_size=batch_size)
        given = (x[:, :100], labels[:100], x[0, 100:], labels[100:], 4)
        dead, alive = last_layer.fit_heads(run, *given)
        assert dead.diverged and not alive.diverged
        assert dead.history.drop(columns="epoch").isna().all(axis=None)
        assert torch.equal(dead.weight, last_layer.initial_head(12, 4, 0).weight)
        assert experiments.best_head([dead, alive]) is alive
        assert experiments.best_head([dead]) is dead
        named = ("a", "b", "c", "d")
        pixels = torch.zeros(150, 3, 2, 2).byte()
        train = ImageSet(pixels[:100], labels[:100], named)
        rest = ImageSet(pixels[100:], labels[100:], named)
        found = experiments.Features(x[:, :100], x[0, 100:], x[0, 100:], 1.0)
        scores = tables.head_scores([dead, alive], found, Splits(train, rest, rest), 1.0)
        assert scores["diverged"].tolist() == [True, False]
        assert scores["best_epoch"][0] == 0

    def test_no_sgd_head_has_a_lower_loss_than_the_optimum(self, features):
        x, labels = features
        given = (x[:, :100], labels[:100], x[0, 100:], labels[100:], 4)
        optimum = optimal_head(*given, strengths=(1e-3,))

        def objective(weight, bias):
            logits = x[:, :100].flatten(0, 1) @ weight.T + bias
            loss = nn.functional.cross_entropy(logits, labels[:100].repeat(2))
            return float(loss + 1e-3 / 2 * weight.square().sum())

        run = last_layer.HeadRun((0.3, 0.03), epochs=50, weight_decay=1e-3)
        for result in last_layer.fit_heads(run, *given):
            assert objective(optimum.weight, optimum.bias) <= objective(result.weight, result.bias)

    @pytest.mark.parametrize("rates", [(), (0.1, 0.1), (0.0,), (-1.0,), (math.nan,)])
    def test_a_list_of_rates_that_makes_no_sense_is_refused(self, rates):
        with pytest.raises(ValueError):
            last_layer.HeadRun(rates)


class TestFinetuning:
    def run(self, **changes):
        return Run(**{"model": "resnet50", "schedule": Steps(0.01), "epochs": 4} | changes)

    def test_the_schedule_drops_exactly_three_times(self):
        for lr in experiments.FINETUNE_RATES:
            rates = learning_rates(Steps(lr, factor=0.1, at=experiments.DROPS), 60)
            assert [i for i in range(1, 60) if rates[i] != rates[i - 1]] == [15, 30, 45]
            assert rates[-1] == pytest.approx(lr / 1000)

    @pytest.mark.parametrize(("n", "size"), [(65, 64), (10, 64), (20, 1)])
    def test_batches_on_which_batchnorm_cannot_train_are_refused(self, n, size):
        wished = finetuning.Finetuning(self.run(batch_size=size), "random", "")
        with pytest.raises(ValueError, match="batch"):
            finetuning.check_finetuning(wished, make_images(n, shape=(3, 32, 32)))

    def test_a_finetuned_network_is_scored_at_its_best_epoch(self, colours, tmp_path):
        wished = finetuning.Finetuning(
            self.run(epochs=2, batch_size=16), "random", "", augment=FlipAndCrop(2)
        )
        scale = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
        parts = Splits(colours.subset(torch.arange(32)), colours.subset(torch.arange(32, 48)),
                       colours.subset(torch.arange(48, 64)))  # fmt: skip
        wanted = {("a", 0.01, 0): wished}
        (found,) = finetuning.finetune_all(
            wanted, parts, scale, n_jobs=1, cache_dir=tmp_path
        ).values()
        best = found.history["validation_accuracy"].max()
        if not found.diverged:
            scored = tables.accuracy(found.validation_logits, parts.validation.labels)
            assert scored == pytest.approx(best)
        assert found.test_logits.shape == (16, 10)
        kept = list(tmp_path.glob("*.pt"))
        again = finetuning.finetune_all(wanted, parts, scale, n_jobs=1, cache_dir=tmp_path)
        assert torch.equal(again["a", 0.01, 0].test_logits, found.test_logits)
        assert list(tmp_path.glob("*.pt")) == kept and not list(tmp_path.glob("*.checkpoint"))

    def test_a_last_update_that_was_too_large_is_marked(self, colours, tmp_path, monkeypatch):
        """Its loss is first seen on validation images: training ended before."""
        fit = finetuning.loop.fit

        def too_large(*given, **options):
            result = fit(*given, **options)
            result.history.loc[0, "validation_loss"] = math.nan
            return result

        monkeypatch.setattr(finetuning.loop, "fit", too_large)
        wished = finetuning.Finetuning(self.run(epochs=1, batch_size=16), "random", "")
        scale = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
        tensors = (colours.images[:16], colours.labels[:16]) * 3
        found = finetuning._finetune(
            wished, colours.class_names, scale, tmp_path / "a.checkpoint", *tensors
        )
        assert found["diverged"]

    def test_bf16_is_used_only_where_it_is_faithful_and_faster(self):
        assert finetuning.Parity(2.0, 0.001, 0.99).use
        assert not finetuning.Parity(2.0, 0.2, 0.99).use
        assert not finetuning.Parity(2.0, 0.001, 0.5).use
        assert not finetuning.Parity(1.0, 0.001, 0.99).use

    def test_comparing_precisions_leaves_the_network_as_it_was(self, colours):
        model = resnet.random_resnet50(10).train()
        before = copy.deepcopy(model.state_dict())
        scale = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
        parity = finetuning.compare_arithmetic(model, scale(colours.images[:8]), colours.labels[:8])
        assert parity.loss_difference < 0.1 and parity.speed_up > 0
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def finetuned(features, diverged=False):
    """Return a made-up result whose second epoch, where it diverged, has no scores."""
    nothing = torch.zeros(2, 3)
    end = math.nan if diverged else 1.0
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [2, end], "validation_accuracy": [0.1, end]}
    )
    moved = dict.fromkeys(("weights", "running_mean", "running_var"), 0.1)
    return finetuning.Finetuned(
        None, history.assign(seconds=1), diverged, 1, 0.0, nothing, nothing, features, moved
    )


def labels_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


class TestDivergedRunsAreMarked:
    """One of two seeds with learning rate 0.1 diverged, and the only one with 1."""

    RESULTS = {
        (experiments.ALL_LAYERS, lr, seed): finetuned(torch.ones(2, 3), diverged)
        for lr, seed, diverged in (
            (0.01, 0, False), (0.1, 0, False), (0.1, 1, True), (1.0, 0, True)
        )
    }  # fmt: skip

    def summary(self):
        part = ImageSet(torch.zeros(2, 3, 2, 2).byte(), torch.tensor([0, 1]), ("a", "b", "c"))
        return tables.summary(tables.finetuned_scores(self.RESULTS, Splits(part, part, part)))

    def test_in_tables(self):
        assert self.summary()["diverged"].tolist() == [False, True, True]
        moved = tables.moved_table(self.RESULTS, torch.ones(2, 3))
        assert moved["diverged"].tolist() == [False, True, True]

    def test_in_figures(self):
        labels = labels_of(figures.finetuning_curves(self.RESULTS))
        assert labels == [
            "all layers, 0.01", "all layers, 0.1 (1 of 2 diverged)", "all layers, 1 (diverged)"
        ]  # fmt: skip
        assert "all layers (diverged)" in labels_of(figures.approaches(self.summary(), 0.5, 100))
        moved = tables.moved_table(self.RESULTS, torch.ones(2, 3))
        figure = figures.moved_and_gap(moved, self.summary())
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert [name.endswith("(diverged)") for name in names] == [False, True, True]

    def test_no_mark_without_divergence(self):
        table = self.summary().query("not diverged")
        labels = labels_of(figures.approaches(table, 0.5, 100))
        assert set(labels) == {"all layers", "last layer, optimum (L-BFGS)"}

    def test_in_the_curves_of_last_layers(self):
        histories = [finetuned(None, diverged).history for diverged in (False, True)]
        heads = [
            last_layer.HeadResult(0.1, seed, history, None, None, bool(seed))
            for seed, history in enumerate(histories)
        ]
        labels = labels_of(figures.head_curves(heads, 0.5))
        assert labels[0] == "learning rate 0.1 (1 of 2 diverged)"


class TestTables:
    TABLE = pd.DataFrame(
        {
            "approach": [experiments.ALL_LAYERS, experiments.ALL_LAYERS, experiments.LAST_LAYER],
            "learning_rate": [0.01, 0.1, 1.0],
            "validation": [0.8, 0.9, 0.7],
            "test": [0.9, 0.7, 0.8],
            "diverged": [False, True, False],
        }
    )

    def test_winners_are_chosen_on_validation_images_and_never_diverged(self):
        assert tables.best_row(self.TABLE, experiments.ALL_LAYERS)["learning_rate"] == 0.01
        assert tables.best_row(self.TABLE, experiments.LAST_LAYER)["learning_rate"] == 1.0

    def test_the_margin_and_its_error_are_those_of_paired_differences(self):
        labels = torch.zeros(100, dtype=torch.int64)
        right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        finetuned = torch.stack([right] * 90 + [wrong] * 10)
        head = torch.stack([right] * 80 + [wrong] * 20)
        found = answers.verdict(self.TABLE, finetuned, head, labels)
        assert found.approach == experiments.ALL_LAYERS and found.learning_rate == 0.01
        assert found.margin == pytest.approx(0.10)
        assert found.standard_error == pytest.approx((0.1 * 0.9 / 99) ** 0.5)
        assert "+10.0 points" in found.text and "larger than" in found.text

    def test_an_approach_that_diverged_throughout_does_not_win_and_is_named(self):
        logits, labels = torch.eye(4), torch.arange(4)
        both = self.TABLE.assign(diverged=[True, True, False])
        found = answers.verdict(both, logits, logits, labels)
        assert (found.approach, found.learning_rate) == (experiments.LAST_LAYER, 1.0)
        assert found.text.endswith("With every learning rate, training diverged: all layers.")
        assert answers.rate_scores(both, experiments.ALL_LAYERS) == {
            "0.01": "90.0% (diverged)", "0.1": "70.0% (diverged)"
        }  # fmt: skip
        alive = answers.verdict(self.TABLE, logits, logits, labels)
        assert alive.diverged == () and "diverged" not in alive.text

    def test_the_report_marks_a_rate_that_diverged_and_calls_another_the_best(self):
        score = {"validation": 0.5, "test": 0.4, "test_sd": None, "diverged": False}
        dead = score | {"validation": 0.9, "diverged": True}
        found = {
            "images": {"train": 8, "validation": 4, "test": 4}, "dataset": "a", "image_size": 32,
            "finetune": {"0.001": dead, "0.01": score, "0.1": dead},
            "last_layer": {"1": score}, "winner": {"text": ""},
        }  # fmt: skip
        given, best = (row[2] for row in answers.report_rows(found)[1:3])
        assert "(diverged)" in given
        assert best.count("(diverged)") == 2 and best.endswith("Best on validation images: 0.01.")

    def test_logits_that_are_not_numbers_hit_nothing_and_are_sure_of_nothing(self):
        nothing, labels = torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1])
        assert tables.accuracy(nothing, labels) == 0
        found = answers.verdict(self.TABLE, nothing, torch.eye(2)[labels], labels)
        assert found.margin == -1
        images = ImageSet(torch.zeros(4, 3, 2, 2).byte(), labels, ("cat", "dog"))
        assert tables.worst_images(nothing, images) == []
        assert figures.wrong_images([], images).axes

    def test_how_far_features_moved_by_hand(self):
        frozen = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        table = tables.moved_table(
            {(experiments.ALL_LAYERS, 0.1, 0): finetuned(frozen + torch.tensor([1.0, 0.0])),
             (experiments.RANDOM_START, 0.1, 0): finetuned(frozen)},
            frozen,
        )  # fmt: skip
        assert not table["diverged"].any()
        assert table["features"][0] == pytest.approx(2**0.5 / 5)
        assert math.isnan(table["features"][1])

    def test_a_confusion_matrix_by_hand(self):
        matrix = tables.confusion_matrix(
            torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 2]), num_classes=3
        )
        assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
        by_class = tables.class_accuracy({"a": matrix}, ("x", "y", "z"))
        assert by_class["a"].tolist() == [0.5, 1.0, 1.0]

    def test_the_worst_images_are_the_surest_wrong_ones(self):
        logits = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
        images = ImageSet(
            torch.zeros(4, 3, 2, 2).byte(), torch.tensor([0, 1, 1, 1]), ("cat", "dog")
        )
        worst = tables.worst_images(logits, images)
        assert [each["index"] for each in worst] == [3, 1]
        assert worst[0]["predicted"] == 0 and worst[0]["probability"] > 0.99


@pytest.fixture(scope="module")
def found():
    path = paths.project_root() / "answers" / "results" / "problem3.json"
    return json.loads(path.read_text(encoding="utf-8"))


class TestCommittedRun:
    def test_it_holds_every_rate_and_hangs_together(self, found):
        assert found["profile"] == "laptop" and found["settings"]["changed"] == []
        assert set(found["finetune"]) == {"0.001", "0.01", "0.1"}
        assert set(found["last_layer"]) == {"1", "0.1", "0.01", "0.001"}
        for row in [*found["finetune"].values(), *found["last_layer"].values()]:
            assert 0 <= row["validation"] <= 1 and 0 <= row["test"] <= 1
        assert found["weights"]["name"] in resnet.WEIGHTS and found["weights"]["origin"]
        assert found["winner"]["text"] and found["environment"]["packages"]["torch"]
        approaches = {row["approach"] for row in found["others"]}
        assert approaches == {experiments.PROBE_FIRST, experiments.RANDOM_START}

    def test_imagenet_is_worth_something(self, found):
        best = max(row["test"] for row in found["last_layer"].values())
        (random_start,) = (
            row["test"] for row in found["others"] if row["approach"] == experiments.RANDOM_START
        )
        assert best > random_start + 0.1

    def test_every_figure_of_the_notebook_is_committed(self):
        notebook = (paths.notebooks_dir() / "problem3.ipynb").read_text(encoding="utf-8")
        committed = list((paths.project_root() / "figures").glob("problem3_*.png"))
        assert notebook.count("save_figure(") == len(committed)
        for path in committed:
            assert f'\\"{path.stem}\\"' in notebook, f"{path.name} is not made by the notebook"
