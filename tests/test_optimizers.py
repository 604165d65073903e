"""Optimizers, schedules and the pre-activation network, against torch's own and written-out references."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from test_training import same_weights, tiny
from torch import nn

from vqlab import Config, InputError, Run, train
from vqlab.config import ModelConfig, OptimConfig
from vqlab.models import build_model
from vqlab.models.autoencoder import build_decoder, build_encoder
from vqlab.models.prenorm import PreNormBlock
from vqlab.training.files import read_tensors
from vqlab.training.optimizers import (
    KernelMuon,
    build_optimizers,
    hidden_kernels,
    orthogonalise,
    schedule_factor,
    set_learning_rates,
)

MUON = {
    "model.block": "prenorm", "model.fine_blocks": 1, "optim.optimizer": "muon", "optim.schedule": "linear",
    "optim.warmup": 0.2, "optim.clip_norm": 1.0, "optim.weight_decay": 0.01,
}  # fmt: skip


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_muon_on_a_kernel_is_torchs_muon_on_its_matrix() -> None:
    matrix, kernel = nn.Parameter(_normal(16, 36)), nn.Parameter(_normal(16, 36).view(16, 4, 3, 3))
    theirs = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    ours = KernelMuon([kernel], lr=0.01, weight_decay=0.1)
    for seed in range(5):
        matrix.grad = _normal(16, 36, seed=seed)
        kernel.grad = matrix.grad.view(16, 4, 3, 3).clone()
        theirs.step()
        ours.step()
    moved = float((matrix.detach() - _normal(16, 36)).abs().max())
    # torch iterates in bfloat16, which has 8 bits: a step may differ by a hundredth of itself.
    assert float((matrix - kernel.flatten(1)).detach().abs().max()) < 0.02 * moved


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (16, 16)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape: tuple[int, int]) -> None:
    matrix = _normal(*shape)
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    rotated = u.T @ orthogonalise(matrix).double() @ vh.T
    values = rotated.diagonal()
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
    assert float((rotated - values.diag()).abs().max()) < 1e-4


def test_muon_takes_the_hidden_kernels_and_adam_all_the_rest() -> None:
    config = ModelConfig(block="prenorm")
    network = nn.Sequential(build_encoder(config, 16), build_decoder(config, 16))
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    kernels = hidden_kernels(network)
    assert [id(kernel) for kernel in kernels] == [id(part.weight) for part in convolutions[1:-1]]
    optimizers = build_optimizers(network, OptimConfig(optimizer="muon"))
    trained = [id(p) for optimizer in optimizers.values() for group in optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(map(id, network.parameters()))


def test_the_default_optimizer_is_adam_as_before() -> None:
    (optimizer,) = build_optimizers(nn.Linear(2, 2), OptimConfig()).values()
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["weight_decay"] == 0
    assert schedule_factor(OptimConfig(), 3, 10) == 1.0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_are_those_of_torch(schedule: str) -> None:
    config, steps = OptimConfig(schedule=schedule, learning_rate=0.1), 20
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedulers = {
        "linear": torch.optim.lr_scheduler.LinearLR(reference, 1.0, 0.0, steps),
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(reference, steps),
    }
    reference.param_groups[0]["lr"] = 0.1
    scheduler = schedulers[schedule]
    ours = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    for step in range(steps):
        set_learning_rates({"adam": ours}, schedule_factor(config, step, steps))
        assert ours.param_groups[0]["lr"] == pytest.approx(reference.param_groups[0]["lr"], abs=1e-9)
        reference.step()
        scheduler.step()


def test_warm_up_rises_linearly_before_the_schedule() -> None:
    config = OptimConfig(schedule="cosine", warmup=0.25)
    factors = [schedule_factor(config, step, 16) for step in range(16)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[10] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert all(a >= b for a, b in itertools.pairwise(factors[4:]))


def test_a_residual_branch_starts_at_zero() -> None:
    x = _normal(2, 32, 4, 4)
    block = PreNormBlock(ModelConfig(block="prenorm"), 32)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("upsample", ["shuffle", "transposed"])
@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_every_network_has_the_papers_shapes_and_pixels_in_range(upsample: str, norm: str, output: str) -> None:
    config = ModelConfig(
        block="prenorm", hidden=32, residual_hidden=16, fine_blocks=1, upsample=upsample, norm=norm, output=output
    )
    encoder, decoder = build_encoder(config, 8), build_decoder(config, 8)
    z_e = encoder(torch.rand(2, 3, 32, 32))
    assert z_e.shape == (2, 8, 8, 8)
    wide = 100 * _normal(2, 8, 8, 8)
    assert decoder(wide).shape == (2, 3, 32, 32)
    pixels = decoder.eval()(wide).detach()
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1


def test_a_linear_output_passes_gradients_beyond_the_range_in_training() -> None:
    decoder = build_decoder(ModelConfig(block="prenorm", hidden=32, residual_hidden=16), 8)
    z_q = _normal(1, 8, 8, 8).requires_grad_()
    with torch.no_grad():
        [*decoder.parameters()][-1].fill_(10.0)  # the bias of the last convolution
    images = decoder(z_q)
    outside = (images < 0) | (images > 1)
    assert bool(outside.any())
    (gradient,) = torch.autograd.grad(images[outside].sum(), z_q)
    assert float(gradient.abs().max()) > 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(**MUON), tmp_path_factory.mktemp("muon"), "cpu")


def test_a_resumed_training_with_muon_and_a_schedule_gives_the_same_weights(run: Run, tmp_path: Path) -> None:
    assert run.finished
    train(run.config, tmp_path, "cpu", stop_after_steps=5)
    assert same_weights(train(run.config, tmp_path, "cpu"), run)


def test_the_gan_keeps_adam(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"optim\.optimizer=muon: must be adam for model\.kind=gan"):
        Config().replace(**{"model.kind": "gan", "optim.optimizer": "muon"})


def test_clipping_limits_the_gradient(tmp_path: Path) -> None:
    """Adam moves a weight by its rate at any scale of the gradient, except far below Adam's epsilon."""
    weights = {}
    for clip_norm in (0.0, 1e-12):
        config = tiny(**{"optim.clip_norm": clip_norm})
        run = train(config, tmp_path, "cpu", stop_after_steps=3)
        start = build_model(config, 0).state_dict()["encoder.0.weight"]
        stored, _ = read_tensors(run.folder / "checkpoint.safetensors")
        weights[clip_norm] = float((stored["model.encoder.0.weight"] - start).abs().max())
    assert weights[0.0] > 1e-4
    assert weights[1e-12] < 1e-6


def test_profile_best_has_the_papers_images_codes_and_epochs() -> None:
    best, paper = Config.profile("best"), Config.profile("paper")
    assert best.data == paper.data.model_copy(update={"crop_padding": 0})
    assert (best.quantizer.num_codes, best.grid, best.optim.epochs) == (1024, (8, 8), 3)
    assert sum(weight.numel() for weight in build_model(best, 10).parameters()) <= 1_000_000
