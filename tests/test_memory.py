"""Memory of a training: estimated before it begins, and refused with the field to lower if the machine has less."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_training import tiny

from vqlab import Config, InputError, train
from vqlab.training.memory_estimate import estimate_memory

LARGE = {
    "quantizer.num_codes": ({"quantizer.num_codes": 1 << 20, "quantizer.dim": 4096}, 3 * 16),
    "optim.batch_size": ({"optim.batch_size": 65_536, "data.image_size": 512, "model.hidden": 512}, 10_000),
    "prior.width": ({"prior.kind": "transformer", "prior.width": 4096, "prior.layers": 64}, 300),
}


@pytest.mark.parametrize("field", LARGE)
def test_the_estimate_counts_the_largest_tensors(field: str) -> None:
    changes, gibibytes = LARGE[field]
    images = 65_536 if field == "optim.batch_size" else 100
    estimate = estimate_memory(Config.profile("paper", **changes), "cpu", images, 100, 0)
    assert gibibytes < estimate.total / 2**30 < 100 * gibibytes


def test_a_training_that_needs_more_than_the_machine_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(**{"quantizer.num_codes": 1 << 20, "quantizer.dim": 4096})
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 8 << 30)
    with pytest.raises(
        InputError, match=r"needs about \d+\.\d GiB .* has 8\.0 GiB; lower quantizer\.num_codes"
    ) as caught:
        train(config, tmp_path, "cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("vqlab.training.memory_estimate.total_memory", lambda: 1 << 20)
    with pytest.raises(InputError, match="--force"):
        train(tiny(), tmp_path, "cpu", stop_after_steps=1)
    assert train(tiny(), tmp_path, "cpu", stop_after_steps=1, force=True).provenance["step"] == 1


@pytest.mark.parametrize(
    "changes",
    [{}, {"model.kind": "vae"}, {"model.kind": "gan"}, {"prior.kind": "transformer"}, {"prior.kind": "diffusion"},
     {"model.block": "prenorm"}],
)  # fmt: skip
def test_every_kind_has_an_estimate(changes: dict[str, object]) -> None:
    estimate = estimate_memory(Config.profile("paper", **changes), "cpu", 128, 128, 0)
    assert 0 < estimate.network < 2**30
    assert 0 < estimate.training < 8 * 2**30
