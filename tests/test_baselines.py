"""The VAE and the GAN: training, samples and evaluation; losses equal to independent references."""

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


def test_samples_are_images_and_depend_on_the_seed(run: Run) -> None:
    first, again, other = (torch.cat(list(run.samples(300, seed=seed))) for seed in (0, 0, 1))
    assert first.shape == (300, 3, 32, 32)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_evaluation_has_the_columns_of_the_kind(run: Run) -> None:
    measured = run.evaluation("cpu")
    assert measured["sample_fd_classifier"] > 0
    assert ("psnr" in measured, "rfd_classifier" in measured) == (run.config.kind == "vae",) * 2
    assert "--inception" in measured["sample_fid_reason"]
    assert measured["sample_fid"] is None
    assert measured["parameters"] == sum(p.numel() for p in run.model().parameters())


def test_an_untrained_gan_generates_grey_which_the_discriminator_maps_to_zero() -> None:
    gan = GAN(Config.profile("paper", **{"model.kind": "gan"}))
    samples = gan.sample(64, torch.Generator().manual_seed(0)).detach()
    assert float((samples - 0.5).abs().mean()) < 0.05
    centre, convolution = list(gan.discriminator)[:2]
    output = convolution(centre(torch.full((1, 3, 32, 32), 0.5)))
    torch.testing.assert_close(output, convolution.bias.view(1, -1, 1, 1).expand_as(output))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_elbo_equals_that_of_torch_distributions(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    images, reconstruction = (torch.rand(5, 3, 4, 4, generator=generator, dtype=dtype) for _ in range(2))
    mean, log_variance = (torch.randn(5, 7, generator=generator, dtype=dtype) for _ in range(2))
    elbo = negative_elbo(reconstruction, images, mean, log_variance)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    kl = kl_divergence(posterior, Normal(mean.new_zeros(()), mean.new_ones(()))).sum(1).mean()

    def log_likelihood(std: torch.Tensor) -> torch.Tensor:
        return Normal(reconstruction, std).log_prob(images).flatten(1).sum(1).mean()

    std = elbo.variance.sqrt()
    torch.testing.assert_close(elbo.kl, kl)
    torch.testing.assert_close(elbo.loss * 48, kl - log_likelihood(std))
    for factor in (0.9, 1.1):
        assert log_likelihood(factor * std) < log_likelihood(std)


def test_adversarial_losses_equal_their_definitions() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx((0 + 0.5 + 0 + 1.5) / 2)
    assert float(generator_loss(fake, "hinge")) == pytest.approx(1.25)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = cross_entropy(real, torch.ones(2)) + cross_entropy(fake, torch.zeros(2))
    torch.testing.assert_close(discriminator_loss(real, fake, "nonsaturating"), expected)
    torch.testing.assert_close(generator_loss(fake, "nonsaturating"), cross_entropy(fake, torch.ones(2)))


@pytest.mark.parametrize(("discriminator", "count"), [("dcgan", 4), ("sngan", 8)])
def test_the_discriminators_layers_have_spectral_norm_one(tmp_path: Path, discriminator: str, count: int) -> None:
    model = train(tiny(**BASELINES["gan"], **{"gan.discriminator": discriminator}), tmp_path, "cpu").model()
    layers = [layer for layer in model.discriminator if hasattr(layer, "weight")]
    assert len(layers) == count
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, rel=0.2)


def test_the_fine_discriminator_looks_at_every_pixel_before_it_skips_any() -> None:
    gan = GAN(Config.profile("paper", **{"model.kind": "gan", "gan.discriminator": "sngan"}))
    sizes = [
        (layer.kernel_size[0], layer.stride[0]) for layer in gan.discriminator if isinstance(layer, torch.nn.Conv2d)
    ]
    assert sizes == [(3, 1), (4, 2), (3, 1), (4, 2), (3, 1), (4, 2), (3, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.kind": "gan", "data.image_size": 64}, "must be 32 for model.kind=gan"),
        ({"model.kind": "vae", "prior.kind": "transformer"}, "needs model.kind=vqvae"),
        ({"evaluation.samples": 1}, "evaluation.samples=1"),
        ({"model.kind": "flow"}, r"must be vqvae \| vae \| gan"),
    ],
)
def test_an_invalid_baseline_is_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        tiny(**changes)
    assert "\n" not in str(error.value)


def test_a_vqvae_without_a_prior_cannot_be_sampled(tmp_path: Path) -> None:
    run = train(tiny(**{"optim.epochs": 1}), tmp_path, "cpu")
    with pytest.raises(InputError, match=r"prior\.kind=transformer"):
        run.samples(4)
