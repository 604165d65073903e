"""Findings of the notebooks that compare many Runs: 04, 08, 09, 10, 12 and 15."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqlab.report.finding import Finding, Value
from vqlab.studies import StudyTable
from vqlab.studies.families import AND_RRT

if TYPE_CHECKING:
    import optuna

    from vqlab.studies import GridTable
    from vqlab.training import Run

_WITHOUT_TERM = "weight 0"


def describe_psnr_difference(study: StudyTable, one: str, other: str) -> str:
    """Describe the difference in PSNR of two arms as a part of a sentence; one seed shows nothing.

    Args:
        study: rows with both arms.
        one: name of an arm.
        other: name of the arm that it is compared with.

    Returns:
        Which arm has the higher PSNR, if the 95 % interval of the paired difference excludes 0; else that no
        difference is shown.

    Raises:
        InputError: if no seed was measured in both arms, or no row is finished.
    """
    row = _psnr_difference(study, one, other)
    if row["n"] < 2:
        return f"{one} − {other} is {row['mean']:+.2f} dB PSNR with one seed, which shows no difference"
    size = f"{row['mean']:+.2f} dB PSNR [{row['low']:+.2f}, {row['high']:+.2f}], {row['n']} seeds"
    if not row["differs"]:
        return f"no difference between {one} and {other} is shown ({size})"
    return f"{one} is {'better' if row['mean'] > 0 else 'worse'} than {other} ({size})"


def transports_finding(healthy: StudyTable, collapsing: StudyTable) -> Finding:
    """Say whether RRT and straight-through differ, with a healthy and with a collapsed codebook (notebook 04).

    Args:
        healthy: table of the study ``transports``.
        collapsing: table of the study ``collapsing``.

    Returns:
        The finding; its headline is the mean PSNR of RRT with the healthy codebook.

    Raises:
        InputError: if a study has no seed that was measured in both arms.
    """
    pair = ("RRT", "straight-through")
    parts = {"a healthy": healthy, "a collapsed": collapsing}
    sentence = "; ".join(
        f"with {state} codebook {describe_psnr_difference(study, *pair)}" for state, study in parts.items()
    )
    numbers: dict[str, tuple[Value, str]] = {
        "PSNR of RRT": (_mean(healthy, "RRT", "psnr"), "dB"),
        "RRT − straight-through, healthy": (_psnr_difference(healthy, *pair)["mean"], "dB"),
        "RRT − straight-through, collapsed": (_psnr_difference(collapsing, *pair)["mean"], "dB"),
        "codes in use, healthy": (100 * _mean(healthy, "RRT", "utilisation"), "%"),
        "codes in use, collapsed": (100 * _mean(collapsing, "RRT", "utilisation"), "%"),
    }
    return Finding(f"{sentence[0].upper()}{sentence[1:]}.", numbers, [*healthy.all_runs(), *collapsing.all_runs()])


def scaling_finding(grid: GridTable) -> Finding:
    """Say what more codes improve (notebook 08).

    Args:
        grid: table of the grid ``scaling``.

    Returns:
        The finding; its headline is the highest PSNR.

    Raises:
        InputError: if no point is finished.
    """
    rows = grid.finished_rows()
    means = rows.groupby("quantizer.num_codes")[["psnr", "entropy_bits", "utilisation"]].mean().to_dict()
    psnr, bits, used = means["psnr"], means["entropy_bits"], means["utilisation"]
    small, large = min(psnr), max(psnr)
    change = psnr[large] - psnr[small]
    effect = f"PSNR rises by {change:.2f} dB" if change > 0 else f"PSNR does not rise ({change:+.2f} dB)"
    sentence = (
        f"From K = {small} to {large} {effect}, the codes of an image cost {bits[large]:.0f} instead of "
        f"{bits[small]:.0f} bits at their entropy, and {100 * used[large]:.0f} % of the largest "
        "codebook is in use (means over D, one seed)."
    )
    best = grid.best_row()
    name = f"K = {best['quantizer.num_codes']}, D = {best['quantizer.dim']}"
    numbers: dict[str, tuple[Value, str]] = {
        f"best PSNR ({name})": (float(best["psnr"]), "dB"),
        f"PSNR from K = {small} to {large}": (change, "dB"),
        f"rate at K = {large}": (bits[large], "bits"),
        f"codes in use at K = {large}": (100 * used[large], "%"),
    }
    return Finding(sentence, numbers, grid.all_runs())


def tuning_finding(study: optuna.Study, best: Run, initial: Run) -> Finding:
    """Say what tuning improved, and which setting matters most (notebook 09).

    Args:
        study: the Optuna study that ``vqlab.studies.Tuning.run`` returns, with at least two finished trials.
        best: the Run of the best trial.
        initial: the Run of the settings before tuning.

    Returns:
        The finding; its headline is the PSNR of the best trial.

    Raises:
        InputError: if a Run has no finished epoch.
    """
    from optuna.importance import get_param_importances

    values = {name: run.last_epoch_metrics()["psnr"] for name, run in (("best", best), ("initial", initial))}
    gain = values["best"] - values["initial"]
    states = [trial.state.name for trial in study.trials]
    importances = get_param_importances(study)
    field, share = max(importances.items(), key=lambda item: item[1])
    effect = (
        f"The best of {len(states)} trials has {gain:.2f} dB more PSNR than the initial settings"
        if gain > 0
        else f"None of {len(states)} trials has a higher PSNR than the initial settings ({gain:+.2f} dB)"
    )
    sentence = f"{effect}; {field} explains the largest share of the variance ({100 * share:.0f} %)."
    numbers: dict[str, tuple[Value, str]] = {
        "best PSNR": (values["best"], "dB"),
        "initial PSNR": (values["initial"], "dB"),
        f"importance of {field}": (100 * share, "%"),
        "finished trials": (states.count("COMPLETE"), ""),
        "pruned trials": (states.count("PRUNED"), ""),
    }
    return Finding(sentence, numbers, [best, initial])


def generation_finding(study: StudyTable) -> Finding:
    """Say which model has the best samples and which the best reconstructions (notebook 10).

    Args:
        study: table of the study ``generation``; at least one finished autoencoder and one model that samples.

    Returns:
        The finding; its headline is the lowest sample FD-classifier.

    Raises:
        InputError: if no row is finished.
    """
    runs = study.first_runs()
    measured = {arm: run.evaluation() for arm, run in runs.items()}
    distances = _values(measured, "sample_fd_classifier")
    sampler = min(distances, key=lambda arm: distances[arm])
    psnr = {arm: value for arm, value in _values(measured, "psnr").items() if runs[arm].config.prior.kind == "none"}
    autoencoder = max(psnr, key=lambda arm: psnr[arm])
    same = runs[sampler].codec().config.id == runs[autoencoder].config.id
    verdict = "it also has" if same else f"{autoencoder} has"
    sentence = (
        f"{sampler} has the best samples (FD-classifier {distances[sampler]:.3g}), and {verdict} the best "
        f"reconstructions ({psnr[autoencoder]:.1f} dB)."
    )
    others = {f"sample FD, {arm}": (value, "") for arm, value in distances.items() if arm != sampler}
    numbers: dict[str, tuple[Value, str]] = {
        f"sample FD, {sampler}": (distances[sampler], ""),
        **dict(list(others.items())[:3]),
        f"PSNR, {autoencoder}": (psnr[autoencoder], "dB"),
    }
    return Finding(sentence, numbers, study.all_runs())


def leaderboard_finding(study: StudyTable) -> Finding:
    """Say which family of quantizers is best at equal bits, what is next, and what RRT changes (notebook 15).

    Args:
        study: table of the study ``families``, with at least two finished arms, RRT and straight-through of the nearest
            code among them.

    Returns:
        The finding; its headline is the highest mean PSNR.

    Raises:
        InputError: if no row is finished, or an arm is missing.
    """
    psnr = {str(arm): float(value) for arm, value in study.summary(("psnr",))["psnr"]["mean"].items()}
    best, second, *_ = sorted(psnr, key=lambda arm: -psnr[arm])
    pairs = [(arm, arm.removesuffix(AND_RRT)) for arm in psnr if arm.endswith(AND_RRT)]
    changes = {family: _psnr_difference(study, arm, family) for arm, family in pairs}
    lowered = sum(bool(row["differs"]) and row["mean"] < 0 for row in changes.values())
    plain = next(iter(changes))
    distance = study.difference(plain + AND_RRT, plain, ["rfd_classifier"])["mean difference"].iloc[0]
    sentence = (
        f"With equal bits {best} has the highest PSNR of {len(psnr)} quantizers, and "
        f"{describe_psnr_difference(study, second, best)}; RRT lowers PSNR in {lowered} of {len(changes)} families."
    )
    numbers: dict[str, tuple[Value, str]] = {
        f"PSNR ({best})": (psnr[best], "dB"),
        f"PSNR ({second})": (psnr[second], "dB"),
        f"PSNR of {plain}, RRT − straight-through": (changes[plain]["mean"], "dB"),
        f"rFD-classifier of {plain}, RRT − straight-through": (float(distance), ""),
        "seeds": (int(study.rows["seed"].nunique()), ""),
    }
    runs = () if study.measured_on else study.all_runs()
    return Finding(sentence, numbers, runs, measured_on=study.measured_on)


def perceptual_finding(study: StudyTable) -> Finding:
    """Say whether a perceptual term brings reconstructions nearer to the images in features (notebook 12).

    Args:
        study: table of the study ``perceptual``.

    Returns:
        The finding; its headline is the lowest rFD-classifier.

    Raises:
        InputError: if no row is finished.
    """
    arms = list(study.first_runs())
    distances = {arm: _mean(study, arm, "rfd_classifier") for arm in arms}
    best = min(arms, key=lambda arm: distances[arm])
    psnr = {arm: _mean(study, arm, "psnr") for arm in (_WITHOUT_TERM, best)}
    change = psnr[best] - psnr[_WITHOUT_TERM]
    seeds = study.rows["seed"].nunique()
    if best == _WITHOUT_TERM:
        sentence = (
            f"No perceptual term brings rFD-classifier below the {distances[best]:.3g} of the loss on pixels alone"
        )
    else:
        sentence = (
            f"{best[0].upper()}{best[1:]} brings rFD-classifier from {distances[_WITHOUT_TERM]:.3g} to "
            f"{distances[best]:.3g}, and PSNR is {abs(change):.2f} dB {'higher' if change > 0 else 'lower'}"
        )
    numbers: dict[str, tuple[Value, str]] = {
        f"rFD-classifier ({best})": (distances[best], ""),
        "rFD-classifier, pixels only": (distances[_WITHOUT_TERM], ""),
        f"PSNR ({best})": (psnr[best], "dB"),
        "PSNR, pixels only": (psnr[_WITHOUT_TERM], "dB"),
    }
    if best == _WITHOUT_TERM:
        numbers = {
            "rFD-classifier, pixels only": (distances[best], ""),
            "PSNR, pixels only": (psnr[best], "dB"),
            "arms": (len(arms), ""),
        }
    return Finding(f"{sentence} ({seeds} seed{'s' if seeds > 1 else ', no interval'}).", numbers, study.all_runs())


def _psnr_difference(study: StudyTable, one: str, other: str) -> dict[str, Any]:
    row = study.difference(one, other, ["psnr"]).rename(columns={"mean difference": "mean"}).to_dict("records")[0]
    return {str(name): value for name, value in row.items()}


def _mean(study: StudyTable, arm: str, measure: str) -> float:
    return study.summary([measure])[measure, "mean"].to_dict()[arm]


def _values(measured: dict[str, dict[str, Any]], measure: str) -> dict[str, float]:
    return {arm: columns[measure] for arm, columns in measured.items() if columns.get(measure) is not None}
