"""The gradient probe: record what any vector-quantization module does to the gradient, token by token.

The package is callable: ``vqlab.probe(module)`` is the function ``vqlab.probe.probe(module)``. Its documentation is
``help(vqlab.probe.probe)``. Needs torch and jaxtyping; ``Probe.table`` and ``Probe.summary`` need pandas.

Example:
    >>> import torch, vqlab
    >>> quantizer = vqlab.VectorQuantizer(16, 8)
    >>> with vqlab.probe(quantizer) as probe:
    ...     quantizer(torch.randn(2, 8, 4, 4, requires_grad=True)).z_q.sum().backward()
    >>> len(probe.table())
    32
"""

from __future__ import annotations

import sys
from types import ModuleType

from torch import nn

from vqlab.probe.known_maps import KNOWN_MAPS, map_residuals
from vqlab.probe.module_probe import Probe, probe
from vqlab.probe.records import COLUMNS, angles, token_records

__all__ = ["COLUMNS", "KNOWN_MAPS", "Probe", "angles", "map_residuals", "probe", "token_records"]


class _CallablePackage(ModuleType):
    """Makes ``vqlab.probe`` callable: the name is a package and, in the public interface, a function."""

    def __call__(self, module: nn.Module, *, channel_dim: int | None = None, max_tokens: int = 4096) -> Probe:
        return probe(module, channel_dim=channel_dim, max_tokens=max_tokens)


_CallablePackage.__call__.__doc__ = probe.__doc__
sys.modules[__name__].__class__ = _CallablePackage
