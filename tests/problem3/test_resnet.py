"""ResNet-50: real weights, its convolutions, and what is frozen in it."""

import copy
import importlib.util
import math
import sys
from pathlib import Path

import pytest
import skimage
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50

from hw3utils import paths
from hw3utils.data import downloads
from hw3utils.data.images import ResizedScale
from hw3utils.problem3 import keras_weights, resnet
from hw3utils.settings import Problem3
from hw3utils.training.batches import accumulate_gradient
from made_up import make_images

EGYPTIAN_CAT, ESPRESSO = 285, 967
SMALL = Problem3.for_profile("smoke")


@pytest.fixture(scope="module")
def imagenet():
    """The weights that this machine can have, as the notebook takes them."""
    return resnet.load_base(SMALL.weights)


@pytest.fixture(scope="module")
def network():
    return resnet.random_resnet50(10)


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


class TestConvolutions:
    """Where a map is small the CPU multiplies matrices: the same numbers, but for rounding."""

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 1), (3, 4), (4, 4), (5, 7), (8, 3)])
    @pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
    def test_each_kind_equals_torchs_own_and_so_do_its_gradients(
        self, network, kernel, stride, size
    ):
        layer = next(
            module
            for module in network.modules()
            if isinstance(module, nn.Conv2d)
            and (module.kernel_size[0], module.stride[0]) == (kernel, stride)
        )
        generator = torch.Generator().manual_seed(kernel * stride)
        images = torch.randn(3, layer.in_channels, *size, generator=generator)
        images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
        expected = F.conv2d(images, layer.weight, stride=stride, padding=layer.padding)
        found = layer(images)
        assert found.dtype == torch.float32 and found.shape == expected.shape
        towards = torch.randn(expected.shape, generator=generator)
        close = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(found, expected, **close)
        for ours, theirs in zip(
            torch.autograd.grad(found, (images, layer.weight), towards),
            torch.autograd.grad(expected, (images, layer.weight), towards),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, **close)

    @pytest.mark.parametrize("size", [32, 50])
    def test_the_network_equals_torchvisions(self, network, size):
        theirs = resnet50(weights=None, num_classes=10)
        theirs.load_state_dict(network.state_dict())
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(
                network.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-5
            )

    def test_a_copy_multiplies_by_its_own_weights(self):
        layer = resnet.random_resnet50(10).layer1[0].conv1
        copied = copy.deepcopy(layer)
        nn.init.zeros_(copied.weight)
        assert copied(torch.ones(1, 64, 2, 2)).count_nonzero() == 0
        assert layer(torch.ones(1, 64, 2, 2)).count_nonzero() > 0


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

    def test_frozen_statistics_stay_while_every_weight_is_trained(self, colours):
        model = resnet.freeze_statistics(resnet.random_resnet50(10)).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scale = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
        with resnet.fixed(model) as unchanged:
            accumulate_gradient(model, colours, torch.arange(16), scale)
            optimizer.step()
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        kept = {name for name, same in unchanged.items() if same}
        assert kept == {name for name in unchanged if name.endswith(statistics)}

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
