"""The layer in a small training of other styles: the losses are those of the plain loop."""

from __future__ import annotations

import pytest
import training_loops


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("style", ["accelerate", "lightning"])
def test_the_loss_goes_down_as_in_the_plain_loop(style: str) -> None:
    if style not in training_loops.available_loops():
        pytest.skip(f"{style} is not installed")
    plain = training_loops.plain_loop(training_loops.make_model())
    assert plain[-1] < 0.3 * plain[0]
    assert training_loops.LOOPS[style](training_loops.make_model()) == pytest.approx(plain, rel=1e-6)
