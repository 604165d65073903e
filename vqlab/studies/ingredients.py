"""The ingredients of the profile ``best``: what each is worth, left out of ``best`` or added to ``paper``."""

from __future__ import annotations

from typing import Any

from vqlab.config import Config, describe_fields
from vqlab.studies.quick_scale import QUICK_CHANGES, QUICK_SCALE

Changes = dict[str, Any]
Arms = dict[str, Changes]

# The fields of each ingredient that differ between ``best`` and ``paper``.
_INGREDIENTS = {
    "pre-activation network": ("model.block", "model.residual_blocks", "model.fine_blocks"),
    "Muon": ("optim.optimizer",),
    "batch of 32": ("optim.batch_size",),
    "learning rate 2e-3": ("optim.learning_rate",),
    "warm-up and linear decay": ("optim.schedule", "optim.warmup"),
    "codes of 8 channels": ("quantizer.code_dim",),
    "straight-through": ("quantizer.transport",),
    "commitment weight 1": ("quantizer.beta",),
    "restart share 0.3": ("quantizer.restart_share",),
    "no crops": ("data.crop_padding",),
}
# Parts of the pre-activation network, by the changes that leave them out.
_NETWORK_PARTS: Arms = {
    "group normalisation": {"model.norm": "none"},
    "pixel shuffle": {"model.upsample": "transposed"},
    "centred pixels and linear output": {"model.center": False, "model.output": "sigmoid"},
}
_QUICK_ARMS = ("best", "best − Muon", "best − pre-activation network", "paper", "paper + pre-activation network")
_BUDGET: Changes = {"data.validation": 5000, "data.train_limit": 16_000, "optim.epochs": 1}
# The batches are those of the scale for all arms: with batches of 32 or more, few images make too few steps.
_QUICK_BUDGET: Changes = {**QUICK_SCALE, "optim.epochs": 2, "quantizer.dim": 32}


def recipe_budget(profile: str) -> Changes:
    """Images of the study ``recipe``: fewer than a whole training, and validation images to measure.

    Profile ``quick`` also makes the networks and the codebook smaller.

    Args:
        profile: the profile of the study.

    Returns:
        Changes to the profile ``paper`` by dotted field.

    Example:
        >>> recipe_budget("best")["data.validation"]
        5000
    """
    return _QUICK_BUDGET if profile == "quick" else _BUDGET


def recipe_arms(profile: str) -> Arms:
    """Arms of the study ``recipe``: ``best`` without each ingredient, and ``paper`` with each.

    Args:
        profile: ``quick`` gives five of the arms; any other profile gives all.

    Returns:
        Changes to the profile ``paper`` by dotted field, by name of the arm. ``best`` is the first.

    Example:
        >>> list(recipe_arms("quick"))
        ['best', 'best − Muon', 'best − pre-activation network', 'paper', 'paper + pre-activation network']
    """
    best = _quick_best() if profile == "quick" else Config.profile("best").changes()
    paper = {field.key: field.default for field in describe_fields()}
    without = {name: {key: paper[key] for key in keys} for name, keys in _INGREDIENTS.items()}
    added = {name: {key: best.get(key, paper[key]) for key in keys} for name, keys in _INGREDIENTS.items()}
    arms = {
        "best": best,
        **{f"best − {name}": {**best, **changes} for name, changes in {**without, **_NETWORK_PARTS}.items()},
        "paper": {},
        **{f"paper + {name}": changes for name, changes in added.items()},
    }
    return {name: arms[name] for name in _QUICK_ARMS} if profile == "quick" else arms


def _quick_best() -> Changes:
    """The ingredients with the values of profile ``quick``, except for what ``_QUICK_BUDGET`` sets."""
    changes = {**Config.profile("quick").changes(), **QUICK_CHANGES, "quantizer.transport": "straight_through"}
    return {key: value for key, value in changes.items() if key not in _QUICK_BUDGET}
