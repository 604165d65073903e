"""Models of every family as programs of ONNX and of torch.export: equal indices, equal images."""

from __future__ import annotations

import pytest
from exported_families import FAMILIES
from test_layer_in_training import run_script

# Each takes the exporter ten to thirty seconds; this one has levels, heads and projections.
QUICK = ("residual of heads",)


def check(family: str) -> None:
    done = run_script("exported_families.py", family)
    assert f"exported {family}" in done.stdout.splitlines()


@pytest.mark.parametrize("family", QUICK)
def test_an_exported_model_gives_the_indices_and_images_of_the_model(family: str) -> None:
    check(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in QUICK])
def test_an_exported_model_of_another_family_gives_the_same(family: str) -> None:
    check(family)
