"""Studies and grids with a name, each at the scale of a profile, and the tables of the studies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vqlab.config import Config
from vqlab.data.validation import with_validation
from vqlab.errors import InputError
from vqlab.studies.families import double_rate_arms, family_arms, rule_arms
from vqlab.studies.generation import MISSING, generation_arms, generation_table
from vqlab.studies.grid import Grid, Value
from vqlab.studies.health import health_arms
from vqlab.studies.ingredients import recipe_arms, recipe_budget
from vqlab.studies.measures import CODE_MEASURES, MEASURES
from vqlab.studies.quick_scale import QUICK_CHANGES
from vqlab.studies.study import Study, profile_seeds
from vqlab.studies.study_table import StudyTable

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
_PAPER_TRANSPORTS = ("RRT", "straight-through")
_COLLAPSE = {"quantizer.init": "normal", "quantizer.restart_every": 0}

# From a codebook in use to a collapsed one, by what keeps the codes in use.
CODEBOOKS: Arms = {
    "k-means, restarts": {},
    "k-means, no restarts": {"quantizer.restart_every": 0},
    "normal, no restarts": _COLLAPSE,
}


FACTORS: Arms = {
    "straight-through": TRANSPORTS["straight-through"],
    "RRT": TRANSPORTS["RRT"],
    "rescale only": {"quantizer.transport": "rescale"},
    "rotation without rescale": {"quantizer.transport": "rotation_unscaled"},
    "RRT to 1/4 of the way": {**TRANSPORTS["RRT"], "quantizer.transport_fraction": 0.25},
    "RRT to 1/2 of the way": {**TRANSPORTS["RRT"], "quantizer.transport_fraction": 0.5},
}


# From straight-through to RRT by the part of the angle, and each of RRT's two factors alone.
ROTATION: Arms = {
    "straight-through": TRANSPORTS["straight-through"],
    **{
        f"RRT to 1/{part} of the way": {**TRANSPORTS["RRT"], "quantizer.transport_fraction": 1 / part}
        for part in (8, 4, 2)
    },
    **{arm: FACTORS[arm] for arm in ("RRT", "rotation without rescale", "rescale only")},
}


def _no_changes(profile: str) -> dict[str, Any]:
    return {}


def _smaller_if_quick(profile: str) -> dict[str, Any]:
    return QUICK_CHANGES if profile == "quick" else {}


def _factor_budget(profile: str) -> dict[str, Any]:
    return QUICK_CHANGES if profile == "quick" else recipe_budget(profile)


def _two_epochs(profile: str) -> dict[str, Any]:
    return {**_smaller_if_quick(profile), "optim.epochs": 2}


class _NamedStudy(NamedTuple):
    """A study by profile: arms, changes to the profile, another profile for the base Config, what is measured."""

    arms: Callable[[str], Arms]
    changes: Callable[[str], dict[str, Any]] = _no_changes
    base: str | None = None
    held_out: bool = False


def perceptual_weights(profile: str) -> tuple[float, ...]:
    """Weights of the classifier's feature loss that the study ``perceptual`` compares.

    Args:
        profile: ``quick`` gives three weights, any other profile five.

    Returns:
        Values of ``loss.classifier``, ascending; the first is 0 (no perceptual term).

    Example:
        >>> perceptual_weights("quick")
        (0.0, 0.03, 0.3)
    """
    return (0.0, 0.03, 0.3) if profile == "quick" else (0.0, 0.01, 0.03, 0.1, 0.3)


def _reconstruction_arms(profile: str) -> Arms:
    return {arm: TRANSPORTS[arm] for arm in _PAPER_TRANSPORTS}


def _transport_arms(profile: str) -> Arms:
    return TRANSPORTS


def _factor_arms(profile: str) -> Arms:
    return FACTORS


def _rotation_arms(profile: str) -> Arms:
    return ROTATION


def _collapsing_arms(profile: str) -> Arms:
    return {arm: {**TRANSPORTS[arm], **_COLLAPSE} for arm in _PAPER_TRANSPORTS}


# From the middle of the training on, as the discriminator needs reconstructions that are worth a judgement.
_ADVERSARIAL = {"loss.adversarial": 0.3, "loss.adversarial_start": 0.5}


def _perceptual_arms(profile: str) -> Arms:
    weights = perceptual_weights(profile)
    middle = weights[len(weights) // 2]
    return {
        **{f"weight {weight:g}": {"loss.classifier": weight} for weight in weights},
        "adversarial": _ADVERSARIAL,
        f"weight {middle:g} + adversarial": {"loss.classifier": middle, **_ADVERSARIAL},
    }


_STUDIES = {
    "reconstruction": _NamedStudy(_reconstruction_arms),
    "transports": _NamedStudy(_transport_arms, _two_epochs),
    "collapsing": _NamedStudy(_collapsing_arms, _two_epochs),
    "generation": _NamedStudy(generation_arms),
    "perceptual": _NamedStudy(_perceptual_arms, _smaller_if_quick),
    "factors": _NamedStudy(_factor_arms, _factor_budget, held_out=True),
    "rotation": _NamedStudy(_rotation_arms, _smaller_if_quick),
    "recipe": _NamedStudy(recipe_arms, recipe_budget, "paper", held_out=True),
    "families": _NamedStudy(family_arms, _smaller_if_quick),
    "families_double": _NamedStudy(double_rate_arms, _smaller_if_quick),
    "rules": _NamedStudy(rule_arms, _smaller_if_quick),
    "health": _NamedStudy(health_arms, _smaller_if_quick),
}
STUDY_NAMES = tuple(_STUDIES)


def named_study(name: str, profile: str = "quick", seeds: Sequence[int] | None = None, **changes: Any) -> Study:
    """Build a study by name at the scale of a profile.

    Args:
        name: ``reconstruction`` (RRT and straight-through: the paper's Table 2), ``transports`` (its Table 3, with the
            Rodrigues form and the reflection added), ``collapsing`` (Table 3 with an initialisation that collapses
            the codebook and without restarts), ``generation`` (the VQ-VAE, a VAE and a GAN of paper §4.1.3, and two
            priors), ``perceptual`` (weights of the classifier's feature loss, paper §4.4.3, and the adversarial term
            of VQGAN, Esser et al., 2021), ``factors`` (straight-through, the rotation, each of its two factors
            alone, and a rotation by part of the way, on validation images), ``rotation`` (the same with all training
            images, on the test images, with Fréchet distances), ``recipe`` (what each ingredient of the
            profile ``best`` is worth, on validation images), ``families`` (families of quantizers at equal bits),
            ``families_double`` (those that reach twice the bits), ``rules`` (codebook rules under two transports) or
            ``health`` (RRT and straight-through under codebooks from healthy to collapsed).
        profile: the profile of the base Config, a name of ``vqlab.config.PROFILES``.
        seeds: the seeds; None gives ``profile_seeds(profile)``.
        **changes: changes to the base Config by dotted field; they override those of the study.

    Returns:
        The study.

    Raises:
        InputError: if the name, the profile or a field is unknown, or a value is out of range.

    Example:
        >>> list(named_study("reconstruction").arms)
        ['RRT', 'straight-through']
    """
    if name not in _STUDIES:
        raise InputError(f"study={name!r}: must be one of {', '.join(_STUDIES)}")
    study = _STUDIES[name]
    base = Config.profile(study.base or profile, **{**study.changes(profile), **changes})
    return Study(base, study.arms(profile), seeds or profile_seeds(profile), held_out=study.held_out)


def summary_table(name: str, study: StudyTable) -> pd.DataFrame:
    """Summarise a named study as text, for display.

    Args:
        name: name of the study, as in ``named_study``.
        study: its rows.

    Returns:
        One row for each arm: means with 95 % confidence intervals; columns without any value are left out. Where
        arms have two seeds or more, columns have the changes of PSNR and rFD-classifier, as in
        ``describe_differences``. The studies of families have the columns of ``CODE_MEASURES``, too.

    Raises:
        InputError: if no row is finished.
    """
    if name == "generation":
        table = generation_table(study)
        return table.loc[:, (~table.isin(["", MISSING])).any()]
    if name == "perceptual":
        return perceptual_table(study)
    return _with_changes(study, (*MEASURES, *CODE_MEASURES) if name.startswith("families") else tuple(MEASURES))


def _with_changes(study: StudyTable, measures: Sequence[str]) -> pd.DataFrame:
    """The formatted table with the changes of PSNR and of rFD-classifier of each arm, paired by seed."""
    table = study.formatted(measures)
    bases = _bases([str(arm) for arm in table.index])
    for measure in ("psnr", "rfd_classifier"):
        changes = {arm: _change(study, arm, base, measure) for arm, base in bases.items()}
        if any(changes.values()):
            column = [changes.get(str(arm)) or MISSING for arm in table.index]
            label = MEASURES[measure]
            table.insert(list(table.columns).index(label) + 1, f"change of {label}", column)
    return table


def _change(study: StudyTable, arm: str, base: str, measure: str) -> str:
    """The mean change of a measure, paired by seed, with its interval; empty without two common seeds."""
    try:
        change = study.difference(arm, base, [measure]).iloc[0]
    except (InputError, KeyError):
        # No seed in common, or not measured.
        return ""
    if change["n"] < 2:
        return ""
    return f"{change['mean difference']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]"


def _bases(arms: Sequence[str]) -> dict[str, str]:
    """The arm that each arm but the first changes, by its name ``BASE + …`` or ``BASE − …``; else the first arm."""
    changed = {arm: re.split(r" [+−] ", arm)[0] for arm in arms[1:]}
    return {arm: base if base in arms and base != arm else arms[0] for arm, base in changed.items()}


def perceptual_table(study: StudyTable) -> pd.DataFrame:
    """Summarise the study ``perceptual``, with the time that the perceptual term takes.

    Args:
        study: the rows of the study.

    Returns:
        ``study.formatted()`` and a column with the milliseconds of the term for each step: the median over the logged
        steps, then the mean over seeds; 0 for an arm without the term.

    Raises:
        InputError: if no row is finished.
    """
    table = study.formatted()
    costs = []
    for arm in table.index:
        logs = [run.metrics() for run in study.runs(arm)]
        medians = [rows["perceptual_ms"].median() for rows in logs if "perceptual_ms" in rows]
        costs.append(f"{sum(medians) / len(medians):.3g}" if medians else "0")
    return table.assign(**{"perceptual term (ms per step)": costs})


def describe_differences(
    study: StudyTable, measures: Sequence[str] = ("psnr", "ssim", "rfd_classifier", "perplexity")
) -> list[str]:
    """Describe how each arm differs from the arm that it changes, or else from the first, paired by seed.

    Args:
        study: the rows of a study. An arm ``A + …`` or ``A − …`` changes the arm ``A``.
        measures: keys of ``MEASURES``.

    Returns:
        One sentence for each arm but the first, and measure; pairs of arms without a common seed are left out.
    """
    arms = [str(arm) for arm, rows in study.rows.groupby("arm", sort=False) if (rows["error"] == "").any()]
    sentences = []
    for other, base in _bases(arms).items():
        for measure in measures:
            try:
                sentences.append(study.describe_difference(base, other, measure))
            except (InputError, KeyError):
                continue
    return sentences


_RESTARTS: Sequence[Value] = (0, 20)

# utilisation: paper §4.4.1; scaling: paper §4.4.4. Public comparisons often change initialisation and transport at
# once, so the third grid separates them.
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

# The same axes with fewer or smaller values: minutes on two cores.
_QUICK_GRIDS: dict[str, Axes] = {
    "utilisation": {
        "quantizer.decay": (0.95, 0.99),
        "quantizer.beta": (0.5, 1.0),
        "quantizer.restart_every": _RESTARTS,
    },
    "scaling": {"quantizer.num_codes": (64, 256, 1024), "quantizer.dim": (32, 64)},
    "initialisation": {**GRIDS["initialisation"], "quantizer.init": ("normal", "kmeans")},
}


def named_grid(name: str, profile: str = "quick", **changes: Any) -> Grid:
    """Build a grid by name at the scale of a profile; it measures validation images, see ``with_validation``.

    Args:
        name: ``utilisation`` (EMA decay × β × restarts, paper §4.4.1), ``scaling`` (number × dimension of codes,
            paper §4.4.4) or ``initialisation`` (initialisation × restarts × transport).
        profile: the profile of the base Config; ``quick`` also applies ``QUICK_CHANGES`` and uses fewer or smaller
            values.
        **changes: changes to the base Config by dotted field.

    Returns:
        The grid.

    Raises:
        InputError: if the name, the profile or a field is unknown, a value is out of range, or the images cannot be
            read.

    Example:
        >>> len(named_grid("scaling", "paper").points())
        9
    """
    if name not in GRIDS:
        raise InputError(f"grid={name!r}: must be one of {', '.join(GRIDS)}, or give axes of your own")
    quick = profile == "quick"
    base = with_validation(Config.profile(profile, **{**_smaller_if_quick(profile), **changes}))
    return Grid(name, base, (_QUICK_GRIDS if quick else GRIDS)[name])


def make_grid(name: str, axes: Axes, profile: str = "quick", **changes: Any) -> Grid:
    """Build a grid over the given axes, or the named grid if there are none; it measures validation images.

    Args:
        name: any name if ``axes`` is not empty, else as in ``named_grid``.
        axes: values of each axis, by dotted field; empty for a named grid.
        profile: the profile of the base Config.
        **changes: changes to the base Config by dotted field.

    Returns:
        The grid.

    Raises:
        InputError: if there are no axes and the name is unknown, the values of an axis are not a list, or the grid
            or the Config refuses a value, or the images cannot be read.
    """
    if not axes:
        return named_grid(name, profile, **changes)
    for axis, values in axes.items():
        if not isinstance(values, list | tuple):
            raise InputError(f"axis {axis}={values}: write the values as a list, {axis}=[1,2]")
    return Grid(name, with_validation(Config.profile(profile, **changes)), axes)
