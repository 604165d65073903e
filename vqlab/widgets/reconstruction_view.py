"""The page of ReconstructionExplorer: controls, pictures, code grid and palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w
import numpy as np

from vqlab.tokenizer import as_bytes, error_map, scores
from vqlab.widgets.grid import CodeGrid
from vqlab.widgets.pictures import data_url, error_png, png, tiled

if TYPE_CHECKING:
    from vqlab.widgets.reconstruction import ReconstructionExplorer

_SIDE = "200px"
_PALETTE = 256
_PALETTE_COLUMNS = 32


class ReconstructionView:
    """Sends what a person does to the explorer, and shows the explorer's state."""

    def __init__(self, explorer: ReconstructionExplorer) -> None:
        self.explorer = explorer
        self._showing = False
        self._controls()
        self._pictures()
        self._grids()
        self._listen()
        shown = (self.original, self.reconstruction, self.error)
        columns = [w.VBox([label, picture]) for label, picture in zip(self.labels, shown, strict=True)]
        self.box = w.VBox([
            w.HBox([self.run, self.kind, self.index, self.upload]),
            w.HBox([*columns, w.VBox([self.grid_label, self.grid])], layout=w.Layout(grid_gap="12px")),
            w.HBox([self.tool, self.code, self.noise, self.add_noise, self.undo, self.reset]),
            w.VBox([self.palette_label, self.palette]),
        ])  # fmt: skip

    def _controls(self) -> None:
        from vqlab.widgets.reconstruction import TOOLS

        narrow = {"layout": w.Layout(width="auto"), "style": {"description_width": "initial"}}
        self.run = w.Dropdown(options=self.explorer._sources.names, description="run", **narrow)
        self.kind = w.Dropdown(description="class", **narrow)
        self.index = w.IntSlider(description="image", min=0, max=0)
        self.upload = w.FileUpload(accept=".png,.jpg,.jpeg", description="your image", multiple=False)
        self.tool = w.ToggleButtons(options=TOOLS, description="tool", style={"button_width": "60px"})
        self.tool.tooltips = ["take the code of a cell", "put the code in hand", "exchange the two codes everywhere"]
        self.code = w.BoundedIntText(description="code in hand", min=0, layout=w.Layout(width="170px"))
        self.noise = w.IntSlider(description="noise (%)", min=0, max=100, layout=w.Layout(width="240px"))
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

    def _listen(self) -> None:
        explorer = self.explorer
        for control, key in ((self.run, "run"), (self.kind, "class"), (self.index, "index"), (self.tool, "tool"),
                             (self.code, "code"), (self.noise, "noise")):  # fmt: skip
            control.observe(lambda change, key=key: self._changed(key, change["new"]), "value")
        self.upload.observe(lambda _: self._uploaded(), "value")
        for button, action in ((self.add_noise, explorer.add_noise), (self.undo, explorer.undo),
                               (self.reset, explorer.reset)):  # fmt: skip
            button.on_click(lambda _, action=action: explorer.attempt(action))
        self.grid.on_choose(lambda row, column: explorer.attempt(lambda: explorer.choose(row, column)))
        self.palette.on_choose(lambda row, column: explorer.change(code=self.palette.cells[row][column]))

    def _changed(self, key: str, value: Any) -> None:
        if self._showing:
            return
        self.explorer.change(**{key: value})
        if self.explorer.message:
            self.show({}, self.explorer.state)

    def _uploaded(self) -> None:
        if self.upload.value and not self._showing:
            file = self.upload.value[0]
            self.explorer.attempt(lambda: self.explorer.take_upload(bytes(file["content"]), file["name"]))

    def show(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Bring the page from state ``old`` ({}: all of it) to state ``new``; the grid's pictures come first."""
        differs = {key for key in new if new.get(key) != old.get(key)}
        self._showing = True
        try:
            if differs & {"run"}:
                self._show_run(new)
            if differs & {"run", "class", "index", "upload", "grid"}:
                self._show_pictures(new, fresh=bool(differs - {"grid"}))
            self._show_controls(new, differs)
        finally:
            self._showing = False

    def _show_run(self, state: dict[str, Any]) -> None:
        tokenizer = self.explorer.tokenizer
        url, columns = data_url(png(tiled(tokenizer.code_patches))), int(np.ceil(tokenizer.num_codes**0.5))
        order = np.argsort(-tokenizer.run.usage()[-1], kind="stable")[:_PALETTE].tolist()
        self.kind.options = self.explorer.classes(state["run"])
        self.code.max = tokenizer.num_codes - 1
        for grid in (self.grid, self.palette):
            grid.sprite_columns, grid.sprite = columns, url
        self.grid.size = max(12, min(28, 224 // len(state["grid"])))
        self.palette.cells = [order[at : at + _PALETTE_COLUMNS] for at in range(0, len(order), _PALETTE_COLUMNS)]
        self.palette_label.value = f"the {len(order)} most used of {tokenizer.num_codes} codes"

    def _show_pictures(self, state: dict[str, Any], *, fresh: bool) -> None:
        image, reconstruction = self.explorer.image, self.explorer.reconstruction
        self.reconstruction.value = png(as_bytes(reconstruction))
        self.grid.cells = state["grid"]
        measured = scores(image, reconstruction)
        self.labels[1].value = f"reconstruction: PSNR {measured['psnr']:.2f} dB, SSIM {measured['ssim']:.3f}"
        self.error.value = error_png(error_map(image, reconstruction))
        if fresh:
            self.original.value = png(as_bytes(image))
            self.labels[0].value = self.explorer._name(state)
            self.labels[2].value = "absolute error (yellow: 0.5 or more)"

    def _show_controls(self, state: dict[str, Any], differs: set[str]) -> None:
        if differs & {"run", "class"}:
            self.index.max = len(self.explorer._members(state)) - 1
        for control, key in ((self.run, "run"), (self.kind, "class"), (self.index, "index"), (self.tool, "tool"),
                             (self.code, "code"), (self.noise, "noise")):  # fmt: skip
            control.value = state[key]
        self.grid.marked = self.palette.marked = [state["code"]]
        side = len(state["grid"])
        self.grid_label.value = f"code grid, {side}×{len(state['grid'][0])}"
