"""The one way to refuse a number that is not a whole number."""

from numbers import Integral
from typing import Any


def check_whole_number(name: str, value: Any, at_least: int = 1) -> None:
    """Raise a ValueError naming ``name`` unless ``value`` is an integer of at least ``at_least``.

    Python's and numpy's integers pass; booleans, floats and text do not, whatever their value.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and value >= at_least):
        raise ValueError(f"{name}={value!r}: must be a whole number of at least {at_least}")
