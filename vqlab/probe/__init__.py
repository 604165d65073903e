"""The gradient probe: what any vector-quantization module does to the gradient. Torch only.

The package is callable: ``vqlab.probe(module)`` is ``vqlab.probe.probe(module)``.
"""

from __future__ import annotations

import sys
from types import ModuleType

from torch import nn

from vqlab.probe.module_probe import Probe, probe
from vqlab.probe.records import COLUMNS, angles, token_records

__all__ = ["COLUMNS", "Probe", "angles", "probe", "token_records"]


class _CallablePackage(ModuleType):
    """Importing ``vqlab.probe`` sets the attribute of that name, which must stay the function that users call."""

    def __call__(self, module: nn.Module, *, channel_dim: int | None = None, max_tokens: int = 4096) -> Probe:
        return probe(module, channel_dim=channel_dim, max_tokens=max_tokens)


_CallablePackage.__call__.__doc__ = probe.__doc__
sys.modules[__name__].__class__ = _CallablePackage
