"""Datasets by name: their parts, the order of each part, and what a part of a part is."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from hw3utils.data import datasets, downloads
from hw3utils.data.images import Splits, stratified_order
from made_up import decathlon_archive, make_images


class TestArchives:
    def test_a_decathlon_archive_gives_three_parts_without_a_shared_image(self, tmp_path):
        decathlon_archive(tmp_path)
        parts = datasets.load_dataset("decathlon/dtd", size=32, data_dir=tmp_path)
        assert [len(part) for part in parts] == [8, 2, 6]
        assert parts.validation.class_counts().tolist() == [1, 1]
        assert parts.train.class_names == ("0001", "0002")
        assert parts.train.images.shape == (8, 3, 32, 32)
        assert (parts.train.images[parts.train.labels == 0][:, 0] == 200).all()

    def test_a_class_without_images_is_refused_by_name(self, tmp_path):
        decathlon_archive(tmp_path, empty_class=True)
        with pytest.raises(ValueError, match="no image of 1 classes .0002"):
            datasets.load_dataset("decathlon/dtd", data_dir=tmp_path)

    def test_no_archive_says_where_to_put_it(self, tmp_path):
        with pytest.raises(downloads.SourcesExhaustedError, match=r"put decathlon-1.0-data.tar.gz"):
            datasets.load_dataset("decathlon/aircraft", data_dir=tmp_path)

    def test_a_truncated_archive_is_refused(self, tmp_path):
        (tmp_path / "decathlon").mkdir()
        (tmp_path / "decathlon" / "decathlon-1.0-data.tar.gz").write_bytes(b"half")
        with pytest.raises(downloads.SourcesExhaustedError, match="truncated"):
            datasets.load_dataset("decathlon/dtd", data_dir=tmp_path)

    def test_a_stand_in_is_named_together_with_what_it_stands_in_for(self, tmp_path):
        decathlon_archive(tmp_path)
        found = datasets.load_target("decathlon/svhn or decathlon/dtd", size=32, data_dir=tmp_path)
        assert found.name == "decathlon/dtd" and list(found.not_found) == ["decathlon/svhn"]

    def test_an_unknown_name_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match="unknown dataset 'imagenet': choose from cifar10"):
            datasets.load_dataset("imagenet")


@pytest.fixture(scope="module")
def cifar10():
    return datasets.load_dataset("cifar10")


class TestCifar10:
    def test_it_is_split_class_by_class_and_the_seed_decides(self, cifar10):
        for part, n in zip(cifar10, (4_000, 1_000, 1_000), strict=True):
            assert part.class_counts().tolist() == [n] * 10
        again = datasets.load_dataset("cifar10")
        assert [part.checksum for part in again] == [part.checksum for part in cifar10]
        other = datasets.load_dataset("cifar10", seed=1)
        for part in ("train", "validation", "test"):
            assert getattr(other, part).checksum != getattr(cifar10, part).checksum, part

    def test_every_image_is_in_one_part_alone(self, cifar10):
        official = datasets._load_cifar10(datasets.paths.data_dir())
        for parts, whole in (
            (cifar10[:2], official.train), (cifar10[2:], official.test)
        ):  # fmt: skip
            found = [image.numpy().tobytes() for part in parts for image in part.images]
            assert sorted(found) == sorted(image.numpy().tobytes() for image in whole.images)

    def test_how_many_training_images_are_wanted_changes_no_other_part(self, cifar10):
        """Not even where all of them are wanted; and the fewer images are among the more."""
        wanted = [cifar10.at_most(n, 1_000, 2_000) for n in (896, 5_000, 40_000, 10**6)]
        assert [len(parts.train) for parts in wanted] == [896, 5_000, 40_000, 40_000]
        assert len({parts.validation.checksum for parts in wanted}) == 1
        assert len({parts.test.checksum for parts in wanted}) == 1
        for fewer, more in zip(wanted, wanted[1:], strict=False):
            n = len(fewer.train)
            assert torch.equal(fewer.train.images, more.train.images[:n])
            assert torch.equal(fewer.train.labels, more.train.labels[:n])

    @pytest.mark.parametrize("n", [160, 640, 1_000])
    def test_a_beginning_has_as_many_images_of_each_class(self, cifar10, n):
        parts = cifar10.at_most(n, n, n)
        assert {tuple(part.class_counts().tolist()) for part in parts} == {(n // 10,) * 10}


class TestAtMost:
    PARTS = Splits(*(make_images(n, num_classes=4, seed=n) for n in (40, 30, 20)))

    def test_it_takes_the_first_images_of_each_part_or_all_there_are(self):
        found = self.PARTS.at_most(8, 30, 1_000)
        assert [len(part) for part in found] == [8, 30, 20]
        assert torch.equal(found.train.images, self.PARTS.train.images[:8])
        assert found.test is self.PARTS.test

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ((3, 30, 20), "train: 3 images cannot cover 4 classes"),
            ((8, 0, 20), "validation: 0 images cannot cover 4 classes"),
            ((8, 30, -1), "test: -1 images cannot cover 4 classes"),
        ],
    )
    def test_too_few_images_for_the_classes_are_refused(self, numbers, words):
        with pytest.raises(ValueError, match=words):
            self.PARTS.at_most(*numbers)


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    seed=st.integers(0, 9),
)
def test_every_beginning_of_a_stratified_order_has_the_classes_proportions(counts, seed):
    """Never more than one image too many of a class; too few by at most its share of C images."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(99))]
    order = stratified_order(labels, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))
    classes = len(counts)
    assert sorted(labels[order[:classes]].tolist()) == list(range(classes)), "a class comes late"
    shares = torch.tensor(counts).double() / len(labels)
    seen = torch.nn.functional.one_hot(labels[order], classes).cumsum(0)
    fair = torch.arange(1, len(labels) + 1)[:, None] * shares
    assert (seen <= fair + 1 + 1e-9).all()
    assert (seen >= fair - classes * shares - 1e-9).all()


def test_a_stratified_order_is_drawn_and_not_that_of_the_file():
    labels = torch.arange(1_000) % 10
    first, again, other = (
        stratified_order(labels, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    # Which image of a class comes when has nothing to do with where it stood.
    late = first[:500].double().mean()
    assert abs(float(late) - 499.5) < 5 * 289 / 500**0.5
    assert len(labels[first[:10]].unique()) == 10 and first[:10].max() >= 10


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_what_means_something_else_in_a_mirror_is_never_mirrored(name):
    """Digits, letters, and signs with arrows or writing; of the rest a mirror image is one more."""
    handed = any(kind in name for kind in ("svhn", "gtsrb", "omniglot"))
    assert datasets.Target(name, None, {}).mirrors is not handed
