"""Checks annotations of the package, jaxtyping's shapes included, while the tests run; see conftest.py.

An annotation is left out only where it cannot be evaluated at run time: names that are imported for type checkers
alone (pandas, matplotlib, ipywidgets), ``Self``, and protocols.
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from beartype import BeartypeConf, beartype

_CHECKED = beartype(conf=BeartypeConf(is_pep484_tower=True))
_enabled = True


@contextmanager
def unchecked() -> Iterator[None]:
    """Turn the checks off, for tests that pass values of wrong types on purpose."""
    global _enabled
    _enabled = False
    try:
        yield
    finally:
        _enabled = True


def _evaluated(function: Callable[..., Any]) -> dict[str, Any]:
    names = {**vars(typing), **vars(sys.modules[function.__module__])}
    annotations = {}
    for name, annotation in function.__annotations__.items():
        try:
            value = eval(annotation, names) if isinstance(annotation, str) else annotation
        except (NameError, AttributeError, TypeError):
            continue
        if value is not typing.Self and not getattr(value, "_is_protocol", False):
            annotations[name] = value
    return annotations


def check_lazily(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's annotations from its first call on, when all names of its module exist."""
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if not _enabled:
            return function(*args, **kwargs)
        if checked is None:
            function.__annotations__ = _evaluated(function)
            checked = _CHECKED(function)
        return checked(*args, **kwargs)

    return call
