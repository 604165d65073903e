"""Latent diffusion over z_q, on diffusers' UNet and schedulers (the extra ``diffusion``)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.quantize.search import nearest_codes

_SCHEDULE = "squaredcos_cap_v2"
_ENOUGH = 1_000_000


class LatentDiffusion(nn.Module):
    """Ho et al., Denoising Diffusion Probabilistic Models, 2020, in the space of the codes (Rombach et al., 2022).

    What is noised is z_q less its mean over its standard deviation; what comes out is put on the nearest codes, since
    the decoder knows no others. The UNet tells the clean z_q, not the noise: codes spread in a few of the D directions,
    so noise would have to be told in all the others too, and its error counts most where there is most of it.
    ``table`` (K, D) has the z_q of every code, ``mean`` (D) and ``scale`` are those of z_q: set by ``learn_codes``.
    Weights depend on the Config's seed alone. Raises InputError where diffusers is not installed.
    """

    table: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.grid, self.num_codes, self.num_classes = config.grid, config.quantizer.num_codes, num_classes
        self.sample_steps, dim, width = config.prior.sample_steps, config.quantizer.dim, config.prior.width
        home = _diffusers()
        noise: dict[str, Any] = {
            "num_train_timesteps": config.prior.noise_steps, "beta_schedule": _SCHEDULE, "prediction_type": "sample",
        }  # fmt: skip
        self.noising = home.DDPMScheduler(**noise)
        self.denoising = home.DDIMScheduler(**noise, clip_sample=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.unet = home.UNet2DModel(
                sample_size=self.grid[0], in_channels=dim, out_channels=dim, layers_per_block=1, norm_num_groups=8,
                block_out_channels=(width, width), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"), num_class_embeds=num_classes + 1,
            )  # fmt: skip
        self.register_buffer("table", torch.zeros(self.num_codes, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    def set_code_statistics(self, table: Float[Tensor, "K D"], codes: Int[Tensor, "N h w"]) -> None:
        """Take the z_q of every code, and the mean and standard deviation of z_q over ``codes``."""
        z_q = F.embedding(codes.flatten()[:_ENOUGH], table)
        self.table.copy_(table)
        self.mean.copy_(z_q.mean(0))
        self.scale.copy_((z_q - self.mean).std())

    def forward(
        self, codes: Int[Tensor, "B h w"], labels: Int[Tensor, " B"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean squared error of the z_q (of variance 1) that the UNet finds, at a random noise step for each grid."""
        clean = ((F.embedding(codes, self.table) - self.mean) / self.scale).movedim(-1, 1)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        last = self.noising.config.num_train_timesteps
        steps = torch.randint(last, (len(codes),), generator=generator, device=clean.device)
        found = self.unet(self.noising.add_noise(clean, noise, steps), steps, class_labels=labels).sample
        return F.mse_loss(found.float(), clean)

    @torch.no_grad()
    def sample(
        self, count: int, generator: torch.Generator | None = None, *, label: int | None = None
    ) -> Int[Tensor, "count h w"]:
        """``count`` code grids by DDIM (Song et al., Denoising Diffusion Implicit Models, 2021).

        label: 0…num_classes−1; None for none. Raises InputError for values out of range.
        """
        if count < 1:
            raise InputError(f"count={count}: must be at least 1")
        if label is not None and not 0 <= label < self.num_classes:
            raise InputError(f"label={label}: must be in 0…{self.num_classes - 1}, or none")
        device = self.table.device
        generator = generator or torch.Generator(device).manual_seed(0)
        labels = torch.full((count,), self.num_classes if label is None else label, device=device)
        latents = torch.randn(count, self.table.shape[1], *self.grid, generator=generator, device=device)
        self.denoising.set_timesteps(self.sample_steps)
        for step in self.denoising.timesteps:
            found = self.unet(latents, step, class_labels=labels).sample
            latents = self.denoising.step(found, step, latents).prev_sample
        rows = latents.movedim(1, -1).reshape(-1, self.table.shape[1]) * self.scale + self.mean
        return nearest_codes(rows, self.table, "euclidean").view(count, *self.grid)


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise InputError("prior.kind=diffusion: needs diffusers; pip install 'vqlab[diffusion]'") from None
    return diffusers
