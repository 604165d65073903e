"""Live view of CodebookExplorer: a histogram of the usage, an epoch slider and the patches of a code."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
from jaxtyping import Int64

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.pictures import data_url, encode_png, tile_images
from vqlab.widgets.choices import MAX_PATCHES
from vqlab.widgets.components import CodeLink, CodePatches, UsageBars
from vqlab.widgets.layout import column, control_bar, panels, with_class
from vqlab.widgets.view import ExplorerState, View


class CodebookState(ExplorerState, Protocol):
    """Members of a CodebookExplorer that its view uses."""

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def places(self) -> CodePlaces:
        """The places of the codes of the selected Run."""

    @property
    def place(self) -> CodePlace:
        """The selected place."""

    def usage(self) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
        """Codes, most used first, and their tokens."""

    def move_rank(self, offset: int) -> None:
        """Select another code by its rank."""


class CodebookView(View):
    """Controls above; histogram of the usage and patches of the selected code.

    Args:
        explorer: the explorer to show.
    """

    explorer: CodebookState

    def __init__(self, explorer: CodebookState) -> None:
        super().__init__(explorer)
        self._create_controls()
        self.link = CodeLink()
        self.bars = with_class("usage", UsageBars(link=self.link.name))
        self.patches = with_class("code", CodePatches(link=self.link.name))
        self._connect()
        bar = control_bar(self.run, self.place, self.epoch, self.code, self.more_used, self.less_used)
        self.box = column(bar, panels(self.bars, self.patches))

    def _create_controls(self) -> None:
        self.run = with_class("run", w.Dropdown(options=self.explorer.run_names, description="run"))
        self.place = with_class("place", w.Dropdown())
        self.epoch = with_class("epoch", w.IntSlider(description="epoch", min=1, max=1))
        self.code = with_class("code-number", w.BoundedIntText(description="code", min=0))
        self.more_used, self.less_used = (w.Button(description=text) for text in ("more used", "less used"))

    def _connect(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.place, "place"), (self.epoch, "epoch"), (self.code, "code")):
            self.bind(control, key)
        self.on_click(self.more_used, lambda: explorer.move_rank(-1))
        self.on_click(self.less_used, lambda: explorer.move_rank(1))
        self.link.on_code_chosen(lambda code: explorer.update_state(code=code))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the histogram, and the patches and their captions."""
        place = self.explorer.place
        if "run" in changed:
            self.show_places(self.place, self.explorer.places.names, self.explorer.places.label)
        epochs, codes = place.usage.shape
        self.epoch.max, self.code.max = epochs, codes - 1
        self.link.codebook, self.link.code = place.codebook, state["code"]
        if changed & {"run", "place", "epoch"}:
            counts = place.usage[state["epoch"] - 1]
            used = int((counts > 0).sum())
            of_place = f" of {place.name}" if place.name else ""
            title = f"Epoch {state['epoch']}: {used} of {codes} codes{of_place} used"
            self.bars.content = {"tokens": counts.tolist(), "title": title}
        pictures = self._pictures(state["code"]) if changed & {"run", "place", "code"} else {}
        self.patches.content = {**self.patches.content, **pictures, "caption": self._caption(state["code"])}

    def _caption(self, code: int) -> list[str | int]:
        order, counts = self.explorer.usage()
        rank = int(np.flatnonzero(order == code)[0])
        share = counts[rank] / max(1, counts.sum())
        return [code, f", rank {rank}\n{counts[rank]} tokens ({share:.2%})\ndecoded patch"]

    def _pictures(self, code: int) -> dict[str, Any]:
        place = self.explorer.place
        patches = place.nearest_patches(code, MAX_PATCHES)
        source = f"the first {place.tokenizer.num_token_images} test images"
        caption = [f"the {len(patches)} patches of {source} nearest to ", code,
                   "\nmiddle third: the patch, the rest: its surroundings"]  # fmt: skip
        sheet = tile_images(patches, len(patches)) if len(patches) else None
        return {
            "code": code,
            "patch": data_url(encode_png(place.patches[code])),
            "count": len(patches),
            "patches": "" if sheet is None else data_url(encode_png(sheet)),
            "patchesCaption": [f"no patch of {source} is assigned to ", code] if sheet is None else caption,
        }
