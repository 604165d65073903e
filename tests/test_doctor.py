"""The codebook doctor: each rule on a Run with its symptom, and a healthy Run without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command_processes import vqlab

from vqlab import Config, InputError, Run, train
from vqlab.analysis.doctor import apply_changes, diagnose, diagnosis_text
from vqlab.analysis.doctor_rules import false_restart_probability
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
