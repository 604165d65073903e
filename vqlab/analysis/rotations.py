"""Householder form, Rodrigues form and reflection compared: rounding errors and cost of the backward rule."""

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
_WARM_UP_STEPS = 3


def reference_gradient(
    g: Float[Tensor, "N D"], e: Float[Tensor, "N D"], q: Float[Tensor, "N D"]
) -> Float[Tensor, "N D"]:
    """Compute the gradient λRᵀg of the rotation in float64 with the matrix R = I − 2rrᵀ + 2q̂êᵀ.

    λ = ‖q‖/‖e‖, ê = e/‖e‖, q̂ = q/‖q‖ and r = (ê + q̂)/‖ê + q̂‖. It needs O(N·D²) memory, so it is for checks only.

    Source: Fifty et al., Restructuring Vector Quantization with the Rotation Trick, 2024.

    Args:
        g: gradients at the codes.
        e: encoder vectors; neither zero nor opposite to their code.
        q: codes of the encoder vectors; not zero.

    Returns:
        The gradients at the encoder vectors, float64.

    Example:
        >>> e, q = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])  # a quarter turn, λ = 2
        >>> reference_gradient(torch.tensor([[0.0, 1.0]]), e, q).round(decimals=6)
        tensor([[2., 0.]], dtype=torch.float64)
    """
    g, e, q = (x.double() for x in (g, e, q))
    e_unit, q_unit = (x / x.norm(dim=1, keepdim=True) for x in (e, q))
    r = (e_unit + q_unit) / (e_unit + q_unit).norm(dim=1, keepdim=True)
    eye = torch.eye(e.shape[1], dtype=torch.float64)
    matrix = eye - 2 * r[:, :, None] * r[:, None] + 2 * q_unit[:, :, None] * e_unit[:, None]
    return (q.norm(dim=1) / e.norm(dim=1))[:, None] * torch.einsum("nij,ni->nj", matrix, g)


def rounding_errors(dim: int = 64, count: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Measure the largest rounding error of each form on random vectors, by number format.

    The inputs are rounded to the format first, so the error is that of the computation alone.

    Args:
        dim: dimension D of the vectors.
        count: number of vectors.
        seed: seed of the random vectors.

    Returns:
        One row for each of ``FORMS``, one column for each format: the largest absolute difference to
        ``reference_gradient``, divided by the largest norm of a reference gradient.
    """
    import pandas as pd

    table = {}
    for name, dtype in _DTYPES.items():
        g, e, q = _random_vectors(count, dim, seed, dtype)
        reference = reference_gradient(g, e, q)
        scale = reference.norm(dim=1).max()
        table[name] = {
            form: float((transport_gradient(g, e, q, form).double() - reference).abs().max() / scale) for form in FORMS
        }
    return pd.DataFrame(table)


def antipodal_rounding_errors(dim: int = 64, count: int = 500, seed: int = 0) -> pd.DataFrame:
    """Measure the rounding error in float32 for codes nearly opposite to their encoder vector.

    Args:
        dim: dimension D of the vectors.
        count: number of vectors.
        seed: seed of the random vectors.

    Returns:
        One row for each angle 180° − ``gap``, with ``gap`` from 10² to 10⁻⁴ degrees; ``rotation`` and ``rodrigues``:
        median relative error of the form; ``fallback_share``: share of the vectors for which the layer uses the
        straight-through gradient instead, 0…1.
    """
    import pandas as pd

    g, e, normal = _random_vectors(count, dim, seed)
    e_unit = e / e.norm(dim=1, keepdim=True)
    normal = normal - (normal * e_unit).sum(dim=1, keepdim=True) * e_unit
    normal = normal / normal.norm(dim=1, keepdim=True)
    rows = []
    for gap in torch.logspace(2, -4, 25).tolist():
        angle = torch.deg2rad(torch.tensor(180 - gap, dtype=torch.float64))
        q = angle.cos() * e_unit + angle.sin() * normal
        reference = reference_gradient(g, e, q)
        g32, e32, q32 = g.float(), e.float(), q.float()
        errors = {}
        for form in ("rotation", "rodrigues"):
            difference = transport_gradient(g32, e32, q32, form).double() - reference
            errors[form] = float((difference.norm(dim=1) / reference.norm(dim=1)).median())
        fallback = get_transport("rotation").undefined(e32, q32).float().mean()
        rows.append({"gap": gap, **errors, "fallback_share": float(fallback)})
    return pd.DataFrame(rows)


def backward_cost(
    dims: Sequence[int] = (16, 64, 256), counts: Sequence[int] = (1024, 8192), repeats: int = 7, device: str = "cpu"
) -> pd.DataFrame:
    """Measure the time of the backward rule in float32.

    Args:
        dims: dimensions D of the vectors.
        counts: numbers N of vectors.
        repeats: measured calls, after three calls that are not measured.
        device: ``cpu`` or ``cuda``.

    Returns:
        One row for each D, N and form (straight-through and ``FORMS``) with the columns ``form``, ``D``, ``N`` and
        ``ms``: median time in milliseconds.
    """
    import pandas as pd

    rows = []
    for dim, count in itertools.product(dims, counts):
        inputs = [x.float().to(device) for x in _random_vectors(count, dim, 0)]
        rows += [
            {"form": form, "D": dim, "N": count, "ms": _median_milliseconds(inputs, form, repeats)}
            for form in ("straight_through", *FORMS)
        ]
    return pd.DataFrame(rows)


def _random_vectors(count: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Three tensors (count, dim) of standard normal values."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


def _median_milliseconds(inputs: list[Tensor], form: str, repeats: int) -> float:
    g, e, q = inputs
    times = []
    for _ in range(repeats + _WARM_UP_STEPS):
        start = time.perf_counter()
        transport_gradient(g, e, q, form)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return median(times[_WARM_UP_STEPS:])
