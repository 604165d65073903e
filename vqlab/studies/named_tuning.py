"""The tuning of the notebooks at the scale of a profile."""

from __future__ import annotations

from typing import Any

from vqlab.config import Config
from vqlab.studies.named import QUICK_CHANGES
from vqlab.studies.tuning import DEFAULT_SPACE, Tuning

# Of profile ``quick``: few images and two epochs, so that a trial can be pruned after the first.
_QUICK = {**QUICK_CHANGES, "data.train_limit": 480, "optim.epochs": 2}
_TRIALS = {"quick": 8}
_MOST_TRIALS = 40


def named_tuning(profile: str = "quick", **changes: Any) -> Tuning:
    """Build a tuning of ``DEFAULT_SPACE`` at the scale of a profile.

    Args:
        profile: the profile of the base Config, a name of ``vqlab.config.PROFILES``; ``quick`` has 8 trials on few
            images, any other profile 40.
        **changes: changes to the base Config by dotted field.

    Returns:
        The tuning.

    Raises:
        InputError: if the profile or a field is unknown, or a value is out of range.

    Example:
        >>> named_tuning("quick").trials, named_tuning("paper").trials
        (8, 40)
    """
    base = Config.profile(profile, **{**(_QUICK if profile == "quick" else {}), **changes})
    return Tuning("notebook", base, DEFAULT_SPACE, trials=_TRIALS.get(profile, _MOST_TRIALS))
