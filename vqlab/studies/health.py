"""RRT and straight-through under codebooks from healthy to collapsed: where the rotation trick helps."""

from __future__ import annotations

from typing import Any

from vqlab.config import Config
from vqlab.studies.quick_scale import QUICK_SCALE

Changes = dict[str, Any]
Arms = dict[str, Changes]

# After the name of a codebook in an arm that trains it under RRT; the arm of the plain name is straight-through.
WITH_RRT = " + RRT"
_NO_RESTARTS: Changes = {"quantizer.restart_every": 0}
_NARROW = 8


def health_codebooks(profile: str) -> Arms:
    """The codebooks of the study ``health``: what the literature holds responsible for a codebook in use, one by one.

    Decay, restarts, initialisation, number of codes and their channels differ from the profile; without restarts, so
    that nothing but the codebook's own movement keeps codes in use, unless the name says otherwise.

    Args:
        profile: the profile of the study.

    Returns:
        Changes to the profile by the name of the codebook.

    Example:
        >>> health_codebooks("paper")["4 K"]["quantizer.num_codes"]
        4096
    """
    quantizer = Config.profile(profile).quantizer
    codes = QUICK_SCALE["quantizer.num_codes"] if profile == "quick" else quantizer.num_codes
    width = _NARROW if quantizer.code_dim is None else None
    return {
        "k-means, restarts": {},
        "k-means": _NO_RESTARTS,
        "normal, restarts": {"quantizer.init": "normal"},
        "normal": {"quantizer.init": "normal", **_NO_RESTARTS},
        "decay 0.8": {"quantizer.decay": 0.8, **_NO_RESTARTS},
        "decay 0.999": {"quantizer.decay": 0.999, **_NO_RESTARTS},
        "K / 4": {"quantizer.num_codes": codes // 4, **_NO_RESTARTS},
        "4 K": {"quantizer.num_codes": 4 * codes, **_NO_RESTARTS},
        f"{width or quantizer.dim} channels": {"quantizer.code_dim": width, **_NO_RESTARTS},
    }


def health_arms(profile: str) -> Arms:
    """Arms of the study ``health``: each codebook of ``health_codebooks`` with straight-through and with RRT.

    Args:
        profile: the profile of the study.

    Returns:
        Changes to the profile by the name of the arm: NAME, and NAME + RRT.

    Example:
        >>> list(health_arms("paper"))[:2]
        ['k-means, restarts', 'k-means, restarts + RRT']
    """
    arms: Arms = {}
    for name, changes in health_codebooks(profile).items():
        arms[name] = {**changes, "quantizer.transport": "straight_through"}
        arms[name + WITH_RRT] = {**changes, "quantizer.transport": "rotation"}
    return arms
