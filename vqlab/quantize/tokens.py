"""Codes as a sequence of tokens, as a language model reads them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.validation import check_indices, check_sizes

# Bits of the largest vocabulary; longer indices are written in groups of bits.
_LARGEST_TOKEN_BITS = 16


@dataclass(frozen=True)
class TokenLayout:
    """How indices become tokens: depth first, and indices of many bits as groups of bits.

    The sequence holds the vectors in their order, in a grid row by row. Of each vector it holds all indices before the
    next vector follows (depth-wise order), for a residual quantizer level by level (Lee et al., Autoregressive Image
    Generation using Residual Quantization, 2022); with heads of several levels, all levels of the first head first.

    An index of K codes is one token while K is at most 2¹⁶. A longer index of b = ⌈log₂ K⌉ bits is written as
    g = ⌈b / 16⌉ tokens of ⌈b / g⌉ bits each, the most significant bits first: 18 bits as two tokens of 9 bits (Yu et
    al., Language Model Beats Diffusion: Tokenizer is Key to Visual Generation, 2023).

    Args:
        num_codes: K, number of codes of one index, at least 1.
        codes_per_vector: n, number of indices of one vector, at least 1. Default 1.

    Raises:
        InputError: if a number is below 1.

    Example:
        >>> layout = TokenLayout(num_codes=16, codes_per_vector=2)
        >>> layout.tokens(torch.tensor([[[1, 2], [3, 4]]]), cells=2).tolist()
        [1, 2, 3, 4]
        >>> bits = TokenLayout(num_codes=1 << 18)
        >>> bits.vocabulary, bits.tokens(torch.tensor([1 << 9]), cells=1).tolist()
        (512, [1, 0])
    """

    num_codes: int
    codes_per_vector: int = 1

    def __post_init__(self) -> None:
        check_sizes(num_codes=self.num_codes, codes_per_vector=self.codes_per_vector)

    @property
    def tokens_per_code(self) -> int:
        """g, number of tokens of one index."""
        return max(1, -(-self._bits // _LARGEST_TOKEN_BITS))

    @property
    def tokens_per_vector(self) -> int:
        """Number of tokens of one vector, n · g."""
        return self.codes_per_vector * self.tokens_per_code

    @property
    def vocabulary(self) -> int:
        """Number of values of one token: K, or a power of 2 if an index is several tokens."""
        return self.num_codes if self.tokens_per_code == 1 else 1 << self._group_bits

    def tokens(self, indices: Int[Tensor, "*shape"], cells: int) -> Int[Tensor, "*batch tokens"]:
        """Write the indices of grids as sequences of tokens.

        Args:
            indices: indices in 0…K−1, (…, h, w, n), or (…, h, w) with n = 1; other numbers of axes work as well.
            cells: number of the axes of a grid, 2 for (h, w), which the sequence replaces.

        Returns:
            Tokens in 0…``vocabulary``−1, int64, (…, h·w·n·g).

        Raises:
            InputError: if the last axis is not of n indices, there are fewer axes, or an index is outside 0…K−1.
        """
        axes = cells + (self.codes_per_vector > 1)
        if indices.dim() < axes or (self.codes_per_vector > 1 and indices.shape[-1] != self.codes_per_vector):
            raise InputError(
                f"indices: shape {tuple(indices.shape)}, must end in {cells} axes of a grid"
                + (f" and {self.codes_per_vector} codes for a vector" if self.codes_per_vector > 1 else "")
            )
        _check_range(indices, self.num_codes, "indices")
        digits = indices.long()[..., None] >> self._shifts(indices.device)
        return (digits & ((1 << self._group_bits) - 1)).flatten(-axes - 1)

    def indices(self, tokens: Int[Tensor, "*batch tokens"], grid: tuple[int, ...]) -> Int[Tensor, "*shape"]:
        """Read sequences of tokens as the indices of grids; the inverse of ``tokens``.

        Args:
            tokens: tokens in 0…``vocabulary``−1, (…, h·w·n·g).
            grid: sizes of a grid, (h, w).

        Returns:
            Indices in 0…K−1, int64, (…, h, w, n), or (…, h, w) with n = 1.

        Raises:
            InputError: if the number of tokens is another one, a token is outside the vocabulary, or the groups of
                bits of an index are together above K−1.
        """
        expected = torch.Size(grid).numel() * self.tokens_per_vector
        if tokens.dim() < 1 or tokens.shape[-1] != expected:
            sizes = " · ".join(map(str, grid))
            raise InputError(
                f"tokens: shape {tuple(tokens.shape)}, the last axis must have {sizes} · {self.tokens_per_vector} = "
                f"{expected} tokens"
            )
        _check_range(tokens, self.vocabulary, "tokens")
        places = () if self.codes_per_vector == 1 else (self.codes_per_vector,)
        digits = tokens.long().unflatten(-1, (*grid, *places, self.tokens_per_code))
        indices = (digits << self._shifts(tokens.device)).sum(dim=-1)
        check_indices(indices, self.num_codes)
        return indices

    @property
    def _bits(self) -> int:
        return (self.num_codes - 1).bit_length()

    @property
    def _group_bits(self) -> int:
        return -(-self._bits // self.tokens_per_code)

    def _shifts(self, device: torch.device) -> Int[Tensor, " g"]:
        return self._group_bits * torch.arange(self.tokens_per_code - 1, -1, -1, device=device)


def _check_range(values: Tensor, count: int, name: str) -> None:
    if values.is_floating_point() or values.dtype == torch.bool:
        raise InputError(f"{name}: are {values.dtype}, must be integers in 0…{count - 1}")
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < count:
        raise InputError(f"{name}: from {int(values.min())} to {int(values.max())}, must be in 0…{count - 1}")
