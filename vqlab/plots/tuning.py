"""Figures of a tuning study: vqlab's own, and Optuna's with titles and units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vqlab.plots.style import colours, make_axes, plotly_template

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure
    from optuna import Study

_YLABEL = "PSNR on the held-out images (dB)"


def tuning_history(study: Study) -> Figure:
    """Draw the PSNR of each trial with the best so far, and the PSNR of each trial by epoch (matplotlib).

    Args:
        study: the Optuna study that ``vqlab.studies.Tuning.run`` returns.

    Returns:
        Two panels; finished trials are blue circles, pruned ones vermilion crosses. Trials that failed are left out.
    """
    figure, (history, epochs) = make_axes(2, f"Tuning {study.study_name.rpartition('-')[0]}: PSNR of the trials")
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    groups = ((finished, "o", "finished", colours(1)[0]), (pruned, "x", "pruned", colours(4)[3]))
    for trials, mark, label, colour in groups:
        values = [trial.value if trial.value is not None else np.nan for trial in trials]
        history.plot([trial.number for trial in trials], values, mark, color=colour, label=label)
        for trial in trials:
            reported = {epoch + 1: value for epoch, value in sorted(trial.intermediate_values.items())}
            epochs.plot(list(reported), list(reported.values()), f"{mark}-", color=colour, alpha=0.6, markersize=4)
    best = np.maximum.accumulate([trial.value or -np.inf for trial in finished])
    history.step([trial.number for trial in finished], best, where="post", color="0.5", label="best so far")
    history.set(xlabel="trial", ylabel=_YLABEL)
    history.legend()
    epochs.set(xlabel="epoch", ylabel=_YLABEL)
    for axis in (history, epochs):
        axis.locator_params(axis="x", integer=True)
    return figure


def history_explorer(study: Study) -> go.Figure:
    """Draw the PSNR of each trial with the best so far (plotly, drawn by Optuna).

    Args:
        study: the Optuna study that ``vqlab.studies.Tuning.run`` returns.

    Returns:
        The figure.
    """
    from optuna import visualization

    figure = visualization.plot_optimization_history(study, target_name="PSNR (dB)")
    return _style(figure, "PSNR of each trial, and the best so far", x="trial", y=_YLABEL)


def epochs_explorer(study: Study) -> go.Figure:
    """Draw the PSNR of each trial by epoch (plotly, drawn by Optuna).

    Args:
        study: as in ``history_explorer``.

    Returns:
        The figure; epochs are counted from 0, as Optuna counts steps.
    """
    from optuna import visualization

    title = "PSNR after each epoch; trials that end early were pruned"
    figure = _style(visualization.plot_intermediate_values(study), title, x="epoch (the first is 0)", y=_YLABEL)
    return figure.update_xaxes(dtick=1)


def settings_explorer(study: Study) -> go.Figure:
    """Draw settings and PSNR of each trial as parallel coordinates (plotly, drawn by Optuna).

    Args:
        study: as in ``history_explorer``.

    Returns:
        The figure, one line a trial.
    """
    from optuna import visualization

    figure = visualization.plot_parallel_coordinate(study, target_name="PSNR (dB)")
    return _style(figure, "Settings and PSNR of each trial, one line a trial")


def importance_explorer(study: Study) -> go.Figure:
    """Draw the share of the variance of PSNR that each setting explains (plotly, drawn by Optuna).

    Args:
        study: as in ``history_explorer``; at least two trials must be finished.

    Returns:
        The figure.
    """
    from optuna import visualization

    title = "Share of the variance of PSNR that each setting explains"
    return _style(visualization.plot_param_importances(study), title, x="importance (share, 0 to 1)")


def _style(figure: go.Figure, title: str, *, x: str | None = None, y: str | None = None) -> go.Figure:
    """Set title and style, and the labels of the axes that are given."""
    figure.update_layout(title=title, template=plotly_template())
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
