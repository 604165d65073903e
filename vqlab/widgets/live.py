"""Training that runs in the background, with its progress, curves and reconstructions shown live."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import traitlets
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.models import VQVAE
from vqlab.quantize.usage import count_codes
from vqlab.training import Run, train
from vqlab.training.logs import read_rows
from vqlab.training.progress import training_progress
from vqlab.training.stop_signals import end_in_order
from vqlab.widgets.base import Explorer, headless
from vqlab.widgets.checks import check_one_of
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
_REDRAW_INTERVAL = 0.3
_USAGE_IMAGES = 64


_running: weakref.WeakSet[LiveTraining] = weakref.WeakSet()


@atexit.register
def _pause_all() -> None:
    """Let every training in a thread write a checkpoint before the process ends."""
    for training in _running:
        training.pause()
        training.wait()


class LiveTraining(Explorer):
    """Train a Config in a background thread, with controls to start, pause, resume and stop it.

    The notebook cell returns at once, and the browser page may be closed and opened again. Pausing and stopping write
    a checkpoint. A resumed training, here or in another session, gives the same weights as an uninterrupted one (on
    the CPU bit for bit). Where no browser is connected, ``start`` trains to the end and prints progress lines. The end
    of the kernel, SIGTERM included, pauses the training too.

    Keys of ``state``:

    - ``status``: ``new``, ``training``, ``paused``, ``stopped``, ``failed`` or ``finished``. Set it to ``training``,
      ``paused`` or ``stopped`` to control the training; the training itself sets ``failed`` and ``finished``.
    - ``curve``: the curve that is shown: ``psnr``, ``loss``, ``perplexity``, ``utilisation`` or ``gradient_cosine``.

    Args:
        config: what to train.
        root: the folder of all Runs; the Run is the folder ``root/config.id``.
        device: a torch device such as ``cpu`` or ``cuda:1``; None selects CUDA if this machine has it, else the CPU.
        num_images: number of test images whose reconstructions are shown, at least 1.
        **state: initial values of keys of ``state``.

    Attributes:
        config: what is trained.
        root: the folder of all Runs.
        device: the torch device; may be changed before ``start``.
        run: the Run.
        rows: logged rows of kind ``train`` and ``epoch`` so far, as in ``metrics.jsonl``.
        images: the test images whose reconstructions are shown, (n, C, H, W) in [0, 1].
        reconstructions: their newest reconstructions, of the same shape; None until the first are computed, and for
            models other than a VQ-VAE.
        code_counts: tokens of each code in 64 test images, (K,), or the K of each level and head, (n·K,); None as for
            ``reconstructions``.

    Raises:
        InputError: if the images cannot be read, the folder holds another Config, or a value of ``state`` is not
            allowed.
    """

    def __init__(
        self, config: Config, root: str | Path = "runs", device: str | None = None, num_images: int = 8, **state: Any
    ) -> None:
        super().__init__()
        self.config, self.root, self.device = config, Path(root), device
        self.run = Run.create(self.root / config.id, config)
        logged = read_rows(self.run.folder / "metrics.jsonl")
        self.rows: list[dict[str, Any]] = [row for row in logged if row["kind"] in ("train", "epoch")]
        test = self.run.data().test
        self.images: Float[Tensor, "n C H W"] = test.evenly_spaced(num_images)
        self.reconstructions: Float[Tensor, "n C H W"] | None = None
        self.code_counts: Int64[Tensor, " K"] | None = None
        self._usage_images = test.evenly_spaced(_USAGE_IMAGES)
        self._thread: threading.Thread | None = None
        self._thread_name = f"training of {self.run.folder.resolve()}"
        self._stop_requested, self._ended = threading.Event(), threading.Event()
        self._lock = threading.RLock()
        self._set_by_training = False
        self._last_redraw = 0.0
        self.state = {"status": self._initial_status(), "curve": "psnr"}
        self.state = state

    @property
    def last_row(self) -> dict[str, Any]:
        """The newest logged row; an empty dict before the first one."""
        return self.rows[-1] if self.rows else {}

    def start(self) -> None:
        """Start or resume the training; does nothing if it is in progress or finished.

        Where no browser is connected the call returns at the end of the training, otherwise at once.

        Raises:
            InputError: if another LiveTraining of the same kernel trains this Run.
        """
        if self.state["status"] in ("training", "finished"):
            return
        self.state = {"status": "training"}
        if headless():
            self.wait()

    def pause(self) -> None:
        """Stop after the current step with a checkpoint; ``start`` resumes the training."""
        if self.state["status"] == "training":
            self.state = {"status": "paused"}

    def stop(self) -> None:
        """Stop after the current step with a checkpoint; like ``pause``, but the status becomes ``stopped``."""
        if self.state["status"] in ("training", "paused"):
            self.state = {"status": "stopped"}

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the training thread ends.

        Args:
            timeout: longest waiting time in seconds; None waits without limit.

        Returns:
            The Run; ``run.finished`` is False if the training was paused or stopped, failed, or is still in progress.

        Raises:
            KeyboardInterrupt: after Ctrl-C, which pauses the training; SIGTERM raises SystemExit in the same way.
        """
        if self._thread is None:
            return self.run
        # An exception of a signal within Thread.join would leave the thread marked as ended (Python 3.11).
        try:
            self._ended.wait(timeout)
        except BaseException:
            self.pause()
            self._ended.wait()
            raise
        if self._ended.is_set():
            self._thread.join()
        return self.run

    def figure(self) -> Figure:
        """Draw the curves so far, and the test images with their newest reconstructions."""
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
        check_one_of("curve", state["curve"], CURVES)
        check_one_of("status", state["status"], _TRANSITIONS)
        current = self.state.get("status")
        if current and "status" in changed and not self._set_by_training:
            _check_transition(current, state["status"])
        if "status" in changed and state["status"] == "training":
            self._refuse_second_training()
        return state

    def _refuse_second_training(self) -> None:
        """Raise InputError if another LiveTraining of this kernel, as of a cell run twice, trains the same Run."""
        others = [thread for thread in threading.enumerate() if thread is not self._thread]
        if any(thread.name == self._thread_name for thread in others):
            raise InputError(
                f"run {self.config.id}: another LiveTraining in this kernel is training it; pause that one first, "
                "or restart the kernel (the last checkpoint is kept)"
            )

    @traitlets.observe("state")
    def _on_state(self, change: dict[str, Any]) -> None:
        """Start or stop the training thread, unless the training itself set the status."""
        status = change["new"]["status"]
        if self._set_by_training or not change["old"] or status == change["old"]["status"]:
            return
        self._stop_requested.set()
        if status != "training":
            return
        previous, self._stop_requested, self._ended = self._thread, threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._train, args=(previous, self._stop_requested, self._ended), name=self._thread_name, daemon=True
        )
        end_in_order()
        _running.add(self)
        self._thread.start()

    def _train(
        self, previous: threading.Thread | None, stop_requested: threading.Event, ended: threading.Event
    ) -> None:
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
        finally:
            ended.set()
        self._redraw()

    def _train_until(self, stop_requested: threading.Event) -> None:
        # Rows after the last checkpoint are logged again.
        self.rows = [row for row in self.rows if row["step"] <= self.run.provenance.get("step", 0)]
        with training_progress() as display:

            def progress(row: dict[str, Any]) -> None:
                self.rows.append(row)
                if headless():
                    display(row)

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
        if headless() or time.monotonic() - self._last_redraw < _REDRAW_INTERVAL:
            return
        self._update_preview(model)
        self._redraw()
        self._last_redraw = time.monotonic()

    def _update_preview(self, model: nn.Module) -> None:
        if not isinstance(model, VQVAE):
            return
        device = next(model.parameters()).device
        self.reconstructions = model(self.images.to(device)).reconstruction.float().cpu()
        indices = model.encode(self._usage_images.to(device)).cpu()
        settings = self.config.quantizer
        self.code_counts = count_codes(indices, settings.num_codes, settings.codes_per_vector).flatten()

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
            self._view.update(old, new)


def _check_transition(current: str, status: str) -> None:
    if status not in _TRANSITIONS[current]:
        allowed = " or ".join(_TRANSITIONS[current]) or "nothing; train another Config"
        raise InputError(f"status={status!r}: the training is {current}; allowed next: {allowed}")
