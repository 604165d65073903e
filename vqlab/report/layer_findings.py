"""Findings of the notebooks about the layer alone: 02, 06 and 14."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqlab.analysis.codebook_rules import ERROR, UTILISATION
from vqlab.analysis.layer_identities import ANGLE_ERROR, FROM_ROTATION, LENGTH_RATIO
from vqlab.report.finding import Finding, Value
from vqlab.report.study_findings import describe_psnr_difference

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.studies import StudyTable

# Largest difference of two forms that rounding explains, in float64 and in float32.
_FLOAT64_ROUNDING, _FLOAT32_ROUNDING = 1e-9, 1e-4


def identities_finding(identities: pd.DataFrame) -> Finding:
    """Say which identities the rotation has (notebook 02).

    Args:
        identities: of ``vqlab.analysis.transport_identities``.

    Returns:
        The finding; its headline is the largest error of the angle that RRT keeps.
    """
    rows = identities.to_dict("index")
    angle_error = rows["rotation"][ANGLE_ERROR]
    forms, reflection = rows["rodrigues"][FROM_ROTATION], rows["reflection"][FROM_ROTATION]
    keeps = "keeps" if angle_error < _FLOAT64_ROUNDING else "does not keep"
    equal = "are one map" if forms < _FLOAT64_ROUNDING else "are not one map"
    other = "another map" if reflection > _FLOAT64_ROUNDING else "the same map"
    sentence = (
        f"RRT {keeps} the angle between gradient and vector; its Householder and Rodrigues forms {equal}, and the "
        f"reflection is {other}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "error of the cosine, RRT": (angle_error, ""),
        "Householder − Rodrigues": (forms, ""),
        "rotation − reflection": (reflection, ""),
        "length of the gradient, RRT": (rows["rotation"][LENGTH_RATIO], "× ‖g‖"),
    }
    return Finding(sentence, numbers)


def rotations_finding(errors: pd.DataFrame, costs: pd.DataFrame, study: StudyTable) -> Finding:
    """Say whether the forms of the rotation are equal, what they cost and what they change (notebook 06).

    Args:
        errors: of ``vqlab.analysis.rotations.rounding_errors``.
        costs: of ``vqlab.analysis.rotations.backward_cost``; the rows with the largest N·D are compared.
        study: table of the study ``transports``.

    Returns:
        The finding; its headline is the larger rounding error of the two forms in float32.

    Raises:
        InputError: if the study has no seed that was measured with both forms.
    """
    float32 = errors["float32"].to_dict()
    error = max(float32["rotation"], float32["rodrigues"])
    size = costs["N"] * costs["D"]
    milliseconds = costs[size == size.max()].set_index("form")["ms"].to_dict()
    householder, rodrigues = milliseconds["rotation"], milliseconds["rodrigues"]
    equal = "are equal to rounding" if error < _FLOAT32_ROUNDING else "differ by more than rounding"
    cheaper = "less" if rodrigues < householder else "more"
    sentence = (
        f"The Householder and Rodrigues forms {equal}, and Rodrigues takes {cheaper} time "
        f"({rodrigues:.3g} instead of {householder:.3g} ms); in training "
        f"{describe_psnr_difference(study, 'RRT', 'RRT (Rodrigues)')}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "rounding error, float32": (error, ""),
        "reflection − rotation": (float32["reflection"], ""),
        "Householder": (householder, "ms"),
        "Rodrigues": (rodrigues, "ms"),
    }
    return Finding(sentence, numbers, study.all_runs())


def own_rule_finding(table: pd.DataFrame, own: str) -> Finding:
    """Say what a rule of one's own does to a collapsed codebook, beside no rule and the best other one (notebook 14).

    Args:
        table: of ``vqlab.analysis.rule_statistics``, with the rows ``"none"``, the own rule and at least one other.
        own: Name of the own rule.

    Returns:
        The finding; its headline is the share of codes in use with the own rule.
    """
    used = table[UTILISATION].to_dict()
    others = {name: share for name, share in used.items() if name not in ("none", own)}
    best = max(others, key=lambda name: others[name])
    verb = "brings" if used[own] > used["none"] else "does not bring"
    sentence = (
        f"The rule {own} {verb} codes of a collapsed codebook into use: {used[own]:.0%} after training, "
        f"{used['none']:.0%} without a rule, {used[best]:.0%} with {best}, the best of the others."
    )
    numbers: dict[str, tuple[Value, str]] = {
        f"utilisation, {own}": (used[own], ""),
        "utilisation, no rule": (used["none"], ""),
        f"utilisation, {best}": (used[best], ""),
        f"relative error, {own}": (table[ERROR].to_dict()[own], ""),
    }
    return Finding(sentence, numbers)
