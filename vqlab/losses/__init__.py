"""What trainings minimise: reconstruction, the ELBO, adversarial and perceptual terms."""

from vqlab.losses.adversarial import discriminator_loss, generator_loss
from vqlab.losses.elbo import Elbo, negative_elbo
from vqlab.losses.perceptual import Perceptual
from vqlab.losses.reconstruction import reconstruction_loss

__all__ = ["Elbo", "Perceptual", "discriminator_loss", "generator_loss", "negative_elbo", "reconstruction_loss"]
