"""The codes of a Run by their place: the levels and heads of a vector, and the scalars or bits of a fixed code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.analysis.code_place import CodePlace, IndexPlace, OnlyPlace, ScalarPlace
from vqlab.analysis.encoded_tokens import EncodedTokens
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.config import FIXED_CODES, QuantizerConfig
from vqlab.errors import InputError

WHOLE_INDEX = "whole index"
# Codes up to which a fixed code is shown as a whole: each has a patch and a bar.
_LARGEST_WHOLE_INDEX = 4096


class CodePlaces:
    """What the codes of a Run consist of, and what the first levels decode to.

    A Run with one code a vector has one place without a name. A residual or product quantizer has a place for each
    level and head. A fixed code (FSQ, LFQ, BSQ) has the whole index, if it has at most 4,096 values, and each of its
    scalars or bits.

    Args:
        tokenizer: the opened Run.

    Attributes:
        tokenizer: the opened Run.
        levels: number of levels of a residual quantizer; 1 for other families.
        label: what ``names`` name, for a control: ``level``, ``head``, ``head and level``, ``bit`` or ``scalar``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        settings = tokenizer.run.config.quantizer
        self.levels, self.label = settings.levels, _label(settings)

    @property
    def names(self) -> list[str]:
        """The names of the places; empty if there is only one."""
        return [name for name in self._by_name if name]

    @property
    def all(self) -> list[CodePlace]:
        """Every place, in the order of ``names``."""
        return list(self._by_name.values())

    def __getitem__(self, name: str | None) -> CodePlace:
        """Return a place.

        Args:
            name: one of ``names``; None for the only or first place.

        Returns:
            The same object at each call.

        Raises:
            InputError: if there is no place of this name.
        """
        by_name = self._by_name
        if name is None:
            return next(iter(by_name.values()))
        if name not in by_name or not name:
            allowed = ", ".join(self.names) or "None, since each vector has one code"
            raise InputError(f"place={name!r}: must be one of {allowed}")
        return by_name[name]

    def decode(self, grid: Int[Tensor, "h w *codes"], levels: int | None = None) -> Float[Tensor, "C H W"]:
        """Decode one code grid.

        Args:
            grid: indices as the tokenizer encodes them.
            levels: number of levels that are added up, from the first, in 1…``levels``; None for all.

        Returns:
            The image in [0, 1].

        Raises:
            InputError: if an index is outside the codebook.
        """
        if levels is not None and levels < self.levels:
            kept = torch.arange(grid.shape[-1]) % self.levels < levels
            grid = torch.where(kept, grid, -1)
        return self.tokenizer.decode(grid)

    @cached_property
    def _by_name(self) -> Mapping[str, CodePlace]:
        tokenizer, settings = self.tokenizer, self.tokenizer.run.config.quantizer
        tokens = EncodedTokens(tokenizer)
        places: list[CodePlace]
        if settings.codes_per_vector > 1:
            places = [IndexPlace(tokens, name, place) for place, name in enumerate(settings.place_names)]
        elif settings.family not in FIXED_CODES:
            places = [OnlyPlace(tokenizer)]
        else:
            layer = tokenizer.model.quantizer
            places = [OnlyPlace(tokenizer, WHOLE_INDEX)] if settings.num_codes <= _LARGEST_WHOLE_INDEX else []
            for scalar in range(layer.code_dim):
                places.append(ScalarPlace(tokens, f"{self.label} {scalar + 1}", layer, scalar))
        return {place.name: place for place in places}


def _label(settings: QuantizerConfig) -> str:
    if settings.family in FIXED_CODES:
        return "scalar" if settings.family == "fsq" else "bit"
    parts = [name for name, number in (("head", settings.heads), ("level", settings.levels)) if number > 1]
    return " and ".join(parts) or "code"
