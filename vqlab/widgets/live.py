"""A training to start, pause, stop and resume from a cell, and to watch while it goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import traitlets
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.data import load_data
from vqlab.errors import InputError
from vqlab.models import VQVAE
from vqlab.training import Run, train
from vqlab.training.logs import read_rows
from vqlab.training.progress import training_progress
from vqlab.widgets.base import Explorer, headless, one_of
from vqlab.widgets.choices import CURVES

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

_TRANSITIONS = {
    "new": ("training",),
    "training": ("paused", "stopped"),
    "paused": ("training", "stopped"),
    "stopped": ("training",),
    "failed": ("training",),
    "finished": (),
}
_SECONDS_BETWEEN = 0.3


class LiveTraining(Explorer):
    """Trains ``config`` in a thread of its own: the cell returns at once, and the page may be closed and opened again.

    Pausing and stopping both leave a checkpoint, and training goes on from it to the same weights, here or in
    another session. Where nobody is there to press a button, ``start`` trains to the end with plain progress lines.
    state: status (new, training, paused, stopped, finished, failed: set training, paused or stopped to act);
    curve (a key of CURVES).
    """

    def __init__(
        self, config: Config, root: str | Path = "runs", device: str | None = None, images: int = 8, **state: Any
    ) -> None:
        super().__init__()
        self.config, self.root, self.device = config, Path(root), device
        self.run = Run.create(self.root / config.id, config)
        logged = read_rows(self.run.folder / "metrics.jsonl")
        self.rows: list[dict[str, Any]] = [row for row in logged if row["kind"] in ("train", "epoch")]
        test = load_data(config.data).test
        self.images: Float[Tensor, "n 3 H W"] = test.evenly_spaced(images)
        self.reconstructions: Float[Tensor, "n 3 H W"] | None = None
        self.counts: Int64[Tensor, " K"] | None = None
        self._sample = test.evenly_spaced(64)
        self._thread: threading.Thread | None = None
        self._thread_name = f"training of {self.run.folder.resolve()}"
        self._stop_requested = threading.Event()
        self._lock = threading.RLock()
        self._set_by_training = False
        self._last_redraw = 0.0
        self.state = {"status": self._initial_status(), "curve": "psnr"}
        self.state = state

    @property
    def last_row(self) -> dict[str, Any]:
        """The newest row of the log; empty before there is one."""
        return self.rows[-1] if self.rows else {}

    def start(self) -> None:
        """Start or resume; headless, return when the training is done. Nothing where it is done already."""
        if self.state["status"] in ("training", "finished"):
            return
        self.state = {"status": "training"}
        if headless():
            self.wait()

    def pause(self) -> None:
        """Leave after the present step, with a checkpoint; ``start`` goes on from it."""
        if self.state["status"] == "training":
            self.state = {"status": "paused"}

    def stop(self) -> None:
        """Leave after the present step, with a checkpoint, for good: ``start`` would resume it all the same."""
        if self.state["status"] in ("training", "paused"):
            self.state = {"status": "stopped"}

    def wait(self, seconds: float | None = None) -> Run:
        """The Run, when its thread has ended or ``seconds`` are over."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.run

    def figure(self) -> Figure:
        """Curves so far, and the fixed images with their newest reconstructions."""
        from vqlab.plots import training_panels

        self._preview_finished_run()
        title = f"Training of run {self.config.id} ({self.config.quantizer.transport}): {self.state['status']}"
        return training_panels(self.rows, self.images, self.reconstructions, title)

    def _initial_status(self) -> str:
        if self.run.finished:
            return "finished"
        return "paused" if self.run.provenance.get("step") else "new"

    def _preview_finished_run(self) -> None:
        if self.reconstructions is None and self.run.finished:
            with torch.no_grad():
                self._update_preview(self.run.model())

    def _validated(self, state: dict[str, Any], changed: set[str]) -> dict[str, Any]:
        one_of("curve", state["curve"], CURVES)
        one_of("status", state["status"], _TRANSITIONS)
        now = self.state.get("status")
        if now and "status" in changed and not self._set_by_training and state["status"] not in _TRANSITIONS[now]:
            able = " or ".join(_TRANSITIONS[now]) or "nothing else; change its Config to train another"
            raise InputError(f"status={state['status']!r}: a training that is {now} can become {able}")
        if "status" in changed and state["status"] == "training":
            self._refuse_second_training()
        return state

    def _refuse_second_training(self) -> None:
        """Raise InputError where another LiveTraining of this kernel, as from a cell run twice, writes the same Run."""
        others = [thread for thread in threading.enumerate() if thread is not self._thread]
        if any(thread.name == self._thread_name for thread in others):
            raise InputError(
                f"run {self.config.id}: another LiveTraining in this kernel is training it; pause that one first, "
                "or restart the kernel: the last checkpoint is kept"
            )

    @traitlets.observe("state")
    def _act(self, change: dict[str, Any]) -> None:
        """Do what a new status asks for; one that the training itself reached asks for nothing."""
        status = change["new"]["status"]
        if self._set_by_training or not change["old"] or status == change["old"]["status"]:
            return
        self._stop_requested.set()
        if status != "training":
            return
        previous, self._stop_requested = self._thread, threading.Event()
        self._thread = threading.Thread(
            target=self._train, args=(previous, self._stop_requested), name=self._thread_name, daemon=True
        )
        self._thread.start()

    def _train(self, previous: threading.Thread | None, stop_requested: threading.Event) -> None:
        if previous is not None:
            previous.join()
        try:
            self._train_until(stop_requested)
        except Exception as error:
            self._set_status_from_training("failed")
            self.message = " ".join(f"{error if isinstance(error, InputError) else repr(error)}".split())
        else:
            if self.run.finished:
                self._set_status_from_training("finished")
        self._redraw()

    def _train_until(self, stop_requested: threading.Event) -> None:
        self.rows = [row for row in self.rows if row["step"] <= self.run.provenance.get("step", 0)]
        with training_progress() as lines:

            def progress(row: dict[str, Any]) -> None:
                self.rows.append(row)
                if headless():
                    lines(row)

            train(
                self.config,
                self.root,
                self.device,
                progress,
                should_stop=stop_requested.is_set,
                observer=self._on_model,
            )

    def _set_status_from_training(self, status: str) -> None:
        with self._lock:
            self._set_by_training = True
            try:
                self.state = {"status": status}
            finally:
                self._set_by_training = False

    def _on_model(self, model: nn.Module) -> None:
        if headless() or time.monotonic() - self._last_redraw < _SECONDS_BETWEEN:
            return
        self._update_preview(model)
        self._redraw()
        self._last_redraw = time.monotonic()

    def _update_preview(self, model: nn.Module) -> None:
        if not isinstance(model, VQVAE):
            return
        device = next(model.parameters()).device
        self.reconstructions = model(self.images.to(device)).reconstruction.float().cpu()
        indices = model.encode(self._sample.to(device)).cpu()
        self.counts = torch.bincount(indices.flatten(), minlength=self.config.quantizer.num_codes)

    def _redraw(self) -> None:
        if "view" in self.__dict__:
            self._refresh({}, self.state)

    def _build(self) -> ipywidgets.Widget:
        from vqlab.widgets.live_view import LiveView

        self._preview_finished_run()
        self._view = LiveView(self)
        return self._view.box

    def _refresh(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        with self._lock:
            self._view.show(old, new)
