"""The tuning of the notebooks at the scale of a profile."""

from __future__ import annotations

from typing import Any

from vqlab.config import Config
from vqlab.data.validation import with_validation
from vqlab.studies.quick_scale import QUICK_CHANGES
from vqlab.studies.tuning import DEFAULT_SPACE, Range, Tuning

# Higher rates than for the other profiles, as the trainings are short.
_QUICK_SPACE = {**DEFAULT_SPACE, "optim.learning_rate": Range(1e-3, 1e-2, log=True)}
_QUICK_TRIALS = 6
_TRIALS = 40


def named_tuning(profile: str = "quick", **changes: Any) -> Tuning:
    """Build the tuning of notebook 09 at the scale of a profile; its target is the PSNR on validation images.

    Args:
        profile: the profile of the base Config, a name of ``vqlab.config.PROFILES``; ``quick`` has 6 trials on few
            images and higher learning rates, any other profile 40 of ``DEFAULT_SPACE``.
        **changes: changes to the base Config by dotted field.

    Returns:
        The tuning.

    Raises:
        InputError: if the profile or a field is unknown, a value is out of range, or the images cannot be read.

    Example:
        >>> named_tuning("quick").trials, named_tuning("paper").trials
        (6, 40)
    """
    if profile == "quick":
        base = with_validation(Config.profile(profile, **{**QUICK_CHANGES, **changes}))
        return Tuning("notebook", base, _QUICK_SPACE, trials=_QUICK_TRIALS)
    return Tuning("notebook", with_validation(Config.profile(profile, **changes)), DEFAULT_SPACE, trials=_TRIALS)
