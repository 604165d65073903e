"""All Runs of a folder as a table, filters of it, and two Runs side by side."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqlab.config import Config, field_keys, field_values
from vqlab.errors import InputError
from vqlab.training.run_folder import RunFolder
from vqlab.training.run_values import read_measures

if TYPE_CHECKING:
    import pandas as pd

# Columns of the list beside the numbers, by their labels in a printed table.
FACTS = {
    "run": "Run", "state": "state", "kind": "kind", "codes": "codes", "data": "data", "seed": "seed", "step": "step",
}  # fmt: skip
NUMBERS = {
    "psnr": "PSNR (dB)", "ssim": "SSIM", "rfd_classifier": "rFD-classifier", "perplexity": "perplexity",
    "sample_fd_classifier": "sample FD-classifier",
}  # fmt: skip
COSTS = {"wall_seconds": "wall time (s)", "mib": "size (MiB)", "days": "age (days)"}
LABELS = {**FACTS, **NUMBERS, **COSTS}
_MIB, _DAY = 1 << 20, 24 * 3600
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip


def list_runs(root: str | Path, where: Sequence[str] = (), sort: str | None = None) -> pd.DataFrame:
    """List the Runs of a folder; only their files are read, and a damaged one is listed as such.

    Args:
        root: the folder of the Run folders.
        where: conditions that all must hold: a column or a field of the Config, one of ``=``, ``!=``, ``<``, ``<=``,
            ``>``, ``>=``, and a value, as ``psnr>26`` or ``quantizer.transport=rotation``. Default: none. A Run
            without the value is left out.
        sort: a column, smallest first, or with a minus before it, largest first. Default None: newest first.

    Returns:
        One row for each Run with the columns of ``LABELS``: ``state`` is finished, unfinished or damaged, the numbers
        are those of the evaluation, or of the last epoch, on test images.

    Raises:
        InputError: if the folder does not exist, or a condition or column is unknown.
    """
    import pandas as pd

    root = Path(root)
    if not root.is_dir():
        raise InputError(f"runs={root}: no such folder; give the folder that holds the Runs")
    conditions = [_parse(condition) for condition in where]
    column = "days" if sort is None else sort.removeprefix("-")
    if column not in LABELS:
        raise InputError(f"sort={column}: must be one of {', '.join(LABELS)}, with - for the largest first")
    # Names with a dot are of Runs that are being removed or copied.
    folders = [path.parent for path in sorted(root.glob("*/config.json")) if not path.parent.name.startswith(".")]
    kept = [row for row in map(_describe, folders) if all(_holds(row, condition) for condition in conditions)]
    table = pd.DataFrame([{name: row.get(name) for name in LABELS} for row in kept], columns=list(LABELS))
    descending = sort is not None and sort.startswith("-")
    return table.sort_values(column, ascending=not descending, na_position="last", kind="stable", ignore_index=True)


def compare_runs(one: str | Path, other: str | Path) -> pd.DataFrame:
    """Put two Runs side by side: the fields of their Configs that differ, and their numbers.

    Args:
        one: folder of a Run.
        other: folder of another Run.

    Returns:
        One row for each field or number, with a column for each Run.

    Raises:
        InputError: if a folder is not that of a Run.
    """
    import pandas as pd

    runs = [RunFolder.open(folder) for folder in (one, other)]
    values = [field_values(run.config) for run in runs]
    rows = [_describe(run.folder) for run in runs]
    differing = {key: [value[key] for value in values] for key in values[0] if values[0][key] != values[1][key]}
    numbers = {LABELS[name]: [row.get(name) for row in rows] for name in ("state", "step", *NUMBERS, "wall_seconds")}
    known = {label: pair for label, pair in numbers.items() if pair != [None, None]}
    names = [run.folder.name for run in runs]
    if names[0] == names[1]:
        names = [str(run.folder) for run in runs]
    return pd.DataFrame.from_dict({**differing, **known}, orient="index", columns=names)


def _describe(folder: Path) -> dict[str, Any]:
    """The row of a Run, with the fields of its Config."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    facts: dict[str, Any] = {
        "run": folder.name,
        "mib": sum(path.stat().st_size for path in files) / _MIB,
        "days": (time.time() - max(path.stat().st_mtime for path in files)) / _DAY,
    }
    try:
        run = RunFolder.open(folder)
        provenance = run.provenance
        state = "finished" if run.finished else "unfinished"
    except InputError:
        return {**facts, "state": "damaged"}
    config = run.config
    known: dict[str, Any] = {name: provenance[name] for name in ("step", "wall_seconds") if name in provenance}
    row = {
        **field_values(config), **facts, "state": state, "kind": config.kind, "codes": _codes(config),
        "data": config.data.source, "seed": config.seed, **known,
    }  # fmt: skip
    return {**row, **_numbers(run)}


def _codes(config: Config) -> str | None:
    """Family, transport and codes of a quantizer, as ``rotation, 1024`` or ``residual, rotation, 2 × 32``."""
    quantizer = config.quantizer
    if config.model.kind != "vqvae":
        return None
    places = f"{quantizer.codes_per_vector} × " if quantizer.codes_per_vector > 1 else ""
    family = () if quantizer.family == "vq" else (quantizer.family,)
    return ", ".join([*family, quantizer.transport, f"{places}{quantizer.num_codes}"])


def _numbers(run: RunFolder) -> dict[str, Any]:
    """The numbers of the evaluation, else of the last epoch; none of what is damaged or not there."""
    measured: dict[str, Any] = {}
    with suppress(InputError, OSError):
        measured |= run.last_epoch_metrics()
    with suppress(InputError, OSError):
        measured |= read_measures(run.folder / "evaluation.json")
    return {name: measured[name] for name in NUMBERS if isinstance(measured.get(name), int | float)}


def _parse(condition: str) -> tuple[str, Callable[[Any, Any], Any], Any]:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise InputError(f"where={condition}: must be a column or field, a comparison and a value, as psnr>26")
    name, comparison, text = match.groups()
    if name not in LABELS and name not in field_keys():
        raise InputError(f"where={name}: must be one of {', '.join(LABELS)}, or a field that `vqlab config` lists")
    return name, _COMPARISONS[comparison], text


def _holds(row: dict[str, Any], condition: tuple[str, Callable[[Any, Any], Any], str]) -> bool:
    name, compare, text = condition
    value = row.get(name)
    if value is None:
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        return bool(compare(str(value).lower(), text.lower()))
    try:
        return bool(compare(value, float(text)))
    except ValueError:
        raise InputError(f"where={name}: {text!r} must be a number") from None
