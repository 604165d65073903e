"""The page of SampleExplorer: controls, the given codes, and the samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from vqlab.tokenizer import as_bytes, tiled
from vqlab.widgets.grid import CodeGrid
from vqlab.widgets.layout import column, named, row
from vqlab.widgets.pictures import data_url, png
from vqlab.widgets.samples import COUNT, HOTTEST
from vqlab.widgets.view import View

if TYPE_CHECKING:
    from vqlab.widgets.samples import SampleExplorer

_TILE = 96


class SamplesView(View):
    """Controls above; the image, its given codes and the samples below."""

    explorer: SampleExplorer

    def __init__(self, explorer: SampleExplorer) -> None:
        super().__init__(explorer)
        self._controls()
        self._pictures()
        self.box = column(
            row(self.temperature, self.top_k, self.label, self.seed),
            row(self.index, self.nothing, self.half),
            row(column(w.HTML("a test image"), self.original), column(self.given_told, self.given),
                column(w.HTML(f"{COUNT} samples"), self.samples)),
        )  # fmt: skip

    def _controls(self) -> None:
        tokenizer, wide = self.explorer.tokenizer, {"style": {"description_width": "initial"}}
        lazy = {"continuous_update": False, **wide}
        self.temperature = named("temperature", w.FloatSlider(description="temperature", min=0.05, max=HOTTEST,
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
        self.samples = named("samples", w.Image(format="png", layout={"width": f"{_TILE * COUNT // 2}px"}))
        for picture in (self.original, self.samples):
            picture.add_class("vqlab-picture")
        self.given_told = w.HTML()
        self.given = named("given", CodeGrid(numbers=True, label="codes of the image; a chosen cell is given or drawn"))
        self.given.size = max(12, min(28, 190 // self.explorer.prior.grid[1]))
        self.given.sprite_columns = math.ceil(math.sqrt(tokenizer.num_codes))
        self.given.sprite = data_url(png(tiled(tokenizer.code_patches)))
        self.given.on_choose(lambda *cell: self.explorer.attempt(lambda: self.explorer.toggle(*cell)))

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """The given codes at once, then the samples, which take a moment."""
        given = self.explorer.given()
        self.given.cells = given.tolist()
        self.given_told.value = f"{int((given >= 0).sum())} codes are given, {int((given < 0).sum())} are drawn"
        if "index" in differs:
            self.original.value = png(as_bytes(self.explorer.image))
        self.samples.value = png(tiled(as_bytes(self.explorer.images()), COUNT // 2, gap=1))
