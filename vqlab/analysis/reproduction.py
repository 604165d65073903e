"""A Run trained again elsewhere, and compared number by number."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vqlab.errors import InputError
from vqlab.training import Run, train
from vqlab.training.device import find_device

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.training.loop import ProgressCallback

# Sums of the same float64 numbers in another order of a parallel product, relative.
_ROUNDING = 1e-12
# Times and memory are those of a machine, not of a Config.
_OF_THE_MACHINE = ("seconds", "memory", "per_second", "_ms", "time")


@dataclass(frozen=True)
class Reproduction:
    """Two Runs of one Config, and what differs between them.

    Attributes:
        first: the Run that was given.
        second: the Run of the same Config that was trained again.
        numbers: one row for each number, with the columns ``then``, ``now`` and ``difference`` (now − then): the
            weights by their largest absolute difference, the last row of the log, and the evaluation.
    """

    first: Run
    second: Run
    numbers: pd.DataFrame

    @property
    def reproduced(self) -> bool:
        """Whether the weights are equal to the bit, and every number but for the rounding of its measurement."""
        difference = self.numbers["difference"].abs()
        scale = self.numbers["then"].abs().clip(lower=1)
        return bool(difference["weights"] == 0 and (difference <= _ROUNDING * scale).all())

    def conditions(self) -> pd.DataFrame:
        """Describe versions, device and threads of both trainings.

        Returns:
            One row for each, with the columns ``then`` and ``now``.
        """
        import pandas as pd

        sides = [_conditions(run.provenance) for run in (self.first, self.second)]
        return pd.DataFrame({"then": sides[0], "now": sides[1]})

    def sentence(self) -> str:
        """Say in one sentence whether the numbers are equal.

        Returns:
            The sentence.
        """
        numbers = self.numbers["difference"].drop(index="weights").abs()
        weights = float(self.numbers["difference"]["weights"])
        parts = ["weights equal to the bit" if weights == 0 else f"weights within {weights:.3g}"]
        equal = int((numbers == 0).sum())
        parts.append(f"{equal} of {len(numbers)} numbers equal to the bit")
        if equal < len(numbers):
            parts.append(f"the others within {numbers.max():.3g} ({numbers.idxmax()})")
        answer = "is reproduced" if self.reproduced else "is not reproduced"
        return f"Run {self.first.config.id} {answer}: {', '.join(parts)}."


def reproduce(
    run: Run, root: str | Path = "reproduced", device: str | None = None, progress: ProgressCallback | None = None,
    *, force: bool = False,
) -> Reproduction:  # fmt: skip
    """Train the Config of a Run in another folder and compare the two Runs.

    The evaluation is compared if the Run has one; FID and KID are not measured again.

    Args:
        run: a finished Run.
        root: folder of the new Run; not the folder that holds the given one. A Run that is there already goes on.
            Default ``reproduced``.
        device: the torch device that trains; None (default) is that of the given Run, or one that this machine has.
        progress: as for ``train``.
        force: whether to train although the estimated memory is more than there is. Default False.

    Returns:
        The comparison.

    Raises:
        InputError: if the Run is not finished, ``root`` is its own folder, or its images cannot be read or changed.
    """
    if not run.finished:
        raise InputError(f"run {run.folder}: has not finished training; train it with `vqlab train` first")
    if (Path(root) / run.config.id).resolve() == run.folder.resolve():
        raise InputError(f"runs={root}: holds the Run itself; give another folder for the new Run")
    run.check_data()
    device = device or _device_of(run)
    again = train(run.config, root, device, progress, force=force)
    return Reproduction(run, again, _compare(run, again, device))


def _device_of(run: Run) -> str:
    stored = str(run.provenance.get("device", "cpu"))
    return "cpu" if stored == "cpu" else find_device(None)


def _compare(run: Run, again: Run, device: str) -> pd.DataFrame:
    import pandas as pd

    pairs = [(_last_row(run), _last_row(again))]
    if (run.folder / "evaluation.json").is_file():
        pairs.append((run.evaluation(device, inception=False), again.evaluation(device, inception=False)))
    rows = {"weights": (0.0, _weight_difference(run, again))}
    for then, now in pairs:
        rows |= {name: (float(then[name]), float(now[name])) for name in then if _is_comparable(name, then, now)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["then", "now"])
    difference = (table["now"] - table["then"]).where(table["then"].ne(table["now"]), 0.0)
    # Two values that are both missing are equal.
    return table.assign(difference=difference.mask(table.isna().all(axis=1), 0.0))


def _last_row(run: Run) -> dict[str, Any]:
    rows = run.metrics()
    return {} if rows.empty else {str(name): value for name, value in rows.iloc[-1].dropna().items()}


def _is_comparable(name: str, then: dict[str, Any], now: dict[str, Any]) -> bool:
    if any(part in name for part in _OF_THE_MACHINE):
        return False
    return all(isinstance(side.get(name), Real) and not isinstance(side.get(name), bool) for side in (then, now))


def _weight_difference(run: Run, again: Run) -> float:
    """The largest absolute difference of two weights."""
    first, second = (one.model().state_dict() for one in (run, again))
    return max(
        float((second[name].double() - weights.double()).abs().max()) if not torch.equal(weights, second[name]) else 0.0
        for name, weights in first.items()
    )


def _conditions(provenance: dict[str, Any]) -> dict[str, str]:
    packages = provenance.get("packages") or {}
    others = {name: str(provenance.get(name)) for name in ("python", "git", "device", "threads")}
    hardware = provenance.get("hardware") or {}
    return {name: str(value) for name, value in {**packages, **others, **hardware}.items()}
