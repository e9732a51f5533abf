"""Helpers for DS-UA 301 Homework 3: notebooks call these modules and argue from the results.

Import the modules by name (``from hw3utils import training``); nothing heavy is loaded here.
"""

__version__ = "1.0.0"
