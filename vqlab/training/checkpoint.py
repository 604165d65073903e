"""Checkpoints: modules, optimizer states, arrays and step in one safetensors file; nothing is pickled."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqlab.errors import InputError, WorkError
from vqlab.training.files import differing_tensor, read_tensors, write_tensors
from vqlab.training.workers import Workers

CHECKPOINT_FILE = "checkpoint.safetensors"
# The checkpoint before, for the case that the last one is damaged.
PREVIOUS_FILE = "checkpoint.previous.safetensors"

Modules = Mapping[str, nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]
Arrays = Mapping[str, np.ndarray]


def save_checkpoint(folder: Path, step: int, modules: Modules, optimizers: Optimizers, arrays: Arrays) -> None:
    """Write the state of a training to ``checkpoint.safetensors``, and keep the checkpoint before.

    The keys are ``MODULE.NAME`` for the ``state_dict`` of each module, ``OPTIMIZER.PARAMETER.NAME`` for the optimizers'
    and the names of the arrays.

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
    if (folder / CHECKPOINT_FILE).is_file():
        os.replace(folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE)
    write_tensors(folder / CHECKPOINT_FILE, tensors, {"step": str(step)})


def remove_previous_checkpoint(folder: Path) -> None:
    """Remove the checkpoint before the last, when a training is finished.

    Args:
        folder: the folder of the Run.
    """
    (folder / PREVIOUS_FILE).unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], int]:
    """Read the last checkpoint that is not damaged; a line on standard error says if it is not the last.

    A damaged one is removed, so that the next checkpoint does not take the place of the one before.

    Args:
        folder: the folder of the Run.

    Returns:
        The tensors by name, and the number of finished training steps; no tensors and 0 if there is no checkpoint.
    """
    damaged = []
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        if not (folder / name).is_file():
            continue
        try:
            tensors, metadata = read_tensors(folder / name)
            step = _step(metadata["step"])
        except (InputError, KeyError, ValueError):
            damaged.append(name)
            (folder / name).unlink(missing_ok=True)
            continue
        if damaged:
            print(f"run {folder}: {damaged[0]} is damaged; training goes on from step {step}", file=sys.stderr)
        return tensors, step
    if damaged:
        print(f"run {folder}: {' and '.join(damaged)} damaged; training starts again from step 0", file=sys.stderr)
    return {}, 0


def _step(text: str) -> int:
    step = int(text)
    if not 0 <= step < 2**63:
        raise ValueError(text)
    return step


def load_checkpoint(
    folder: Path, modules: Modules, optimizers: Optimizers, arrays: Arrays, workers: Workers | None = None
) -> int:
    """Restore the state of a training in place.

    Args:
        folder: the folder of the Run.
        modules: the modules that receive the stored values, with the names used in ``save_checkpoint``.
        optimizers: the optimizers that receive the stored states, with the names used in ``save_checkpoint``.
        arrays: the arrays that receive the stored values, with the names used in ``save_checkpoint``.
        workers: processes that call this together; the main one reads the file. Default None: this one alone.

    Returns:
        Number of finished training steps; 0 if the folder has no checkpoint that can be read, and then nothing is
        changed.

    Raises:
        WorkError: if the tensors of the file are not those of the modules, optimizers and arrays.
    """
    workers = workers or Workers()
    tensors, step = workers.broadcast(read_checkpoint(folder) if workers.is_main else ({}, 0))
    if not tensors:
        return 0
    if reason := _mismatch(tensors, modules, optimizers, arrays):
        raise WorkError(
            f"{folder / CHECKPOINT_FILE}: is not that of this Config ({reason}); put back the file, or remove it to "
            "train from the first step"
        )
    for name, module in modules.items():
        module.load_state_dict(_under(tensors, f"{name}."))
    for prefix, optimizer in optimizers.items():
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _optimizer_state(tensors, f"{prefix}.")})
    for name, array in arrays.items():
        _restore_array(array, tensors[name].numpy())
    return step


def _restore_array(array: np.ndarray, stored: np.ndarray) -> None:
    # Older checkpoints count usage per epoch, not per window: the counts go to the first window of each epoch.
    target = array if array.shape == stored.shape else array.reshape(len(stored), -1, *array.shape[1:])[:, 0]
    target[:] = stored


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _mismatch(tensors: Mapping[str, Tensor], modules: Modules, optimizers: Optimizers, arrays: Arrays) -> str:
    """What keeps stored tensors from being the state of these modules, optimizers and arrays; empty if they fit."""
    for name, module in modules.items():
        if reason := differing_tensor(module.state_dict(), _under(tensors, f"{name}."), finite=False):
            return f"{name}: {reason}"
    for name, optimizer in optimizers.items():
        if reason := _other_state(optimizer, _under(tensors, f"{name}.")):
            return f"{name}: {reason}"
    for name, array in arrays.items():
        stored = tensors.get(name)
        if stored is None or stored.dtype != torch.int64 or stored.shape[-1:] != array.shape[-1:]:
            return f"{name} is missing, or not int64 (n, {array.shape[-1]})"
        if stored.shape != array.shape and (stored.ndim != array.ndim or not len(stored) or len(array) % len(stored)):
            return f"{name} is {tuple(stored.shape)}"
    return ""


def _other_state(optimizer: torch.optim.Optimizer, stored: Mapping[str, Tensor]) -> str:
    """What keeps stored tensors from being a state of this optimizer; empty if they fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    values: dict[str, set[str]] = {}
    for key, tensor in stored.items():
        index, _, value = key.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            return f"no parameter {index[:80]}"
        if tensor.ndim and tensor.shape != parameters[int(index)].shape:
            return f"{key[:80]} is {tuple(tensor.shape)}"
        values.setdefault(index, set()).add(value)
    # Every parameter that has been changed has all of the values, which depend on the kind of the optimizer.
    names = set[str]().union(*values.values())
    missing = [f"{index}.{name}" for index, present in values.items() for name in sorted(names - present)]
    return f"{missing[0][:80]} is missing" if missing else ""


def _optimizer_state(tensors: dict[str, Tensor], prefix: str) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            index, name = key.removeprefix(prefix).split(".", 1)
            states.setdefault(int(index), {})[name] = value
    return states
