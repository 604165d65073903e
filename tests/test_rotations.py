"""Forms of the rotation: rounding errors, cost, and angles of the gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_training import tiny

from vqlab import train
from vqlab.analysis import layer_statistics, probe_medians, probe_transports, transport_identities
from vqlab.analysis.layer_identities import ANGLE_ERROR, FROM_ROTATION, LAYER_VARIANTS, LENGTH_RATIO, VALUE_ERROR
from vqlab.analysis.rotations import antipodal_rounding_errors, backward_cost, rounding_errors
from vqlab.plots import (
    angle_preservation,
    angles_over_training,
    backward_costs,
    gradient_by_angle,
    near_antipodal_errors,
)
from vqlab.quantize import get_transport


def test_both_forms_equal_the_matrix_up_to_rounding_and_the_reflection_does_not() -> None:
    table = rounding_errors(dim=16, count=200)
    for form in ("rotation", "rodrigues"):
        assert table.loc[form, "float64"] < 1e-13
        assert table.loc[form, "float32"] < 1e-4
        assert table.loc[form, "bfloat16"] < 1e-2
    assert table.loc["reflection", "float64"] > 0.1


def test_nearly_opposite_vectors_fall_back_to_straight_through() -> None:
    table = antipodal_rounding_errors(dim=8, count=50)
    assert table["rotation"].iloc[0] < 1e-5
    assert table["fallback_share"].iloc[0] == 0
    assert table["fallback_share"].iloc[-1] == 1
    assert len(near_antipodal_errors(table).axes) == 2


def test_the_cost_of_every_form_is_measured_and_drawn() -> None:
    table = backward_cost(dims=(4, 8), counts=(16,), repeats=2)
    assert len(table) == 8
    assert (table["ms"] > 0).all()
    assert len(backward_costs(table).axes) == 1


def test_the_angles_of_a_run_are_drawn_from_its_logs_and_from_the_probe(tmp_path) -> None:
    run = train(tiny(), tmp_path, "cpu")
    assert len(run.angles()) == len(run.metrics().query("kind == 'train'"))
    tokens = run.config.optim.batch_size * 64
    assert all(sum(counts) == tokens for counts in run.angles()["angle_codes"])
    assert len(angles_over_training(run).axes) == 6
    tables = probe_transports(run, ("rotation", "straight_through"), num_images=8)
    rotation = tables["rotation"]
    assert (rotation["angle_at_q"] - rotation["angle_at_e"]).abs().max() < 0.1
    assert tables["straight_through"]["angle_gradients"].max() < 0.1
    medians = probe_medians({"trained": tables})
    assert medians.index.tolist() == ["rotation, trained", "straight_through, trained"]
    expected = np.median(rotation["length_ratio"].to_numpy(dtype=np.float64))
    assert medians.loc["rotation, trained", "length_ratio"] == pytest.approx(expected, rel=1e-6)
    assert len(angle_preservation(tables).axes) == 2
    assert len(gradient_by_angle(tables).axes) == 2


def test_the_identities_of_the_transports_are_measured() -> None:
    table = transport_identities(count=200, dim=5, seed=1)
    generator = torch.Generator().manual_seed(1)
    e, q, _ = (torch.randn(200, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    keeps_angle = {"rotation", "rodrigues", "reflection", "rotation_unscaled", "rotation_inverse_distance"}
    for kind, row in table.iterrows():
        assert (row[ANGLE_ERROR] < 1e-9) == (kind in keeps_angle), kind
        assert (row[FROM_ROTATION] < 1e-9) == (kind in {"rotation", "rodrigues"}), kind
        assert (row[VALUE_ERROR] == 0) == (get_transport(kind).forward is None), kind
    assert table.loc["straight_through", LENGTH_RATIO] == 1
    assert table.loc["rotation", LENGTH_RATIO] == pytest.approx(float((q.norm(dim=1) / e.norm(dim=1)).mean()))


def test_the_layer_is_trained_once_for_each_variant() -> None:
    table = layer_statistics(steps=3, num_codes=8, count=64, dim=4)
    assert table.index.tolist() == list(LAYER_VARIANTS)
    perplexity = table["perplexity (window: batch)"]
    assert ((perplexity >= 1) & (perplexity <= 8)).all()
    assert table.loc["default"].tolist() != table.loc["init=normal"].tolist()
