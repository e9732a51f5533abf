"""Helpers for DS-UA 301 Homework 3: notebooks call these modules and argue from the results.

Import modules from their wing (``from hw3utils.training import sweeps``); nothing heavy is loaded
here.
"""

__version__ = "1.0.0"
