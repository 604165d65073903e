"""Explorer of a transformer prior: samples, and completions of a test image whose codes are partly kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.errors import InputError
from vqlab.models import CodeTransformer, sample_codes
from vqlab.models.sampling import UNKNOWN
from vqlab.training import Run, open_prior
from vqlab.widgets.base import Explorer
from vqlab.widgets.checks import check_one_of, check_range
from vqlab.widgets.choices import ANY_CLASS, MAX_TEMPERATURE, SAMPLE_COUNT

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure


class SampleExplorer(Explorer):
    """Sample images from a transformer prior, or keep some codes of a test image and sample the others.

    Keys of ``state``:

    - ``temperature``: 0.05…3, 1 at first; smaller values favour likely codes, larger ones flatten the distribution.
    - ``top_k``: sample from the k most likely codes only, 1…K; 0 (at first) samples from all.
    - ``label``: a class of the data, or ``any`` to sample without a class.
    - ``seed``: seed of the random generator, 0…2³¹−1.
    - ``index``: index of the test image whose codes can be kept, from 0.
    - ``known``: h rows of w values: 1 keeps the codes of the image in that cell, 0 samples them.
    - ``place``: the level, head, scalar or bit whose codes are shown, one of ``places.names``; None if a vector has one
      code.

    Args:
        run: the Run of a transformer prior, or its folder; the Run of its VQ-VAE must be in the same root folder.
        **state: initial values of keys of ``state``.

    Attributes:
        run: the Run of the prior.
        tokenizer: the Run of its VQ-VAE, opened.
        places: the places of its codes.
        prior: the transformer, on the CPU.
        labels: allowed values of the key ``label``.

    Raises:
        InputError: if ``run`` is not a finished transformer prior, its VQ-VAE is missing or differs from the one that
            it was trained on, or a value of ``state`` is not allowed.
    """

    def __init__(self, run: Run | str | Path, **state: Any) -> None:
        super().__init__()
        self.run = run if isinstance(run, Run) else Run.open(run)
        if self.run.config.kind != "transformer":
            raise InputError(
                f"run {self.run.folder}: kind {self.run.config.kind}: must be transformer; give the Run of a "
                "transformer prior"
            )
        self.tokenizer = Tokenizer(self.run.codec())
        self.places = CodePlaces(self.tokenizer)
        prior = open_prior(self.run, self.tokenizer.run)
        assert isinstance(prior, CodeTransformer)
        self.prior = prior
        self.labels = [ANY_CLASS, *self.tokenizer.data.class_names]
        self._sampled: tuple[dict[str, Any], Int[Tensor, "n h w *codes"]] | None = None
        height, width = self.prior.grid
        self.state = {"temperature": 1.0, "top_k": 0, "label": ANY_CLASS, "seed": 0, "index": 0,
                      "known": [[0] * width for _ in range(height)], "place": None}  # fmt: skip
        self.state = state

    @property
    def image(self) -> Float[Tensor, "C H W"]:
        """The selected test image, in [0, 1]."""
        return self.tokenizer.data.test.pixels[self.state["index"]].float() / 255

    @property
    def place(self) -> CodePlace:
        """The place whose codes are shown."""
        return self.places[self.state["place"]]

    def known_codes(self) -> Int[Tensor, "h w *codes"]:
        """Encode the selected image and keep the codes that ``state["known"]`` selects.

        Returns:
            The kept codes, and −1 in the cells that are sampled.
        """
        codes, kept = self.tokenizer.encode(self.image), torch.tensor(self.state["known"]) > 0
        return torch.where(kept if codes.dim() == 2 else kept[..., None], codes, UNKNOWN)

    def codes(self) -> Int[Tensor, "n h w *codes"]:
        """Sample eight code grids; equal states give equal grids.

        Returns:
            The codes, with the kept codes in their cells.
        """
        sampled = {key: value for key, value in self.state.items() if key != "place"}
        if self._sampled is None or self._sampled[0] != sampled:
            state, known = self.state, self.known_codes()
            codes = sample_codes(
                self.prior, SAMPLE_COUNT,
                label=None if state["label"] == ANY_CLASS else self.labels.index(state["label"]) - 1,
                temperature=float(state["temperature"]), top_k=state["top_k"] or None,
                known_codes=known if bool((known != UNKNOWN).any()) else None,
                generator=torch.Generator().manual_seed(state["seed"]),
            )  # fmt: skip
            self._sampled = (sampled, codes)
        return self._sampled[1]

    def images(self) -> Float[Tensor, "n C H W"]:
        """Decode the eight sampled code grids.

        Returns:
            The images, in [0, 1].
        """
        return torch.stack([self.tokenizer.decode(grid) for grid in self.codes()])

    def keep_rows(self, rows: int) -> None:
        """Keep the image's codes in the first rows and sample the others.

        Args:
            rows: number of rows; 0 samples all codes.
        """
        height, width = self.prior.grid
        self.state = {"known": [[int(row < rows)] * width for row in range(height)]}

    def toggle(self, row: int, column: int) -> None:
        """Switch one cell between its code being kept and being sampled.

        Args:
            row: row of the cell, from 0.
            column: column of the cell, from 0.
        """
        known = [list(values) for values in self.state["known"]]
        known[row][column] = 1 - known[row][column]
        self.state = {"known": known}

    def figure(self) -> Figure:
        """Draw the test image, its kept codes and the samples."""
        from vqlab.plots import sample_panels

        state = self.state
        settings = f"temperature {state['temperature']:g}, top-k {state['top_k'] or 'off'}, class {state['label']}"
        cells = self.place.read(self.known_codes())
        return sample_panels(self.place, self.image, cells, self.images(), f"Samples: {settings}")

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        check_range("temperature", state["temperature"], 0.05, MAX_TEMPERATURE)
        check_range("top_k", state["top_k"], 0, self.tokenizer.num_codes)
        check_one_of("label", state["label"], self.labels)
        check_range("seed", state["seed"], 0, 2**31 - 1)
        check_range("index", state["index"], 0, len(self.tokenizer.data.test) - 1)
        self._check_known(state["known"])
        state["place"] = self.places[state["place"]].name or None
        return {**state, **{name: int(state[name]) for name in ("top_k", "seed", "index")}}

    def _check_known(self, rows: Any) -> None:
        height, width = self.prior.grid
        if not isinstance(rows, list) or len(rows) != height or any(
            not isinstance(row, list) or len(row) != width or set(row) - {0, 1} for row in rows
        ):  # fmt: skip
            raise InputError(f"known: must be {height} rows of {width} values, each 0 (sample) or 1 (keep)")

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.samples_view import SamplesView

        self._view = SamplesView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.update(old, new)
