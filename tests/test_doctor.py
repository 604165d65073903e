"""The codebook doctor: each rule on a Run with its symptom, and a healthy Run without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_processes import vqlab

from vqlab import Config, InputError, Run, train
from vqlab.analysis.doctor import apply_changes, diagnose, diagnosis_text
from vqlab.analysis.doctor_rules import check_collapsed_places, check_dead_codes, false_restart_probability
from vqlab.analysis.run_logs import RunLogs
from vqlab.data.validation import with_validation
from vqlab.quantize.usage import perplexity, uniform_perplexity

BASE = {
    "data.train_limit": 640, "data.test_limit": 64, "optim.batch_size": 16, "optim.epochs": 3,
    "optim.learning_rate": 1e-3, "model.hidden": 32, "model.residual_hidden": 16, "model.residual_blocks": 1,
    "quantizer.num_codes": 64, "quantizer.dim": 16, "quantizer.decay": 0.95, "evaluation.log_every": 5,
}  # fmt: skip
SYMPTOMS = {
    "dead codes": {"quantizer.init": "normal", "quantizer.restart_every": 0},
    "norm drift": {"quantizer.transport": "straight_through", "quantizer.update": "gradient", "quantizer.beta": 0},
    "restart threshold": {"quantizer.restart_every": 1, "quantizer.num_codes": 1024},
    "EMA decay too small": {"quantizer.decay": 0.2, "quantizer.num_codes": 512},
    "beta too small": {"quantizer.beta": 0.01},
    "beta too large": {"quantizer.beta": 100},
    "batch too small for its perplexity": {"optim.batch_size": 4, "quantizer.num_codes": 512, "data.train_limit": 240},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def train_run(root: Path, **changes: object) -> Run:
    return train(Config.profile("paper", **{**BASE, **changes}), root, "cpu")


@pytest.fixture(scope="module")
def healthy(root: Path) -> Run:
    return train_run(root)


def test_a_healthy_run_has_no_finding(healthy: Run) -> None:
    assert diagnose(healthy) == []
    assert diagnosis_text(healthy) == "no symptom found"
    with pytest.raises(InputError, match="no change to apply"):
        apply_changes(healthy)


@pytest.mark.parametrize("rule", SYMPTOMS)
def test_a_symptom_is_found(root: Path, rule: str) -> None:
    run = train_run(root, **SYMPTOMS[rule])
    findings = {finding.rule: finding for finding in diagnose(run)}
    assert rule in findings, findings
    assert findings[rule].changes
    assert run.config.replace(**findings[rule].changes) != run.config
    assert findings[rule].evidence in diagnosis_text(run)


def test_codes_that_lag_behind_the_encoder_are_found(root: Path) -> None:
    run = train_run(root, **{"quantizer.decay": 0.9999, "quantizer.restart_every": 100})
    (finding,) = [finding for finding in diagnose(run) if finding.rule == "EMA decay too large"]
    assert "lag" in finding.cause
    assert finding.changes["quantizer.decay"] < 0.99


def test_the_changes_improve_the_run_and_the_table_compares_both(root: Path) -> None:
    before = train_run(root, **SYMPTOMS["dead codes"])
    result = apply_changes(before, "cpu")
    assert result.before.config == with_validation(before.config)
    assert result.after.config == result.before.config.replace(**result.changes)
    table = result.table()
    assert "perplexity (window: validation set)" in table.index
    assert apply_changes(result.before, "cpu").before.folder == result.before.folder
    assert table.loc["PSNR (dB)", "after"] > table.loc["PSNR (dB)", "before"] + 0.5
    assert "dead codes" in table.loc["symptoms", "before"]
    assert "dead codes" not in table.loc["symptoms", "after"]


def test_the_command_diagnoses_a_run_and_refuses_an_empty_one(healthy: Run, tmp_path: Path) -> None:
    Run.create(tmp_path / "empty", healthy.config)
    processes = [vqlab("doctor", str(folder)) for folder in (healthy.folder, tmp_path / "empty")]
    assert processes[0].stdout == "no symptom found\n"
    assert processes[1].returncode == 2
    assert "no logged step yet" in processes[1].stderr
    assert len(processes[1].stderr.strip().splitlines()) == 1


def test_the_false_restart_probability_is_that_of_a_simulation() -> None:
    generator = np.random.default_rng(0)
    for tokens, share in ((0.25, 0.1), (3.0, 0.5), (20.0, 0.8)):
        counts = generator.poisson(tokens, 200_000)
        assert false_restart_probability(tokens, share) == pytest.approx((counts < share * tokens).mean(), abs=0.005)


@pytest.mark.parametrize(("tokens", "codes"), [(64, 256), (256, 256), (2048, 256), (100_000, 1024)])
def test_the_perplexity_of_uniform_use_is_that_of_random_tokens(tokens: int, codes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(codes, (tokens,), generator=generator).bincount(minlength=codes) for _ in range(20)]
    expected = np.mean([float(perplexity(counts.float())) for counts in drawn])
    assert uniform_perplexity(tokens, codes) == pytest.approx(expected, rel=0.03)


def logs_of(windows: np.ndarray, **quantizer: object) -> RunLogs:
    """Logs of a training without other symptoms, with the given tokens of each code."""
    changes = {f"quantizer.{name}": value for name, value in {"num_codes": 16, **quantizer}.items()}
    steps = pd.DataFrame({
        "step": range(1, 101), "z_e_norm": 1.0, "commitment_share": 0.1, "relative_error": 0.1,
    })  # fmt: skip
    return RunLogs(Config.profile("paper", **changes), steps, windows)


def used(*codes: int) -> list[int]:
    """Tokens of 16 codes, of which the first few are used equally."""
    return [[640 // count] * count + [0] * (16 - count) for count in codes]


RESIDUAL = {"family": "residual", "levels": 3}


def test_the_collapsed_level_is_named_with_its_perplexity() -> None:
    finding = check_collapsed_places(logs_of(np.array([used(16, 12, 1)] * 8), **RESIDUAL))
    assert finding.evidence == "level 3: perplexity 1.0 of 16 codes in the last quarter of training"
    assert finding.changes == {"quantizer.levels": 2}
    assert check_collapsed_places(logs_of(np.array([used(16, 12, 4)] * 8), **RESIDUAL)) is None
    assert check_collapsed_places(logs_of(np.array([used(1)] * 8))) is None


def test_only_the_last_quarter_of_the_training_counts_for_a_level() -> None:
    windows = np.array([used(16, 16, 1)] * 6 + [used(16, 16, 16)] * 2)
    assert check_collapsed_places(logs_of(windows, **RESIDUAL)) is None
    assert check_collapsed_places(logs_of(windows[::-1], **RESIDUAL)) is not None


def test_a_collapsed_level_without_restarts_gets_restarts() -> None:
    finding = check_collapsed_places(logs_of(np.array([used(16, 1, 1)] * 8), restart_every=0, **RESIDUAL))
    assert "level 2" in finding.evidence
    assert "level 3" in finding.evidence
    assert finding.changes == {"quantizer.restart_every": 20}


def test_dead_codes_are_counted_by_codebook() -> None:
    windows = np.array([used(16, 4)] * 8)
    heads = {"family": "product", "heads": 2}
    finding = check_dead_codes(logs_of(windows, **heads))
    assert finding.evidence.startswith("head 2: 12 of 16 codes have none of the 1,280 tokens in")
    # One codebook for both heads: the first uses all of it.
    assert check_dead_codes(logs_of(windows, **heads, shared=True)) is None


def test_places_that_share_a_codebook_give_it_more_tokens() -> None:
    windows = np.array([used(16, 16, 16)] * 8)
    own, shared = (logs_of(windows, **RESIDUAL, shared=shared) for shared in (False, True))
    assert shared.tokens_per_code == 3 * own.tokens_per_code == 3 * 128 * 64 / 16


FIXED = {
    "fsq": {"fsq_levels": [4, 4], "num_codes": 16, "code_dim": None},
    "lfq": {"num_codes": 16, "code_dim": None},
    "bsq": {"num_codes": 16, "code_dim": None},
    "simvq": {"num_codes": 16},
}


@pytest.mark.parametrize("family", FIXED)
def test_dead_fixed_codes_are_answered_by_fewer_codes_that_the_family_allows(family: str) -> None:
    logs = logs_of(np.array([used(3)] * 8), family=family, **FIXED[family])
    finding = check_dead_codes(logs)
    changed = logs.config.replace(**finding.changes).quantizer
    assert 3 <= changed.num_codes < 16
    assert finding.changes.keys() <= {"quantizer.num_codes", "quantizer.fsq_levels"}


@pytest.mark.parametrize("family", FIXED)
def test_rules_without_a_meaning_for_fixed_codes_are_left_out_with_the_reason(root: Path, family: str) -> None:
    changes = {f"quantizer.{name}": value for name, value in FIXED[family].items()}
    run = train_run(
        root, **changes, **{"quantizer.family": family, "quantizer.restart_every": 1, "data.train_limit": 64}
    )
    text, rules = diagnosis_text(run), {finding.rule for finding in diagnose(run)}
    lines = [line for line in text.splitlines() if line.startswith(f"not checked with quantizer.family={family}: ")]
    assert "the codes are fixed, so none is restarted" in lines[0]
    assert not rules & {"restart threshold", "EMA decay too small", "EMA decay too large"}
    assert ("beta too small" in text) == (family != "simvq")
    assert "beta too small" not in rules or family == "simvq"


def test_a_run_with_several_levels_is_diagnosed_and_treated(root: Path) -> None:
    """Codes of later levels start far from the residuals, and are not restarted."""
    run = train_run(root, **{
        "quantizer.family": "residual", "quantizer.levels": 3, "quantizer.init": "normal",
        "quantizer.restart_every": 0, "quantizer.num_codes": 16, "data.train_limit": 160, "optim.epochs": 2,
    })  # fmt: skip
    findings = {finding.rule: finding for finding in diagnose(run)}
    assert "level 3" in findings["dead codes"].evidence
    assert "level 3" in findings["collapsed level or head"].evidence
    table = apply_changes(run, "cpu").table()
    dead = [int(table.loc["dead codes (last epoch)", column].split()[0]) for column in ("before", "after")]
    assert table.loc["dead codes (last epoch)", "before"].endswith("of 48")
    assert dead[1] < dead[0]
