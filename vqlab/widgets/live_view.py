"""Live view of LiveTraining: buttons, progress bar, curves, usage of the codes and reconstructions."""

from __future__ import annotations

from typing import Any, Protocol

import ipywidgets as w
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vqlab.analysis.pictures import encode_png, tile_images, to_uint8
from vqlab.config import Config
from vqlab.widgets.chart import BLUE, GREEN, ORANGE, Chart, chart_title
from vqlab.widgets.choices import CURVES
from vqlab.widgets.layout import column, control_bar, figure_box, picture, with_class
from vqlab.widgets.view import ExplorerState, View


class TrainingState(ExplorerState, Protocol):
    """Members of a LiveTraining that its view uses.

    Attributes:
        config: what is trained.
        images: test images, (n, C, H, W) in [0, 1].
        reconstructions: their newest reconstructions, or None.
        code_counts: tokens of each code in 64 test images, (n·K,), or None.
        rows: logged rows so far.
    """

    config: Config
    images: Float[Tensor, "n C H W"]
    reconstructions: Float[Tensor, "n C H W"] | None
    code_counts: Int64[Tensor, " K"] | None
    rows: list[dict[str, Any]]

    @property
    def last_row(self) -> dict[str, Any]:
        """The newest logged row."""

    def start(self) -> None:
        """Start or resume."""

    def pause(self) -> None:
        """Stop after the current step; can be resumed."""

    def stop(self) -> None:
        """Stop after the current step."""


class LiveView(View):
    """Buttons and status above, curve and usage side by side, images below.

    Args:
        explorer: the training to show.
    """

    explorer: TrainingState

    def __init__(self, explorer: TrainingState) -> None:
        super().__init__(explorer)
        self.start, self.pause, self.stop = (w.Button(description=text) for text in ("start", "pause", "stop"))
        for button, action in ((self.start, explorer.start), (self.pause, explorer.pause), (self.stop, explorer.stop)):
            self.on_click(button, action)
        self.progress_bar = w.IntProgress(min=0, max=1, description="steps")
        self.status = with_class("live-status", w.HTML())
        self._create_curves()
        self.pictures = picture("live-pictures")
        caption = w.HTML("test images, and their present reconstructions below")
        self.box = column(
            control_bar(self.start, self.pause, self.stop, self.progress_bar, self.curve, self.status),
            self.curves,
            figure_box(self.pictures, caption),
        )

    def _create_curves(self) -> None:
        options = [(label, key) for key, label in CURVES.items()]
        self.curve = with_class("curve", w.Dropdown(options=options, description="curve"))
        self.bind(self.curve, "curve")
        labels = (("step", ""), ("rank of the code by usage", "tokens"))
        self.curves = with_class("curves", Chart(labels))

    def draw(self, state: dict[str, Any], changed: set[str]) -> None:
        """Draw everything: the content of a training changes between any two calls."""
        self._draw_status(state["status"])
        self._draw_curves(state["curve"])
        images, reconstructions = self.explorer.images, self.explorer.reconstructions
        if reconstructions is None:
            reconstructions = torch.full_like(images, 0.5)
        sheet = tile_images(to_uint8(torch.cat([images, reconstructions])), len(images))
        self.pictures.value = encode_png(sheet)

    def _draw_status(self, status: str) -> None:
        last = self.explorer.last_row
        self.start.description = "start" if status == "new" else "resume"
        self.start.disabled = status in ("training", "finished")
        self.pause.disabled = status != "training"
        self.stop.disabled = status not in ("training", "paused")
        step = int(last.get("step", 0))
        self.progress_bar.max, self.progress_bar.value = max(1, int(last.get("total_steps", step))), step
        numbers = f", PSNR {last['psnr']:.2f} dB, perplexity {last['perplexity']:.0f}" if "perplexity" in last else ""
        self.status.value = f"{status} at step {step}{numbers}; run {self.explorer.config.id}"

    def _draw_curves(self, key: str) -> None:
        rows = [row for row in self.explorer.rows if key in row]
        traces = [_curve(rows, "train", key), _curve(rows, "epoch", key)]
        titles = [chart_title(0, "line: training batches<br>dots: held-out images")]
        counts = self.explorer.code_counts
        if counts is not None:
            ordered = counts.sort(descending=True)[0].tolist()
            traces.append({
                "type": "bar", "x": list(range(len(ordered))), "y": ordered, "marker": {"color": GREEN},
                "xaxis": "x2", "yaxis": "y2",
            })  # fmt: skip
            used = int((counts > 0).sum())
            places = self.explorer.config.quantizer.codes_per_vector
            of_places = f" of {places} places" if places > 1 else ""
            titles.append(chart_title(1, f"{used} of {len(counts)} codes{of_places} used<br>in 64 test images"))
        self.curves.show(traces, annotations=titles, yaxis_title_text=CURVES[key])


def _curve(rows: list[dict[str, Any]], kind: str, key: str) -> dict[str, Any]:
    """Trace of a column: a line for training steps, markers for epochs."""
    points = [row for row in rows if row["kind"] == kind]
    style = {"mode": "lines", "line": {"color": BLUE}} if kind == "train" else {
        "mode": "markers", "marker": {"color": ORANGE}
    }  # fmt: skip
    return {"type": "scatter", "x": [row["step"] for row in points], "y": [row[key] for row in points], **style}
