import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.nn import functional as F
from torchvision.transforms import functional as reference

from hw3utils.data import datasets
from hw3utils.data.images import FlipAndCrop, ImageSet, ResizedScale, Scale, mirrored, split
from made_up import make_images


def test_the_split_is_48000_and_12000_without_a_shared_image():
    parts = datasets.load_fashion_mnist(torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [48_000, 12_000, 10_000]
    assert (parts.train.class_counts() + parts.validation.class_counts()).tolist() == [6_000] * 10
    assert parts.test.class_counts().tolist() == [1_000] * 10
    again = datasets.load_fashion_mnist(torch.Generator().manual_seed(0))
    assert parts.train.checksum == again.train.checksum, "the same seed gives another split"
    other = datasets.load_fashion_mnist(torch.Generator().manual_seed(1))
    assert parts.train.checksum != other.train.checksum, "the seed has no effect"


@given(n=st.integers(2, 60), seed=st.integers(0, 9), fraction=st.floats(0.01, 0.99))
def test_a_split_keeps_every_image_once(n, seed, fraction):
    n_second = min(max(1, int(n * fraction)), n - 1)
    labels = torch.arange(n)
    images = ImageSet(
        torch.zeros(n, 1, 2, 2, dtype=torch.uint8), labels, tuple(str(i) for i in range(n))
    )
    first, second = split(images, n_second, torch.Generator().manual_seed(seed))
    assert len(second) == n_second
    assert sorted(torch.cat([first.labels, second.labels]).tolist()) == labels.tolist()


def test_scaling_equals_torchvisions_to_tensor_and_normalize():
    images = make_images(5, shape=(3, 28, 28)).images
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    expected = torch.stack([reference.normalize(image / 255, mean, std) for image in images])
    torch.testing.assert_close(Scale(mean, std)(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (torch.zeros(3, 1, 4, 4), torch.zeros(3).long(), TypeError, "uint8"),
        (torch.zeros(3, 1, 4, 4).byte(), torch.zeros(3), TypeError, "int64"),
        (torch.zeros(3, 4, 4).byte(), torch.zeros(3).long(), ValueError, "N×C×H×W"),
        (torch.zeros(0, 1, 4, 4).byte(), torch.zeros(0).long(), ValueError, "at least one"),
        (torch.zeros(3, 1, 4, 4).byte(), torch.zeros(2).long(), ValueError, "as many labels"),
        (torch.zeros(3, 1, 4, 4).byte(), torch.tensor([0, 1, 2]), ValueError, "0..1"),
        (torch.zeros(3, 1, 4, 4).byte(), torch.tensor([0, -1, 1]), ValueError, "-1..1"),
        (torch.zeros(3, 1, 0, 4).byte(), torch.zeros(3).long(), ValueError, "at least one pixel"),
    ],
)
def test_a_wrong_image_set_is_refused(images, labels, error, words):
    with pytest.raises(error, match=words):
        ImageSet(images, labels, ("a", "b"))


@pytest.mark.parametrize("names", ["ab", ["a", "b"], (0, 1)])
def test_class_names_that_are_no_tuple_of_text_are_refused(names):
    with pytest.raises(TypeError, match="tuple of str"):
        ImageSet(torch.zeros(3, 1, 4, 4).byte(), torch.zeros(3).long(), names)


@pytest.mark.parametrize("mean_std", [((0.5,), (0.0,)), ((float("nan"),), (1.0,)), ((), ())])
def test_a_scale_that_makes_no_sense_is_refused(mean_std):
    with pytest.raises(ValueError):
        Scale(*mean_std)


@pytest.mark.parametrize("n", [0, -1, 48_001])
def test_asking_for_too_many_or_no_images_is_refused(n):
    with pytest.raises(ValueError, match=f"{n} images asked for; there are 48000"):
        datasets.load_fashion_mnist(torch.Generator().manual_seed(0), n_train=n)


def test_the_checksum_notices_one_changed_pixel(train):
    changed = train.images.clone()
    changed[-1, 0, -1, -1] ^= 1
    assert ImageSet(changed, train.labels, train.class_names).checksum != train.checksum


@pytest.fixture(scope="module")
def colours():
    return make_images(64, shape=(3, 32, 32))


def test_flips_and_crops_are_those_of_torchvision(colours):
    """Every changed image is one of the 2 · 9 · 9 that padding, shifting and flipping give."""
    changed = FlipAndCrop(4)(colours, torch.Generator().manual_seed(0))
    flipped = 0
    for before, after in zip(colours.images[:8], changed.images[:8], strict=True):
        padded = [F.pad(image, [4] * 4) for image in (before, before.flip(2))]
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


def test_how_often_an_image_is_mirrored_is_as_asked_for(colours):
    def seen(mirror):
        return FlipAndCrop(0, mirror)(colours, torch.Generator().manual_seed(0)).images

    assert torch.equal(seen(0.0), colours.images)
    assert torch.equal(seen(1.0), mirrored(colours).images) and not torch.equal(seen(1.0), seen(0))
    half = (seen(0.5) != colours.images).flatten(1).any(1).sum()
    assert 16 < half < 48


@pytest.mark.parametrize("changes", [(-1,), (4, -0.1), (4, 1.1), (4, float("nan"))])
def test_a_change_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError, match="must"):
        FlipAndCrop(*changes)


def test_an_image_size_below_32_is_refused():
    with pytest.raises(ValueError, match="must be at least 32"):
        ResizedScale((0.5,) * 3, (0.5,) * 3, 31)


def test_enlarging_keeps_a_flat_image_flat():
    flat = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    seen = ResizedScale((0.5,) * 3, (0.5,) * 3, 64)(flat)
    assert seen.shape == (1, 3, 64, 64)
    torch.testing.assert_close(seen, torch.full_like(seen, (128 / 255 - 0.5) / 0.5))
