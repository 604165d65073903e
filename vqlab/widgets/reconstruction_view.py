"""Live view of ReconstructionExplorer: controls, images, code grid and palette of codes."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import numpy as np
from jaxtyping import Float
from torch import Tensor

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.pictures import data_url, encode_error_png, encode_png, error_map, tile_images, to_uint8
from vqlab.analysis.tokenizer import image_metrics
from vqlab.widgets.choices import TOOLS
from vqlab.widgets.code_grid import CodeGrid
from vqlab.widgets.components import CodeCaption, CodeLink
from vqlab.widgets.layout import column, control_bar, figure_box, picture, picture_row, two_bars, with_class
from vqlab.widgets.upload_button import UploadButton
from vqlab.widgets.view import ExplorerState, View

_PALETTE_CODES = 256


class ReconstructionState(ExplorerState, Protocol):
    """Members of a ReconstructionExplorer that its view uses."""

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs."""

    @property
    def places(self) -> CodePlaces:
        """The places of the codes of the selected Run."""

    @property
    def place(self) -> CodePlace:
        """The selected place."""

    @property
    def cells(self) -> list[list[int]]:
        """The values of the selected place."""

    @property
    def image(self) -> Float[Tensor, "C H W"]:
        """The selected image."""

    @property
    def reconstruction(self) -> Float[Tensor, "C H W"]:
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
    """Controls above, images and code grid on one line, palette below.

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
        self.box = column(
            two_bars(
                control_bar(self.run, self.image_class, self.index, self.upload, self.place, self.levels),
                control_bar(self.tool, self.code, self.noise, self.add_noise, self.undo, self.reset),
            ),
            picture_row(
                figure_box(self.original, self.original_caption), figure_box(self.reconstruction, self.scores),
                figure_box(self.error, self.error_caption), figure_box(self.grid, self.grid_caption),
            ),
            figure_box(self.palette, self.palette_caption),
        )  # fmt: skip

    def _create_image_controls(self) -> None:
        self.run = with_class("run", w.Dropdown(options=self.explorer.run_names, description="run"))
        self.image_class = with_class("class", w.Dropdown(description="class"))
        self.index = with_class("index", w.IntSlider(description="image", min=0, max=0))
        self.upload = with_class("upload", UploadButton())
        self.place = with_class("place", w.Dropdown())
        self.levels = with_class("levels", w.IntSlider(description="decoded levels", min=1, max=1))

    def _create_tools(self) -> None:
        self.tool = w.ToggleButtons(options=TOOLS, description="tool")
        self.tool.tooltips = [
            "select the code of a cell",
            "write the selected code into a cell",
            "exchange the selected code and the code of a cell in the whole grid",
        ]
        self.code = w.BoundedIntText(description="code", min=0)
        self.noise = w.IntSlider(description="noise (%)", min=0, max=100)
        self.add_noise, self.undo, self.reset = (w.Button(description=text) for text in ("add noise", "undo", "reset"))

    def _create_pictures(self) -> None:
        self.original, self.reconstruction, self.error = map(picture, ("original", "reconstruction", "error"))
        self.original_caption = w.HTML()
        self.error_caption = w.HTML("absolute error<br>dark 0, yellow ≥ 0.5")
        self.scores = with_class("scores", w.HTML())

    def _create_grids(self) -> None:
        self.link = CodeLink()
        name = self.link.name
        self.grid_caption, self.palette_caption = CodeCaption(link=name), w.HTML()
        self.grid = with_class("grid", CodeGrid(link=name, show_codes=True, drag=True, label="code grid of the image"))
        label = "palette of codes, most used first"
        self.palette = with_class("palette", CodeGrid(link=name, flow=True, selects=True, label=label))

    def _connect(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.image_class, "class"), (self.index, "index"),
                             (self.place, "place"), (self.levels, "levels"), (self.tool, "tool"), (self.code, "code"),
                             (self.noise, "noise")):  # fmt: skip
            self.bind(control, key)
        self.upload.on_file(
            lambda content, name: explorer.run_action(lambda: explorer.load_upload(content, name)),
            lambda error: setattr(explorer, "message", str(error)),
        )
        self.on_click(self.add_noise, explorer.add_noise)
        self.on_click(self.undo, explorer.undo)
        self.on_click(self.reset, explorer.reset)
        self.grid.on_cell_chosen(lambda row, column: explorer.run_action(lambda: explorer.apply_tool(row, column)))
        self.link.on_code_chosen(lambda code: explorer.update_state(code=code))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the images before the controls, so that the delay between an edit and its reconstruction is short."""
        if "run" in changed:
            self._draw_run(state)
        if changed & {"run", "place"}:
            self._draw_place()
        if changed & {"run", "class", "index", "upload", "grid", "levels"}:
            self._draw_pictures(new_image=bool(changed - {"grid", "levels"}))
        if changed & {"run", "class"}:
            self.index.max = self.explorer.last_index
        self.grid.cells = self.explorer.cells
        self.link.code = state["code"]
        self.grid.selects = state["tool"] == "pick"
        self.grid_caption.content = {"parts": [f"{self._grid_title(state)}\ntool {state['tool']}, ", state["code"]]}

    def _grid_title(self, state: dict[str, Any]) -> str:
        place, title = self.explorer.place, f"code grid, {len(state['grid'])}×{len(state['grid'][0])}"
        if not place.name:
            return title
        return f"{title}, {place.name}" + (" (not decoded)" if place.level > (state["levels"] or 1) else "")

    def _draw_run(self, state: dict[str, Any]) -> None:
        places = self.explorer.places
        self.image_class.options = self.explorer.classes(state["run"])
        self.show_places(self.place, places.names, places.label)
        self.levels.max = places.levels
        self.levels.layout.display = None if places.levels > 1 else "none"

    def _draw_place(self) -> None:
        place = self.explorer.place
        sprite = data_url(encode_png(tile_images(place.patches)))
        order = np.argsort(-place.usage[-1], kind="stable")[:_PALETTE_CODES].tolist()
        self.code.max = place.size - 1
        for grid in (self.grid, self.palette):
            grid.num_codes, grid.sprite = place.size, sprite
        self.link.codebook = place.codebook
        self.palette.cells = [order]
        of_place = f" of {place.name}" if place.name else ""
        self.palette_caption.value = f"palette: the {len(order)} most used of {place.size} codes{of_place}"

    def _draw_pictures(self, *, new_image: bool) -> None:
        image, reconstruction = self.explorer.image, self.explorer.reconstruction
        self.reconstruction.value = encode_png(to_uint8(reconstruction))
        scores = image_metrics(image, reconstruction)
        self.scores.value = f"reconstruction<br>PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}"
        self.error.value = encode_error_png(error_map(image, reconstruction))
        if new_image:
            self.original.value = encode_png(to_uint8(image))
            self.original_caption.value = f"original<br>{self.explorer.image_name}"
