"""Families of quantizers at equal bits, and codebook rules under two transports."""

from __future__ import annotations

from typing import Any

from vqlab.config import Config

Changes = dict[str, Any]
Arms = dict[str, Changes]

_STRAIGHT_THROUGH: Changes = {"quantizer.transport": "straight_through"}
_RRT: Changes = {"quantizer.transport": "rotation"}
# After the name of a family in the arm that trains it under RRT; without it, under straight-through.
AND_RRT = ", RRT"
# Bits of a vector; fewer at the scale of ``quick``, whose images are few.
_BITS, _QUICK_BITS = 10, 8


def family_arms(profile: str) -> Arms:
    """Arms of the study ``families``: every family with equal bits for a vector, so equal bits for an image.

    A vector has 10 bits, in ``quick`` 8: K = 1,024 codes, or two codes of 32, or five scalars of four values, or ten
    signs. Codes of a product share the channels of ``quantizer.code_dim``, if the profile sets it.

    Args:
        profile: the profile of the study.

    Returns:
        Changes to the profile by the name of the arm; the first is the nearest code with straight-through.

    Example:
        >>> family_arms("best")["residual, RRT"]["quantizer.num_codes"]
        32
    """
    bits = _bits(profile)
    one = {"quantizer.num_codes": 1 << bits}
    return {
        "nearest code": {**one, **_STRAIGHT_THROUGH},
        f"nearest code{AND_RRT}": {**one, **_RRT},
        **_pairs(profile, bits),
        **_fixed(bits),
        "SimVQ": {"quantizer.family": "simvq", **one, **_STRAIGHT_THROUGH},
    }


def double_rate_arms(profile: str) -> Arms:
    """Arms of the study ``families_double``: the families that need no table of all codes, with twice the bits.

    A vector has 20 bits, in ``quick`` 16: two codes of 1,024, or ten scalars of four values, or twenty signs. One
    nearest code would need a table of 2²⁰ codes.

    Args:
        profile: the profile of the study.

    Returns:
        Changes to the profile by the name of the arm; the first is the product with straight-through.

    Example:
        >>> double_rate_arms("best")["product"]["quantizer.num_codes"]
        1024
    """
    bits = 2 * _bits(profile)
    return {**_pairs(profile, bits), **_fixed(bits)}


def _bits(profile: str) -> int:
    return _QUICK_BITS if profile == "quick" else _BITS


def _pairs(profile: str, bits: int) -> Arms:
    """Families with two codes for a vector."""
    two = {"quantizer.num_codes": 1 << bits // 2}
    code_dim = Config.profile(profile).quantizer.code_dim
    halves: Changes = {} if code_dim is None else {"quantizer.code_dim": code_dim // 2}
    residual: Changes = {"quantizer.family": "residual", "quantizer.levels": 2, **two}
    product: Changes = {"quantizer.family": "product", "quantizer.heads": 2, **two, **halves}
    return {
        "product": {**product, **_STRAIGHT_THROUGH},
        f"product{AND_RRT}": {**product, **_RRT},
        "residual": {**residual, **_STRAIGHT_THROUGH},
        f"residual{AND_RRT}": {**residual, **_RRT},
        "residual, RRT of the sum": {**residual, **_RRT, "quantizer.joint": True},
    }


def _fixed(bits: int) -> Arms:
    """Families with codes that are not trained."""
    scalars: Changes = {"quantizer.num_codes": 1 << bits, "quantizer.code_dim": None, **_STRAIGHT_THROUGH}
    return {
        "FSQ": {"quantizer.family": "fsq", "quantizer.fsq_levels": [4] * (bits // 2), **scalars},
        "LFQ": {"quantizer.family": "lfq", **scalars},
        "BSQ": {"quantizer.family": "bsq", **scalars},
    }


def rule_arms(profile: str) -> Arms:
    """Arms of the study ``rules``: codebook rules under straight-through and under RRT, where the rule allows both.

    Args:
        profile: the profile of the study; without effect.

    Returns:
        Changes to the profile by the name of the arm; the first is EMA with straight-through, without a rule.

    Example:
        >>> "cvq, RRT" in rule_arms("best"), "ibq, RRT" in rule_arms("best")
        (True, False)
    """
    from vqlab.quantize import get_rule, rule_names

    arms: Arms = {"EMA": dict(_STRAIGHT_THROUGH), "EMA, RRT": dict(_RRT)}
    arms["gradient"] = {"quantizer.update": "gradient", **_STRAIGHT_THROUGH}
    arms["gradient, RRT"] = {"quantizer.update": "gradient", **_RRT}
    for name in rule_names():
        rule = get_rule(name)
        if rule is None:
            continue
        needs = {f"quantizer.{option}": value for option, (value, _) in rule.needs.items() if value is not None}
        arms[name] = {"quantizer.rule": name, **_STRAIGHT_THROUGH, **needs}
        if "transport" not in rule.needs:
            arms[f"{name}, RRT"] = {"quantizer.rule": name, **needs, **_RRT}
    return arms
