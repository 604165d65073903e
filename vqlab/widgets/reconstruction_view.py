"""Live view of ReconstructionExplorer: controls, images, code grid and palette of codes."""

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
from vqlab.widgets.layout import column, row, with_class
from vqlab.widgets.upload_button import UploadButton
from vqlab.widgets.view import ExplorerState, View

_IMAGE_WIDTH = 190
_PALETTE_CODES = 256
_PALETTE_COLUMNS = 32


class ReconstructionState(ExplorerState, Protocol):
    """Members of a ReconstructionExplorer that its view uses."""

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The selected Run."""

    @property
    def image(self) -> Float[Tensor, "3 H W"]:
        """The selected image."""

    @property
    def reconstruction(self) -> Float[Tensor, "3 H W"]:
        """The image decoded from the code grid."""

    @property
    def image_name(self) -> str:
        """A name for the selected image."""

    @property
    def last_index(self) -> int:
        """Largest index of a test image of the selected class."""

    def classes(self, run: str) -> list[str]:
        """Classes of the test images."""

    def apply_tool(self, row: int, column: int) -> None:
        """Apply the selected tool to one cell."""

    def add_noise(self) -> None:
        """Replace some codes by random ones."""

    def undo(self) -> None:
        """Undo the last edit."""

    def reset(self) -> None:
        """Return to the encoder's codes."""

    def load_upload(self, content: bytes, name: str) -> None:
        """Show an uploaded image."""


class ReconstructionView(View):
    """Images and code grid above, tools and palette below.

    Args:
        explorer: the explorer to show.
    """

    explorer: ReconstructionState

    def __init__(self, explorer: ReconstructionState) -> None:
        super().__init__(explorer)
        self._create_image_controls()
        self._create_tools()
        self._create_pictures()
        self._create_grids()
        self._connect()
        self.box = w.VBox([
            row(self.run, self.image_class, self.index, self.upload),
            row(column(self.original_caption, self.original), column(self.scores, self.reconstruction),
                column(self.error_caption, self.error), column(self.grid_caption, self.grid)),
            row(self.tool, self.code, self.noise, self.add_noise, self.undo, self.reset),
            column(self.palette_caption, self.palette),
        ])  # fmt: skip

    def _create_image_controls(self) -> None:
        narrow = {"layout": w.Layout(width="auto"), "style": {"description_width": "initial"}}
        self.run = with_class("run", w.Dropdown(options=self.explorer.run_names, description="run", **narrow))
        self.image_class = with_class("class", w.Dropdown(description="class", **narrow))
        self.index = with_class("index", w.IntSlider(description="image", min=0, max=0))
        self.upload = with_class("upload", UploadButton())

    def _create_tools(self) -> None:
        self.tool = w.ToggleButtons(
            options=TOOLS, description="tool", style={"button_width": "60px"}, layout=w.Layout(width="auto")
        )
        self.tool.tooltips = [
            "select the code of a cell",
            "write the selected code into a cell",
            "exchange the selected code and the code of a cell in the whole grid",
        ]
        self.code = w.BoundedIntText(description="code", min=0, layout=w.Layout(width="160px"))
        self.noise = w.IntSlider(description="noise (%)", min=0, max=100, layout=w.Layout(width="230px"))
        self.add_noise, self.undo, self.reset = (
            w.Button(description=text, layout=w.Layout(width="90px")) for text in ("add noise", "undo", "reset")
        )

    def _create_pictures(self) -> None:
        size = {"width": f"{_IMAGE_WIDTH}px", "height": f"{_IMAGE_WIDTH}px"}
        self.original, self.reconstruction, self.error = (
            with_class(name, w.Image(format="png", layout=size)) for name in ("original", "reconstruction", "error")
        )
        for picture in (self.original, self.reconstruction, self.error):
            picture.add_class("vqlab-picture")
        self.original_caption, self.error_caption = w.HTML(), w.HTML("absolute error<br>dark: 0, yellow: 0.5 or more")
        self.scores = with_class("scores", w.HTML())

    def _create_grids(self) -> None:
        self.grid_caption, self.palette_caption = w.HTML(), w.HTML()
        self.grid = with_class("grid", CodeGrid(show_codes=True, drag=True, label="code grid of the image"))
        self.palette = with_class("palette", CodeGrid(cell_size=18, label="palette of codes, most used first"))

    def _connect(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.image_class, "class"), (self.index, "index"),
                             (self.tool, "tool"), (self.code, "code"), (self.noise, "noise")):  # fmt: skip
            self.bind(control, key)
        self.upload.on_file(
            lambda content, name: explorer.run_action(lambda: explorer.load_upload(content, name)),
            lambda error: setattr(explorer, "message", str(error)),
        )
        self.on_click(self.add_noise, explorer.add_noise)
        self.on_click(self.undo, explorer.undo)
        self.on_click(self.reset, explorer.reset)
        self.grid.on_cell_chosen(lambda row, column: explorer.run_action(lambda: explorer.apply_tool(row, column)))
        self.palette.on_cell_chosen(lambda row, column: explorer.update_state(code=self.palette.cells[row][column]))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the images before the controls, so that the delay between an edit and its reconstruction is short."""
        if "run" in changed:
            self._draw_run(state)
        if changed & {"run", "class", "index", "upload", "grid"}:
            self._draw_pictures(state, new_image=bool(changed - {"grid"}))
        if changed & {"run", "class"}:
            self.index.max = self.explorer.last_index
        self.grid.selected = self.palette.selected = [state["code"]]
        side = len(state["grid"])
        self.grid_caption.value = f"code grid<br>{side}×{side} codes; tool {state['tool']}, code {state['code']}"

    def _draw_run(self, state: dict[str, Any]) -> None:
        tokenizer = self.explorer.tokenizer
        sprite = data_url(encode_png(tile_images(tokenizer.code_patches)))
        columns = int(np.ceil(tokenizer.num_codes**0.5))
        order = np.argsort(-tokenizer.usage[-1], kind="stable")[:_PALETTE_CODES].tolist()
        self.image_class.options = self.explorer.classes(state["run"])
        self.code.max = tokenizer.num_codes - 1
        for grid in (self.grid, self.palette):
            grid.sprite_columns, grid.sprite = columns, sprite
        self.grid.cell_size = max(12, min(28, _IMAGE_WIDTH // len(state["grid"])))
        self.palette.cells = [
            order[start : start + _PALETTE_COLUMNS] for start in range(0, len(order), _PALETTE_COLUMNS)
        ]
        self.palette_caption.value = f"the {len(order)} most used of {tokenizer.num_codes} codes"

    def _draw_pictures(self, state: dict[str, Any], *, new_image: bool) -> None:
        image, reconstruction = self.explorer.image, self.explorer.reconstruction
        self.reconstruction.value = encode_png(to_uint8(reconstruction))
        self.grid.cells = state["grid"]
        scores = image_metrics(image, reconstruction)
        self.scores.value = f"reconstruction<br>PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}"
        self.error.value = encode_error_png(error_map(image, reconstruction))
        if new_image:
            self.original.value = encode_png(to_uint8(image))
            self.original_caption.value = f"original<br>{self.explorer.image_name}"
