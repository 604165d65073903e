"""Recipes: what one training step does, for each kind of model."""

from __future__ import annotations

from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics
from vqlab.training.run_folder import RunFolder
from vqlab.training.workers import Workers

__all__ = ["Recipe", "StepContext", "StepMetrics", "build_recipe"]


def build_recipe(run: RunFolder, workers: Workers, *, force: bool = False) -> Recipe:
    """Build the recipe of a Run's kind, with a newly initialised model.

    Args:
        run: the Run to train; ``run.config.kind`` selects the recipe.
        workers: the processes that train, with the device of this one.
        force: whether a training begins that needs more memory than there is. Default False.

    Returns:
        The recipe.

    Raises:
        InputError: if the images cannot be read, the memory is too small, a network of the loss cannot be had, or,
            for a prior, the VQ-VAE's Run is missing or has another codebook than the one that training began with.
    """
    from vqlab.training.recipes.gan import GANRecipe
    from vqlab.training.recipes.priors import DiffusionRecipe, TransformerRecipe
    from vqlab.training.recipes.vae import VAERecipe
    from vqlab.training.recipes.vqvae import VQVAERecipe

    recipes: dict[str, type[Recipe]] = {
        "vqvae": VQVAERecipe, "vae": VAERecipe, "gan": GANRecipe,
        "transformer": TransformerRecipe, "diffusion": DiffusionRecipe,
    }  # fmt: skip
    return recipes[run.config.kind](run, workers, force=force)
