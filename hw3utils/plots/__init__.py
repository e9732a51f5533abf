"""Figures from results. Never train, never load data."""

from hw3utils.plots.style import COLOURS, save_figure, use_style

__all__ = ["COLOURS", "save_figure", "use_style"]
