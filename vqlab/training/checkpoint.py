"""Checkpoints: model, Adam's moments and the step, as safetensors; nothing is pickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vqlab.training.files import read_tensors, write_whole

NAME = "checkpoint.safetensors"


def save(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Adam, usage: np.ndarray) -> None:
    """Write the whole state after ``step`` steps; usage is int64 (windows, K)."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value for key, value in state.items()}
    tensors["usage"] = torch.from_numpy(usage)
    cpu = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    write_whole(folder / NAME, lambda beside: save_file(cpu, beside, {"step": str(step)}))


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Adam, usage: np.ndarray) -> int:
    """Restore the state in place and return its step; 0 where there is no checkpoint.

    Raises InputError for a damaged file.
    """
    if not (folder / NAME).is_file():
        return 0
    tensors, metadata = read_tensors(folder / NAME)
    model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model.")})
    state = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**state, "state": moments})
    stored = tensors["usage"].numpy()
    # A checkpoint of an earlier version counted whole epochs: they go to the first window of each.
    usage.reshape(len(stored), -1, usage.shape[1])[:, 0] = stored
    return int(metadata["step"])
