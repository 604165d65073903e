"""The page of SampleExplorer: controls, the given codes, and the samples."""

from __future__ import annotations

import math
from typing import Any, Protocol

import ipywidgets as w
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.analysis.pictures import data_url, encode_png, tile_images, to_uint8
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.models import CodeTransformer
from vqlab.widgets.choices import MAX_TEMPERATURE, SAMPLE_COUNT
from vqlab.widgets.code_grid import CodeGrid
from vqlab.widgets.layout import column, named, row
from vqlab.widgets.view import ExplorerState, View

_TILE = 96


class SampleState(ExplorerState, Protocol):
    """What the view reads of a SampleExplorer."""

    tokenizer: Tokenizer
    prior: CodeTransformer
    labels: list[str]

    @property
    def image(self) -> Float[Tensor, "3 H W"]:
        """The chosen test image."""

    def given(self) -> Int[Tensor, "h w"]:
        """Codes that are kept, −1 elsewhere."""

    def images(self) -> Float[Tensor, "n 3 H W"]:
        """The decoded samples."""

    def keep_rows(self, rows: int) -> None:
        """Keep the codes of the first rows."""

    def toggle(self, row: int, column: int) -> None:
        """Keep or sample the code of one cell."""


class SamplesView(View):
    """Controls above; the image, its given codes and the samples below."""

    explorer: SampleState

    def __init__(self, explorer: SampleState) -> None:
        super().__init__(explorer)
        self._controls()
        self._pictures()
        self.box = column(
            row(self.temperature, self.top_k, self.label, self.seed),
            row(self.index, self.nothing, self.half),
            row(column(w.HTML("a test image"), self.original), column(self.given_told, self.given),
                column(w.HTML(f"{SAMPLE_COUNT} samples"), self.samples)),
        )  # fmt: skip

    def _controls(self) -> None:
        tokenizer, wide = self.explorer.tokenizer, {"style": {"description_width": "initial"}}
        lazy = {"continuous_update": False, **wide}
        self.temperature = named("temperature", w.FloatSlider(description="temperature", min=0.05, max=MAX_TEMPERATURE,
                                                              step=0.05, **lazy))  # fmt: skip
        self.top_k = named("top-k", w.IntSlider(description="top-k (0: all)", max=tokenizer.num_codes, **lazy))
        self.label = named("label", w.Dropdown(options=self.explorer.labels, description="class", **wide))
        self.seed = named("seed", w.BoundedIntText(description="seed", max=2**31 - 1, layout=w.Layout(width="170px")))
        self.index = named("index", w.IntSlider(description="image", max=len(tokenizer.data.test) - 1, **lazy))
        for key in ("temperature", "top_k", "label", "seed", "index"):
            self.bind(getattr(self, key), key)
        self.nothing, self.half = w.Button(description="give nothing"), w.Button(description="give the upper half")
        self.press(self.nothing, lambda: self.explorer.keep_rows(0))
        self.press(self.half, lambda: self.explorer.keep_rows(self.explorer.prior.grid[0] // 2))

    def _pictures(self) -> None:
        tokenizer = self.explorer.tokenizer
        self.original = named("original", w.Image(format="png", layout={"width": "190px", "height": "190px"}))
        self.samples = named("samples", w.Image(format="png", layout={"width": f"{_TILE * SAMPLE_COUNT // 2}px"}))
        for picture in (self.original, self.samples):
            picture.add_class("vqlab-picture")
        self.given_told = w.HTML()
        self.given = named("given", CodeGrid(numbers=True, label="codes of the image; a chosen cell is given or drawn"))
        self.given.size = max(12, min(28, 190 // self.explorer.prior.grid[1]))
        self.given.sprite_columns = math.ceil(math.sqrt(tokenizer.num_codes))
        self.given.sprite = data_url(encode_png(tile_images(tokenizer.code_patches)))
        self.given.on_cell_chosen(lambda *cell: self.explorer.attempt(lambda: self.explorer.toggle(*cell)))

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """The given codes at once, then the samples, which take a moment."""
        given = self.explorer.given()
        self.given.cells = given.tolist()
        self.given_told.value = f"{int((given >= 0).sum())} codes are given, {int((given < 0).sum())} are drawn"
        if "index" in differs:
            self.original.value = encode_png(to_uint8(self.explorer.image))
        self.samples.value = encode_png(tile_images(to_uint8(self.explorer.images()), SAMPLE_COUNT // 2, gap=1))
