"""The page of CodebookExplorer: bars to click, an epoch slider, and the chosen code's pictures."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int64

from vqlab.analysis.pictures import encode_png, tile_images
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.widgets.charts import BLUE, ORANGE, chart, redraw
from vqlab.widgets.choices import MAX_PATCHES
from vqlab.widgets.layout import column, named, row
from vqlab.widgets.view import ExplorerState, View

_TILE = 60
_COLUMNS = 12


class CodebookState(ExplorerState, Protocol):
    """What the view reads of a CodebookExplorer."""

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The chosen Run."""

    def usage(self) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
        """Codes by use, most used first, and their tokens."""

    def step(self, places: int) -> None:
        """Move along the order of use."""


class CodebookView(View):
    """Bars above, the chosen code's pictures below."""

    explorer: CodebookState

    def __init__(self, explorer: CodebookState) -> None:
        super().__init__(explorer)
        wide = {"style": {"description_width": "initial"}}
        self.run = named("run", w.Dropdown(options=explorer.run_names, description="run", **wide))
        self.epoch = named("epoch", w.IntSlider(description="epoch", min=1, max=1))
        self.code = named("code", w.BoundedIntText(description="code", min=0, layout=w.Layout(width="160px")))
        self.more, self.less = (
            named(name, w.Button(description=text, layout=w.Layout(width="110px")))
            for name, text in (("more", "more used"), ("less", "less used"))
        )
        self.bars = named("usage", chart([go.Bar(marker={"line": {"width": 0}})], "", "rank of the code by use",
                                         "tokens in the epoch"))  # fmt: skip
        self.told = named("told", w.HTML())
        self.code_picture = named("code-picture", w.Image(format="png", layout={"width": "60px", "height": "60px"}))
        self.patches = named("patches", w.Image(format="png"))
        for picture in (self.code_picture, self.patches):
            picture.add_class("vqlab-picture")
        self.patches_told = w.HTML()
        self._connect()
        self.box = w.VBox([
            row(self.run, self.epoch, self.code, self.more, self.less),
            self.bars,
            row(column(self.told, self.code_picture), column(self.patches_told, self.patches)),
        ])  # fmt: skip

    def _connect(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.epoch, "epoch"), (self.code, "code")):
            self.bind(control, key)
        self.press(self.more, lambda: explorer.step(-1))
        self.press(self.less, lambda: explorer.step(1))
        self.bars.data[0].on_click(lambda _, points, __: self._clicked(points.point_inds))

    def _clicked(self, ranks: list[int]) -> None:
        if ranks:
            order, _ = self.explorer.usage()
            self.explorer.change(code=int(order[ranks[0]]))

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """The bars always, the code's pictures where it is another code."""
        epochs, codes = self.explorer.tokenizer.usage.shape
        self.epoch.max, self.code.max = epochs, codes - 1
        self._show_usage(state)
        if differs & {"run", "code"}:
            self._show_code(state["code"])

    def _show_usage(self, state: dict[str, Any]) -> None:
        order, counts = self.explorer.usage()
        rank = int(np.flatnonzero(order == state["code"])[0])
        used = int((counts > 0).sum())
        with redraw(self.bars) as figure:
            bars = figure.data[0]
            bars.x, bars.y = list(range(len(order))), counts.tolist()
            bars.marker.color = [ORANGE if place == rank else BLUE for place in range(len(order))]
            bars.hovertext = [f"code {code}" for code in order]
            figure.layout.title.text = f"Epoch {state['epoch']}: {used} of {len(order)} codes used; orange: the code"
        share = counts[rank] / max(1, counts.sum())
        self.told.value = f"code {state['code']}, rank {rank}<br>{counts[rank]} tokens ({share:.2%})"

    def _show_code(self, code: int) -> None:
        tokenizer = self.explorer.tokenizer
        found = tokenizer.nearest_patches(code, MAX_PATCHES)
        self.code_picture.value = encode_png(tokenizer.code_patches[code])
        where = f"the first {tokenizer.token_images} test images"
        self.patches_told.value = (
            f"the {len(found)} patches nearest to it in {where}<br>(the middle third; around it, its surroundings)"
            if len(found)
            else f"no patch of {where} chose it"
        )
        if len(found):
            sheet = tile_images(found, min(_COLUMNS, len(found)), gap=2)
            self.patches.layout.width = f"{_TILE * min(_COLUMNS, len(found))}px"
            self.patches.value = encode_png(sheet)
        self.patches.layout.display = None if len(found) else "none"
