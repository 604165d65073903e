"""Images drawn from a prior over codes, and grids that it completes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.analysis.tokenizer import Tokenizer
from vqlab.errors import InputError
from vqlab.models import CodeTransformer, sample_codes
from vqlab.training import Run, open_prior
from vqlab.widgets.base import Explorer, in_range, one_of
from vqlab.widgets.choices import ANY_CLASS, MAX_TEMPERATURE, SAMPLE_COUNT

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure


class SampleExplorer(Explorer):
    """Draw from a transformer over the codes of its VQ-VAE; keep some codes of a test image and have the rest drawn.

    run: a prior's Run, or its folder. state: temperature (0.05…3; below 1 sharper, above 1 flatter odds); top_k (only
    the k likeliest codes, 0: all); label (a class, or "any"); seed; index (of the test image whose codes can be
    given); given (h rows of w, 1 where the image's code is kept, 0 where one is drawn).
    Raises InputError for a Run that is no transformer's, or whose VQ-VAE is not beside it.
    """

    def __init__(self, run: Run | str | Path, **state: Any) -> None:
        super().__init__()
        self.run = run if isinstance(run, Run) else Run.open(run)
        if self.run.config.kind != "transformer":
            raise InputError(f"run {self.run.folder}: is a {self.run.config.kind}; give the Run of a transformer prior")
        self.tokenizer = Tokenizer(self.run.codec())
        prior = open_prior(self.run, self.tokenizer.run)
        assert isinstance(prior, CodeTransformer)
        self.prior = prior
        self.labels = [ANY_CLASS, *self.tokenizer.data.class_names]
        self._drawn: tuple[dict[str, Any], Int[Tensor, "n h w"]] | None = None
        height, width = self.prior.grid
        self.state = {"temperature": 1.0, "top_k": 0, "label": ANY_CLASS, "seed": 0, "index": 0,
                      "given": [[0] * width for _ in range(height)]}  # fmt: skip
        self.state = state

    @property
    def image(self) -> Float[Tensor, "3 H W"]:
        """The test image whose codes can be given, in [0, 1]."""
        return self.tokenizer.data.test.pixels[self.state["index"]].float() / 255

    def given(self) -> Int[Tensor, "h w"]:
        """The codes that are kept, and −1 where one is drawn."""
        return torch.where(torch.tensor(self.state["given"]) > 0, self.tokenizer.encode(self.image), -1)

    def codes(self) -> Int[Tensor, "n h w"]:
        """Eight grids, drawn as the state says; the same state gives the same grids."""
        if self._drawn is None or self._drawn[0] != self.state:
            state, given = self.state, self.given()
            drawn = sample_codes(
                self.prior, SAMPLE_COUNT,
                label=None if state["label"] == ANY_CLASS else self.labels.index(state["label"]) - 1,
                temperature=float(state["temperature"]), top_k=state["top_k"] or None,
                known_codes=given if bool((given >= 0).any()) else None,
                generator=torch.Generator().manual_seed(state["seed"]),
            )  # fmt: skip
            self._drawn = (dict(state), drawn)
        return self._drawn[1]

    def images(self) -> Float[Tensor, "n 3 H W"]:
        """What the eight grids decode to, in [0, 1]."""
        return torch.stack([self.tokenizer.decode(grid) for grid in self.codes()])

    def keep_rows(self, rows: int) -> None:
        """Give the first ``rows`` rows of the image's codes, and have the others drawn."""
        height, width = self.prior.grid
        self.state = {"given": [[int(row < rows)] * width for row in range(height)]}

    def toggle(self, row: int, column: int) -> None:
        """Give the code of one cell, or have it drawn."""
        given = [list(codes) for codes in self.state["given"]]
        given[row][column] = 1 - given[row][column]
        self.state = {"given": given}

    def figure(self) -> Figure:
        """The image, what is given of it, and the samples."""
        from vqlab.plots import sample_panels

        told = f"temperature {self.state['temperature']:g}, top-k {self.state['top_k'] or 'off'}, {self.state['label']}"
        return sample_panels(self.tokenizer, self.image, self.given(), self.images(), f"Samples: {told}")

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        in_range("temperature", state["temperature"], 0.05, MAX_TEMPERATURE)
        in_range("top_k", state["top_k"], 0, self.tokenizer.num_codes)
        one_of("label", state["label"], self.labels)
        in_range("seed", state["seed"], 0, 2**31 - 1)
        in_range("index", state["index"], 0, len(self.tokenizer.data.test) - 1)
        rows = state["given"]
        height, width = self.prior.grid
        if not isinstance(rows, list) or len(rows) != height or any(
            not isinstance(row, list) or len(row) != width or set(row) - {0, 1} for row in rows
        ):  # fmt: skip
            raise InputError(f"given: must be {height} rows of {width}, each 0 (drawn) or 1 (kept)")
        return {**state, **{name: int(state[name]) for name in ("top_k", "seed", "index")}}

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.samples_view import SamplesView

        self._view = SamplesView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.show(old, new)
