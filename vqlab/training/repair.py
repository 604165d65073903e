"""Damaged files of a Run, as a loss of power leaves them: what can be written again is removed, with a line each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from vqlab.data.cache import read_arrays
from vqlab.errors import InputError
from vqlab.training.checkpoint import read_checkpoint
from vqlab.training.files import read_tensors
from vqlab.training.run_folder import RunFolder
from vqlab.training.run_values import read_measures, read_provenance

# Files that training or evaluation writes again if they are missing, and what reads each of them.
_READERS: dict[str, Callable[[Path], object]] = {
    "provenance.json": read_provenance,
    "model.safetensors": read_tensors,
    "codebook.npz": read_arrays,
    "evaluation*.json": read_measures,
}


def remove_damaged_files(run: RunFolder) -> None:
    """Remove the files of a Run that cannot be read and that training or evaluation writes again.

    A line on standard error names each of them. Checkpoints are looked after by ``vqlab.training.checkpoint``. A
    finished Run without ``codebook.npz`` becomes unfinished if its checkpoint can be read, from which training writes
    everything again without another step.

    Args:
        run: the Run.
    """
    for pattern, read in _READERS.items():
        for path in sorted(run.folder.glob(pattern)):
            try:
                read(path)
            except (InputError, ValueError, OSError):
                path.unlink(missing_ok=True)
                print(f"run {run.folder}: {path.name} was damaged and is written again", file=sys.stderr)
    has_codebook = run.config.kind != "vqvae" or (run.folder / "codebook.npz").is_file()
    if run.finished and not has_codebook and read_checkpoint(run.folder)[0]:
        (run.folder / "model.safetensors").unlink()
