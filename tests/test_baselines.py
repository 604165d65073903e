"""The VAE and the GAN: the VQ-VAE's loop, Run and promises; losses against independent references."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_training import same_weights, tiny
from torch.distributions import Normal, kl_divergence

from vqlab import Config, InputError, Run, train
from vqlab.losses import discriminator_loss, generator_loss, negative_elbo
from vqlab.models import GAN

BASELINES = {
    "vae": {"model.kind": "vae", "vae.latent_dim": 6},
    "gan": {"model.kind": "gan", "gan.width": 4, "gan.latent_dim": 6},
}


@pytest.fixture(scope="module", params=BASELINES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(**BASELINES[request.param]), tmp_path_factory.mktemp("runs"), "cpu")


@pytest.mark.parametrize("steps", [5, 6])
def test_a_stopped_and_resumed_training_gives_the_same_weights(run: Run, tmp_path: Path, steps: int) -> None:
    assert not train(run.config, tmp_path, "cpu", stop_after_steps=steps).finished
    resumed = train(run.config, tmp_path, "cpu")
    assert same_weights(run, resumed)
    assert list(run.metrics()["loss"].dropna()) == list(resumed.metrics()["loss"].dropna())


def test_samples_are_images_and_the_same_for_the_same_seed(run: Run) -> None:
    first, again, other = (torch.cat(list(run.samples(300, seed=seed))) for seed in (0, 0, 1))
    assert first.shape == (300, 3, 32, 32)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_baseline_is_evaluated_into_the_columns_of_its_kind(run: Run) -> None:
    measured = run.evaluation("cpu")
    assert measured["sample_fd_classifier"] > 0
    assert ("psnr" in measured, "rfd_classifier" in measured) == (run.config.kind == "vae",) * 2
    assert "--inception" in measured["sample_fid_reason"]
    assert measured["sample_fid"] is None
    assert measured["parameters"] == sum(p.numel() for p in run.model().parameters())


def test_a_gan_starts_near_grey_which_its_discriminator_takes_for_zero() -> None:
    gan = GAN(Config.profile("quick", **{"model.kind": "gan"}))
    drawn = gan.sample(64, torch.Generator().manual_seed(0)).detach()
    assert float((drawn - 0.5).abs().mean()) < 0.05
    centre, first = list(gan.discriminator)[:2]
    seen = first(centre(torch.full((1, 3, 32, 32), 0.5)))
    torch.testing.assert_close(seen, first.bias.view(1, -1, 1, 1).expand_as(seen))


def test_the_elbo_is_that_of_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    images, made = (torch.rand(5, 3, 4, 4, generator=generator) for _ in range(2))
    mean, log_variance = (torch.randn(5, 7, generator=generator) for _ in range(2))
    elbo = negative_elbo(made, images, mean, log_variance)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()
    likelihood = Normal(made, elbo.variance.sqrt()).log_prob(images).flatten(1).sum(1).mean()
    torch.testing.assert_close(elbo.kl, kl)
    torch.testing.assert_close(elbo.loss * 48, kl - likelihood)
    for off in (0.9, 1.1):
        assert Normal(made, off * elbo.variance.sqrt()).log_prob(images).flatten(1).sum(1).mean() < likelihood


def test_adversarial_losses_are_those_of_their_papers() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx((0 + 0.5 + 0 + 1.5) / 2)
    assert float(generator_loss(fake, "hinge")) == pytest.approx(1.25)
    right = torch.nn.functional.binary_cross_entropy_with_logits
    expected = right(real, torch.ones(2)) + right(fake, torch.zeros(2))
    torch.testing.assert_close(discriminator_loss(real, fake, "nonsaturating"), expected)
    torch.testing.assert_close(generator_loss(fake, "nonsaturating"), right(fake, torch.ones(2)))


def test_the_discriminators_layers_have_spectral_norm_one(tmp_path: Path) -> None:
    model = train(tiny(**BASELINES["gan"]), tmp_path, "cpu").model()
    layers = [layer for layer in model.discriminator if hasattr(layer, "weight")]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, rel=0.2)


def test_a_new_field_leaves_the_ids_of_old_configs_alone() -> None:
    assert [Config.profile(name).id for name in ("quick", "paper")] == ["6d280a1b6393", "7674a781fc38"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.kind": "gan", "data.image_size": 64}, "for 32 px"),
        ({"model.kind": "vae", "prior.kind": "transformer"}, "a prior needs codes"),
        ({"evaluation.samples": 1}, "evaluation.samples=1"),
        ({"model.kind": "flow"}, "'vqvae', 'vae' or 'gan'"),
    ],
)
def test_a_senseless_baseline_is_told_in_one_line(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        tiny(**changes)
    assert "\n" not in str(error.value)


def test_a_vqvae_without_a_prior_cannot_be_sampled(tmp_path: Path) -> None:
    run = train(tiny(**{"optim.epochs": 1}), tmp_path, "cpu")
    with pytest.raises(InputError, match=r"prior\.kind=transformer"):
        run.samples(4)
