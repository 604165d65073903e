"""A latent diffusion prior over z_q, with the UNet and schedulers of diffusers (the extra ``diffusion``)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.quantize.search import nearest_codes

_BETA_SCHEDULE = "squaredcos_cap_v2"
# Codes from which ``set_code_statistics`` estimates mean and scale; bounds its memory.
_MAX_STATISTICS_CODES = 1_000_000


class LatentDiffusion(nn.Module):
    """p(codes | label) by diffusion of x₀ = (z_q − mean) / scale.

    Training adds noise, x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε, and the UNet predicts x₀ from x_t, t and the label. A sample is
    denoised from N(0, I), and each of its vectors is replaced by the nearest code, since the decoder is trained on
    codes only. The UNet predicts x₀ and not ε: the codes of a VQ-VAE vary in a few of the D directions, whereas ε has
    to be predicted in all of them, and at high noise a small error of ε is a large error of x₀.

    Initial weights depend only on the Config's seed, and the global generator keeps its state.

    Source: Ho et al., Denoising Diffusion Probabilistic Models, 2020; Rombach et al., High-Resolution Image Synthesis
    with Latent Diffusion Models, 2022; Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, 2021
    (cosine schedule).

    Args:
        config: sections ``prior``, ``quantizer`` and ``seed``, and the size of the code grid.
        num_classes: labels are 0…num_classes−1; the label num_classes means no class.

    Attributes:
        grid: height and width of the code grids.
        num_codes: K; codes are 0…K−1.
        num_classes: number of classes.
        sample_steps: denoising steps of a sample.
        table: z_q of every code, (K, D); see ``set_code_statistics``.
        mean: mean of z_q over the training codes, (D,).
        scale: standard deviation of all elements of z_q − mean, a scalar.

    Raises:
        InputError: if diffusers is not installed.
    """

    table: Float[Tensor, "K D"]
    mean: Float[Tensor, " D"]
    scale: Float[Tensor, ""]

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.grid, self.num_codes, self.num_classes = config.grid, config.quantizer.num_codes, num_classes
        self.sample_steps, dim, width = config.prior.sample_steps, config.quantizer.dim, config.prior.width
        diffusers = _import_diffusers()
        schedule: dict[str, Any] = {
            "num_train_timesteps": config.prior.noise_steps,
            "beta_schedule": _BETA_SCHEDULE,
            "prediction_type": "sample",
        }
        self.noise_scheduler = diffusers.DDPMScheduler(**schedule)
        self.sample_scheduler = diffusers.DDIMScheduler(**schedule, clip_sample=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.unet = diffusers.UNet2DModel(
                sample_size=self.grid, in_channels=dim, out_channels=dim, layers_per_block=1, norm_num_groups=8,
                block_out_channels=(width, width), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"), num_class_embeds=num_classes + 1,
            )  # fmt: skip
        self.register_buffer("table", torch.zeros(self.num_codes, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    def set_code_statistics(self, table: Float[Tensor, "K D"], codes: Int[Tensor, "N h w"]) -> None:
        """Set ``table``, and ``mean`` and ``scale`` from the training codes; call it before training.

        Args:
            table: z_q of every code.
            codes: code grids of the training images, 0…K−1; the first million codes are used.
        """
        self.table.copy_(table)
        z_q = F.embedding(codes.flatten()[:_MAX_STATISTICS_CODES].to(self.table.device), self.table)
        self.mean.copy_(z_q.mean(0))
        self.scale.copy_((z_q - self.mean).std())

    def forward(
        self, codes: Int[Tensor, "B h w"], labels: Int[Tensor, " B"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Compute the training loss: the mean of (x̂₀ − x₀)², with a random noise step t for each grid.

        Args:
            codes: code grids, 0…K−1.
            labels: 0…num_classes; num_classes means no class.
            generator: source of noise and noise steps, on the device of the codes.

        Returns:
            The loss, a scalar.
        """
        clean = ((F.embedding(codes, self.table) - self.mean) / self.scale).movedim(-1, 1)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        noise_steps = self.noise_scheduler.config.num_train_timesteps
        steps = torch.randint(noise_steps, (len(codes),), generator=generator, device=clean.device)
        noisy = self.noise_scheduler.add_noise(clean, noise, steps)
        predicted = self.unet(noisy, steps, class_labels=labels).sample
        return F.mse_loss(predicted.float(), clean)

    @torch.no_grad()
    def sample(
        self, count: int, generator: torch.Generator | None = None, *, label: int | None = None
    ) -> Int[Tensor, "count h w"]:
        """Sample code grids with DDIM in ``sample_steps`` steps.

        Source: Song et al., Denoising Diffusion Implicit Models, 2021.

        Args:
            count: how many grids, at least 1.
            generator: on the prior's device; None for one with seed 0.
            label: a class, 0…num_classes−1; None for no class.

        Returns:
            The codes, int64.

        Raises:
            InputError: if ``count`` or ``label`` is out of range.
        """
        if count < 1:
            raise InputError(f"count={count}: must be at least 1")
        if label is not None and not 0 <= label < self.num_classes:
            raise InputError(f"label={label}: must be in 0…{self.num_classes - 1}, or None for no class")
        device = self.table.device
        generator = generator or torch.Generator(device).manual_seed(0)
        labels = torch.full((count,), self.num_classes if label is None else label, device=device)
        latents = torch.randn(count, self.table.shape[1], *self.grid, generator=generator, device=device)
        self.sample_scheduler.set_timesteps(self.sample_steps)
        for step in self.sample_scheduler.timesteps:
            predicted = self.unet(latents, step, class_labels=labels).sample
            latents = self.sample_scheduler.step(predicted, step, latents).prev_sample
        z_q = latents.movedim(1, -1).reshape(-1, self.table.shape[1]) * self.scale + self.mean
        return nearest_codes(z_q, self.table, "euclidean").view(count, *self.grid)


def _import_diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise InputError("prior.kind=diffusion: needs diffusers; pip install 'vqlab[diffusion]'") from None
    return diffusers
