"""Householder, Rodrigues and the mirror side by side: rounding, behaviour near opposite vectors, cost."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vqlab.quantize import get_transport, transport_gradient

if TYPE_CHECKING:
    import pandas as pd

FORMS = ("rotation", "rodrigues", "reflection")
_DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def _rows(count: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


def reference_gradient(g: Tensor, e: Tensor, q: Tensor) -> Float[Tensor, "N D"]:
    """λRᵀg in float64 with the matrix R = I − 2rrᵀ + 2q̂êᵀ written out; (N, D) each."""
    g, e, q = (x.double() for x in (g, e, q))
    e_unit, q_unit = (x / x.norm(dim=1, keepdim=True) for x in (e, q))
    r = (e_unit + q_unit) / (e_unit + q_unit).norm(dim=1, keepdim=True)
    eye = torch.eye(e.shape[1], dtype=torch.float64)
    matrix = eye - 2 * r[:, :, None] * r[:, None] + 2 * q_unit[:, :, None] * e_unit[:, None]
    return (q.norm(dim=1) / e.norm(dim=1))[:, None] * torch.einsum("nij,ni->nj", matrix, g)


def rounding_errors(dim: int = 64, count: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Largest error of each form against ``exact_gradient``, over the largest length, by number format.

    The inputs are rounded to the format first, so the error is the form's own.
    """
    import pandas as pd

    table = {}
    for name, dtype in _DTYPES.items():
        g, e, q = _rows(count, dim, seed, dtype)
        exact = reference_gradient(g, e, q)
        table[name] = {
            form: float((transport_gradient(g, e, q, form).double() - exact).abs().max() / exact.norm(dim=1).max())
            for form in FORMS
        }
    return pd.DataFrame(table)


def near_antipodal(dim: int = 64, count: int = 500, seed: int = 0) -> pd.DataFrame:
    """Median relative error of float32 by distance from opposite: angle(e, q) = 180° − ``gap``; and fallbacks.

    One row a gap (degrees, 10² … 10⁻⁴), a column for each form, and the share that falls back to straight-through.
    """
    import pandas as pd

    g, e, away = _rows(count, dim, seed)
    e_unit = e / e.norm(dim=1, keepdim=True)
    away = away - (away * e_unit).sum(dim=1, keepdim=True) * e_unit
    away = away / away.norm(dim=1, keepdim=True)
    rows = []
    for gap in torch.logspace(2, -4, 25).tolist():
        angle = torch.deg2rad(torch.tensor(180 - gap, dtype=torch.float64))
        q = angle.cos() * e_unit + angle.sin() * away
        exact = reference_gradient(g, e, q)
        g32, e32, q32 = g.float(), e.float(), q.float()
        errors = {
            form: float(
                ((transport_gradient(g32, e32, q32, form).double() - exact).norm(dim=1) / exact.norm(dim=1)).median()
            )
            for form in ("rotation", "rodrigues")
        }
        fallback = get_transport("rotation").undefined(e32, q32).float().mean()
        rows.append({"gap": gap, **errors, "fallback_share": float(fallback)})
    return pd.DataFrame(rows)


def backward_cost(
    dims: Sequence[int] = (16, 64, 256), counts: Sequence[int] = (1024, 8192), repeats: int = 15, device: str = "cpu"
) -> pd.DataFrame:
    """Median milliseconds of the backward rule, by form, D and N; float32, after warming up."""
    import pandas as pd

    rows = []
    for dim, count in itertools.product(dims, counts):
        inputs = [x.float().to(device) for x in _rows(count, dim, 0)]
        rows += [
            {"form": form, "D": dim, "N": count, "ms": _milliseconds(inputs, form, repeats)}
            for form in ("straight_through", *FORMS)
        ]
    return pd.DataFrame(rows)


def _milliseconds(inputs: list[Tensor], form: str, repeats: int) -> float:
    g, e, q = inputs
    times = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        transport_gradient(g, e, q, form)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - began))
    return median(times[3:])
