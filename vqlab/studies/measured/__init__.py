"""Rows of studies that take hours of training, measured once, as ``vqlab study NAME --table NAME.csv`` writes them."""

from __future__ import annotations

import json
from pathlib import Path

from vqlab.errors import InputError
from vqlab.studies.study_table import StudyTable

_FOLDER = Path(__file__).parent
# What was trained, by name of the study; DATA stands for the folder of CIFAR-10's images. Fifteen trainings shared one
# H100, so times and tokens a second compare the rows of a table with each other only.
_COMMAND = "vqlab study {name} --profile best --data DATA{changes} --table {name}.csv"
COMMANDS = {
    "families": _COMMAND.format(name="families", changes=""),
    **{
        name: _COMMAND.format(name=name, changes=" --set optim.epochs=1")
        for name in ("families_double", "rules", "health")
    },
}


def measured_study(name: str) -> StudyTable:
    """Load the rows of a study that were measured on CIFAR-10 (JPEG copy), with the command of ``COMMANDS``.

    Args:
        name: a key of ``COMMANDS``.

    Returns:
        The table, with the provenance of its Runs, which are not part of the package.

    Raises:
        InputError: if the study was not measured.

    Example:
        >>> measured_study("families").rows["seed"].nunique()
        3
    """
    import pandas as pd

    if name not in COMMANDS:
        raise InputError(f"measured_study({name!r}): must be one of {', '.join(COMMANDS)}")
    # The empty text of a finished row is read as NaN.
    rows = pd.read_csv(_FOLDER / f"{name}.csv", dtype={"error": object}).fillna({"error": ""})
    measured_on = json.loads((_FOLDER / "provenance.json").read_text())
    return StudyTable(rows, Path("runs"), measured_on)
