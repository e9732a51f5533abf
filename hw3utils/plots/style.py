"""The look that all figures share, and the one way to save them."""

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from hw3utils import storage

__all__ = ["COLOURS", "MARKERS", "save_figure", "use_style"]

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
    return storage.write_atomically(Path(folder) / f"{name}.png", content.getvalue())
