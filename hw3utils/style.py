"""The look that all figures share, and the one way to save them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hw3utils import files

if TYPE_CHECKING:
    from IPython.display import Image as DisplayedImage
    from torch import Tensor

    from hw3utils.data.images import ImageSet

# Okabe and Ito's palette: distinct for colour-blind readers and, with the markers, in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 150  # dots an inch, of a figure in its file
_GAP = 4  # pixels between images that are shown as one picture


def use_style() -> None:
    """Set matplotlib's defaults for this session: white background, quiet axes, the palette."""
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 4.2),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.dpi": DPI,
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
    holds no date or version, so the same figure gives the same bytes. The figure is then closed.
    """
    figure.set_dpi(DPI)
    canvas, content = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # as `savefig` does, which would write a file only to be read again
    plt.close(figure)
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    pixels.convert("RGB").quantize(256).save(content, format="png", optimize=True)
    return files.write_atomically(Path(folder) / f"{name}.png", content.getvalue())


def show_figure(figure: Figure, name: str, folder: Path) -> DisplayedImage:
    """Save ``figure`` as `save_figure` does, and return the file for a notebook to show.

    At 110 dots an inch, for at the file's own 150 tall figures are higher than most screens.
    """
    from IPython.display import Image as DisplayedImage  # slow, and only notebooks need it

    width = round(figure.bbox.width)
    return DisplayedImage(filename=save_figure(figure, name, folder), width=width)


def class_samples(images: ImageSet, columns: int = 10) -> Figure:
    """Draw the first ``columns`` images of every class, one row for each class, with its name.

    They are one picture: a hundred axes take seconds to draw.
    """
    channels, height, width = images.images.shape[1:]
    down, across = height + _GAP, width + _GAP
    paper = 0 if channels == 1 else 255  # as `show` draws it
    sheet = images.images.new_full((channels, images.num_classes * down, columns * across), paper)
    for row in range(images.num_classes):
        for column, image in enumerate(images.images[images.labels == row][:columns]):
            top, left = row * down, column * across
            sheet[:, top : top + height, left : left + width] = image
    size = (0.62 * columns + 1.2, 0.66 * images.num_classes)
    figure, axes = plt.subplots(figsize=size, layout="compressed")
    show(axes, sheet[:, :-_GAP, :-_GAP])
    axes.axis("on")  # for the names
    axes.set_xticks([])
    axes.set_yticks([row * down + height / 2 for row in range(images.num_classes)])
    axes.set_yticklabels(images.class_names)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure


def show(axes: plt.Axes, image: Tensor) -> None:
    """Draw one uint8 image (C, H, W), grey or RGB, without axes."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    axes.imshow(pixels.squeeze(), cmap="gray_r" if len(image) == 1 else None, vmin=0, vmax=255)
    axes.axis("off")
