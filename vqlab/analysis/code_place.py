"""One place of the codes of a Run: its values in a code grid, their usage and their image patches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from vqlab.analysis.encoded_tokens import EncodedTokens, most_used_indices
from vqlab.analysis.pictures import to_uint8
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.quantize.fixed_codes import FixedCodesQuantizer

_UNIFORM_GRID = (4, 4)
_GRIDS_AT_ONCE = 256
_GREY = 128


class CodePlace(ABC):
    """One of the numbers that describe a vector: its only index, that of a level or head, or a scalar of a fixed code.

    Args:
        tokenizer: the opened Run.
        name: the name of the place; empty if a vector has one number only.
        size: number of values.

    Attributes:
        tokenizer: as the argument.
        name: as the argument.
        size: number of values: the number of codes K, or of the values of a scalar.
        level: the residual level, from 1; 1 without levels.
    """

    level = 1

    def __init__(self, tokenizer: Tokenizer, name: str, size: int) -> None:
        self.tokenizer, self.name, self.size = tokenizer, name, size

    @property
    def codebook(self) -> str:
        """Identity of the values: views of the same one show the same code by the same number."""
        run = self.tokenizer.run.config.id
        return f"{run}, {self.name}" if self.name else run

    @abstractmethod
    def read(self, grid: Int[Tensor, "*grid"]) -> Int[Tensor, "*cells"]:
        """Read the values of the place.

        Args:
            grid: code grids as the model has them, (…, h, w), or (…, h, w, n) for n codes a vector; −1 for no code.

        Returns:
            The values, 0…size−1, (…, h, w); −1 for no code.
        """

    @abstractmethod
    def write(self, grid: Int[Tensor, "*grid"], values: Int[Tensor, "*cells"]) -> Int[Tensor, "*grid"]:
        """Replace the values of the place and leave all others as they are.

        Args:
            grid: code grids as for ``read``.
            values: the new values, 0…size−1, (…, h, w).

        Returns:
            The new grids.
        """

    @property
    @abstractmethod
    def usage(self) -> Int64[np.ndarray, "epochs V"]:
        """Tokens of each value in each epoch of the training."""

    @property
    @abstractmethod
    def patches(self) -> UInt8[Tensor, "V C p p"]:
        """Decoded patch of each value, 0…255: the middle of a small grid that has this value everywhere."""

    @abstractmethod
    def nearest_patches(self, value: int, count: int = 24) -> UInt8[Tensor, "n C P P"]:
        """Patches of the first test images that have a value.

        Args:
            value: a value of the place.
            count: the largest number of patches.

        Returns:
            The patches of the tokens nearest to what the value stands for, nearest first, with one patch of context on
            each side, so P is three times ``patch_size`` of the tokenizer; 0…255, grey outside the image.
        """

    @abstractmethod
    def token_counts(self) -> Int64[Tensor, " V"]:
        """Count the tokens of each value in the first test images.

        Returns:
            The counts.
        """


class OnlyPlace(CodePlace):
    """The index of a vector with one code.

    Args:
        tokenizer: the opened Run.
        name: as for ``CodePlace``.
    """

    def __init__(self, tokenizer: Tokenizer, name: str = "") -> None:
        super().__init__(tokenizer, name, tokenizer.num_codes)

    @property
    def codebook(self) -> str:
        """Identity of the codes: the id of the Run."""
        return self.tokenizer.run.config.id

    def read(self, grid: Int[Tensor, "*grid"]) -> Int[Tensor, "*cells"]:
        """Return the grid, which is that of the only place; see ``CodePlace.read``."""
        return grid

    def write(self, grid: Int[Tensor, "*grid"], values: Int[Tensor, "*cells"]) -> Int[Tensor, "*grid"]:
        """Return the values, which are the new grid; see ``CodePlace.write``."""
        return values

    @property
    def usage(self) -> Int64[np.ndarray, "epochs K"]:
        """Tokens of each code in each epoch of the training."""
        return self.tokenizer.usage

    @property
    def patches(self) -> UInt8[Tensor, "K C p p"]:
        """Decoded patch of each code, 0…255: the middle of a small grid that has only this code."""
        return self.tokenizer.code_patches

    def nearest_patches(self, value: int, count: int = 24) -> UInt8[Tensor, "n C P P"]:
        """Patches of the first test images that are encoded as a code; see ``CodePlace.nearest_patches``."""
        return self.tokenizer.nearest_patches(value, count)

    def token_counts(self) -> Int64[Tensor, " K"]:
        """Count the tokens of each code in the first test images; see ``CodePlace.token_counts``."""
        return self.tokenizer.token_counts()


class PartPlace(CodePlace):
    """One of several numbers that describe a vector; while its values are shown, the others have their most used one.

    Args:
        tokens: the encoded first test images of the Run.
        name: as for ``CodePlace``.
        size: as for ``CodePlace``.
    """

    def __init__(self, tokens: EncodedTokens, name: str, size: int) -> None:
        super().__init__(tokens.tokenizer, name, size)
        self._encoded = tokens

    @cached_property
    def patches(self) -> UInt8[Tensor, "V C p p"]:
        """Decoded patch of each value, 0…255: the middle of a small grid that has this value everywhere.

        All other places have the value that the last epoch used most.
        """
        size, others = self.tokenizer.patch_size, most_used_indices(self.tokenizer.run)
        window = slice(_UNIFORM_GRID[0] // 2 * size, (_UNIFORM_GRID[0] // 2 + 1) * size)
        parts = []
        for values in torch.arange(self.size).split(_GRIDS_AT_ONCE):
            cells = (len(values), *_UNIFORM_GRID)
            grids = self.write(others.expand(*cells, *others.shape), values[:, None, None].expand(cells))
            with torch.no_grad():
                parts.append(to_uint8(self.tokenizer.model.decode(grids)[:, :, window, window]))
        return torch.cat(parts)

    def nearest_patches(self, value: int, count: int = 24) -> UInt8[Tensor, "n C P P"]:
        """Patches of the first test images that have a value; see ``CodePlace.nearest_patches``."""
        matches = (self.read(self._encoded.indices) == value).nonzero()
        order = self._distances()[tuple(matches.T)].argsort()[:count]
        size, channels = self.tokenizer.patch_size, self.tokenizer.run.config.data.channels
        patches = [torch.empty(0, channels, 3 * size, 3 * size, dtype=torch.uint8)]
        for image, row, column in matches[order].tolist():
            padded = F.pad(self.tokenizer.data.test.pixels[image], (size,) * 4, value=_GREY)
            patches.append(padded[None, :, row * size : (row + 3) * size, column * size : (column + 3) * size])
        return torch.cat(patches)

    def token_counts(self) -> Int64[Tensor, " V"]:
        """Count the tokens of each value in the first test images; see ``CodePlace.token_counts``."""
        return torch.bincount(self.read(self._encoded.indices).flatten(), minlength=self.size)

    def _distances(self) -> Tensor:
        """Squared distance of each token to what its value stands for, (N, h, w)."""
        raise NotImplementedError


class IndexPlace(PartPlace):
    """The index of one level of one head, of several in a vector.

    Args:
        tokens: as for ``PartPlace``.
        name: as for ``CodePlace``.
        place: its place among the indices of a vector, from 0.
    """

    def __init__(self, tokens: EncodedTokens, name: str, place: int) -> None:
        settings = tokens.tokenizer.run.config.quantizer
        super().__init__(tokens, name, settings.num_codes)
        self.place, self.level = place, 1 + place % settings.levels

    def read(self, grid: Int[Tensor, "*grid"]) -> Int[Tensor, "*cells"]:
        """Read the indices of the place; see ``CodePlace.read``."""
        return grid[..., self.place]

    def write(self, grid: Int[Tensor, "*grid"], values: Int[Tensor, "*cells"]) -> Int[Tensor, "*grid"]:
        """Replace the indices of the place; see ``CodePlace.write``."""
        written = grid.clone()
        written[..., self.place] = values
        return written

    @cached_property
    def usage(self) -> Int64[np.ndarray, "epochs K"]:
        """Tokens of each code of the place in each epoch of the training."""
        return self.tokenizer.run.usage(self.place)

    def _distances(self) -> Tensor:
        return self._encoded.distances[..., self.place]


class ScalarPlace(PartPlace):
    """One scalar, or bit, of a fixed code (FSQ, LFQ, BSQ), by the number of its value.

    Args:
        tokens: as for ``PartPlace``.
        name: as for ``CodePlace``.
        layer: the quantizer.
        scalar: the scalar, from 0.
    """

    def __init__(self, tokens: EncodedTokens, name: str, layer: FixedCodesQuantizer, scalar: int) -> None:
        super().__init__(tokens, name, int(layer.radices[scalar]))
        self._step = int(layer.places[scalar])

    def read(self, grid: Int[Tensor, "*grid"]) -> Int[Tensor, "*cells"]:
        """Read the numbers of the values of the scalar; see ``CodePlace.read``."""
        return torch.where(grid < 0, grid, grid // self._step % self.size)

    def write(self, grid: Int[Tensor, "*grid"], values: Int[Tensor, "*cells"]) -> Int[Tensor, "*grid"]:
        """Replace the values of the scalar; see ``CodePlace.write``."""
        return grid + (values - self.read(grid)) * self._step

    @cached_property
    def usage(self) -> Int64[np.ndarray, "epochs V"]:
        """Tokens of each value of the scalar in each epoch of the training."""
        counts = self.tokenizer.usage
        blocks = counts.reshape(len(counts), -1, self.size, self._step)
        return blocks.sum(axis=(1, 3))

    def _distances(self) -> Tensor:
        return self._encoded.distances
