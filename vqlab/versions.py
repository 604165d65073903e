"""Versions of installed packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


# Cached: parsing the metadata of a package takes ten milliseconds, and each save of each training asks for it.
@cache
def package_version(name: str) -> str | None:
    """Find the version of an installed package.

    Args:
        name: name of the distribution.

    Returns:
        The version, or None if it is not installed.

    Example:
        >>> package_version("no-such-package") is None
        True
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None
