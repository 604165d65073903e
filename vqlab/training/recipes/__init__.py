"""What one step of training is, for each kind of model that the loop trains."""

from __future__ import annotations

from vqlab.training.recipes.base import Recipe, StepContext, StepMetrics
from vqlab.training.run_folder import RunFolder

__all__ = ["Recipe", "StepContext", "StepMetrics", "build_recipe"]


def build_recipe(run: RunFolder, device: str) -> Recipe:
    """The recipe of the Run's kind, with fresh weights on ``device``."""
    from vqlab.training.recipes.gan import GANRecipe
    from vqlab.training.recipes.priors import DiffusionRecipe, TransformerRecipe
    from vqlab.training.recipes.vae import VAERecipe
    from vqlab.training.recipes.vqvae import VQVAERecipe

    recipes: dict[str, type[Recipe]] = {
        "vqvae": VQVAERecipe, "vae": VAERecipe, "gan": GANRecipe,
        "transformer": TransformerRecipe, "diffusion": DiffusionRecipe,
    }  # fmt: skip
    return recipes[run.config.kind](run, device)
