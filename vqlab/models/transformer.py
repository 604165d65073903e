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


class PlaceLinear(nn.Linear):
    """A linear layer for each place of a vector of several codes, whose tokens follow each other.

    Args:
        width: channels of a token.
        num_codes: K, outputs of each place.
        places: number of places.
    """

    def __init__(self, width: int, num_codes: int, places: int) -> None:
        super().__init__(width, places * num_codes)
        self.num_codes, self.places = num_codes, places

    def forward(self, x: Float[Tensor, "B N C"], first: int = 0) -> Float[Tensor, "B N K"]:
        """Apply to each token the layer of its place.

        Args:
            x: the tokens ``first``, ``first`` + 1, …; token t has place t mod ``places``.
            first: number of the first token. Default 0.

        Returns:
            The outputs.
        """
        weights, biases = (tensor.unflatten(0, (self.places, -1)) for tensor in (self.weight, self.bias))
        parts = []
        for offset in range(min(self.places, x.shape[1])):
            place = (first + offset) % self.places
            parts.append(F.linear(x[:, offset :: self.places], weights[place], biases[place]))
        outputs = torch.empty(*x.shape[:2], self.num_codes, dtype=parts[0].dtype, device=x.device)
        for offset, part in enumerate(parts):
            outputs[:, offset :: self.places] = part
        return outputs


class CodeTransformer(nn.Module):
    """p(codes | label) = Π p(code_t | label, codes before t), over the cells of a grid in raster order.

    The first token is the label; token t + 1 is the code of cell t. Initial weights depend only on the Config's seed,
    and the global generator keeps its state.

    Vectors of n codes are n tokens each, in the order of ``vqlab.quantize.TokenLayout``: all codes of a vector before
    the next vector (depth-wise order). Token t is code t mod n of cell ⌊t / n⌋. Each of the n places has code
    embeddings and a last layer of its own, and a place embedding is added to that of the cell. So the sequence has
    h · w · n tokens; the RQ-Transformer (Lee et al., Autoregressive Image Generation using Residual Quantization, 2022)
    has the same order and two networks instead, one over vectors and one over the levels of a vector.

    Source: Esser et al., Taming Transformers for High-Resolution Image Synthesis, 2021.

    Args:
        config: sections ``prior`` and ``quantizer`` (number of codes, and of codes for a vector), ``seed``, and the
            size of the code grid.
        num_classes: labels are 0…num_classes−1; the label num_classes means no class.

    Attributes:
        grid: height and width of the code grids.
        num_codes: K; codes are 0…K−1.
        codes_per_vector: n, number of codes for one vector.
        num_classes: number of classes.

    Example:
        >>> config = Config().replace(**{"prior.width": 8, "prior.layers": 1, "quantizer.num_codes": 16})
        >>> CodeTransformer(config, num_classes=10)(torch.zeros(2, 8, 8, dtype=torch.long)).shape
        torch.Size([2, 64, 16])
    """

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.grid, self.num_codes, self.num_classes = config.grid, config.quantizer.num_codes, num_classes
        self.codes_per_vector = places = config.quantizer.codes_per_vector
        width, (rows, columns) = config.prior.width, self.grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.code = nn.Embedding(places * self.num_codes, width)
            self.label = nn.Embedding(num_classes + 1, width)
            self.place = nn.Embedding(rows * columns, width)
            # Of the place in a vector; one code for a vector needs none.
            self.depth = nn.Embedding(places, width) if places > 1 else None
            for embedding in filter(None, (self.code, self.label, self.place, self.depth)):
                nn.init.normal_(embedding.weight, std=0.02)
            self.blocks = nn.ModuleList(TransformerBlock(width, config.prior.heads) for _ in range(config.prior.layers))
            linear = PlaceLinear(width, self.num_codes, places) if places > 1 else nn.Linear(width, self.num_codes)
            self.head = nn.Sequential(nn.LayerNorm(width), linear)

    def forward(
        self, codes: Int[Tensor, "B h w *codes"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B T K"]:
        """Compute the logits of all codes, each from the label and the codes before it.

        Args:
            codes: code grids, 0…K−1, (B, h, w), or (B, h, w, n) with n codes for a vector.
            labels: 0…num_classes; num_classes means no class. None: no class for all.

        Returns:
            Logits of the code of each cell, in raster order, T = h · w; with n codes for a vector T = h · w · n.
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
        """Compute the logits of the codes 0…T, or with ``cache`` of code T only.

        Args:
            codes: the codes 0…T−1 of a grid in their order, 0…K−1; T is at least 0 and less than the number of codes.
            labels: 0…num_classes; num_classes means no class.
            cache: the cache returned for the codes 0…T−1; None or empty to compute all.

        Returns:
            The logits, N = T + 1, or N = 1 with ``cache``; and the new cache.
        """
        count = codes.shape[1] + 1
        x = torch.cat([self.label(labels)[:, None], self.code(self._embedding_rows(codes))], dim=1)
        x = x + self._positions(count)
        if cache:
            x = x[:, -1:]
        new_cache: KeyValueCache = []
        for index, block in enumerate(self.blocks):
            x, keys_and_values = block(x, cache[index] if cache else None)
            new_cache.append(keys_and_values)
        if self.depth is None:
            return self.head(x), new_cache
        norm, linear = self.head
        return linear(norm(x), count - x.shape[1]), new_cache

    def _embedding_rows(self, codes: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Rows of the code embeddings: those of each place follow each other."""
        if self.depth is None:
            return codes
        return codes + self.num_codes * (torch.arange(codes.shape[1], device=codes.device) % self.codes_per_vector)

    def _positions(self, count: int) -> Float[Tensor, "T C"]:
        """Embeddings of the cell and of the place of the first codes."""
        if self.depth is None:
            return self.place.weight[:count]
        of_cells = self.place.weight.repeat_interleave(self.codes_per_vector, dim=0)
        return (of_cells + self.depth.weight.repeat(len(self.place.weight), 1))[:count]

    def sample(
        self, count: int, generator: torch.Generator | None = None, **settings: Any
    ) -> Int[Tensor, "count h w *codes"]:
        """Sample code grids with ``sample_codes``.

        Args:
            count: how many grids, at least 1.
            generator: on the prior's device; None for one with seed 0.
            **settings: other keyword arguments of ``sample_codes``.

        Returns:
            The codes, int64, with a last axis for vectors of several codes.

        Raises:
            InputError: if a value is out of range, or ``known_codes`` has another shape than the grid.
        """
        return sample_codes(self, count, generator=generator, **settings)
