"""Checkpoints: modules, optimizer states, arrays and step in one safetensors file; nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqlab.training.files import read_tensors, write_tensors

CHECKPOINT_FILE = "checkpoint.safetensors"

Modules = Mapping[str, nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]
Arrays = Mapping[str, np.ndarray]


def save_checkpoint(folder: Path, step: int, modules: Modules, optimizers: Optimizers, arrays: Arrays) -> None:
    """Write the state of a training to ``checkpoint.safetensors``.

    The file replaces an earlier checkpoint only when it is complete. Its keys are ``MODULE.NAME`` for the
    ``state_dict`` of each module, ``OPTIMIZER.PARAMETER.NAME`` for the optimizers' and the names of the arrays.

    Args:
        folder: the folder of the Run.
        step: number of finished training steps.
        modules: the modules by name, on any device.
        optimizers: the optimizers by name.
        arrays: int64 arrays by name, any shape.
    """
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for prefix, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}.{index}.{key}": value for key, value in state.items()}
    tensors |= {name: torch.from_numpy(array) for name, array in arrays.items()}
    write_tensors(folder / CHECKPOINT_FILE, tensors, {"step": str(step)})


def load_checkpoint(folder: Path, modules: Modules, optimizers: Optimizers, arrays: Arrays) -> int:
    """Restore the state of a training in place.

    Args:
        folder: the folder of the Run.
        modules: the modules that receive the stored values, with the names used in ``save_checkpoint``.
        optimizers: the optimizers that receive the stored states, with the names used in ``save_checkpoint``.
        arrays: the arrays that receive the stored values, with the names used in ``save_checkpoint``.

    Returns:
        Number of finished training steps; 0 if the folder has no checkpoint, and then nothing is changed.

    Raises:
        InputError: if the file is damaged.
    """
    if not (folder / CHECKPOINT_FILE).is_file():
        return 0
    tensors, metadata = read_tensors(folder / CHECKPOINT_FILE)
    for name, module in modules.items():
        prefix = f"{name}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for prefix, optimizer in optimizers.items():
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _optimizer_state(tensors, f"{prefix}.")})
    for name, array in arrays.items():
        _restore_array(array, tensors[name].numpy())
    return int(metadata["step"])


def _restore_array(array: np.ndarray, stored: np.ndarray) -> None:
    # Older checkpoints count usage per epoch, not per window: the counts go to the first window of each epoch.
    target = array if array.shape == stored.shape else array.reshape(len(stored), -1, *array.shape[1:])[:, 0]
    target[:] = stored


def _optimizer_state(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            index, name = key.removeprefix(prefix).split(".", 1)
            states.setdefault(int(index), {})[name] = value
    return states
