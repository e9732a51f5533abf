"""The sets that torchvision fetches, made small and by hand in each set's own layout."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets as tv

from hw3utils.data import datasets
from hw3utils.data.downloads import SourcesExhaustedError


def picture(path: Path, shade: int, tint: int = 0) -> None:
    """Write one image of 40×36 pixels in a single shade of grey, redder by ``tint``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 36), (shade + tint, shade, shade - tint)).save(path)


def make_dtd(root: Path) -> None:
    """Two classes; labels/<split>1.txt lists "class/file" for train, val and test."""
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for split in ("train", "val", "test"):
        lines = [f"{name}/{name}_{split}.jpg" for name in ("banded", "dotted")]
        (folder / "labels" / f"{split}1.txt").write_text("\n".join(lines) + "\n")
        for shade, line in zip((50, 200), lines, strict=True):
            picture(folder / "images" / line, shade)


def make_aircraft(root: Path) -> None:
    """Two variants; images_variant_<split>.txt lists "id variant"."""
    folder = root / "fgvc-aircraft-2013b" / "data"
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nA380\n")
    for number, split in enumerate(("train", "val", "test")):
        lines = []
        for index, (name, shade) in enumerate((("707-320", 50), ("A380", 200))):
            lines.append(f"{number}{index} {name}")
            picture(folder / "images" / f"{number}{index}.jpg", shade)
        (folder / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")


def make_gtsrb(root: Path) -> None:
    """43 classes: a folder for each in training, one table for the test images.

    Each class has five tracks, tinted alike, of three frames each, numbered from 0 in every class.
    """
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for label in range(43):
        folder = root / "gtsrb/GTSRB/Training" / f"{label:05}"
        for track, frame in itertools.product(range(5), range(3)):
            picture(folder / f"{track:05}_{frame:05}.ppm", 5 * label + 20, tint=track)
        picture(root / "gtsrb/GTSRB/Final_Test/Images" / f"{label:05}.ppm", 5 * label + 20)
        rows.append(f"{label:05}.ppm;40;36;0;0;40;36;{label}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows) + "\n")


def make_flowers102(root: Path) -> None:
    """102 classes, counted from 1 in imagelabels.mat; setid.mat says which part an image is in."""
    folder = root / "flowers-102"
    ids = np.arange(1, 307)
    for number in ids:
        picture(folder / "jpg" / f"image_{number:05}.jpg", int((number - 1) % 102))
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": (ids - 1)[None] % 102 + 1})
    parts = {"trnid": ids[:102], "valid": ids[102:204], "tstid": ids[204:]}
    scipy.io.savemat(folder / "setid.mat", {name: part[None] for name, part in parts.items()})


def make_svhn(root: Path) -> None:
    """Digits in MATLAB's order (height, width, channel, N); a zero is labelled 10."""
    root.mkdir(parents=True)
    for split, n in (("train", 50), ("test", 10)):
        labels = np.arange(n) % 10
        pixels = np.broadcast_to(20 * labels.astype(np.uint8), (32, 32, 3, n))
        content = {"X": pixels, "y": np.where(labels == 0, 10, labels)[:, None]}
        scipy.io.savemat(root / f"{split}_32x32.mat", content)


def make_cifar100(root: Path) -> None:
    """100 classes in pickles: rows of 3·32·32 values, fine labels, and their names."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split, n in (("train", 500), ("test", 100)):
        labels = np.arange(n) % 100
        rows = np.repeat(2 * labels.astype(np.uint8)[:, None], 3072, axis=1)
        content = {"data": rows, "fine_labels": labels.tolist()}
        (folder / split).write_bytes(pickle.dumps(content))
    names = [f"kind {index}" for index in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))


@pytest.fixture
def made_by_hand(monkeypatch):
    """Let torchvision take files whose checksums are not those of the real sets."""
    for kind in (tv.CIFAR100, tv.SVHN, tv.Flowers102):
        monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(tv.cifar, "check_integrity", lambda *arguments: True)


@pytest.mark.parametrize(
    ("name", "make", "sizes", "shades"),
    [
        ("dtd", make_dtd, (2, 2, 2), (50, 200)),
        ("aircraft", make_aircraft, (2, 2, 2), (50, 200)),
        ("gtsrb", make_gtsrb, (516, 129, 43), range(20, 235, 5)),
        ("flowers102", make_flowers102, (102, 102, 102), range(102)),
        ("svhn", make_svhn, (40, 10, 10), range(0, 200, 20)),
        ("cifar100", make_cifar100, (400, 100, 100), range(0, 200, 2)),
    ],
)
def test_each_layout_gives_its_parts_with_the_right_labels(
    name, make, sizes, shades, tmp_path, made_by_hand
):
    make(tmp_path / "torchvision" / name)
    parts = datasets.load_dataset(name, size=32, data_dir=tmp_path)
    assert tuple(map(len, parts)) == sizes
    expected = torch.tensor(list(shades))
    for part in parts:
        assert part.images.shape[1:] == (3, 32, 32)
        assert part.num_classes == len(expected)
        assert part.class_counts().min() >= 1
        seen = part.images.float().mean(dim=(1, 2, 3))
        assert (seen - expected[part.labels]).abs().max() < 2, "an image has another's label"


@pytest.mark.parametrize("seed", [0, 1])
def test_frames_of_one_track_are_never_parted(tmp_path, seed):
    """They are almost one image: a network would know a fifth of the validation part by heart."""
    make_gtsrb(tmp_path / "torchvision" / "gtsrb")
    parts = datasets.load_dataset("gtsrb", seed=seed, size=32, data_dir=tmp_path)

    def tracks(images):
        tints = images.images[:, 0, 0, 0].int() - images.images[:, 1, 0, 0].int()
        return list(zip(images.labels.tolist(), tints.tolist(), strict=True))

    train, validation = tracks(parts.train), tracks(parts.validation)
    assert len(set(train) | set(validation)) == 43 * 5
    assert not set(train) & set(validation), "frames of one track are on both sides"
    assert parts.validation.class_counts().tolist() == [3] * 43, "one track of five of each class"


def test_what_is_missing_is_fetched_whole_into_its_place(tmp_path, monkeypatch):
    """Half a set lies there; torchvision's download is replaced by one that makes the whole set."""
    monkeypatch.setattr(tv.DTD, "_download", lambda dataset: make_dtd(Path(dataset.root)))
    folder = tmp_path / "torchvision" / "dtd"
    make_dtd(folder)
    (folder / "dtd" / "dtd" / "labels" / "train1.txt").unlink()
    parts = datasets.load_dataset("dtd", size=32, data_dir=tmp_path)
    assert tuple(map(len, parts)) == (2, 2, 2)
    assert [path.name for path in folder.iterdir()] == ["dtd"], "scratch folders stay behind"


def test_without_files_and_network_the_message_says_what_was_tried(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(SourcesExhaustedError) as error:
        datasets.load_dataset("cifar100", data_dir=tmp_path)
    assert "no network" in str(error.value) and "CIFAR100" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not list((tmp_path / "torchvision" / "cifar100").glob(".fetching-*"))
