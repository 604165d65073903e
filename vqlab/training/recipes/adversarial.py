"""The adversarial term of a VQ-VAE: a patch discriminator, its training step, and the weight of the term."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.losses import discriminator_loss, generator_loss
from vqlab.models.patch_discriminator import PatchDiscriminator
from vqlab.training.workers import ALONE, Workers

_BETAS = (0.5, 0.9)
# Keep the adaptive weight finite where the gradient of the adversarial term is near 0.
_GRADIENT_FLOOR = 1e-4
_MAX_WEIGHT = 1e4


def adaptive_weight(
    reconstruction_loss: Tensor, adversarial_loss: Tensor, last_weight: Tensor, workers: Workers = ALONE
) -> Float[Tensor, ""]:
    """Compute the weight that gives the adversarial term a gradient as large as that of the reconstruction loss.

    λ = ‖∇L_rec‖ / (‖∇L_adv‖ + 10⁻⁴), at most 10⁴, with gradients at the last layer of the decoder. Source: Esser,
    Rombach and Ommer, Taming Transformers for High-Resolution Image Synthesis, 2021, equation 7.

    Args:
        reconstruction_loss: scalar with its graph, which stays usable; of several processes, the part of this one in
            the loss of the joined batch.
        adversarial_loss: as ``reconstruction_loss``.
        last_weight: the kernel of the decoder's last layer.
        workers: the processes that train. Default: this one alone.

    Returns:
        λ, without a graph.
    """
    norms = [
        workers.sum(torch.autograd.grad(loss, last_weight, retain_graph=True)[0]).norm()
        for loss in (reconstruction_loss, adversarial_loss)
    ]
    return (norms[0] / (norms[1] + _GRADIENT_FLOOR)).clamp(0, _MAX_WEIGHT).detach()


class AdversarialTerm:
    """What a VQ-VAE with ``loss.adversarial`` above 0 trains besides its own networks.

    The generator's term is weight · λ · (−mean of the scores of reconstructions); the discriminator minimises the
    hinge loss of real images and reconstructions.

    Args:
        config: the Config; ``config.loss`` has the weight and the discriminator's settings.
        decoder: the decoder; its last convolution has the gradients of ``adaptive_weight``.
        workers: the processes that train, with the device of this one.

    Attributes:
        discriminator: the discriminator, on the device.
        optimizer: its Adam optimizer.
    """

    def __init__(self, config: Config, decoder: nn.Module, workers: Workers) -> None:
        self._config, self._workers = config.loss, workers
        convolutions = [part for part in decoder.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
        self._last_weight = convolutions[-1].weight
        self.discriminator = PatchDiscriminator(config).to(workers.device)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=config.loss.discriminator_learning_rate, betas=_BETAS
        )
        self._values: dict[str, Tensor] = {}

    def generator_term(self, reconstruction: Tensor, reconstruction_loss: Tensor, share: float = 1) -> Tensor:
        """Compute the weighted term for the autoencoder.

        Args:
            reconstruction: reconstructed images (B, C, H, W), with their graph.
            reconstruction_loss: scalar of the same step, with its graph.
            share: share of these images in those of all processes. Default 1.

        Returns:
            The term, a scalar with its graph.
        """
        self.discriminator.requires_grad_(False)
        adversarial = generator_loss(self.discriminator.scores(reconstruction).float(), "hinge")
        self.discriminator.requires_grad_(True)
        weight = adaptive_weight(reconstruction_loss * share, adversarial * share, self._last_weight, self._workers)
        self._values = {"adversarial_loss": adversarial.detach(), "adversarial_weight": weight}
        return self._config.adversarial * weight * adversarial

    def discriminator_term(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Compute the loss of the discriminator.

        Args:
            reconstruction: reconstructed images (B, C, H, W), without a graph.
            images: the images themselves.

        Returns:
            The hinge loss, a scalar with its graph.
        """
        real, fake = (self.discriminator.scores(batch).float() for batch in (images, reconstruction))
        loss = discriminator_loss(real, fake, "hinge")
        self._values |= {
            "discriminator_loss": loss.detach(), "score_real": real.detach().mean(), "score_fake": fake.detach().mean()
        }  # fmt: skip
        return loss

    @property
    def columns(self) -> dict[str, float]:
        """The terms, their weight and the scores of the last step as columns of ``metrics.jsonl``."""
        return {name: float(value) for name, value in self._values.items()}
