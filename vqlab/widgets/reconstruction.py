"""Explorer of a reconstruction: original, reconstruction, error map and an editable code grid."""

from __future__ import annotations

import base64
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vqlab.analysis.pictures import encode_png
from vqlab.analysis.tokenizer import image_metrics
from vqlab.config import DataConfig
from vqlab.data.upload import read_image
from vqlab.errors import InputError
from vqlab.widgets.checks import check_one_of, check_range
from vqlab.widgets.choices import ALL_CLASSES, TOOLS
from vqlab.widgets.grid_edits import Codes, Grid, count_differences, randomise_codes, set_code, swap_codes
from vqlab.widgets.run_sources import Runs
from vqlab.widgets.runs_explorer import PlacesExplorer

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_MAX_UNDO = 500
_IMAGE_KEYS = {"run", "class", "index", "upload"}


class ReconstructionExplorer(PlacesExplorer):
    """Show how a VQ-VAE reconstructs an image, and decode the image again after its codes are edited.

    A vector with several codes, of a residual or product quantizer, has one at each place, a level or head, and edits
    change the codes of the selected place only. The places of a fixed code (FSQ, LFQ, BSQ) are the whole index and its
    scalars or bits.

    Keys of ``state``:

    - ``run``: name of the Run; all Runs show the same image.
    - ``class``: class of the test images, or ``all``.
    - ``index``: index of the image among the test images of that class, from 0.
    - ``upload``: base64 of a PNG or JPEG that is shown instead of a test image, or None.
    - ``grid``: codes of the image, h rows of w codes in 0…K−1, or of w lists with one code for each level and head; a
      new image sets it to the encoder's codes.
    - ``place``: the level, head, scalar or bit that is shown and edited, one of ``places.names``; None if a vector has
      one code.
    - ``levels``: number of levels that are decoded, from the first; None without levels.
    - ``code``: the selected code, 0…K−1; at a scalar or bit the number of its value.
    - ``tool``: effect of a click on a cell: ``pick`` selects the code of the cell, ``brush`` writes the selected code
      into the cell, ``swap`` exchanges the selected code and the code of the cell in the whole grid.
    - ``noise``: share of the cells that ``add_noise`` changes (%), 0…100.

    Args:
        runs: a Run or the folder of one, a sequence of these, or a mapping of names to these. Without a mapping a
            Run is named after its transport and its id.
        **state: initial values of keys of ``state``.

    Raises:
        InputError: if ``runs`` is empty or holds anything but finished VQ-VAE Runs, or a value of ``state`` is not
            allowed.
    """

    def __init__(self, runs: Runs, **state: Any) -> None:
        super().__init__(runs)
        self._undo_stack: deque[Codes] = deque(maxlen=_MAX_UNDO)
        self._undoing = False
        self._noise_count = 0
        self.state = {"run": self._sources.names[0], "class": ALL_CLASSES, "index": 0, "upload": None,
                      "grid": None, "place": None, "levels": None, "code": 0, "tool": "pick", "noise": 10}  # fmt: skip
        self.state = state

    @property
    def image(self) -> Float[Tensor, "C H W"]:
        """The selected image, in [0, 1]."""
        return self._pixels(self.state).float() / 255

    @property
    def reconstruction(self) -> Float[Tensor, "C H W"]:
        """The image decoded from the first ``state["levels"]`` levels of ``state["grid"]``, in [0, 1]."""
        return self.places.decode(torch.tensor(self.state["grid"]), self.state["levels"])

    @property
    def cells(self) -> Grid:
        """The values of the selected place in ``state["grid"]``, h rows of w."""
        return self.place.read(torch.tensor(self.state["grid"])).tolist()

    @property
    def image_name(self) -> str:
        """A name for the selected image: ``test image`` with its index in the test set, or ``uploaded image``."""
        if self.state["upload"] is not None:
            return "uploaded image"
        return f"test image {int(self._class_indices(self.state)[self.state['index']])}"

    @property
    def last_index(self) -> int:
        """The largest allowed value of ``state["index"]`` for the selected class."""
        return len(self._class_indices(self.state)) - 1

    def scores(self) -> dict[str, float]:
        """Measure the present reconstruction against the image.

        Returns:
            ``psnr`` (dB) and ``ssim``; SSIM is NaN for images smaller than its window of 11 pixels.
        """
        return image_metrics(self.image, self.reconstruction)

    def apply_tool(self, row: int, column: int) -> None:
        """Apply the selected tool to one cell of the code grid.

        Args:
            row: row of the cell, from 0.
            column: column of the cell, from 0.
        """
        cells, code, tool = self.cells, self.state["code"], self.state["tool"]
        if tool == "pick":
            self.state = {"code": cells[row][column]}
        elif tool == "brush":
            self._edit(set_code(cells, (row, column), code))
        else:
            self._edit(swap_codes(cells, code, cells[row][column]))

    def add_noise(self) -> None:
        """Replace the codes of ``state["noise"]`` % of the cells, at the selected place, by random codes.

        Each call draws new ones.
        """
        self._noise_count += 1
        self._edit(randomise_codes(self.cells, self.state["noise"], self.place.size, self._noise_count))

    def undo(self) -> None:
        """Undo the last change of the code grid; does nothing if there is none."""
        if not self._undo_stack:
            return
        self._undoing = True
        try:
            self.state = {"grid": self._undo_stack.pop()}
        finally:
            self._undoing = False

    def reset(self) -> None:
        """Set the code grid to the encoder's codes; ``undo`` restores the edited grid."""
        self.state = {"grid": self._encode(self.state)}

    def load_upload(self, content: bytes, name: str) -> None:
        """Show an uploaded image; the message describes how it was fitted to the size and colour of the Run.

        Args:
            content: the bytes of a PNG or JPEG file.
            name: name of the file, for the message.

        Raises:
            InputError: if ``content`` is not a PNG or JPEG image, is damaged, or has more than 50 million pixels.
        """
        pixels, description = read_image(content, self._data_config(self.state), name)
        self.state = {"upload": base64.b64encode(encode_png(pixels)).decode()}
        self.message = description

    def classes(self, run: str) -> list[str]:
        """List the allowed values of the key ``class``.

        Args:
            run: name of the Run.

        Returns:
            ``all`` and the classes that occur among the Run's test images.
        """
        data = self._sources.tokenizer(run).data
        return [ALL_CLASSES, *(data.class_names[label] for label in data.test.labels.unique().tolist())]

    def figure(self) -> Figure:
        """Draw original, reconstruction, error map and the code grid of the selected place side by side."""
        from vqlab.plots import code_grid_panels

        edited = count_differences(self.state["grid"], self._encode(self.state))
        title = f"{self.state['run']}: {self.image_name}" + (f", {edited} codes changed" if edited else "")
        if (levels := self.state["levels"]) not in (None, self.places.levels):
            title += f", first {levels} of {self.places.levels} levels"
        return code_grid_panels(self.place, self.image, self.reconstruction, torch.tensor(self.cells), title)

    def _edit(self, cells: Grid) -> None:
        grid = self.place.write(torch.tensor(self.state["grid"]), torch.tensor(cells))
        self.state = {"grid": grid.tolist()}

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        check_one_of("run", state["run"], self._sources.names)
        check_one_of("class", state["class"], self.classes(state["run"]))
        if changed & {"class", "index"} and "upload" not in changed:
            state["upload"] = None
        self._validate_index(state, changed)
        if state["grid"] is None or (changed & _IMAGE_KEYS and "grid" not in changed):
            state["grid"] = self._encode(state)
        elif "grid" in changed:
            state["grid"] = self._validated_grid(state)
        self._validate_place(state, changed)
        self._validate_levels(state, changed)
        check_one_of("tool", state["tool"], TOOLS)
        check_range("noise", state["noise"], 0, 100)
        self._record_undo(changed)
        return state

    def _record_undo(self, changed: set[str]) -> None:
        if changed & _IMAGE_KEYS:
            self._undo_stack.clear()
        elif "grid" in changed and not self._undoing:
            self._undo_stack.append(self.state["grid"])

    def _validate_index(self, state: dict[str, Any], changed: set[str]) -> None:
        last = len(self._class_indices(state)) - 1
        if changed & {"class", "run"} and "index" not in changed:
            state["index"] = min(state["index"], last)
        check_range("index", state["index"], 0, last)
        state["index"] = int(state["index"])

    def _validate_levels(self, state: dict[str, Any], changed: set[str]) -> None:
        levels = self._sources.places(state["run"]).levels
        if levels == 1:
            if "levels" in changed and state["levels"] is not None:
                raise InputError(f"levels={state['levels']!r}: must be None, since run {state['run']} has no levels")
            state["levels"] = None
            return
        if state["levels"] is None or ("run" in changed and "levels" not in changed):
            state["levels"] = levels
        check_range("levels", state["levels"], 1, levels)
        state["levels"] = int(state["levels"])

    def _validated_grid(self, state: dict[str, Any]) -> Codes:
        try:
            grid = torch.tensor(state["grid"], dtype=torch.int64)
        except (TypeError, ValueError, RuntimeError):
            raise InputError("grid: must be a list of rows, each a list of equally many codes") from None
        tokenizer = self._sources.tokenizer(state["run"])
        codes = tokenizer.run.config.quantizer.codes_per_vector
        shape = (*tokenizer.run.config.grid, *([codes] if codes > 1 else []))
        if grid.shape != shape:
            raise InputError(f"grid: shape {tuple(grid.shape)}: must be {shape}")
        low, high = int(grid.min()), int(grid.max())
        if low < 0 or high >= tokenizer.num_codes:
            raise InputError(f"grid: codes from {low} to {high}: must be from 0 to {tokenizer.num_codes - 1}")
        return grid.tolist()

    def _class_indices(self, state: dict[str, Any]) -> Tensor:
        data = self._sources.tokenizer(state["run"]).data
        if state["class"] == ALL_CLASSES:
            return torch.arange(len(data.test))
        return (data.test.labels == data.class_names.index(state["class"])).nonzero()[:, 0]

    def _data_config(self, state: dict[str, Any]) -> DataConfig:
        return self._sources.tokenizer(state["run"]).run.config.data

    def _pixels(self, state: dict[str, Any]) -> UInt8[Tensor, "C H W"]:
        if state["upload"] is not None:
            return read_image(_from_base64(state["upload"]), self._data_config(state))[0]
        data = self._sources.tokenizer(state["run"]).data
        return data.test.pixels[self._class_indices(state)[state["index"]]]

    def _encode(self, state: dict[str, Any]) -> Codes:
        return self._sources.tokenizer(state["run"]).encode(self._pixels(state).float() / 255).tolist()

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.reconstruction_view import ReconstructionView

        self._view = ReconstructionView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._view.update(old, new)


def _from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise InputError("upload: no valid base64: must be a PNG or JPEG file in base64, or None") from None
