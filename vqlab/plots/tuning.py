"""Figures of a tuning study: vqlab's own, and the style for Optuna's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure
    from optuna import Study

_YLABEL = "PSNR on the test images (dB)"


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


def style_tuning_plot(figure: go.Figure, title: str, *, x: str | None = None, y: str | None = None) -> go.Figure:
    """Set the title, the style and the axis labels of a plot made by ``optuna.visualization`` (plotly).

    Args:
        figure: the plot; it is changed in place.
        title: its title.
        x: label of the horizontal axis with its unit; None keeps Optuna's.
        y: label of the vertical axis with its unit; None keeps Optuna's.

    Returns:
        The same figure.

    Example:
        >>> import plotly.graph_objects as go
        >>> style_tuning_plot(go.Figure(), "PSNR by trial", x="trial").layout.xaxis.title.text
        'trial'
    """
    figure.update_layout(title=title, template="plotly_white")
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
