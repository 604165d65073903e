"""Checkpoints: model, Adam's moments, counts and the step, as safetensors; nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vqlab.training.files import read_tensors, write_atomic

NAME = "checkpoint.safetensors"


Optimizers = Mapping[str, torch.optim.Adam]
Arrays = Mapping[str, np.ndarray]


def save(folder: Path, step: int, model: nn.Module, optimizers: Optimizers, arrays: Arrays) -> None:
    """Write the whole state after ``step`` steps; arrays: int64, by name."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for prefix, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}.{index}.{key}": value for key, value in state.items()}
    tensors |= {name: torch.from_numpy(array) for name, array in arrays.items()}
    cpu = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    write_atomic(folder / NAME, lambda beside: save_file(cpu, beside, {"step": str(step)}))


def load(folder: Path, model: nn.Module, optimizers: Optimizers, arrays: Arrays) -> int:
    """Restore the state in place and return its step; 0 where there is no checkpoint.

    Raises InputError for a damaged file.
    """
    if not (folder / NAME).is_file():
        return 0
    tensors, metadata = read_tensors(folder / NAME)
    model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model.")})
    for prefix, optimizer in optimizers.items():
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _moments(tensors, f"{prefix}.")})
    for name, array in arrays.items():
        _fill(array, tensors[name].numpy())
    return int(metadata["step"])


def _fill(array: np.ndarray, stored: np.ndarray) -> None:
    # A checkpoint of an earlier version counted whole epochs: they go to the first window of each.
    first = array if array.shape == stored.shape else array.reshape(len(stored), -1, *array.shape[1:])[:, 0]
    first[:] = stored


def _moments(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            index, name = key.removeprefix(prefix).split(".", 1)
            moments.setdefault(int(index), {})[name] = value
    return moments
