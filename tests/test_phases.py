"""Phases of a training: no quantization at first, no restarts and the decoder alone at the end, averaged weights."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import tiny

from vqlab import Config, InputError, Run, VectorQuantizer, train
from vqlab.data import ImageData, Images, load_data
from vqlab.metrics.pixels import mse, pooled_psnr, psnr
from vqlab.training.files import read_tensors

PHASES = {
    "quantizer.start_after": 3, "quantizer.restart_until": 0.5, "quantizer.restart_every": 2,
    "quantizer.restart_share": 0.5, "optim.decoder_phase": 0.25, "optim.ema": 0.8, "evaluation.log_every": 1,
}  # fmt: skip


def _checkpoint(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.folder / "checkpoint.safetensors")[0]


def _steps(config: Config, root: Path) -> list[dict[str, torch.Tensor]]:
    """The checkpoint after each step of a training that is interrupted at each of them."""
    states: list[dict[str, torch.Tensor]] = []
    while True:
        run = train(config, root, "cpu", stop_after_steps=1)
        states.append(_checkpoint(run))
        if run.finished:
            return states


def _part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def phased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[dict[str, torch.Tensor]], Run]:
    config = tiny(**PHASES)
    states = _steps(config, tmp_path_factory.mktemp("phased"))
    return config, states, train(config, tmp_path_factory.mktemp("whole"), "cpu")


def test_a_training_with_phases_resumes_at_every_step_to_the__equal(
    phased: tuple[Config, list[dict[str, torch.Tensor]], Run],
) -> None:
    _, states, whole = phased
    assert _equal(states[-1], _checkpoint(whole))


def test_codes_start_after_the_unquantized_steps_and_move_until_the_decoder_phase(
    phased: tuple[Config, list[dict[str, torch.Tensor]], Run],
) -> None:
    config, states, run = phased
    codes = [state["model.quantizer.book.codes"] for state in states]
    equal_to_next = [torch.equal(first, second) for first, second in itertools.pairwise(codes)]
    decoder_steps = math.floor(config.optim.decoder_phase * len(states))
    moving = len(states) - decoder_steps
    # State i is that after i + 1 steps: the codes are fitted at the step with index start_after.
    assert equal_to_next == [i + 1 < config.quantizer.start_after or i + 1 >= moving for i in range(len(states) - 1)]
    restarts = run.metrics().query("kind == 'restart'")["step"]
    assert len(restarts)
    assert restarts.max() <= config.quantizer.restart_until * len(states)
    rows = run.metrics().query("kind == 'train'")
    assert rows["perplexity"].isna().tolist() == [i < config.quantizer.start_after for i in range(len(states))]
    assert rows["gradient_cosine"].notna().sum() == len(states) - config.quantizer.start_after - decoder_steps
    assert int(run.usage().sum()) == sum(
        config.optim.batch_size * math.prod(config.grid) for _ in range(len(states) - config.quantizer.start_after)
    )


def test_the_last_phase_trains_the_decoder_alone(
    phased: tuple[Config, list[dict[str, torch.Tensor]], Run],
) -> None:
    config, states, _ = phased
    before = states[-1 - math.floor(config.optim.decoder_phase * len(states))]
    for name, changes in (("encoder", False), ("quantizer", False), ("decoder", True)):
        assert _equal(_part(before, f"model.{name}."), _part(states[-1], f"model.{name}.")) is not changes


def test_stored_weights_are_their_exponential_average_and_the_codes_of_the_model(
    phased: tuple[Config, list[dict[str, torch.Tensor]], Run],
) -> None:
    config, states, run = phased
    name = "encoder.0.weight"
    expected = states[0][f"model.{name}"].double()
    for state in states[1:]:
        expected = config.optim.ema * expected + (1 - config.optim.ema) * state[f"model.{name}"].double()
    stored = read_tensors(run.folder / "model.safetensors")[0]
    assert torch.allclose(stored[name].double(), expected, atol=1e-6)
    assert not torch.equal(stored[name], states[-1][f"model.{name}"])
    assert torch.equal(stored["quantizer.book.codes"], states[-1]["model.quantizer.book.codes"])
    assert torch.equal(run.model().quantizer.codebook, stored["quantizer.book.codes"])


def test_an_average_is_what_epochs_measure(phased: tuple[Config, list[dict[str, torch.Tensor]], Run]) -> None:
    _, _, run = phased
    assert run.evaluation("cpu", inception=False)["psnr"] == pytest.approx(run.last_epoch_metrics()["psnr"], abs=1e-4)


def test_codes_fitted_to_many_batches_weigh_as_one() -> None:
    z_e = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    quantizer = VectorQuantizer(8, 6, code_dim=4, channel_dim=-1)
    vectors = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
    quantizer.fit_codes(vectors, 10)
    projected = quantizer.project_in(vectors).detach()
    nearest = torch.cdist(projected.double(), quantizer.codebook.double()).argmin(1)
    assert torch.allclose(quantizer.book.counts, torch.bincount(nearest, minlength=8) / 10)
    assert torch.allclose(quantizer.book.sums, quantizer.codebook * quantizer.book.counts[:, None])
    assert torch.equal(quantizer.bypass(vectors), quantizer.project_out(quantizer.project_in(vectors)))
    with pytest.raises(InputError, match=r"z_e: shape \(0, 6\)"):
        quantizer.fit_codes(vectors[:0])
    identity = VectorQuantizer(8, 4, channel_dim=-1)
    assert torch.equal(identity.bypass(z_e), z_e)


def test_more_unquantized_steps_than_an_epoch_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quantizer\.start_after=1000: must be below the \d+ steps of an epoch"):
        train(tiny(**{"quantizer.start_after": 1000}), tmp_path, "cpu")


def _numbered(count: int) -> Images:
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    return Images(pixels, torch.zeros(count, dtype=torch.int64))


def test_validation_images_are_kept_out_of_the_training_images() -> None:
    data = ImageData("numbers", _numbered(50), _numbered(7), ("all",))
    split = data.hold_out(10)
    assert split.validation is not None
    kept, others = (set(part.pixels[:, 0, 0, 0].tolist()) for part in (split.validation, split.train))
    assert len(kept) == 10
    assert kept | others == set(range(50))
    assert not kept & others
    assert split.held_out is split.validation
    assert data.held_out is data.test
    assert split.fingerprint != data.fingerprint
    assert data.hold_out(0) is data
    with pytest.raises(InputError, match=r"data\.validation=50: must be below the 50 training images of numbers"):
        data.hold_out(50)


def test_epochs_measure_the_validation_images_and_evaluation_the_test_images(tmp_path: Path) -> None:
    config = tiny(**{"data.validation": 24})
    run = train(config, tmp_path, "cpu")
    row, columns = run.last_epoch_metrics(), run.evaluation("cpu", inception=False)
    assert (row["part"], row["images"]) == ("validation", 24)
    assert (columns["part"], columns["images"]) == ("test", len(load_data(config.data).test))
    images = load_data(config.data).held_out.pixels.float() / 255
    with torch.no_grad():
        reconstruction = run.model()(images).reconstruction
    assert row["psnr"] == pytest.approx(float(psnr(reconstruction, images).mean()), abs=1e-4)
    assert row["psnr_pooled"] == pytest.approx(-10 * math.log10(float(mse(reconstruction, images).mean())), abs=1e-4)


def test_pooled_psnr_is_at_most_the_mean() -> None:
    errors: list[Any] = [0.001, 0.02, 0.005]
    mean = sum(-10 * math.log10(error) for error in errors) / 3
    assert pooled_psnr(sum(errors) / 3) < mean
    assert pooled_psnr(0.0) == math.inf
