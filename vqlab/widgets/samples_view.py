"""Live view of SampleExplorer: controls, the codes that are kept, and the samples."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.pictures import data_url, encode_png, tile_images, to_uint8
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.models import CodeTransformer
from vqlab.widgets.choices import MAX_TEMPERATURE, SAMPLE_COUNT
from vqlab.widgets.code_grid import CodeGrid
from vqlab.widgets.components import CodeLink
from vqlab.widgets.layout import column, control_bar, figure_box, picture, picture_row, two_bars, with_class
from vqlab.widgets.view import ExplorerState, View


class SampleState(ExplorerState, Protocol):
    """Members of a SampleExplorer that its view uses.

    Attributes:
        tokenizer: the Run of the VQ-VAE.
        places: the places of its codes.
        prior: the transformer.
        labels: allowed labels.
    """

    tokenizer: Tokenizer
    places: CodePlaces
    prior: CodeTransformer
    labels: list[str]

    @property
    def image(self) -> Float[Tensor, "C H W"]:
        """The selected test image."""

    @property
    def place(self) -> CodePlace:
        """The place whose codes are shown."""

    def known_codes(self) -> Int[Tensor, "h w *codes"]:
        """Codes that are kept, −1 elsewhere."""

    def images(self) -> Float[Tensor, "n C H W"]:
        """The decoded samples."""

    def keep_rows(self, rows: int) -> None:
        """Keep the codes of the first rows."""

    def toggle(self, row: int, column: int) -> None:
        """Keep or sample the code of one cell."""


class SamplesView(View):
    """Controls above; the test image, its kept codes and the samples below.

    Args:
        explorer: the explorer to show.
    """

    explorer: SampleState

    def __init__(self, explorer: SampleState) -> None:
        super().__init__(explorer)
        self._create_controls()
        self._create_pictures()
        self._create_known_grid()
        self.box = column(
            two_bars(
                control_bar(self.temperature, self.top_k, self.label, self.seed),
                control_bar(self.index, self.place, self.sample_all, self.keep_upper_half),
            ),
            with_class("wide-samples", picture_row(
                figure_box(self.original, w.HTML("test image")), figure_box(self.known, self.known_caption),
                figure_box(self.samples, w.HTML(f"{SAMPLE_COUNT} samples")),
            )),
        )  # fmt: skip

    def _create_controls(self) -> None:
        tokenizer, on_release = self.explorer.tokenizer, {"continuous_update": False}
        self.temperature = with_class("temperature", w.FloatSlider(
            description="temperature", min=0.05, max=MAX_TEMPERATURE, step=0.05, **on_release))  # fmt: skip
        self.top_k = with_class(
            "top-k", w.IntSlider(description="top-k (0: all)", max=tokenizer.num_codes, **on_release)
        )
        self.label = with_class("label", w.Dropdown(options=self.explorer.labels, description="class"))
        self.seed = with_class("seed", w.BoundedIntText(description="seed", max=2**31 - 1))
        self.index = with_class(
            "index", w.IntSlider(description="image", max=len(tokenizer.data.test) - 1, **on_release)
        )
        self.place = with_class("place", w.Dropdown())
        self.show_places(self.place, self.explorer.places.names, self.explorer.places.label)
        for key in ("temperature", "top_k", "label", "seed", "index", "place"):
            self.bind(getattr(self, key), key)
        self.sample_all = w.Button(description="sample all codes")
        self.keep_upper_half = w.Button(description="keep the upper half")
        self.on_click(self.sample_all, lambda: self.explorer.keep_rows(0))
        self.on_click(self.keep_upper_half, lambda: self.explorer.keep_rows(self.explorer.prior.grid[0] // 2))

    def _create_pictures(self) -> None:
        self.original, self.samples = picture("original"), picture("samples")

    def _create_known_grid(self) -> None:
        self.link = CodeLink()
        self.known_caption = with_class("known-caption", w.HTML())
        label = "codes of the image; choosing a cell keeps its code or samples it"
        self.known = with_class("known", CodeGrid(link=self.link.name, show_codes=True, label=label))
        self.known.on_cell_chosen(lambda *cell: self.explorer.run_action(lambda: self.explorer.toggle(*cell)))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw the kept codes first: sampling takes longer."""
        if "place" in changed:
            place = self.explorer.place
            self.link.codebook, self.known.num_codes = place.codebook, place.size
            self.known.sprite = data_url(encode_png(tile_images(place.patches)))
        codes = self.explorer.place.read(self.explorer.known_codes())
        self.known.cells = codes.tolist()
        kept = int((codes >= 0).sum())
        self.known_caption.value = f"{kept} codes kept, {codes.numel() - kept} sampled"
        if "index" in changed:
            self.original.value = encode_png(to_uint8(self.explorer.image))
        self.samples.value = encode_png(tile_images(to_uint8(self.explorer.images()), SAMPLE_COUNT // 2))
