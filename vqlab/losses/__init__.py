"""Training losses: reconstruction, ELBO, adversarial and perceptual."""

from vqlab.losses.adversarial import discriminator_loss, generator_loss
from vqlab.losses.elbo import Elbo, negative_elbo
from vqlab.losses.perceptual import PerceptualLoss
from vqlab.losses.reconstruction import reconstruction_loss

__all__ = ["Elbo", "PerceptualLoss", "discriminator_loss", "generator_loss", "negative_elbo", "reconstruction_loss"]
