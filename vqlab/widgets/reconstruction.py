"""Original, reconstruction, error map and code grid of an image; the codes can be edited."""

from __future__ import annotations

import base64
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vqlab.analysis.pictures import encode_png
from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.data.upload import read_image
from vqlab.errors import InputError
from vqlab.widgets.base import Explorer, in_range, one_of
from vqlab.widgets.choices import ALL_CLASSES, TOOLS
from vqlab.widgets.grid_edits import changed_cells, noised, painted, swapped
from vqlab.widgets.run_sources import Runs, RunSources

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_UNDO = 500
_IMAGE_KEYS = {"run", "class", "index", "upload"}


class ReconstructionExplorer(Explorer):
    """See what a Run makes of an image, and change the codes that it is made of.

    runs: a Run or its folder, several, or a mapping of names to them (the same image goes to each). state:
    run (its name); class (of test images, or "all"); index (place among them); upload (base64 of a PNG or JPEG
    that is looked at in their stead, or None); grid (rows of codes); code (the one in hand); tool (pick takes
    the code of a cell, brush puts the code there, swap exchanges the two codes wherever they stand); noise
    (percent of cells that ``add_noise`` changes).
    """

    def __init__(self, runs: Runs, **state: Any) -> None:
        super().__init__()
        self._sources = RunSources(runs)
        self._history: deque[list[list[int]]] = deque(maxlen=_UNDO)
        self._undoing = False
        self._draws = 0
        start = {"run": self._sources.names[0], "class": ALL_CLASSES, "index": 0, "upload": None,
                 "grid": None, "code": 0, "tool": "pick", "noise": 10}  # fmt: skip
        self.state = start
        self.state = state

    @property
    def run_names(self) -> list[str]:
        """Names of the Runs, in the order given."""
        return self._sources.names

    @property
    def tokenizer(self) -> Tokenizer:
        """The Run that is looked at, opened."""
        return self._sources.tokenizer(self.state["run"])

    @property
    def image(self) -> Float[Tensor, "3 H W"]:
        """The image that is looked at, in [0, 1]."""
        return self._pixels(self.state).float() / 255

    @property
    def reconstruction(self) -> Float[Tensor, "3 H W"]:
        """What the codes in ``state["grid"]`` decode to, in [0, 1]."""
        return self.tokenizer.decode(torch.tensor(self.state["grid"]))

    @property
    def image_name(self) -> str:
        """The image in words."""
        if self.state["upload"] is not None:
            return "uploaded image"
        return f"test image {int(self._members(self.state)[self.state['index']])}"

    @property
    def last_index(self) -> int:
        """Largest index among the test images of the chosen class."""
        return len(self._members(self.state)) - 1

    def scores(self) -> dict[str, float]:
        """PSNR (dB) and SSIM of the reconstruction as it is now."""
        return image_metrics(self.image, self.reconstruction)

    def choose(self, row: int, column: int) -> None:
        """Use the tool in hand on one cell of the grid."""
        grid, code, tool = self.state["grid"], self.state["code"], self.state["tool"]
        if tool == "pick":
            self.state = {"code": grid[row][column]}
        elif tool == "brush":
            self.state = {"grid": painted(grid, (row, column), code)}
        else:
            self.state = {"grid": swapped(grid, code, grid[row][column])}

    def add_noise(self) -> None:
        """Give ``state["noise"]`` % of the cells random codes; each call draws others."""
        self._draws += 1
        self.state = {"grid": noised(self.state["grid"], self.state["noise"], self.tokenizer.num_codes, self._draws)}

    def undo(self) -> None:
        """Take back the last change of the grid; nothing where there is none."""
        if not self._history:
            return
        self._undoing = True
        try:
            self.state = {"grid": self._history.pop()}
        finally:
            self._undoing = False

    def reset(self) -> None:
        """The codes that the encoder chose; can be undone."""
        self.state = {"grid": self._encoded(self.state)}

    def take_upload(self, content: bytes, name: str) -> None:
        """Look at an uploaded PNG or JPEG and say what was done to it; raises InputError for anything else."""
        pixels, told = read_image(content, self._size(self.state), name)
        self.state = {"upload": base64.b64encode(encode_png(pixels)).decode()}
        self.message = told

    def figure(self) -> Figure:
        """Original, reconstruction, error map and code grid, side by side."""
        from vqlab.plots import code_grid_panels

        edited = changed_cells(self.state["grid"], self._encoded(self.state))
        title = f"{self.state['run']}: {self.image_name}" + (f", {edited} codes changed" if edited else "")
        return code_grid_panels(self.tokenizer, self.image, torch.tensor(self.state["grid"]), title)

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        one_of("run", state["run"], self._sources.names)
        tokenizer = self._sources.tokenizer(state["run"])
        one_of("class", state["class"], self.classes(state["run"]))
        if changed & {"class", "index"} and "upload" not in changed:
            state["upload"] = None
        self._validate_index(state, changed)
        if changed & _IMAGE_KEYS:
            self._history.clear()
        if state["grid"] is None or (changed & _IMAGE_KEYS and "grid" not in changed):
            state["grid"] = self._encoded(state)
        elif "grid" in changed:
            state["grid"] = self._checked_grid(state)
            if not self._undoing:
                self._history.append(self.state["grid"])
        in_range("code", state["code"], 0, tokenizer.num_codes - 1)
        one_of("tool", state["tool"], TOOLS)
        in_range("noise", state["noise"], 0, 100)
        return state

    def classes(self, run: str) -> list[str]:
        """``all`` and the classes that test images of ``run`` have."""
        data = self._sources.tokenizer(run).data
        return [ALL_CLASSES, *(data.class_names[label] for label in data.test.labels.unique().tolist())]

    def _validate_index(self, state: dict[str, Any], changed: set[str]) -> None:
        last = len(self._members(state)) - 1
        if changed & {"class", "run"} and "index" not in changed:
            state["index"] = min(state["index"], last)
        in_range("index", state["index"], 0, last)
        state["index"] = int(state["index"])

    def _checked_grid(self, state: dict[str, Any]) -> list[list[int]]:
        try:
            grid = torch.tensor(state["grid"], dtype=torch.int64)
        except (TypeError, ValueError, RuntimeError):
            raise InputError("grid: must be rows of equally many codes") from None
        side = self._size(state) // self._sources.tokenizer(state["run"]).patch
        most = self._sources.tokenizer(state["run"]).num_codes - 1
        if grid.shape != (side, side) or not 0 <= int(grid.min()) <= int(grid.max()) <= most:
            raise InputError(f"grid: shape {tuple(grid.shape)} must be ({side}, {side}) with codes from 0 to {most}")
        return grid.tolist()

    def _members(self, state: dict[str, Any]) -> Tensor:
        data = self._sources.tokenizer(state["run"]).data
        if state["class"] == ALL_CLASSES:
            return torch.arange(len(data.test))
        return (data.test.labels == data.class_names.index(state["class"])).nonzero()[:, 0]

    def _size(self, state: dict[str, Any]) -> int:
        return self._sources.tokenizer(state["run"]).run.config.data.image_size

    def _pixels(self, state: dict[str, Any]) -> UInt8[Tensor, "3 H W"]:
        if state["upload"] is not None:
            return read_image(_from_base64(state["upload"]), self._size(state))[0]
        data = self._sources.tokenizer(state["run"]).data
        return data.test.pixels[self._members(state)[state["index"]]]

    def _encoded(self, state: dict[str, Any]) -> list[list[int]]:
        return self._sources.tokenizer(state["run"]).encode(self._pixels(state).float() / 255).tolist()

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.reconstruction_view import ReconstructionView

        self._view = ReconstructionView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.show(old, new)


def _from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise InputError("upload: must be base64 of a PNG or JPEG, or None") from None
