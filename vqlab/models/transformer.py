"""An autoregressive transformer prior over code grids."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.models.sampling import KeyValueCache, sample_codes


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), with causal multi-head self-attention.

    Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019 (GPT-2).

    Args:
        width: channels of a token, a multiple of ``heads``.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.attention, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, x: Float[Tensor, "B T C"], past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "B T C"], tuple[Tensor, Tensor]]:
        """Apply the block.

        Args:
            x: tokens with C = ``width``; with ``past``, only the next one (T = 1).
            past: keys and values of the tokens before x, each (B, heads, tokens, C / heads); None if x starts the
                sequence.

        Returns:
            The new tokens, and the keys and values of all tokens so far.
        """
        query, key, value = self.attention(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(x), (key, value)


class CodeTransformer(nn.Module):
    """p(codes | label) = Π p(code_t | label, codes before t), over the cells of a grid in raster order.

    The first token is the label; token t + 1 is the code of cell t. Initial weights depend only on the Config's seed,
    and the global generator keeps its state.

    Source: Esser et al., Taming Transformers for High-Resolution Image Synthesis, 2021.

    Args:
        config: sections ``prior``, ``quantizer.num_codes`` and ``seed``, and the size of the code grid.
        num_classes: labels are 0…num_classes−1; the label num_classes means no class.

    Attributes:
        grid: height and width of the code grids.
        num_codes: K; codes are 0…K−1.
        num_classes: number of classes.

    Example:
        >>> config = Config().replace(**{"prior.width": 8, "prior.layers": 1, "quantizer.num_codes": 16})
        >>> CodeTransformer(config, num_classes=10)(torch.zeros(2, 8, 8, dtype=torch.long)).shape
        torch.Size([2, 64, 16])
    """

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.grid, self.num_codes, self.num_classes = config.grid, config.quantizer.num_codes, num_classes
        width, (rows, columns) = config.prior.width, self.grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.code = nn.Embedding(self.num_codes, width)
            self.label = nn.Embedding(num_classes + 1, width)
            self.place = nn.Embedding(rows * columns, width)
            for embedding in (self.code, self.label, self.place):
                nn.init.normal_(embedding.weight, std=0.02)
            self.blocks = nn.ModuleList(TransformerBlock(width, config.prior.heads) for _ in range(config.prior.layers))
            self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.num_codes))

    def forward(self, codes: Int[Tensor, "B h w"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B h*w K"]:
        """Compute the logits of all cells, each from the label and the codes before it.

        Args:
            codes: code grids, 0…K−1.
            labels: 0…num_classes; num_classes means no class. None: no class for all.

        Returns:
            Logits of the code of each cell, in raster order.
        """
        return self.logits(codes.flatten(1)[:, :-1], self.labels_or_null(labels, len(codes)))[0]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.code.weight.device

    def labels_or_null(self, labels: Int[Tensor, " B"] | None, count: int) -> Int[Tensor, " B"]:
        """Replace None by labels that mean no class.

        Args:
            labels: labels, or None.
            count: how many labels to return for None.

        Returns:
            ``labels``, or ``count`` times num_classes.
        """
        return self.label.weight.new_full((count,), self.num_classes).long() if labels is None else labels

    def logits(
        self, codes: Int[Tensor, "B T"], labels: Int[Tensor, " B"], cache: KeyValueCache | None = None
    ) -> tuple[Float[Tensor, "B N K"], KeyValueCache]:
        """Compute the logits of the cells 0…T, or with ``cache`` of cell T only.

        Args:
            codes: codes of the cells 0…T−1, 0…K−1; T is at least 0 and less than the number of cells.
            labels: 0…num_classes; num_classes means no class.
            cache: the cache returned for the cells 0…T−1; None or empty to compute all cells.

        Returns:
            The logits, N = T + 1, or N = 1 with ``cache``; and the new cache.
        """
        tokens = torch.cat([self.label(labels)[:, None], self.code(codes)], dim=1)
        x = tokens + self.place.weight[: tokens.shape[1]]
        if cache:
            x = x[:, -1:]
        new_cache: KeyValueCache = []
        for index, block in enumerate(self.blocks):
            x, keys_and_values = block(x, cache[index] if cache else None)
            new_cache.append(keys_and_values)
        return self.head(x), new_cache

    def sample(self, count: int, generator: torch.Generator | None = None, **settings: Any) -> Int[Tensor, "count h w"]:
        """Sample code grids with ``sample_codes``.

        Args:
            count: how many grids, at least 1.
            generator: on the prior's device; None for one with seed 0.
            **settings: other keyword arguments of ``sample_codes``.

        Returns:
            The codes, int64.

        Raises:
            InputError: if a value is out of range, or ``known_codes`` has another shape than the grid.
        """
        return sample_codes(self, count, generator=generator, **settings)
