"""The adversarial term of a VQ-VAE: its weight, its discriminator, its start, and resumed trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_training import tiny
from torch import nn

from vqlab import Config, InputError, Run, train
from vqlab.models.patch_discriminator import PatchDiscriminator
from vqlab.training.files import read_tensors
from vqlab.training.recipes.adversarial import adaptive_weight

ADVERSARIAL = {
    "loss.adversarial": 0.5, "loss.adversarial_start": 0.4, "loss.discriminator_width": 4, "evaluation.log_every": 1,
}  # fmt: skip
# Of 12 steps, 0.4 are without the term.
START = 5


def _checkpoint(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.folder / "checkpoint.safetensors")[0]


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], prefix: str = "") -> bool:
    return all(torch.equal(one[key], other[key]) for key in one if key.startswith(prefix))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(**ADVERSARIAL), tmp_path_factory.mktemp("adversarial"), "cpu")


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_at_the_last_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 4, generator=generator, dtype=torch.float64))
    x, target = (torch.randn(7, size, generator=generator, dtype=torch.float64) for size in (4, 3))
    output = x @ weight.T
    reconstruction, adversarial = (output - target).square().sum(), -output.tanh().sum()
    measured = adaptive_weight(reconstruction, adversarial, weight)
    by_hand = 2 * (output - target).T @ x, -(1 - output.tanh().square()).T @ x
    expected = by_hand[0].norm() / (by_hand[1].norm() + 1e-4)
    assert float(measured) == pytest.approx(float(expected.detach()), rel=1e-12)
    flat = adaptive_weight(reconstruction, 0 * adversarial, weight)
    assert float(flat) == pytest.approx(min(1e4, float(by_hand[0].norm().detach()) / 1e-4), rel=1e-9)


@pytest.mark.parametrize(("size", "patch"), [(32, 16), (64, 34), (128, 70), (256, 70)])
def test_a_score_sees_a_patch_whose_size_grows_with_the_image(size: int, patch: int) -> None:
    config = Config(data={"image_size": size}, loss={"discriminator_width": 2})
    discriminator = PatchDiscriminator(config).eval()
    images = torch.rand(1, 3, size, size, requires_grad=True)
    scores = discriminator(images)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [patch, patch]


def test_before_its_start_the_term_changes_nothing(run: Run, tmp_path: Path) -> None:
    plain = train(tiny(**{"evaluation.log_every": 1}), tmp_path / "plain", "cpu", stop_after_steps=START)
    stopped = train(run.config, tmp_path / "adversarial", "cpu", stop_after_steps=START)
    assert _equal(_checkpoint(plain), _checkpoint(stopped))
    state = PatchDiscriminator(run.config).state_dict()
    assert all(torch.equal(value, _checkpoint(stopped)[f"discriminator.{key}"]) for key, value in state.items())
    finished = train(plain.config, tmp_path / "plain", "cpu")
    assert not _equal(_checkpoint(finished), _checkpoint(run), "model.decoder")
    assert not _equal(_checkpoint(stopped), _checkpoint(run), "discriminator")


@pytest.mark.parametrize("steps", [3, 8])
def test_a_resumed_training_has_the_same_networks_and_discriminator(run: Run, tmp_path: Path, steps: int) -> None:
    train(run.config, tmp_path, "cpu", stop_after_steps=steps)
    assert _equal(_checkpoint(run), _checkpoint(train(run.config, tmp_path, "cpu")))


def test_the_terms_are_logged_from_the_start_on(run: Run) -> None:
    rows = run.metrics().query("kind == 'train'")
    columns = ["adversarial_loss", "adversarial_weight", "discriminator_loss", "score_real", "score_fake"]
    assert (rows[columns].notna().all(axis=1) == (rows["step"] > START)).all()
    assert (rows["adversarial_weight"].dropna() > 0).all()


def test_the_discriminator_is_no_part_of_the_stored_model(run: Run) -> None:
    assert not any("discriminator" in key for key in run.model().state_dict())


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_a_baseline_with_the_term_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"loss\.adversarial=0\.5: needs model\.kind=vqvae"):
        tiny(**{"loss.adversarial": 0.5, "model.kind": kind})
