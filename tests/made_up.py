"""Small made-up image sets, and results of runs that never were, for tests alone."""

import io
import tarfile
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from hw3utils.data.images import ImageSet
from hw3utils.training.runs import FitResult, Run
from hw3utils.training.schedules import (
    Constant,
    Cyclical,
    DecayingCyclical,
    LinearDecay,
    OneCycle,
    Steps,
)

SCHEDULES = [
    Constant(0.05), LinearDecay(0.05), OneCycle(0.05), Cyclical(0.01, lr_max=0.1),
    DecayingCyclical(0.01, lr_max=0.1), Steps(0.05),
]  # fmt: skip


def make_images(n: int, num_classes: int = 10, seed: int = 0, shape=(1, 28, 28)) -> ImageSet:
    """Noise with one bright stripe whose place tells the class: quickly learned, never trivial."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (n,), generator=generator)
    images = torch.randint(0, 120, (n, *shape), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * int(label) + 2 : 2 * int(label) + 5, :] += 100
    return ImageSet(images, labels, tuple(f"class {index}" for index in range(num_classes)))


def make_result(run: Run, losses, diverged: bool = False) -> FitResult:
    """A result with these training losses; better losses come with better accuracies."""
    sizes = run.batch_sizes[: len(losses)]
    history = pd.DataFrame(
        {
            "epoch": range(1, len(losses) + 1),
            "batch_size": sizes,
            "updates": [-(-48_000 // size) for size in sizes],
            "train_loss": losses,
            "train_accuracy": [1 / (1 + loss) for loss in losses],
            "validation_loss": losses,
            "validation_accuracy": [1 / (1 + loss) for loss in losses],
            "seconds": 1.0,
        }
    )
    return FitResult(run, history, torch.zeros(0), {}, {}, diverged)


def decathlon_archive(folder: Path, name="dtd", train=5, validation=3, empty_class=False) -> None:
    """Write an archive of the Visual Decathlon: so many images of each of two classes, in PNG.

    The second class of the validation part can be left empty.
    """
    (folder / "decathlon").mkdir(parents=True)
    with tarfile.open(folder / "decathlon" / f"{name}.tar", "w") as tar:
        for part, n in (("train", train), ("val", validation)):
            for label, colour in (("0001", (200, 0, 0)), ("0002", (0, 0, 200))):
                if empty_class and (part, label) == ("val", "0002"):
                    continue
                content = io.BytesIO()
                Image.new("RGB", (40, 30), colour).save(content, "PNG")
                for index in range(n):
                    info = tarfile.TarInfo(f"{name}/{part}/{label}/{index}.png")
                    info.size = content.tell()
                    tar.addfile(info, io.BytesIO(content.getvalue()))
