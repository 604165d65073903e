"""Statistics of code usage against independent computations, and the figures of codebooks and grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import tiny

from vqlab import InputError, Run, train
from vqlab.analysis.layer_cost import layer_cost
from vqlab.plots import (
    code_lifetimes,
    code_patches,
    codebook_projection,
    grid_heatmaps,
    heatmap_explorer,
    layer_costs,
    perplexity_by_window,
    rank_frequency,
    rate_distortion,
    usage_explorer,
    usage_over_training,
)
from vqlab.plots.usage import window_perplexities
from vqlab.quantize.usage import bits_per_index, gini_coefficient, usage_churn, windows_since_use
from vqlab.studies import Grid


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("runs"), "cpu")


def test_gini_is_half_the_mean_difference_of_pairs_over_the_mean() -> None:
    counts = torch.tensor([0.0, 3, 1, 50, 7, 7])
    pairs = (counts[:, None] - counts[None]).abs().mean() / (2 * counts.mean())
    assert float(gini_coefficient(counts)) == pytest.approx(float(pairs))
    assert float(gini_coefficient(torch.ones(9))) == pytest.approx(0, abs=1e-7)
    assert float(gini_coefficient(torch.tensor([0.0, 0, 0, 8]))) == pytest.approx(0.75)
    assert float(gini_coefficient(torch.zeros(4))) == 0


def test_windows_since_use_counts_from_the_last_window() -> None:
    windows = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 2], [0, 3, 0, 0]])
    assert windows_since_use(windows).tolist() == [2, 0, 3, 1]


def test_churn_is_the_jaccard_distance_of_consecutive_windows() -> None:
    windows = torch.tensor([[1, 1, 0, 0], [1, 0, 5, 0], [1, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert usage_churn(windows).tolist() == pytest.approx([2 / 3, 0, 1, 0])


def test_usage_windows_sum_to_the_usage_of_epochs(run: Run) -> None:
    windows, epochs = run.usage_windows(), run.usage()
    assert len(windows) == 24
    assert (windows.reshape(len(epochs), -1, windows.shape[1]).sum(axis=1) == epochs).all()


def test_a_run_without_windows_has_one_window_per_epoch(run: Run, tmp_path: Path) -> None:
    Run.create(tmp_path, run.config)
    np.savez(tmp_path / "codebook.npz", usage=run.usage())
    assert (Run.open(tmp_path).usage_windows() == run.usage()).all()


def test_restarts_are_logged_at_their_steps(run: Run) -> None:
    rows = run.metrics().query("kind == 'restart'")
    assert len(rows) > 0
    assert (rows["step"] % run.config.quantizer.restart_every == 0).all()
    assert rows["restarts"].between(1, run.config.quantizer.num_codes).all()


def test_the_commitment_share_is_zero_without_commitment(run: Run) -> None:
    rows = run.metrics().query("kind == 'train'")
    assert rows["commitment_share"].between(0, 1).all()
    assert (rows["z_e_norm"] > 0).all()
    free = train(tiny(**{"quantizer.beta": 0}), run.folder.parent, "cpu").metrics().query("kind == 'train'")
    assert (free["commitment_share"] == 0).all()


def test_each_window_has_its_tokens_and_the_perplexity_of_uniform_usage(run: Run) -> None:
    rows = window_perplexities(run)
    assert [row["window"] for row in rows] == ["last batch", "last epoch", "test set"]
    assert [row["tokens"] for row in rows] == [16 * 64, 96 * 64, 32 * 64]
    assert all(1 <= row["perplexity"] <= 16 for row in rows)
    assert rows[0]["uniform"] < rows[1]["uniform"] < 16


def test_figures_of_usage_have_titles_and_labels(run: Run) -> None:
    panels = usage_over_training(run).axes
    assert sum(bar.get_height() for bar in panels[-1].patches) == run.config.quantizer.num_codes
    for figure in (
        code_lifetimes(run),
        rank_frequency({"a": run}),
        perplexity_by_window({"a": run}),
        codebook_projection({"a": run}),
    ):
        assert all(axis.get_xlabel() or axis.get_xticklabels() for axis in figure.axes)
        assert figure.get_suptitle()


def test_the_patches_of_codes_lie_from_most_to_least_used_with_frames_on_dead_codes(run: Run) -> None:
    (axis,) = code_patches(run).axes
    counts = run.usage()[-1]
    order = np.argsort(-counts, kind="stable")
    size = 2 << run.config.model.downsample
    pixels = axis.images[0].get_array()
    for position, code in enumerate(order):
        image = run.model().decode(torch.full((1, 5, 5), int(code)))[0].detach()
        start = image.shape[1] // 2 - size // 2
        patch = image[:, start : start + size, start : start + size].clamp(0, 1).permute(1, 2, 0).numpy()
        left = position * (size + 2)
        assert np.abs(pixels[:size, left : left + size] / 255 - patch).max() <= 0.5 / 255 + 1e-6
    frames = {round((frame.get_x() + 0.5) / (size + 2)) for frame in axis.patches}
    assert frames == {position for position, code in enumerate(order) if counts[code] == 0}


def test_the_usage_explorer_has_a_histogram_of_all_codes_for_each_window(run: Run) -> None:
    figure = usage_explorer(run)
    assert len(figure.frames) == len(figure.layout.sliders[0].steps) == 24
    assert {sum(frame.data[0].y) for frame in figure.frames} == {16}


def test_heatmaps_have_a_cell_for_each_point(tmp_path: Path) -> None:
    axes = {"quantizer.num_codes": [8, 16], "quantizer.dim": [4, 8]}
    table = Grid("scaling", tiny(**{"optim.epochs": 1}), axes).run(tmp_path, "cpu")
    heat = grid_heatmaps(table, ("psnr",)).axes[0]
    assert [text.get_text() for text in heat.texts] == [f"{value:.4g}" for value in table.rows["psnr"]]
    assert heat.get_ylabel() == "num_codes"
    assert len(heatmap_explorer(table).data) == 3
    assert "rate" in rate_distortion(table).axes[0].get_xlabel()
    assert table.rows["fixed_bits"].tolist() == [64 * 3, 64 * 3, 64 * 4, 64 * 4]
    assert (table.rows["entropy_bits"] <= table.rows["fixed_bits"]).all()
    means = table.rows.groupby("quantizer.dim")["psnr"].mean()
    assert table.main_effects(["psnr"]).loc["dim"].iloc[:, 0].tolist() == pytest.approx(means.tolist())
    assert bits_per_index(8) == 3


def test_a_heatmap_of_a_grid_with_one_axis_is_refused(tmp_path: Path) -> None:
    table = Grid("one", tiny(), {"quantizer.beta": [0.25, 1.0]}).table(tmp_path)
    for draw in (grid_heatmaps, heatmap_explorer):
        with pytest.raises(InputError, match="has 1 axis; a heat map needs at least 2"):
            draw(table)


def test_a_large_codebook_takes_far_less_memory_than_all_distances() -> None:
    table = layer_cost((64, 16_384), dim=8, tokens=2048, repeats=1, device="cpu")
    assert (table["ms"] > 0).all()
    largest = table.iloc[-1]
    if largest["mib"] is not None:
        assert largest["mib"] < largest["matrix_mib"] / 2
    assert layer_costs(table).axes[1].get_ylabel() == "memory (MiB)"
