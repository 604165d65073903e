"""The benchmark of the layer, and the memory of a step."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from vqlab import VectorQuantizer
from vqlab.analysis.layer_benchmark import COLUMNS, LayerSize, benchmark_layer
from vqlab.cli import app


def test_a_benchmark_has_a_row_for_each_size_and_number_of_threads() -> None:
    threads_before = torch.get_num_threads()
    rows = benchmark_layer([LayerSize(16, 4, 64), LayerSize(32, 8, 64)], threads=(1, 2), rounds=3)
    assert list(rows.columns) == list(COLUMNS)
    assert rows[["threads", "num_codes", "dim"]].to_numpy().tolist() == [[1, 16, 4], [1, 32, 8], [2, 16, 4], [2, 32, 8]]
    assert (rows[["ms", "peer_ms", "floor_ms"]] > 0).all(axis=None)
    # A ratio is the median over rounds, not the ratio of the medians; both are of one size.
    ratios = rows["peer_ms"] / rows["ms"] / rows["peer_ratio"]
    assert ratios.between(0.2, 5).all()
    assert torch.get_num_threads() == threads_before


def test_a_benchmark_without_the_other_package_leaves_its_columns_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqlab.analysis.layer_benchmark._is_installed", lambda name: False)
    (row,) = benchmark_layer([LayerSize(16, 4, 64)], threads=(1,), rounds=1).to_dict("records")
    assert math.isnan(row["peer_ms"])
    assert row["ms"] > 0


def test_the_command_prints_and_saves_the_table(tmp_path: Path) -> None:
    arguments = ["bench", "--codes", "16", "--codes", "32", "--dim", "4", "--vectors", "64", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--rounds", "1", "--table", str(tmp_path / "bench.md")])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("| 1 |") == 2
    assert f"torch {torch.__version__.split('+')[0]}" in result.stdout
    assert (tmp_path / "bench.md").read_text() == result.stdout
    CliRunner().invoke(app, [*arguments, "--rounds", "1", "--table", str(tmp_path / "bench.csv")])
    assert list(pd.read_csv(tmp_path / "bench.csv")["num_codes"]) == [16, 32]


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_step_holds_no_matrix_of_all_distances(distance: str) -> None:
    vectors, codes, dim = 1024, 1 << 18, 4
    layer = VectorQuantizer(codes, dim, channel_dim=-1, init="normal", distance=distance, restart_every=1)
    z_e = torch.randn(vectors, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        out = layer(z_e)
        (out.z_q.sum() + out.loss).backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    # A few tensors of the size of the codebook, and 64 rows of scores; all scores would take 1 GiB.
    assert peak < 4 * (20 * codes * dim + 2 * 64 * codes + 20 * vectors * dim), f"{peak / 2**20:.0f} MiB"
