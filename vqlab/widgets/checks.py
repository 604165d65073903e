"""Checks of state values; every failure is an InputError that names the key, the value and the allowed values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vqlab.errors import InputError


def check_one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that a value is one of the allowed ones.

    Args:
        name: key of the state, for the message.
        value: the value to check.
        choices: the allowed values, in the order in which the message lists them.

    Raises:
        InputError: if ``value`` is not in ``choices``.

    Example:
        >>> check_one_of("tool", "brush", ("pick", "brush", "swap"))
        >>> check_one_of("tool", "axe", ("pick", "brush", "swap"))
        Traceback (most recent call last):
        vqlab.errors.InputError: tool='axe': must be one of pick, brush, swap
    """
    if value not in choices:
        raise InputError(f"{name}={value!r}: must be one of {', '.join(map(str, choices))}")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Check that a value is a number in a closed interval.

    Args:
        name: key of the state, for the message.
        value: the value to check; a bool is not a number.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        InputError: if ``value`` is not an int or float in [``low``, ``high``].

    Example:
        >>> check_range("noise", 30, 0, 100)
        >>> check_range("noise", 101, 0, 100)
        Traceback (most recent call last):
        vqlab.errors.InputError: noise=101: must be a number from 0 to 100
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name}={value!r}: must be a number from {low:g} to {high:g}")
