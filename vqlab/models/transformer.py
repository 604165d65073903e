"""An autoregressive transformer over code grids."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.models.sampling import KeyValueCache, sample_codes


class Block(nn.Module):
    """x + attention(norm x), then x + MLP(norm x); (B, T, W) to the same, no token sees a later one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.attention, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, x: Float[Tensor, "B T W"], past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "B T W"], tuple[Tensor, Tensor]]:
        """The block's sum and its keys and values; with ``past``, x is the one token that comes next."""
        query, key, value = self.attention(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(x), (key, value)


class CodeTransformer(nn.Module):
    """p(codes | label) as a product over cells in raster order (Esser et al., Taming Transformers, 2021).

    grid: (h, w) of the codes; num_codes: K; num_classes: labels are 0…num_classes−1, None for no label.
    Weights depend on the Config's seed alone.
    """

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.grid, self.num_codes, self.num_classes = config.grid, config.quantizer.num_codes, num_classes
        width, (height, across) = config.prior.width, self.grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.code = nn.Embedding(self.num_codes, width)
            self.label = nn.Embedding(num_classes + 1, width)
            self.place = nn.Embedding(height * across, width)
            for embedding in (self.code, self.label, self.place):
                nn.init.normal_(embedding.weight, std=0.02)
            self.blocks = nn.ModuleList(Block(width, config.prior.heads) for _ in range(config.prior.layers))
            self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.num_codes))

    def forward(self, codes: Int[Tensor, "B h w"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B hw K"]:
        """Logits of each cell's code, given the cells before it; num_classes among the labels means no label."""
        return self.logits(codes.flatten(1)[:, :-1], self.labels_or_null(labels, len(codes)))[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.code.weight.device

    def labels_or_null(self, labels: Tensor | None, count: int) -> Int[Tensor, " count"]:
        """``labels``, or ``count`` times no label."""
        return self.label.weight.new_full((count,), self.num_classes).long() if labels is None else labels

    def logits(
        self, codes: Int[Tensor, "B T"], labels: Int[Tensor, " B"], cache: KeyValueCache | None = None
    ) -> tuple[Float[Tensor, "B N K"], KeyValueCache]:
        """Logits of the cells 0…T, and every block's keys and values; with ``cache`` of the cell T alone."""
        tokens = torch.cat([self.label(labels)[:, None], self.code(codes)], dim=1)
        x = tokens + self.place.weight[: tokens.shape[1]]
        if cache:
            x = x[:, -1:]
        new_cache: KeyValueCache = []
        for number, block in enumerate(self.blocks):
            x, keys_and_values = block(x, cache[number] if cache else None)
            new_cache.append(keys_and_values)
        return self.head(x), new_cache

    def sample(self, count: int, generator: torch.Generator | None = None, **settings: Any) -> Int[Tensor, "count h w"]:
        """Sample code grids: ``sample_codes`` of this prior.

        Args:
            count: how many grids, at least 1.
            generator: as in ``sample_codes``.
            **settings: the other arguments of ``sample_codes``.

        Returns:
            The codes, int64.
        """
        return sample_codes(self, count, generator=generator, **settings)
