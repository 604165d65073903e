"""The grids that the lab knows by name, each at the scale of a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.tuning.grids import Grid, Value

Axes = Mapping[str, Sequence[Value]]

_RESTARTS: Sequence[Value] = (0, 20)

# The paper's §4.4.1 and §4.4.4, and what public comparisons mix: the start of a codebook and its transport.
NAMED: dict[str, Axes] = {
    "utilisation": {
        "quantizer.decay": (0.95, 0.97, 0.99),
        "quantizer.beta": (0.5, 0.75, 1.0),
        "quantizer.restart_every": _RESTARTS,
    },
    "scaling": {
        "quantizer.num_codes": (1024, 2048, 4096),
        "quantizer.dim": (32, 64, 128),
    },
    "initialisation": {
        "quantizer.init": ("normal", "uniform", "data", "kmeans"),
        "quantizer.restart_every": _RESTARTS,
        "quantizer.transport": ("rotation", "straight_through"),
    },
}

# The same axes with the ends of their ranges, for minutes on two cores.
_QUICK: dict[str, Axes] = {
    "utilisation": {
        "quantizer.decay": (0.95, 0.99),
        "quantizer.beta": (0.5, 1.0),
        "quantizer.restart_every": _RESTARTS,
    },
    "scaling": {"quantizer.num_codes": (64, 256, 1024), "quantizer.dim": (16, 32)},
    "initialisation": {**NAMED["initialisation"], "quantizer.init": ("normal", "kmeans")},
}
QUICK_CHANGES = {
    "model.hidden": 32, "model.residual_hidden": 16,
    "optim.epochs": 1, "optim.batch_size": 16, "data.train_limit": 1280, "data.test_limit": 128,
}  # fmt: skip


def named_grid(name: str, profile: str = "quick", **changes: Any) -> Grid:
    """The grid ``name`` at the scale of ``profile``, with dotted changes to its base Config.

    ``utilisation``: EMA decay × β × restarts (paper §4.4.1). ``scaling``: K × D (paper §4.4.4).
    ``initialisation``: start × restarts × transport. Raises InputError for another name.
    """
    if name not in NAMED:
        raise InputError(f"grid={name!r}: must be one of {', '.join(NAMED)}, or give axes of your own")
    quick = profile == "quick"
    base = Config.profile(profile, **{**(QUICK_CHANGES if quick else {}), **changes})
    return Grid(name, base, (_QUICK if quick else NAMED)[name])


def grid_of(name: str, axes: Axes, profile: str = "quick", **changes: Any) -> Grid:
    """The named grid, or one called ``name`` over ``axes`` where there are any.

    Raises InputError for a name that is not known, without axes, or an axis whose value is not a list.
    """
    if not axes:
        return named_grid(name, profile, **changes)
    for axis, values in axes.items():
        if not isinstance(values, list | tuple):
            raise InputError(f"axis {axis}={values}: write the values as a list, {axis}=[1,2]")
    return Grid(name, Config.profile(profile, **changes), axes)
