"""Forms of the rotation: rounding errors, cost, and angles of the gradients."""

from __future__ import annotations

from test_training import tiny

from vqlab import train
from vqlab.analysis import probe_transports
from vqlab.analysis.rotations import antipodal_rounding_errors, backward_cost, rounding_errors
from vqlab.plots import (
    angle_preservation,
    angles_over_training,
    backward_costs,
    gradient_by_angle,
    near_antipodal_errors,
)


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
    assert len(angle_preservation(tables).axes) == 2
    assert len(gradient_by_angle(tables).axes) == 2
