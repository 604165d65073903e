"""Live view of CodebookExplorer: a bar chart of the usage, an epoch slider and the patches of a code."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
from jaxtyping import Int64

from vqlab.analysis.pictures import encode_png, tile_images
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.widgets.chart import BLUE, ORANGE, Chart
from vqlab.widgets.choices import MAX_PATCHES
from vqlab.widgets.layout import column, row, with_class
from vqlab.widgets.view import ExplorerState, View

_PATCH_WIDTH = 60
_COLUMNS = 12


class CodebookState(ExplorerState, Protocol):
    """Members of a CodebookExplorer that its view uses."""

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The selected Run."""

    def usage(self) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
        """Codes, most used first, and their tokens."""

    def move_rank(self, offset: int) -> None:
        """Select another code by its rank."""


class CodebookView(View):
    """Controls and usage chart above, patches of the selected code below.

    A click on a bar selects its code.

    Args:
        explorer: the explorer to show.
    """

    explorer: CodebookState

    def __init__(self, explorer: CodebookState) -> None:
        super().__init__(explorer)
        self._create_controls()
        self._create_pictures()
        self._connect()
        self.box = w.VBox([
            row(self.run, self.epoch, self.code, self.more_used, self.less_used),
            self.bars,
            row(column(self.code_caption, self.code_picture), column(self.patches_caption, self.patches)),
        ])  # fmt: skip

    def _create_controls(self) -> None:
        wide = {"style": {"description_width": "initial"}}
        self.run = with_class("run", w.Dropdown(options=self.explorer.run_names, description="run", **wide))
        self.epoch = with_class("epoch", w.IntSlider(description="epoch", min=1, max=1))
        self.code = with_class("code", w.BoundedIntText(description="code", min=0, layout=w.Layout(width="160px")))
        self.more_used, self.less_used = (
            w.Button(description=text, layout=w.Layout(width="110px")) for text in ("more used", "less used")
        )

    def _create_pictures(self) -> None:
        self.bars = with_class("usage", Chart([("rank of the code by usage", "tokens in the epoch")]))
        size = {"width": f"{_PATCH_WIDTH}px", "height": f"{_PATCH_WIDTH}px"}
        self.code_picture = with_class("code-picture", w.Image(format="png", layout=size))
        self.patches = with_class("patches", w.Image(format="png"))
        for picture in (self.code_picture, self.patches):
            picture.add_class("vqlab-picture")
        self.code_caption, self.patches_caption = with_class("code-caption", w.HTML()), w.HTML()

    def _connect(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.epoch, "epoch"), (self.code, "code")):
            self.bind(control, key)
        self.on_click(self.more_used, lambda: explorer.move_rank(-1))
        self.on_click(self.less_used, lambda: explorer.move_rank(1))
        self.bars.on_point_click(self._on_bar_click)

    def _on_bar_click(self, trace: int, rank: int) -> None:
        order, _ = self.explorer.usage()
        self.explorer.update_state(code=int(order[rank]))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the usage chart, and the patches if another code is selected."""
        epochs, codes = self.explorer.tokenizer.usage.shape
        self.epoch.max, self.code.max = epochs, codes - 1
        self._draw_usage(state)
        if changed & {"run", "code"}:
            self._draw_patches(state["code"])

    def _draw_usage(self, state: dict[str, Any]) -> None:
        order, counts = self.explorer.usage()
        code_rank = int(np.flatnonzero(order == state["code"])[0])
        used = int((counts > 0).sum())
        colours = [ORANGE if rank == code_rank else BLUE for rank in range(len(order))]
        bars = {
            "type": "bar", "x": list(range(len(order))), "y": counts.tolist(),
            "marker": {"color": colours, "line": {"width": 0}}, "hovertext": [f"code {code}" for code in order],
        }  # fmt: skip
        title = f"Epoch {state['epoch']}: {used} of {len(order)} codes used; orange: the selected code"
        self.bars.show([bars], title_text=title)
        share = counts[code_rank] / max(1, counts.sum())
        self.code_caption.value = f"code {state['code']}, rank {code_rank}<br>{counts[code_rank]} tokens ({share:.2%})"

    def _draw_patches(self, code: int) -> None:
        tokenizer = self.explorer.tokenizer
        patches = tokenizer.nearest_patches(code, MAX_PATCHES)
        self.code_picture.value = encode_png(tokenizer.code_patches[code])
        source = f"the first {tokenizer.num_token_images} test images"
        self.patches_caption.value = (
            f"the {len(patches)} patches of {source} nearest to the code<br>"
            "(the middle third is the patch, the rest its surroundings)"
            if len(patches)
            else f"no patch of {source} is assigned to the code"
        )
        if len(patches):
            columns = min(_COLUMNS, len(patches))
            self.patches.layout.width = f"{_PATCH_WIDTH * columns}px"
            self.patches.value = encode_png(tile_images(patches, columns, gap=2))
        self.patches.layout.display = None if len(patches) else "none"
