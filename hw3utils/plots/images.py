"""Figures of images themselves."""

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from hw3utils.data import ImageSet

__all__ = ["class_samples", "show"]


def class_samples(images: ImageSet, columns: int = 10) -> Figure:
    """Draw the first ``columns`` images of every class, one row for each class, with its name."""
    rows = images.num_classes
    figure, panels = plt.subplots(
        rows, columns, figsize=(0.62 * columns + 1.2, 0.66 * rows), squeeze=False
    )
    for label, row in enumerate(panels):
        chosen = images.images[torch.nonzero(images.labels == label).flatten()[:columns]]
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
