"""Features of a frozen network, and of one whose statistics follow the new images."""

import pytest
import torch
from torchvision.models import resnet50

from hw3utils.data.images import FlipAndCrop, ResizedScale, Splits, mirrored, stratified_order
from hw3utils.problem3 import features, resnet
from hw3utils.problem3.features import Adapted
from hw3utils.training import workers
from made_up import make_images

SCALE = ResizedScale((0.5,) * 3, (0.5,) * 3, 32)
BASE = resnet.Base(resnet.RANDOM, "drawn", {}, "none")


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("HW3_JOBS", "1")


@pytest.fixture(scope="module")
def images():
    return make_images(12, shape=(3, 32, 32))


def expected_features(model, images):
    """Return torchvision's own features, without this project's convolutions."""
    theirs = resnet50(weights=None, num_classes=model.fc.out_features)
    theirs.load_state_dict(model.state_dict())
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        return theirs.eval()(SCALE(images.images))


def test_each_view_of_each_set_has_its_own_features_and_a_second_call_computes_none(
    images, tmp_path, monkeypatch
):
    """In chunks of five: the last one is smaller."""
    monkeypatch.setattr(features, "CHUNK", 5)
    few = images.subset(torch.arange(3))
    sets = [[images, mirrored(images)], [few]]
    found = features.extract(BASE, sets, SCALE, cache_dir=tmp_path)
    assert [tuple(part.shape) for part in found.features] == [(2, 12, 2048), (1, 3, 2048)]
    model = resnet.build(resnet.RANDOM, 2, seed=0)
    for part, views in zip(found.features, sets, strict=True):
        for seen, view in zip(part, views, strict=True):
            torch.testing.assert_close(seen, expected_features(model, view), rtol=1e-3, atol=1e-4)

    def refuse(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr(workers, "results", refuse)
    again = features.extract(BASE, sets, SCALE, cache_dir=tmp_path)
    for one, other in zip(found.features, again.features, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(AssertionError, match="computed again"):
        features.extract(BASE._replace(digest="other"), sets, SCALE, cache_dir=tmp_path)


UPDATES, MOMENTUM = 3, 0.1


@pytest.fixture(scope="module")
def adapted():
    """Return the network before, the one that was adapted, its features, and the parts.

    Each minibatch holds all eight drawn images, unchanged: the order in which they come is no
    matter.
    """
    generator = torch.Generator().manual_seed(0)
    parts = Splits(*(make_images(n, shape=(3, 32, 32), seed=n) for n in (12, 5, 6)))
    parts = parts._replace(train=parts.train.subset(torch.randperm(12, generator=generator)))
    built, build = [], resnet.build

    def remember(*arguments):
        built.append(build(*arguments))
        return built[-1]

    wanted = Adapted(resnet.RANDOM, "none", 8, 3, UPDATES, 8, FlipAndCrop(0, 0.0))
    tensors = [tensor for part in parts for tensor in (part.images, part.labels)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resnet, "build", remember)
        found = features._adapted_features(wanted, parts.train.class_names, SCALE, *tensors)
    order = stratified_order(parts.train.labels, torch.Generator().manual_seed(3))
    return build(resnet.RANDOM, 10, 3), built[0], found, parts, parts.train.subset(order[:8])


class TestAdapted:
    def test_no_weight_changes(self, adapted):
        before, after, *_ = adapted
        trained = dict(after.named_parameters())
        for name, weight in before.named_parameters():
            assert torch.equal(weight, trained[name]), name

    def test_the_statistics_follow_as_momentum_says(self, adapted):
        """Of every BatchNorm: (1 − 0.1)³ of what there was, the rest that of the minibatch."""
        before, after, _, _, drawn = adapted
        plain = resnet50(weights=None, num_classes=10).train()
        plain.load_state_dict(before.state_dict())
        inputs = {}
        for name, module in plain.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_pre_hook(
                    lambda _, given, name=name: inputs.__setitem__(name, given[0].detach())
                )
        with torch.no_grad():
            plain(SCALE(drawn.images))
        left = (1 - MOMENTUM) ** UPDATES
        statistics = after.state_dict()
        assert len(inputs) == 53
        for name, x in inputs.items():
            assert statistics[f"{name}.num_batches_tracked"] == UPDATES
            mean, var = x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).var(1)
            close = {"rtol": 1e-3, "atol": 1e-4}
            torch.testing.assert_close(
                statistics[f"{name}.running_mean"], (1 - left) * mean, **close
            )
            torch.testing.assert_close(
                statistics[f"{name}.running_var"], left + (1 - left) * var, **close
            )

    def test_features_are_those_of_the_drawn_images_in_their_order_and_mirrored(self, adapted):
        _, after, found, parts, drawn = adapted
        for seen, images in (
            (found["train"][0], drawn),
            (found["train"][1], mirrored(drawn)),
            (found["validation"], parts.validation),
            (found["test"], parts.test),
        ):
            torch.testing.assert_close(seen, expected_features(after, images), rtol=1e-3, atol=1e-3)

    def test_each_wanted_network_gets_its_own_from_the_cache(self, adapted, tmp_path):
        parts = adapted[3]
        wanted = [Adapted(resnet.RANDOM, "none", n, 3, 1, n, FlipAndCrop(0, 0.0)) for n in (6, 8)]
        found = features.adapted_features(wanted, parts, SCALE, cache_dir=tmp_path)
        assert [len(train[0]) for train, _, _ in found] == [6, 8]
        [again] = features.adapted_features(wanted[1:], parts, SCALE, cache_dir=tmp_path)
        assert torch.equal(again[0], found[1][0]) and len(list(tmp_path.glob("*.pt"))) == 2
