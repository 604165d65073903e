"""Signatures of functions, stored once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def with_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    """Store the signature of a function in it.

    ``torch.autograd.Function.apply`` asks ``inspect`` for the signature of ``forward`` in each call, which takes as
    long as several operations on small tensors if it is not stored.

    Args:
        function: The ``forward`` of an autograd function with a ``setup_context`` of its own.

    Returns:
        The function itself.

    Example:
        >>> with_signature(lambda tensor: tensor).__signature__
        <Signature (tensor)>
    """
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function
