"""The studies that the lab knows by name, each at the scale of a profile, and their tables for reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.studies.generation import ABSENT, generation_arms, generation_table
from vqlab.studies.grid import Grid, Value
from vqlab.studies.study import Study, StudyTable, profile_seeds

if TYPE_CHECKING:
    import pandas as pd

Arms = dict[str, dict[str, Any]]
Axes = Mapping[str, Sequence[Value]]

TRANSPORTS: Arms = {
    "RRT": {"quantizer.transport": "rotation"},
    "straight-through": {"quantizer.transport": "straight_through"},
    "RRT (Rodrigues)": {"quantizer.transport": "rodrigues"},
    "reflection": {"quantizer.transport": "reflection"},
}
_PAPERS = ("RRT", "straight-through")
_COLLAPSING = {"quantizer.init": "normal", "quantizer.restart_every": 0}
_TWO_EPOCHS = {"optim.epochs": 2}


def perceptual_weights(profile: str) -> tuple[float, ...]:
    """The weights of ``loss.classifier`` that the study ``perceptual`` compares."""
    return (0.0, 0.03, 0.3) if profile == "quick" else (0.0, 0.01, 0.03, 0.1, 0.3)


def _both(profile: str) -> Arms:
    return {arm: TRANSPORTS[arm] for arm in _PAPERS}


def _transports(profile: str) -> Arms:
    return TRANSPORTS


def _collapsing(profile: str) -> Arms:
    return {arm: {**TRANSPORTS[arm], **_COLLAPSING} for arm in _PAPERS}


def _perceptual(profile: str) -> Arms:
    return {f"weight {weight:g}": {"loss.classifier": weight} for weight in perceptual_weights(profile)}


# Name: the arms at a profile, and what the study changes in the profile.
_STUDIES: Mapping[str, tuple[Callable[[str], Arms], dict[str, Any]]] = {
    "reconstruction": (_both, {}),
    "transports": (_transports, _TWO_EPOCHS),
    "collapsing": (_collapsing, _TWO_EPOCHS),
    "generation": (generation_arms, {}),
    "perceptual": (_perceptual, {}),
}


def named_study(name: str, profile: str = "quick", seeds: Sequence[int] | None = None, **changes: Any) -> Study:
    """The study ``name`` at the scale of ``profile``, with dotted changes to its base Config.

    ``reconstruction``: the paper's Table 2. ``transports``: its Table 3, with Rodrigues and the mirror.
    ``collapsing``: Table 3 from a start that collapses the codebook. ``generation``: VQ-VAE, baselines (paper §4.1.3)
    and priors. ``perceptual``: weights of the classifier's feature loss (paper §4.4.3). seeds: those of the profile
    unless named. Raises InputError for another name.
    """
    if name not in _STUDIES:
        raise InputError(f"study={name!r}: must be one of {', '.join(_STUDIES)}")
    arms, own = _STUDIES[name]
    return Study(Config.profile(profile, **{**own, **changes}), arms(profile), seeds or profile_seeds(profile))


def summary_table(name: str, study: StudyTable) -> pd.DataFrame:
    """The table of the study ``name`` for reading: one row an arm, means with intervals as text; no empty columns."""
    if name == "generation":
        table = generation_table(study)
        return table.loc[:, (~table.isin(["", ABSENT])).any()]
    return perceptual_table(study) if name == "perceptual" else study.formatted()


def perceptual_table(study: StudyTable) -> pd.DataFrame:
    """``study.formatted()`` with what the perceptual term costs: the median over logged steps, in milliseconds."""
    table = study.formatted()
    costs = []
    for arm in table.index:
        logged = [run.metrics() for run in study.runs(arm)]
        medians = [rows["perceptual_ms"].median() for rows in logged if "perceptual_ms" in rows]
        costs.append(f"{sum(medians) / len(medians):.3g}" if medians else "0")
    return table.assign(**{"perceptual term (ms a step)": costs})


def describe_differences(study: StudyTable, measures: Sequence[str] = ("psnr", "ssim", "perplexity")) -> list[str]:
    """The first arm against each other one, paired by seed, in words; none where no seed was measured in both."""
    arms = [arm for arm, rows in study.rows.groupby("arm", sort=False) if (rows["error"] == "").any()]
    told = []
    for other in arms[1:]:
        for measure in measures:
            try:
                told.append(study.describe_difference(str(arms[0]), str(other), measure))
            except InputError:
                continue
    return told


_RESTARTS: Sequence[Value] = (0, 20)

# The paper's §4.4.1 and §4.4.4, and what public comparisons mix: the start of a codebook and its transport.
GRIDS: dict[str, Axes] = {
    "utilisation": {
        "quantizer.decay": (0.95, 0.97, 0.99),
        "quantizer.beta": (0.5, 0.75, 1.0),
        "quantizer.restart_every": _RESTARTS,
    },
    "scaling": {
        "quantizer.num_codes": (1024, 2048, 4096),
        "quantizer.dim": (32, 64, 128),
    },
    "initialisation": {
        "quantizer.init": ("normal", "uniform", "data", "kmeans"),
        "quantizer.restart_every": _RESTARTS,
        "quantizer.transport": ("rotation", "straight_through"),
    },
}

# The same axes with the ends of their ranges, for minutes on two cores.
_QUICK_GRIDS: dict[str, Axes] = {
    "utilisation": {
        "quantizer.decay": (0.95, 0.99),
        "quantizer.beta": (0.5, 1.0),
        "quantizer.restart_every": _RESTARTS,
    },
    "scaling": {"quantizer.num_codes": (64, 256, 1024), "quantizer.dim": (16, 32)},
    "initialisation": {**GRIDS["initialisation"], "quantizer.init": ("normal", "kmeans")},
}
QUICK_CHANGES = {
    "model.hidden": 32, "model.residual_hidden": 16,
    "optim.epochs": 1, "optim.batch_size": 16, "data.train_limit": 1280, "data.test_limit": 128,
}  # fmt: skip


def named_grid(name: str, profile: str = "quick", **changes: Any) -> Grid:
    """The grid ``name`` at the scale of ``profile``, with dotted changes to its base Config.

    ``utilisation``: EMA decay × β × restarts (paper §4.4.1). ``scaling``: K × D (paper §4.4.4).
    ``initialisation``: start × restarts × transport. Raises InputError for another name.
    """
    if name not in GRIDS:
        raise InputError(f"grid={name!r}: must be one of {', '.join(GRIDS)}, or give axes of your own")
    quick = profile == "quick"
    base = Config.profile(profile, **{**(QUICK_CHANGES if quick else {}), **changes})
    return Grid(name, base, (_QUICK_GRIDS if quick else GRIDS)[name])


def make_grid(name: str, axes: Axes, profile: str = "quick", **changes: Any) -> Grid:
    """The named grid, or one called ``name`` over ``axes`` where there are any.

    Raises InputError for a name that is not known, without axes, or an axis whose value is not a list.
    """
    if not axes:
        return named_grid(name, profile, **changes)
    for axis, values in axes.items():
        if not isinstance(values, list | tuple):
            raise InputError(f"axis {axis}={values}: write the values as a list, {axis}=[1,2]")
    return Grid(name, Config.profile(profile, **changes), axes)
