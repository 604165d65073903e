"""The page of LiveTraining: buttons, progress, curves, usage and reconstructions."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vqlab.analysis.pictures import encode_png, tile_images, to_uint8
from vqlab.config import Config
from vqlab.widgets.charts import BLUE, GREEN, ORANGE, charts, redraw
from vqlab.widgets.choices import CURVES
from vqlab.widgets.layout import column, named, row
from vqlab.widgets.view import ExplorerState, View

_TILE = 64


class TrainingState(ExplorerState, Protocol):
    """What the view reads of a LiveTraining."""

    config: Config
    images: Float[Tensor, "n 3 H W"]
    reconstructions: Float[Tensor, "n 3 H W"] | None
    counts: Int64[Tensor, " K"] | None
    rows: list[dict[str, Any]]

    @property
    def last_row(self) -> dict[str, Any]:
        """The newest row of the log."""

    def start(self) -> None:
        """Start or resume."""

    def pause(self) -> None:
        """Stop after the present step, to be resumed."""

    def stop(self) -> None:
        """Stop after the present step."""


class LiveView(View):
    """Buttons above, curves and usage beside each other, pictures below."""

    explorer: TrainingState

    def __init__(self, explorer: TrainingState) -> None:
        super().__init__(explorer)
        self.start, self.pause, self.stop = (
            named(text, w.Button(description=text, layout=w.Layout(width="100px")))
            for text in ("start", "pause", "stop")
        )
        for button, action in ((self.start, explorer.start), (self.pause, explorer.pause), (self.stop, explorer.stop)):
            self.press(button, action)
        self.bar = w.IntProgress(min=0, max=1, description="steps")
        self.told = named("live-told", w.HTML())
        labels = [(label, key) for key, label in CURVES.items()]
        self.curve = named("curve", w.Dropdown(options=labels, description="curve", layout=w.Layout(width="380px")))
        self.bind(self.curve, "curve")
        lines = [go.Scatter(mode="lines", line={"color": BLUE}), go.Scatter(mode="markers", marker={"color": ORANGE})]
        names = (("step", ""), ("rank of the code by use", "tokens"))
        self.curves = named("curves", charts(lines, [go.Bar(marker={"color": GREEN})], names))
        self.pictures = named("live-pictures", w.Image(format="png"))
        self.pictures.add_class("vqlab-picture")
        self.pictures.layout.width = f"{_TILE * len(explorer.images)}px"
        self.box = column(
            row(self.start, self.pause, self.stop, self.bar, self.told), self.curve, self.curves,
            w.HTML("fixed test images, and their reconstructions as they are now"), self.pictures,
        )  # fmt: skip

    def draw(self, state: dict[str, Any], differs: set[str]) -> None:
        """Everything: it changes with every call."""
        self._draw_buttons(state["status"])
        self._draw_curves(state["curve"])
        made = self.explorer.reconstructions
        blank = torch.full_like(self.explorer.images, 0.5)
        both = torch.cat([self.explorer.images, blank if made is None else made])
        self.pictures.value = encode_png(tile_images(to_uint8(both), len(self.explorer.images)))

    def _draw_buttons(self, status: str) -> None:
        last = self.explorer.last_row
        self.start.description = "start" if status == "new" else "resume"
        self.start.disabled = status in ("training", "finished")
        self.pause.disabled = status != "training"
        self.stop.disabled = status not in ("training", "paused")
        step = int(last.get("step", 0))
        self.bar.max, self.bar.value = max(1, int(last.get("last_step", step))), step
        numbers = f", PSNR {last['psnr']:.2f} dB, perplexity {last['perplexity']:.0f}" if "perplexity" in last else ""
        self.told.value = f"{status} at step {step}{numbers}; run {self.explorer.config.id}"

    def _draw_curves(self, key: str) -> None:
        rows = [row for row in self.explorer.rows if key in row]
        with redraw(self.curves) as figure:
            for trace, kind in zip(figure.data[:2], ("train", "epoch"), strict=True):
                shown = [row for row in rows if row["kind"] == kind]
                trace.x, trace.y = [row["step"] for row in shown], [row[key] for row in shown]
            figure.layout.annotations[0].text = "line: training batches, dots: test set"
            figure.layout.yaxis.title.text = CURVES[key]
            counts = self.explorer.counts
            if counts is not None:
                figure.data[2].x, figure.data[2].y = list(range(len(counts))), counts.sort(descending=True)[0].tolist()
                used = int((counts > 0).sum())
                figure.layout.annotations[1].text = f"{used} of {len(counts)} codes used by 64 test images"
