"""The page of ReconstructionExplorer: controls, pictures, code grid and palette."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
from jaxtyping import Float
from torch import Tensor

from vqlab.analysis.pictures import data_url, encode_error_png, encode_png, error_map, tile_images, to_uint8
from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.widgets.choices import TOOLS
from vqlab.widgets.code_grid import CodeGrid
from vqlab.widgets.layout import column, row
from vqlab.widgets.upload_button import Upload
from vqlab.widgets.view import ExplorerState, View

_SIDE = "190px"
_PALETTE = 256
_PALETTE_COLUMNS = 32


class ReconstructionState(ExplorerState, Protocol):
    """What the view reads of a ReconstructionExplorer."""

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The chosen Run."""

    @property
    def image(self) -> Float[Tensor, "3 H W"]:
        """The chosen image."""

    @property
    def reconstruction(self) -> Float[Tensor, "3 H W"]:
        """What the codes decode to."""

    @property
    def image_name(self) -> str:
        """The chosen image in words."""

    @property
    def last_index(self) -> int:
        """Largest index of a test image of the chosen class."""

    def classes(self, run: str) -> list[str]:
        """Classes of the test images."""

    def choose(self, row: int, column: int) -> None:
        """Use the tool on one cell."""

    def add_noise(self) -> None:
        """Randomise some codes."""

    def undo(self) -> None:
        """Undo the last edit."""

    def reset(self) -> None:
        """Return to the encoder's codes."""

    def take_upload(self, content: bytes, name: str) -> None:
        """Show an uploaded image."""


class ReconstructionView(View):
    """Pictures above, tools and palette below."""

    explorer: ReconstructionState

    def __init__(self, explorer: ReconstructionState) -> None:
        super().__init__(explorer)
        self._controls()
        self._pictures()
        self._grids()
        self._connect()
        shown = (self.original, self.reconstruction, self.error)
        columns = [column(label, picture) for label, picture in zip(self.labels, shown, strict=True)]
        self.box = w.VBox([
            row(self.run, self.kind, self.index, self.upload),
            row(*columns, column(self.grid_label, self.grid)),
            row(self.tool, self.code, self.noise, self.add_noise, self.undo, self.reset),
            column(self.palette_label, self.palette),
        ])  # fmt: skip

    def _controls(self) -> None:
        narrow = {"layout": w.Layout(width="auto"), "style": {"description_width": "initial"}}
        self.run = w.Dropdown(options=self.explorer.run_names, description="run", **narrow)
        self.kind = w.Dropdown(description="class", **narrow)
        self.index = w.IntSlider(description="image", min=0, max=0)
        self.upload = Upload()
        self.tool = w.ToggleButtons(
            options=TOOLS, description="tool", style={"button_width": "60px"}, layout=w.Layout(width="auto")
        )
        self.tool.tooltips = ["take the code of a cell", "put the code in hand", "exchange the two codes everywhere"]
        self.code = w.BoundedIntText(description="code", min=0, layout=w.Layout(width="160px"))
        self.noise = w.IntSlider(description="noise (%)", min=0, max=100, layout=w.Layout(width="230px"))
        self.add_noise, self.undo, self.reset = (
            w.Button(description=text, layout=w.Layout(width="90px")) for text in ("add noise", "undo", "reset")
        )
        for name in ("run", "kind", "index", "upload", "tool", "code", "noise", "add_noise", "undo", "reset"):
            getattr(self, name).add_class(f"vqlab-{name.replace('_', '-')}")

    def _pictures(self) -> None:
        self.labels = [w.HTML(), w.HTML(), w.HTML()]
        size = {"width": _SIDE, "height": _SIDE}
        self.original, self.reconstruction, self.error = (w.Image(format="png", layout=size) for _ in range(3))
        for name in ("original", "reconstruction", "error"):
            getattr(self, name).add_class("vqlab-picture")
            getattr(self, name).add_class(f"vqlab-{name}")
        self.labels[1].add_class("vqlab-scores")

    def _grids(self) -> None:
        self.grid_label, self.palette_label = w.HTML(), w.HTML()
        self.grid = CodeGrid(numbers=True, drag=True, label="code grid of the image")
        self.palette = CodeGrid(size=18, label="palette of codes, most used first")
        self.grid.add_class("vqlab-grid")
        self.palette.add_class("vqlab-palette")

    def _connect(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.kind, "class"), (self.index, "index"), (self.tool, "tool"),
                             (self.code, "code"), (self.noise, "noise")):  # fmt: skip
            self.bind(control, key)
        self.upload.on_file(
            lambda content, name: explorer.attempt(lambda: explorer.take_upload(content, name)),
            lambda refusal: setattr(explorer, "message", str(refusal)),
        )
        self.press(self.add_noise, explorer.add_noise)
        self.press(self.undo, explorer.undo)
        self.press(self.reset, explorer.reset)
        self.grid.on_cell_chosen(lambda row, column: explorer.attempt(lambda: explorer.choose(row, column)))
        self.palette.on_cell_chosen(lambda row, column: explorer.change(code=self.palette.cells[row][column]))

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """The pictures first: they are what a person waits for."""
        if "run" in differs:
            self._show_run(state)
        if differs & {"run", "class", "index", "upload", "grid"}:
            self._show_pictures(state, fresh=bool(differs - {"grid"}))
        if differs & {"run", "class"}:
            self.index.max = self.explorer.last_index
        self.grid.marked = self.palette.marked = [state["code"]]
        side = len(state["grid"])
        self.grid_label.value = f"code grid<br>{side}×{side} codes; {state['tool']}, code {state['code']}"

    def _show_run(self, state: dict[str, Any]) -> None:
        tokenizer = self.explorer.tokenizer
        url, columns = data_url(encode_png(tile_images(tokenizer.code_patches))), int(np.ceil(tokenizer.num_codes**0.5))
        order = np.argsort(-tokenizer.usage[-1], kind="stable")[:_PALETTE].tolist()
        self.kind.options = self.explorer.classes(state["run"])
        self.code.max = tokenizer.num_codes - 1
        for grid in (self.grid, self.palette):
            grid.sprite_columns, grid.sprite = columns, url
        self.grid.size = max(12, min(28, 190 // len(state["grid"])))
        self.palette.cells = [order[at : at + _PALETTE_COLUMNS] for at in range(0, len(order), _PALETTE_COLUMNS)]
        self.palette_label.value = f"the {len(order)} most used of {tokenizer.num_codes} codes"

    def _show_pictures(self, state: dict[str, Any], *, fresh: bool) -> None:
        image, reconstruction = self.explorer.image, self.explorer.reconstruction
        self.reconstruction.value = encode_png(to_uint8(reconstruction))
        self.grid.cells = state["grid"]
        measured = image_metrics(image, reconstruction)
        self.labels[1].value = f"reconstruction<br>PSNR {measured['psnr']:.2f} dB, SSIM {measured['ssim']:.3f}"
        self.error.value = encode_error_png(error_map(image, reconstruction))
        if fresh:
            self.original.value = encode_png(to_uint8(image))
            self.labels[0].value = f"original<br>{self.explorer.image_name}"
            self.labels[2].value = "absolute error<br>dark: 0, yellow: 0.5 or more"
