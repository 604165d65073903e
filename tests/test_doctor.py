"""The collapse doctor: each rule on a Run that was made to have its fault; a healthy Run on which all are silent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vqlab import Config, InputError, Run, train
from vqlab.analysis.doctor import apply, chance_restart, diagnose, report
from vqlab.quantize.usage import perplexity, uniform_perplexity

BASE = {
    "data.train_limit": 640, "data.test_limit": 64, "optim.batch_size": 16, "optim.epochs": 3,
    "optim.learning_rate": 1e-3, "model.hidden": 32, "model.residual_hidden": 16, "model.residual_blocks": 1,
    "quantizer.num_codes": 64, "quantizer.dim": 16, "quantizer.decay": 0.95, "evaluation.log_every": 5,
}  # fmt: skip
FAULTS = {
    "dead codes": {"quantizer.init": "normal", "quantizer.restart_every": 0},
    "norm drift": {"quantizer.transport": "straight_through", "quantizer.update": "gradient", "quantizer.beta": 0},
    "restart threshold": {"quantizer.restart_every": 1, "quantizer.num_codes": 1024},
    "decay against batch": {"quantizer.decay": 0.2, "quantizer.num_codes": 512},
    "beta too small": {"quantizer.beta": 0.01},
    "beta too large": {"quantizer.beta": 100},
    "perplexity window": {"optim.batch_size": 4, "quantizer.num_codes": 512, "data.train_limit": 240},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def trained(root: Path, **changes: object) -> Run:
    return train(Config.profile("quick", **{**BASE, **changes}), root, "cpu")


@pytest.fixture(scope="module")
def healthy(root: Path) -> Run:
    return trained(root)


def test_every_rule_is_silent_on_a_healthy_run(healthy: Run) -> None:
    assert diagnose(healthy) == []
    assert report(healthy) == "no symptom found"
    with pytest.raises(InputError, match="nothing to apply"):
        apply(healthy)


@pytest.mark.parametrize("rule", FAULTS)
def test_a_run_made_to_have_a_fault_is_told_so(root: Path, rule: str) -> None:
    run = trained(root, **FAULTS[rule])
    found = {finding.rule: finding for finding in diagnose(run)}
    assert rule in found, found
    assert found[rule].changes
    assert run.config.replace(**found[rule].changes) != run.config
    assert found[rule].evidence in report(run)


def test_codes_that_lag_behind_the_encoder_are_told_from_noisy_ones(root: Path) -> None:
    run = trained(root, **{"quantizer.decay": 0.9999, "quantizer.restart_every": 100})
    (finding,) = [finding for finding in diagnose(run) if finding.rule == "decay against batch"]
    assert "lag" in finding.cause
    assert finding.changes["quantizer.decay"] < 0.99


def test_applying_the_changes_revives_the_codebook_and_shows_before_and_after(root: Path) -> None:
    has_error = trained(root, **FAULTS["dead codes"])
    result = apply(has_error, "cpu")
    assert result.after.config == has_error.config.replace(**result.changes)
    table = result.table()
    assert table.loc["PSNR (dB)", "after"] > table.loc["PSNR (dB)", "before"] + 0.5
    assert "dead codes" in table.loc["symptoms", "before"]
    assert "dead codes" not in table.loc["symptoms", "after"]


def test_the_command_reads_a_run_and_refuses_an_empty_one(healthy: Run, tmp_path: Path) -> None:
    Run.create(tmp_path / "empty", healthy.config)
    said = [
        subprocess.run(
            [sys.executable, "-m", "vqlab", "doctor", str(folder)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        for folder in (healthy.folder, tmp_path / "empty")
    ]
    assert said[0].stdout == "no symptom found\n"
    assert said[1].returncode == 2
    assert "no logged step yet" in said[1].stderr
    assert len(said[1].stderr.strip().splitlines()) == 1


def test_a_chance_restart_is_what_a_simulation_finds() -> None:
    generator = np.random.default_rng(0)
    for seen, share in ((0.25, 0.1), (3.0, 0.5), (20.0, 0.8)):
        counts = generator.poisson(seen, 200_000)
        assert chance_restart(seen, share) == pytest.approx((counts < share * seen).mean(), abs=0.005)


@pytest.mark.parametrize(("tokens", "codes"), [(64, 256), (256, 256), (2048, 256), (100_000, 1024)])
def test_the_perplexity_of_uniform_use_is_what_random_tokens_give(tokens: int, codes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(codes, (tokens,), generator=generator).bincount(minlength=codes) for _ in range(20)]
    expected = np.mean([float(perplexity(counts.float())) for counts in drawn])
    assert uniform_perplexity(tokens, codes) == pytest.approx(expected, rel=0.03)
