"""The plane: gradients, gradient descent, a shifted origin, and the figures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from vqlab import InputError
from vqlab.analysis.plane import Plane, square_grid
from vqlab.plots import plane_explorer, plane_figure
from vqlab.plots.plane import SHIFTS
from vqlab.quantize import rowwise_transport_names


def largest_difference(kind: str, distance: float) -> float:
    """Largest difference to the straight-through gradient with the origin at (−distance, −distance)."""
    plane = replace(Plane(), origin=(-distance, -distance))
    points = square_grid(9)
    return float((plane.gradient(points, kind) - plane.gradient(points, "straight_through")).norm(dim=1).max())


def test_far_from_the_origin_the_rotation_is_straight_through_and_the_reflection_is_not() -> None:
    near, far, farthest = (largest_difference("rotation", distance) for distance in (0.0, 10.0, 1000.0))
    assert near > 1 > far > farthest
    assert farthest < 0.02
    assert largest_difference("reflection", 1000.0) > 1


def test_cells_are_the_nearest_codes() -> None:
    plane, points = Plane(), square_grid(11)
    assert torch.equal(plane.cells(points), torch.cdist(points, plane.codes).argmin(dim=1))


def test_straight_through_descent_lowers_the_loss() -> None:
    plane, points = Plane(), square_grid(7)
    paths = plane.descend(points, "straight_through", steps=60)
    assert paths.shape == (61, 49, 2)
    assert plane.loss(paths[-1]).mean() < 0.5 * plane.loss(points).mean()


@pytest.mark.wrong_types
def test_codes_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="codes: shape"):
        Plane(codes=torch.zeros(3, 5))


def test_the_interactive_figure_has_a_menu_of_transports_and_a_labelled_slider() -> None:
    figure = plane_explorer()
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == list(rowwise_transport_names())
    steps = figure.layout.sliders[0].steps
    assert [float(step.label) for step in steps] == list(SHIFTS)
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text
    arrows = [json.dumps(step.args[0]["x"][0][:40]) for step in steps]
    assert len(set(arrows)) == 1, "straight-through does not depend on the origin"
    rotated = [json.dumps(step.args[0]["x"][2][:40]) for step in steps]
    assert len(set(rotated)) == len(rotated)
    assert list(figure.data[steps[0].args[1][2]].x) == list(steps[0].args[0]["x"][2])


def test_the_printed_figure_has_a_panel_for_each_transport_and_distance() -> None:
    figure = plane_figure(("rotation", "nsvq", "diveq"), (0.0, 10.0))
    assert [axis.get_title() for axis in figure.axes[:6]] == ["rotation", "nsvq", "diveq"] * 2
