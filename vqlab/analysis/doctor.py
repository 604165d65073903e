"""The codebook doctor: find symptoms in the logs of a Run, and train the Config with the proposed changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqlab.analysis.doctor_rules import RULES, Finding, rules_left_out
from vqlab.analysis.run_logs import RunLogs, counts_by_codebook
from vqlab.data.validation import with_validation
from vqlab.errors import InputError
from vqlab.training import Run, train

if TYPE_CHECKING:
    import pandas as pd


def diagnose(run: Run) -> list[Finding]:
    """Check the logs of a Run with every rule that has a meaning for its quantizer.

    Vectors of several codes are checked place by place; the evidence names the level or head.

    Args:
        run: a Run of a VQ-VAE with at least one logged step.

    Returns:
        The findings in the order of ``RULES``; empty for a healthy Run.

    Raises:
        InputError: if the Run is not a VQ-VAE or has no logged step.
    """
    logs, left_out = RunLogs.from_run(run), rules_left_out(run.config.quantizer)
    return [finding for rule in RULES if rule not in left_out and (finding := rule(logs))]


def diagnosis_text(run: Run) -> str:
    """Write the result of ``diagnose`` as text.

    Args:
        run: a Run of a VQ-VAE with at least one logged step.

    Returns:
        One paragraph for each finding, or a line that no symptom was found; then a line if some symptoms could not be
        checked, and one for each symptom without a meaning for the family of the quantizer, with the reason.

    Raises:
        InputError: if the Run is not a VQ-VAE or has no logged step.
    """
    paragraphs = [_format_finding(finding) for finding in diagnose(run)] or ["no symptom found"]
    missing = missing_columns(run)
    if missing:
        paragraphs.append(f"not checked, because the logs of this Run lack {', '.join(missing)}: norm drift, beta")
    reasons = rules_left_out(run.config.quantizer)
    paragraphs += [
        f"not checked with quantizer.family={run.config.quantizer.family}: {RULES[rule]}: {reason}"
        for rule, reason in reasons.items()
    ]
    return "\n".join(paragraphs)


def missing_columns(run: Run) -> list[str]:
    """List logged values that rules need and that the Run does not have, because an earlier version trained it.

    Args:
        run: a Run of a VQ-VAE with at least one logged step.

    Returns:
        Names of columns of metrics.jsonl.

    Raises:
        InputError: if the Run is not a VQ-VAE or has no logged step.
    """
    steps = RunLogs.from_run(run).steps
    return [name for name in ("z_e_norm", "commitment_share") if name not in steps]


def _format_finding(finding: Finding) -> str:
    changes = " ".join(f"--set {key}={value}" for key, value in finding.changes.items())
    return f"{finding.rule}: {finding.evidence}\n  likely cause: {finding.cause}\n  try: {changes}"


@dataclass(frozen=True)
class Comparison:
    """A Run before and after the proposed changes.

    Attributes:
        before: the diagnosed Run, or that of its Config with validation images.
        after: the Run of the changed Config.
        changes: the changes, by dotted field.
    """

    before: Run
    after: Run
    changes: Mapping[str, Any]

    def table(self) -> pd.DataFrame:
        """Compare the two Runs.

        Returns:
            The columns ``before`` and ``after``; one row each for PSNR (dB), SSIM and perplexity on the held-out
            images, the dead codes of the last epoch and the symptoms.
        """
        import pandas as pd

        return pd.DataFrame({"before": _summarise(self.before), "after": _summarise(self.after)})


def _summarise(run: Run) -> dict[str, Any]:
    metrics, places = run.last_epoch_metrics(), range(run.config.quantizer.codes_per_vector)
    counts = np.stack([run.usage(place)[-1] for place in places])
    codebooks = np.stack(list(counts_by_codebook(run.config, counts).values()))
    return {
        "PSNR (dB)": round(metrics["psnr"], 2),
        "SSIM": round(metrics["ssim"], 3),
        f"perplexity (window: {metrics.get('part', 'test')} set)": round(metrics["perplexity"], 1),
        "dead codes (last epoch)": f"{(codebooks == 0).sum()} of {codebooks.size}",
        "symptoms": ", ".join(finding.rule for finding in diagnose(run)) or "none",
    }


def apply_changes(
    run: Run, device: str | None = None, progress: Callable[[dict[str, Any]], None] | None = None,
    *, force: bool = False,
) -> Comparison:  # fmt: skip
    """Train the Config of a Run with the changes of all its findings.

    If two findings change the same field, the first one counts. The comparison is on validation images: if the Run has
    none, its own Config is trained again with them (see ``vqlab.data.validation.with_validation``), too. The new Runs
    are stored in the folder of the other Runs.

    Args:
        run: a Run of a VQ-VAE with at least one logged step.
        device: ``cpu`` or ``cuda``; None uses CUDA where available.
        progress: as in ``vqlab.train``.
        force: whether to train although the estimated memory is more than there is. Default False.

    Returns:
        Both Runs and the changes.

    Raises:
        InputError: if there is no finding, the Run is not a VQ-VAE or it has no logged step.
        ChangedDataError: if the images are not those of the Run, so that the two cannot be compared.
    """
    run.check_data()
    changes: dict[str, Any] = {}
    for finding in diagnose(run):
        changes = {**finding.changes, **changes}
    if not changes:
        raise InputError(f"run {run.folder}: has no symptom, so there is no change to apply")
    root, config = Path(run.folder).parent, with_validation(run.config)
    before = run if config == run.config else train(config, root, device, progress, force=force)
    return Comparison(before, train(config.replace(**changes), root, device, progress, force=force), changes)
