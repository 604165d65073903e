"""The collapse doctor: reads a Run's logs, names symptoms with their evidence, a likely cause and a change to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqlab.config import Config, QuantizerConfig
from vqlab.errors import InputError
from vqlab.quantize.usage import uniform_perplexity
from vqlab.training import Run, train

if TYPE_CHECKING:
    import pandas as pd

DRIFT = 10.0
DEAD_SHARE = 0.5
FALSE_RESTARTS = 0.05
SURE_RESTARTS = 0.001
EMA_TOKENS = 10.0
LAG = 0.25
COMMITMENT = (0.02, 0.35)
# The share of commitment grows far slower than β, because a strong one pulls the distance down.
WEAKER = 40
READABLE = 0.5


@dataclass(frozen=True)
class Finding:
    """A symptom: which rule, what the logs show, why that likely is, and the dotted Config changes to try."""

    rule: str
    evidence: str
    cause: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Logs:
    """What the rules read: the Config, logged training steps, tokens per code in windows of training, int64 (W, K)."""

    config: Config
    steps: pd.DataFrame
    windows: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Logs:
        """The logs of ``run``; raises InputError for a Run without a finished epoch, or that is no VQ-VAE's."""
        if run.config.kind != "vqvae":
            raise InputError(f"run {run.folder}: holds a {run.config.kind}, which has no codes of its own to judge")
        rows = run.metrics()
        if rows.empty or (rows["kind"] != "train").all():
            raise InputError(f"run {run.folder}: has no logged step yet; train it with `vqlab train`")
        return cls(run.config, rows[rows["kind"] == "train"].reset_index(drop=True), run.usage_windows())

    @property
    def tokens(self) -> int:
        """Tokens in a training batch."""
        config = self.config
        return config.optim.batch_size * (config.data.image_size >> config.model.downsample) ** 2

    @property
    def tokens_a_code(self) -> float:
        """Tokens of a batch for each code of the codebook."""
        return self.tokens / self.config.quantizer.num_codes

    @property
    def last_quarter(self) -> np.ndarray:
        """Tokens per code in the last quarter of training, int64 (K,)."""
        return self.windows[-max(1, len(self.windows) // 4) :].sum(axis=0)

    @property
    def dead(self) -> float:
        """Share of codes without a token in the last quarter of training, 0…1."""
        return float((self.last_quarter == 0).mean())

    @property
    def last_step(self) -> int:
        """The last logged step."""
        return int(self.steps["step"].iloc[-1])

    def quarter(self, name: str, which: int) -> float:
        """Mean of a logged value over quarter ``which`` (0…3) of training; NaN where it was not logged."""
        if name not in self.steps:
            return math.nan
        return float(np.nanmean(np.array_split(self.steps[name].to_numpy(float), 4)[which]))

    def mean(self, name: str) -> float:
        """Mean of a logged value over training; NaN where it was not logged."""
        return float(self.steps[name].mean()) if name in self.steps else math.nan


def norm_drift(logs: Logs) -> Finding | None:
    """‖z_e‖ at the end is more than DRIFT times what it was at the first step: codes chase the encoder."""
    if "z_e_norm" not in logs.steps:
        return None
    first, last = float(logs.steps["z_e_norm"].iloc[0]), logs.quarter("z_e_norm", 3)
    if not last > DRIFT * first:
        return None
    return Finding(
        "norm drift",
        f"mean ‖z_e‖ went from {first:.2f} at the first step to {last:.2f} in the last quarter (× {last / first:.1f})",
        "commitment is too weak to hold the encoder's scale, or the learning rate too high",
        {"quantizer.beta": _stronger(logs.config.quantizer.beta)},
    )


def dead_share(logs: Logs) -> Finding | None:
    """More than DEAD_SHARE of the codes had no token in the last quarter of training."""
    counts = logs.last_quarter
    if logs.dead <= DEAD_SHARE:
        return None
    cause, changes = _why_dead(logs.config.quantizer, logs.last_step, int((counts > 0).sum()))
    evidence = f"{(counts == 0).sum()} of {len(counts)} codes had none of {counts.sum():,} tokens in the last quarter"
    return Finding("dead codes", evidence, cause, changes)


def _why_dead(quantizer: QuantizerConfig, steps: int, alive: int) -> tuple[str, dict[str, Any]]:
    start = {"quantizer.init": "kmeans"} if quantizer.init in ("normal", "uniform") else {}
    if not quantizer.restart_every:
        where = f"a start away from the data ({quantizer.init}), and" if start else "the encoder moved away, and"
        return f"{where} no restarts bring dead codes back", {**start, "quantizer.restart_every": min(20, steps // 4)}
    if quantizer.restart_every > steps:
        every = max(1, min(20, steps // 4))
        return f"restarts every {quantizer.restart_every} steps never came in {steps} steps", {
            **start, "quantizer.restart_every": every,
        }  # fmt: skip
    enough = min(quantizer.num_codes // 2, 1 << (2 * alive - 1).bit_length())
    return "more codes than this data and model can fill", {"quantizer.num_codes": enough}


def restart_threshold(logs: Logs) -> Finding | None:
    """A restart looks at so few tokens a code that chance alone puts living codes under the threshold."""
    quantizer = logs.config.quantizer
    seen = quantizer.restart_every * logs.tokens_a_code
    if not quantizer.restart_every or chance_restart(seen, quantizer.restart_share) <= FALSE_RESTARTS:
        return None
    every = quantizer.restart_every
    while chance_restart(every * logs.tokens_a_code, quantizer.restart_share) > SURE_RESTARTS:
        every += 1
    return Finding(
        "restart threshold",
        f"a restart looks at {seen:.2g} tokens a code ({quantizer.restart_every} steps of {logs.tokens}): "
        f"{chance_restart(seen, quantizer.restart_share):.0%} of codes in uniform use fall under it by chance",
        "living codes are restarted before they can settle: the threshold must follow tokens per code",
        {"quantizer.restart_every": every},
    )


def chance_restart(seen: float, share: float) -> float:
    """P(X < share·seen) for X ~ Poisson(seen): how often a code in uniform use is taken for dead.

    seen: mean tokens a code between two looks, > 0. share: restart_share, 0…1.
    """
    from scipy import stats

    return float(stats.poisson.cdf(math.ceil(share * seen) - 1, seen))


def ema_window(logs: Logs) -> Finding | None:
    """The EMA remembers too few tokens a code, or is slower than the training and lags behind the encoder."""
    quantizer = logs.config.quantizer
    if quantizer.update != "ema":
        return None
    window = 1 / (1 - quantizer.decay)
    tokens = window * logs.tokens_a_code
    if tokens < EMA_TOKENS:
        return Finding(
            "decay against batch",
            f"the EMA remembers {window:.3g} steps, {tokens:.2g} tokens a code",
            "each code follows the noise of a few vectors",
            {"quantizer.decay": _decay(5 * EMA_TOKENS / logs.tokens_a_code)},
        )
    lag = logs.quarter("relative_error", 1)
    # Where most codes are dead, vectors are far from their code for that reason.
    if window <= logs.last_step / 2 or not lag > LAG or logs.dead > DEAD_SHARE:
        return None
    return Finding(
        "decay against batch",
        f"the EMA remembers {window:.3g} of {logs.last_step} steps; the relative error was {lag:.2f} in quarter 2",
        "the codes lag behind an encoder that moves",
        {"quantizer.decay": _decay(max(logs.last_step / 10, EMA_TOKENS / logs.tokens_a_code))},
    )


def beta_too_small(logs: Logs) -> Finding | None:
    """Commitment is under COMMITMENT[0] of the pull on z_e: the encoder does not feel its codes."""
    share, beta = logs.mean("commitment_share"), logs.config.quantizer.beta
    if not share < COMMITMENT[0]:
        return None
    return Finding(
        "beta too small", f"commitment is {share:.1%} of the pull on z_e (β = {beta:g})",
        "nothing holds the encoder near its codes", {"quantizer.beta": _stronger(beta)},
    )  # fmt: skip


def beta_too_large(logs: Logs) -> Finding | None:
    """Commitment is over COMMITMENT[1] of the pull on z_e: the encoder is held where it started."""
    share, beta = logs.mean("commitment_share"), logs.config.quantizer.beta
    if not share > COMMITMENT[1] or _dominated_by_distance(logs):
        return None
    return Finding(
        "beta too large", f"commitment is {share:.0%} of the pull on z_e (β = {beta:g})",
        "the encoder is held at its codes instead of learning the image",
        {"quantizer.beta": float(f"{beta / WEAKER:.1g}")},
    )  # fmt: skip


def _dominated_by_distance(logs: Logs) -> bool:
    """Whether commitment is strong because codes are far away, which is another rule's matter."""
    return logs.mean("relative_error") > 1


def perplexity_window(logs: Logs) -> Finding | None:
    """A batch has so few tokens for K codes that even uniform use reads as collapse."""
    codes = logs.config.quantizer.num_codes
    most = uniform_perplexity(logs.tokens, codes)
    if most >= READABLE * codes:
        return None
    batch = logs.config.optim.batch_size
    while uniform_perplexity(logs.tokens // logs.config.optim.batch_size * batch, codes) < READABLE * codes:
        batch *= 2
    return Finding(
        "perplexity window",
        f"a batch has {logs.tokens} tokens for {codes} codes: even uniform use reads as perplexity {most:.0f}",
        "the logged perplexity is bounded by its window; read the epoch's or the data set's instead",
        {"optim.batch_size": min(batch, 65_536)},
    )


def _stronger(beta: float) -> float:
    return max(0.25, 4 * beta)


def _decay(steps: float) -> float:
    return float(f"{1 - 1 / min(max(steps, 2), 1000):.3g}")


RULES: tuple[Callable[[Logs], Finding | None], ...] = (
    dead_share, norm_drift, restart_threshold, ema_window, beta_too_small, beta_too_large, perplexity_window,
)  # fmt: skip


def diagnose(run: Run) -> list[Finding]:
    """What every rule finds in the Run's logs, in the order of RULES; empty for a healthy Run.

    Raises InputError for a Run without a finished epoch.
    """
    logs = Logs.of(run)
    return [finding for rule in RULES if (finding := rule(logs))]


def missing_columns(run: Run) -> list[str]:
    """Logged values that rules need and this Run, of an earlier version, lacks."""
    return [name for name in ("z_e_norm", "commitment_share") if name not in Logs.of(run).steps]


def report(run: Run) -> str:
    """``diagnose`` for reading: one symptom a paragraph, or a sentence that there is none."""
    missing = missing_columns(run)
    lacking = [f"not judged, as this Run's logs lack {', '.join(missing)}: norm drift, beta"] if missing else []
    found = [_paragraph(finding) for finding in diagnose(run)]
    return "\n".join([*(found or ["no symptom found"]), *lacking])


def _paragraph(finding: Finding) -> str:
    changes = " ".join(f"--set {key}={value}" for key, value in finding.changes.items())
    return f"{finding.rule}: {finding.evidence}\n  likely: {finding.cause}\n  try: {changes}"


@dataclass(frozen=True)
class Counterfactual:
    """The Run before, the Run with all the changes, and what the doctor finds in each."""

    before: Run
    after: Run
    changes: Mapping[str, Any]

    def table(self) -> pd.DataFrame:
        """Before beside after: test-set measures, dead codes of the last epoch, and the symptoms left."""
        import pandas as pd

        return pd.DataFrame({"before": _summary(self.before), "after": _summary(self.after)})


def _summary(run: Run) -> dict[str, Any]:
    measured, counts = run.last_epoch(), run.usage()[-1]
    return {
        "PSNR (dB)": round(measured["psnr"], 2),
        "SSIM": round(measured["ssim"], 3),
        "perplexity (window: test set)": round(measured["perplexity"], 1),
        "dead codes (last epoch)": f"{(counts == 0).sum()} of {len(counts)}",
        "symptoms": ", ".join(finding.rule for finding in diagnose(run)) or "none",
    }


def apply(
    run: Run, device: str | None = None, progress: Callable[[dict[str, Any]], None] | None = None
) -> Counterfactual:
    """Train the Run's Config with the changes of all findings, beside the Run; the earlier finding wins a field.

    Raises InputError where there is nothing to change.
    """
    changes: dict[str, Any] = {}
    for finding in diagnose(run):
        changes = {**finding.changes, **changes}
    if not changes:
        raise InputError(f"run {run.folder}: no symptom found, so there is nothing to apply")
    config = run.config.replace(**changes)
    return Counterfactual(run, train(config, Path(run.folder).parent, device, progress), changes)
