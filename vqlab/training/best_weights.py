"""The weights of the epoch with the best validation PSNR (``evaluation.weights=best``)."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from vqlab.errors import InputError
from vqlab.training.files import differing_tensor, read_tensors, write_tensors

BEST_FILE = "best.safetensors"


class BestWeights:
    """Keeps the best weights so far in ``best.safetensors``.

    Args:
        folder: the folder of the Run.
        step: the step from which training resumes; weights of a later one are not used, since it is trained again.

    Attributes:
        step: step of the best weights; 0 before the first.
        psnr: their PSNR of the validation images, dB.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / BEST_FILE
        self.step, self.psnr = 0, -float("inf")
        if not self._path.is_file():
            return
        try:
            _, metadata = read_tensors(self._path)
            stored, psnr = int(metadata["step"]), float(metadata["psnr"])
        except (InputError, KeyError, ValueError):
            print(f"{self._path}: is damaged; the best weights up to step {step} are lost", file=sys.stderr)
            return
        if stored <= step:
            self.step, self.psnr = stored, psnr

    def offer(self, model: nn.Module, psnr: float, step: int) -> None:
        """Store weights if they are better than all before.

        Args:
            model: the model that was measured.
            psnr: its PSNR of the validation images, dB.
            step: number of training steps so far.
        """
        if psnr > self.psnr:
            write_tensors(self._path, model.state_dict(), {"step": str(step), "psnr": repr(psnr)})
            self.step, self.psnr = step, psnr

    def restore(self, model: nn.Module) -> None:
        """Load the best weights; a model that they do not fit, or without any, is left as it is.

        Args:
            model: the model that gets them.
        """
        if not self.step:
            return
        tensors, _ = read_tensors(self._path)
        if reason := differing_tensor(model.state_dict(), tensors):
            print(f"{self._path}: {reason}; the weights of the last step are kept", file=sys.stderr)
            self.step = 0
            return
        model.load_state_dict(tensors)
