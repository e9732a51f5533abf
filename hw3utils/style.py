"""The look that all figures share, and the one way to save them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from hw3utils import files

if TYPE_CHECKING:
    from torch import Tensor

    from hw3utils.data.images import ImageSet

# Okabe and Ito's palette: distinct for colour-blind readers and, with the markers, in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_style() -> None:
    """Set matplotlib's defaults for this session: white background, quiet axes, the palette."""
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 4.2),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.dpi": 150,
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "axes.prop_cycle": mpl.cycler(color=COLOURS),
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "font.family": "DejaVu Sans",
        }
    )


def save_figure(figure: Figure, name: str, folder: Path) -> Path:
    """Write ``figure`` to ``folder/name.png`` at 150 dots an inch, atomically, and return the path.

    256 colours are enough for a drawing, and make a photograph's file a quarter as large. The file
    holds no date or version, so the same figure gives the same bytes. The figure is then
    closed: a notebook shows it where ``figure`` is the last expression of a cell.
    """
    drawn, content = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256).save(content, format="png", optimize=True)
    return files.write_atomically(Path(folder) / f"{name}.png", content.getvalue())


def class_samples(images: ImageSet, columns: int = 10) -> Figure:
    """Draw the first ``columns`` images of every class, one row for each class, with its name."""
    rows = images.num_classes
    figure, panels = plt.subplots(
        rows, columns, figsize=(0.62 * columns + 1.2, 0.66 * rows), squeeze=False
    )
    for label, row in enumerate(panels):
        chosen = images.images[images.labels == label][:columns]
        for axes in row:
            axes.axis("off")
        for axes, image in zip(row, chosen, strict=False):
            show(axes, image)
        row[0].text(
            -0.15, 0.5, images.class_names[label], ha="right", va="center", fontsize=9,
            transform=row[0].transAxes,
        )  # fmt: skip
    return figure


def show(axes: plt.Axes, image: Tensor) -> None:
    """Draw one uint8 image (C, H, W), grey or RGB, without axes."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    axes.imshow(pixels.squeeze(), cmap="gray_r" if len(image) == 1 else None, vmin=0, vmax=255)
    axes.axis("off")
