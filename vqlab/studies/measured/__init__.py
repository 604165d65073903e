"""Rows of studies that take hours of training, measured once, as ``vqlab study NAME --table NAME.csv`` writes them."""

from __future__ import annotations

from pathlib import Path

from vqlab.errors import InputError
from vqlab.studies.study_table import StudyTable

_FOLDER = Path(__file__).parent
# What was trained, by name of the study; DATA stands for the folder of CIFAR-10's images.
COMMANDS = {
    name: f"vqlab study {name} --profile best --data DATA --set optim.epochs=1 --seeds 3 --table {name}.csv"
    for name in ("families", "families_double")
}


def measured_study(name: str) -> StudyTable:
    """Load the rows of a study that were measured on CIFAR-10, with the command of ``COMMANDS``.

    Args:
        name: a key of ``COMMANDS``.

    Returns:
        The table; its Runs are not part of the package.

    Raises:
        InputError: if the study was not measured.

    Example:
        >>> measured_study("families").rows["seed"].nunique()
        3
    """
    import pandas as pd

    if name not in COMMANDS:
        raise InputError(f"measured_study({name!r}): must be one of {', '.join(COMMANDS)}")
    rows = pd.read_csv(_FOLDER / f"{name}.csv")
    # An empty text of a finished row is read as NaN.
    return StudyTable(rows.assign(error=rows["error"].fillna("")), Path("runs"))
