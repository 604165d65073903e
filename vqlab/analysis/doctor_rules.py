"""Rules of the doctor: each one checks the logs of a Run for one symptom of an unhealthy codebook."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vqlab.analysis.run_logs import RunLogs
from vqlab.config import FIXED_CODES, QuantizerConfig
from vqlab.quantize.usage import perplexity, uniform_perplexity

MAX_NORM_GROWTH = 10.0
MAX_DEAD_SHARE = 0.5
MAX_FALSE_RESTARTS = 0.05
TARGET_FALSE_RESTARTS = 0.001
MIN_EMA_TOKENS = 10.0
MAX_RELATIVE_ERROR = 0.25
COMMITMENT_RANGE = (0.02, 0.35)
MIN_PERPLEXITY_SHARE = 0.5
MIN_PLACE_BITS = 0.25
_COLLAPSED = "collapsed level or head"
# Families whose codes have no values of their own to train.
_UNTRAINED_CODES = (*FIXED_CODES, "simvq")
_FEWEST_FSQ_LEVELS = 3
# The commitment share grows far more slowly than β, because a large β also reduces the distance to the codes.
_BETA_DIVISOR = 40


@dataclass(frozen=True)
class Finding:
    """A symptom in the logs of a Run.

    Attributes:
        rule: name of the symptom, as "dead codes".
        evidence: the values in the logs that show it.
        cause: the likely cause.
        changes: changes to the Config that are likely to help, by dotted field.
    """

    rule: str
    evidence: str
    cause: str
    changes: Mapping[str, Any]


def check_dead_codes(logs: RunLogs) -> Finding | None:
    """Check whether more than ``MAX_DEAD_SHARE`` of the codes have no token in the last quarter of the training.

    The codebooks of several levels or heads are checked one by one.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        The finding, or None.
    """
    codebooks = logs.codebook_counts
    ill = {name: counts for name, counts in codebooks.items() if (counts == 0).mean() > MAX_DEAD_SHARE}
    if not ill:
        return None
    used_codes = max(int((counts > 0).sum()) for counts in codebooks.values())
    cause, changes = _explain_dead_codes(logs.config.quantizer, logs.last_step, used_codes)
    parts = [
        f"{name and name + ': '}{(counts == 0).sum()} of {len(counts)} codes have none of the {counts.sum():,} tokens"
        for name, counts in ill.items()
    ]
    return Finding("dead codes", f"{'; '.join(parts)} in the last quarter of training", cause, changes)


def _explain_dead_codes(quantizer: QuantizerConfig, steps: int, used_codes: int) -> tuple[str, dict[str, Any]]:
    fewer = min(quantizer.num_codes // 2, 1 << (2 * used_codes - 1).bit_length())
    if quantizer.family in _UNTRAINED_CODES:
        return "there are more codes than this model uses on these data", _fewer_codes(quantizer, fewer)
    init = {"quantizer.init": "kmeans"} if quantizer.init in ("normal", "uniform") else {}
    every = max(1, min(20, steps // 4))
    if not quantizer.restart_every:
        origin = f"the initialisation {quantizer.init} is far from the data" if init else "the encoder moved away"
        return f"{origin}, and dead codes are not restarted", {**init, "quantizer.restart_every": every}
    if quantizer.restart_every > steps:
        cause = f"restart_every={quantizer.restart_every} is more than the {steps} steps of training: no restart"
        return cause, {**init, "quantizer.restart_every": every}
    return "there are more codes than this model uses on these data", {"quantizer.num_codes": fewer}


def _fewer_codes(quantizer: QuantizerConfig, count: int) -> dict[str, Any]:
    """At most ``count`` codes, as far as the family allows."""
    levels = list(quantizer.fsq_levels)
    if not levels:
        return {"quantizer.num_codes": count}
    while math.prod(levels) > count and max(levels) > _FEWEST_FSQ_LEVELS:
        levels[levels.index(max(levels))] -= 1
    while math.prod(levels) > count and len(levels) > 1:
        levels.pop()
    return {"quantizer.fsq_levels": levels, "quantizer.num_codes": math.prod(levels)}


def check_collapsed_places(logs: RunLogs) -> Finding | None:
    """Check whether a level or head of vectors with several codes tells almost nothing.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        A finding that names the places whose entropy log₂ perplexity in the last quarter of the training is below
        ``MIN_PLACE_BITS`` of log₂ K, or None.
    """
    quantizer, names = logs.config.quantizer, logs.config.quantizer.place_names
    entropies = {
        name: math.log2(float(perplexity(torch.from_numpy(counts))))
        for name, counts in zip(names, logs.last_quarter_counts, strict=False)
    }
    bits = math.log2(quantizer.num_codes)
    low = {name: entropy for name, entropy in entropies.items() if entropy < MIN_PLACE_BITS * bits}
    if not low:
        return None
    shown = "; ".join(f"{name}: perplexity {2**entropy:.1f}" for name, entropy in low.items())
    evidence = f"{shown} of {quantizer.num_codes} codes in the last quarter of training"
    if not quantizer.restart_every:
        cause = "codes that no vector is near are not restarted"
        return Finding(_COLLAPSED, evidence, cause, {"quantizer.restart_every": max(1, min(20, logs.last_step // 4))})
    if quantizer.levels > 1:
        kept = max(2, quantizer.levels - len({name.rpartition("level")[2] for name in low}))
        cause = "what the levels before leave is nearly the same for all vectors: there are more levels than needed"
        return Finding(_COLLAPSED, evidence, cause, _fewer_levels(quantizer, kept))
    cause = "the channels of this head hardly vary"
    return Finding(_COLLAPSED, evidence, cause, {"quantizer.num_codes": max(2, quantizer.num_codes // 2)})


def _fewer_levels(quantizer: QuantizerConfig, kept: int) -> dict[str, Any]:
    if kept < quantizer.levels:
        return {"quantizer.levels": kept}
    return {"quantizer.num_codes": max(2, quantizer.num_codes // 2)}


def check_norm_drift(logs: RunLogs) -> Finding | None:
    """Check whether ‖z_e‖ in the last quarter is more than ``MAX_NORM_GROWTH`` times that of the first step.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        The finding, or None.
    """
    if "z_e_norm" not in logs.steps:
        return None
    first, last = float(logs.steps["z_e_norm"].iloc[0]), logs.quarter_mean("z_e_norm", 3)
    if not last > MAX_NORM_GROWTH * first:
        return None
    return Finding(
        "norm drift",
        f"mean ‖z_e‖ grew from {first:.2f} in the first step to {last:.2f} in the last quarter (× {last / first:.1f})",
        "the commitment loss is too weak to limit the scale of the encoder, or the learning rate is too high",
        {"quantizer.beta": _larger_beta(logs.config.quantizer.beta)},
    )


def check_restart_threshold(logs: RunLogs) -> Finding | None:
    """Check whether restarts count so few tokens per code that codes in use fall below the threshold by chance.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        The finding if the chance is above ``MAX_FALSE_RESTARTS``, else None. The proposed ``restart_every`` is the
        smallest one with a chance of at most ``TARGET_FALSE_RESTARTS``.
    """
    quantizer = logs.config.quantizer
    tokens = quantizer.restart_every * logs.tokens_per_code
    if not quantizer.restart_every:
        return None
    chance = false_restart_probability(tokens, quantizer.restart_share)
    if chance <= MAX_FALSE_RESTARTS:
        return None
    every = quantizer.restart_every
    while false_restart_probability(every * logs.tokens_per_code, quantizer.restart_share) > TARGET_FALSE_RESTARTS:
        every += 1
    return Finding(
        "restart threshold",
        f"{tokens:.2g} tokens per code between restarts ({quantizer.restart_every} steps of {logs.batch_tokens} "
        f"tokens): with uniform use, {chance:.0%} of the codes are below the threshold by chance",
        "codes in use are restarted before they converge: too few tokens per code between restarts",
        {"quantizer.restart_every": every},
    )


def false_restart_probability(tokens: float, share: float) -> float:
    """Probability that a code in uniform use is restarted: P(X < share · tokens) for X ~ Poisson(tokens).

    Args:
        tokens: mean tokens of a code between two restarts, above 0.
        share: ``quantizer.restart_share``, 0…1.

    Returns:
        The probability.

    Example:
        >>> round(false_restart_probability(tokens=3.0, share=0.1), 4)  # exp(−3): no token at all
        0.0498
    """
    from scipy import stats

    return float(stats.poisson.cdf(math.ceil(share * tokens) - 1, tokens))


def check_ema_window(logs: RunLogs) -> Finding | None:
    """Check whether the EMA averages too few tokens per code, or too many steps to follow the encoder.

    The EMA with decay d averages about 1 / (1 − d) steps.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        A finding if the window has fewer than ``MIN_EMA_TOKENS`` tokens per code, or if it is longer than half of the
        training and the relative quantization error stays above ``MAX_RELATIVE_ERROR``; else None.
    """
    quantizer = logs.config.quantizer
    if quantizer.update != "ema":
        return None
    window = 1 / (1 - quantizer.decay)
    tokens = window * logs.tokens_per_code
    if tokens < MIN_EMA_TOKENS:
        return Finding(
            "EMA decay too small",
            f"decay {quantizer.decay:g} averages {window:.3g} steps, {tokens:.2g} tokens per code",
            "each code follows the noise of a few vectors",
            {"quantizer.decay": _decay_for_window(5 * MIN_EMA_TOKENS / logs.tokens_per_code)},
        )
    error = logs.quarter_mean("relative_error", 1)
    # With most codes dead, vectors are far from their code for that reason.
    if window <= logs.last_step / 2 or not error > MAX_RELATIVE_ERROR or logs.dead_share > MAX_DEAD_SHARE:
        return None
    return Finding(
        "EMA decay too large",
        f"decay {quantizer.decay:g} averages {window:.3g} of {logs.last_step} steps; the relative quantization error "
        f"is {error:.2f} in the second quarter",
        "the codes lag behind the encoder",
        {"quantizer.decay": _decay_for_window(max(logs.last_step / 10, MIN_EMA_TOKENS / logs.tokens_per_code))},
    )


def check_small_beta(logs: RunLogs) -> Finding | None:
    """Check whether the commitment loss gives less than ``COMMITMENT_RANGE[0]`` of the gradient at z_e.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        The finding, or None.
    """
    share, beta = logs.mean("commitment_share"), logs.config.quantizer.beta
    if not share < COMMITMENT_RANGE[0]:
        return None
    return Finding(
        "beta too small", f"the commitment loss gives {share:.1%} of the gradient at z_e (beta={beta:g})",
        "the encoder does not stay near its codes", {"quantizer.beta": _larger_beta(beta)},
    )  # fmt: skip


def check_large_beta(logs: RunLogs) -> Finding | None:
    """Check whether the commitment loss gives more than ``COMMITMENT_RANGE[1]`` of the gradient at z_e.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        The finding; None also if the share is large only because the codes are far from the vectors.
    """
    share, beta = logs.mean("commitment_share"), logs.config.quantizer.beta
    if not share > COMMITMENT_RANGE[1] or logs.mean("relative_error") > 1:
        return None
    return Finding(
        "beta too large", f"the commitment loss gives {share:.0%} of the gradient at z_e (beta={beta:g})",
        "the encoder fits its codes instead of the images",
        {"quantizer.beta": float(f"{beta / _BETA_DIVISOR:.1g}")},
    )  # fmt: skip


def check_perplexity_window(logs: RunLogs) -> Finding | None:
    """Check whether a batch has too few tokens for its perplexity to show how the codebook is used.

    Args:
        logs: logs of a VQ-VAE.

    Returns:
        The finding if uniform use gives a perplexity below ``MIN_PERPLEXITY_SHARE`` of the number of codes, else None.
    """
    codes = logs.config.quantizer.num_codes
    uniform = uniform_perplexity(logs.batch_tokens, codes)
    if uniform >= MIN_PERPLEXITY_SHARE * codes:
        return None
    image_tokens = logs.batch_tokens // logs.config.optim.batch_size
    batch = logs.config.optim.batch_size
    while uniform_perplexity(image_tokens * batch, codes) < MIN_PERPLEXITY_SHARE * codes:
        batch *= 2
    return Finding(
        "batch too small for its perplexity",
        f"a batch has {logs.batch_tokens} tokens for {codes} codes: uniform use gives perplexity {uniform:.0f}",
        "the perplexity of a batch is limited by its number of tokens; use that of the epoch or the data set",
        {"optim.batch_size": min(batch, 65_536)},
    )


def _larger_beta(beta: float) -> float:
    return max(0.25, 4 * beta)


def _decay_for_window(steps: float) -> float:
    return float(f"{1 - 1 / min(max(steps, 2), 1000):.3g}")


Rule = Callable[[RunLogs], Finding | None]

# Every rule, with the name of what it checks.
RULES: dict[Rule, str] = {
    check_dead_codes: "dead codes",
    check_collapsed_places: "collapsed level or head",
    check_norm_drift: "norm drift",
    check_restart_threshold: "restart threshold",
    check_ema_window: "EMA decay",
    check_small_beta: "beta too small",
    check_large_beta: "beta too large",
    check_perplexity_window: "batch too small for its perplexity",
}


def rules_left_out(quantizer: QuantizerConfig) -> dict[Rule, str]:
    """Tell which rules have no meaning for a quantizer.

    Args:
        quantizer: the quantizer of a Config.

    Returns:
        The reason of each rule that is left out.

    Example:
        >>> list(rules_left_out(QuantizerConfig(family="simvq")).values())[0]
        'the codes are fixed, so none is restarted'
    """
    reasons: dict[Rule, str] = {}
    if quantizer.family in _UNTRAINED_CODES:
        reasons[check_restart_threshold] = "the codes are fixed, so none is restarted"
        reasons[check_ema_window] = "the codes are fixed, so they follow no average"
    if quantizer.family in ("fsq", "bsq"):
        reasons[check_norm_drift] = "the scalars are bounded before they are quantized"
    if quantizer.family in FIXED_CODES:
        none = quantizer.family == "fsq"
        reason = "there is no commitment term" if none else "the loss has terms of entropy beside the commitment term"
        reasons |= dict.fromkeys((check_small_beta, check_large_beta), reason)
    return reasons
