"""Figures of code usage: over training, by rank, and by the window in which tokens are counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vqlab.analysis.code_places import CodePlaces
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.plots.style import colours, make_axes, plotly_template
from vqlab.quantize.usage import gini_coefficient, perplexity, uniform_perplexity, usage_churn, windows_since_use

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from vqlab.training import Run

# Bin edges of log₂(tokens of a code / mean tokens per code). Unused codes have a bin of their own, the first.
_EDGES = np.arange(-6, 6.5, 0.5)
_BIN_LABELS = ["dead", *(f"{2**low:.2g}" for low in _EDGES[:-1])]
_USAGE_LABEL = "relative usage (tokens / mean over codes)"


def usage_over_training(run: Run, panels: int = 4, place: int | None = None) -> Figure:
    """Draw histograms of code usage in some windows of training (matplotlib).

    Args:
        run: the Run of a VQ-VAE with at least one finished epoch.
        panels: number of windows, evenly spaced over training.
        place: place of the index in vectors of several codes, from 0, as for ``Run.usage``. Default None: one code.

    Returns:
        One panel for each window: the number of codes by their tokens relative to the mean over all codes.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch, or has no such place.
    """
    windows = run.usage_windows(place)
    epochs = _window_ends(run, windows)
    title = f"Code usage over training of run {run.config.id}{_of_place(run, place)}: number of codes by relative usage"
    figure, axes = make_axes(panels, title, width=3.1)
    for axis, index in zip(axes, np.linspace(0, len(windows) - 1, panels).astype(int), strict=True):
        bars = axis.bar(range(len(_BIN_LABELS)), _histogram(windows[index]), color=colours(1)[0], width=0.9)
        bars[0].set_color(colours(4)[3])
        axis.set(
            title=f"window ending at epoch {epochs[index]:.2g}", xticks=[0, 7, 13, 19],
            xticklabels=["dead", "⅛", "1", "8"], xlabel=_USAGE_LABEL.replace(" (", "\n("),
        )  # fmt: skip
        axis.grid(visible=False, axis="x")
    axes[0].set_ylabel("number of codes")
    return figure


def usage_explorer(run: Run, place: int | None = None) -> go.Figure:
    """Draw the histogram of code usage with a slider over the windows of training (plotly).

    The figure holds all windows, so the slider works without a kernel.

    Args:
        run: the Run of a VQ-VAE with at least one finished epoch.
        place: as for ``usage_over_training``.

    Returns:
        The number of codes by their tokens relative to the mean over all codes, one frame for each window.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch, or has no such place.
    """
    import plotly.graph_objects as go

    windows = run.usage_windows(place)
    labels = [f"{epoch:.2f}" for epoch in _window_ends(run, windows)]
    bar_colours = ["#D55E00", *["#0072B2"] * (len(_BIN_LABELS) - 1)]
    bars = [go.Bar(x=_BIN_LABELS, y=_histogram(counts), marker_color=bar_colours) for counts in windows]
    frames = [go.Frame(name=label, data=[bar]) for label, bar in zip(labels, bars, strict=True)]
    figure = go.Figure(bars[:1], frames=frames)
    immediate = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": label, "method": "animate", "args": [[label], immediate]} for label in labels]
    figure.update_layout(
        title=f"Code usage over training of run {run.config.id}{_of_place(run, place)}",
        template=plotly_template(), width=760, height=480,
        xaxis={"title": _USAGE_LABEL, "type": "category"},
        yaxis={"title": "number of codes", "range": [0, 1.05 * max(max(bar.y) for bar in bars)]},
        sliders=[{"steps": steps, "currentvalue": {"prefix": "window ending at epoch "}, "pad": {"t": 80}}],
    )  # fmt: skip
    return figure


def rank_frequency(runs: Mapping[str, Run]) -> Figure:
    """Draw the rank-frequency plot of code usage in the last epoch, on logarithmic axes (matplotlib).

    Args:
        runs: Runs of VQ-VAEs by their label in the legend. The dotted line of uniform usage is that of the last one.

    Returns:
        One line for each Run, or for each level and head of vectors of several codes: tokens of each used code against
        its rank from 1. The legend has the Gini coefficient of the usage and the number of used codes.

    Raises:
        InputError: if a Run is not that of a VQ-VAE, or has not finished an epoch.
    """
    figure, (axis,) = make_axes(1, "Tokens per code by rank in the last epoch", width=9)
    lines = {
        f"{name}, {place}" if place else name: counts
        for name, run in runs.items()
        for place, counts in _last_epoch(run).items()
    }
    line_styles = [("-", "o--", "s-.", "^:")[index % 4] for index in range(len(lines))]
    for (name, tokens), colour, style in zip(lines.items(), colours(len(lines)), line_styles, strict=True):
        counts = np.sort(tokens)[::-1].copy()
        used = counts[counts > 0]
        gini = float(gini_coefficient(torch.from_numpy(counts)))
        label = f"{name}: Gini {gini:.2f}, {len(used)} of {len(counts)} codes used"
        axis.plot(1 + np.arange(len(used)), used, style, color=colour, label=label, markersize=4)
    axis.axhline(counts.sum() / len(counts), color="0.5", linestyle=":", label="uniform usage of all codes")
    axis.set(xscale="log", yscale="log", xlabel="rank of the code (1: most used)", ylabel="tokens in the epoch")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def usage_by_rank(run: Run) -> Figure:
    """Draw how many tokens each code got in the last epoch, most used first, on linear axes (matplotlib).

    Args:
        run: the Run of a VQ-VAE with at least one finished epoch.

    Returns:
        One panel; its title has the number of used codes. Vectors of several codes have a line for each level and head,
        and the legend has the numbers.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch.
    """
    by_place = _last_epoch(run)
    numbers = [f"{(counts > 0).sum()} of {len(counts)} codes used" for counts in by_place.values()]
    figure, (axis,) = make_axes(1, "Code usage in the last epoch" + (f": {numbers[0]}" if len(numbers) == 1 else ""))
    for (place, counts), number in zip(by_place.items(), numbers, strict=True):
        axis.plot(1 + np.arange(len(counts)), sorted(counts, reverse=True), label=f"{place}: {number}")
    if len(numbers) > 1:
        axis.legend()
    axis.set(xlabel="rank of the code (1: most used)", ylabel="tokens in the epoch")
    return figure


def perplexity_by_window(runs: Mapping[str, Run]) -> Figure:
    """Draw the perplexity over one batch, one epoch and the held-out images, with that of uniform usage (matplotlib).

    Perplexity cannot exceed the number of counted tokens, so values of different windows are not comparable.

    Args:
        runs: Runs of VQ-VAEs by the title of their panel.

    Returns:
        One panel for each Run. For vectors of several codes the perplexities are means over levels and heads.

    Raises:
        InputError: if a Run is not that of a VQ-VAE, or has not finished an epoch.
    """
    figure, panels = make_axes(len(runs), "Perplexity of one codebook in three windows", height=3.8)
    for axis, (name, run) in zip(panels, runs.items(), strict=True):
        table = window_perplexities(run)
        positions = np.arange(len(table))
        axis.bar(positions, [row["perplexity"] for row in table], color=colours(1)[0], width=0.55, label="measured")
        uniform = [row["uniform"] for row in table]
        label = "uniform usage of all codes, same number of tokens"
        axis.plot(positions, uniform, "D", color=colours(4)[3], label=label)
        labels = [f"{row['window']}\n{row['tokens']:,} tokens" for row in table]
        axis.set(
            xticks=positions,
            xticklabels=labels,
            ylabel="perplexity",
            title=f"{name}, K = {run.config.quantizer.num_codes}",
        )
        axis.grid(visible=False, axis="x")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def window_perplexities(run: Run) -> list[dict[str, Any]]:
    """Compute the perplexity of a Run in three windows: last logged batch, last training epoch, validation or test set.

    Args:
        run: the Run of a VQ-VAE with at least one finished epoch.

    Returns:
        One row for each window: ``window`` (its name), ``tokens`` (how many were counted), ``perplexity`` and
        ``uniform`` (the expected perplexity if as many tokens were drawn uniformly from all codes). For vectors of
        several codes, perplexities are means over the places of the codes, and tokens are those of one place; heads
        that share a codebook are counted together in the last batch.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch.
    """
    config, test, epoch = run.config, run.last_epoch_metrics(), list(_last_epoch(run).values())
    rows = run.metrics()
    batch = rows[rows["kind"] == "train"].iloc[-1]
    # The layer counts the usage of a codebook that all heads share over the heads together.
    heads = config.quantizer.heads if config.quantizer.shared else 1
    batch_tokens = config.optim.batch_size * math.prod(config.grid) * heads
    epoch_perplexity = np.mean([float(perplexity(torch.from_numpy(counts))) for counts in epoch])
    values = [
        ("last batch", batch_tokens, float(batch["perplexity"])),
        ("last epoch", int(epoch[0].sum()), float(epoch_perplexity)),
        (f"{test.get('part', 'test')} set", test["tokens"] // len(epoch), test["perplexity"]),
    ]
    num_codes = config.quantizer.num_codes
    return [
        {"window": window, "tokens": tokens, "perplexity": value, "uniform": uniform_perplexity(tokens, num_codes)}
        for window, tokens, value in values
    ]


def code_lifetimes(run: Run, place: int | None = None) -> Figure:
    """Draw when codes become dead: dead codes and churn by window, and the time since last use (matplotlib).

    Args:
        run: the Run of a VQ-VAE with at least one finished epoch.
        place: as for ``usage_over_training``.

    Returns:
        Three panels: share of codes without a token in each window; churn, the Jaccard distance |A△B| / |A∪B|
        between the sets A and B of codes used in consecutive windows; and a histogram of the epochs since the last
        use, for codes that are unused in the last window.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished an epoch.
    """
    windows = run.usage_windows(place)
    tensor, epochs = torch.from_numpy(windows), _window_ends(run, windows)
    figure, (dead, churn, ages) = make_axes(
        3, f"Dead codes over training of run {run.config.id}{_of_place(run, place)}"
    )
    dead.plot(epochs, (windows == 0).mean(axis=1), "o-", markersize=4)
    dead.set(
        xlabel="end of the window (epoch)", ylabel="share of codes without a token", ylim=(-0.02, 1.02),
        title="dead codes in each window",
    )  # fmt: skip
    churn.plot(epochs[1:], usage_churn(tensor), "o-", markersize=4, color=colours(2)[1])
    churn.set(
        xlabel="end of the later window (epoch)", ylabel="Jaccard distance (0 to 1)", ylim=(-0.02, 1.02),
        title="churn: used codes, consecutive windows",
    )  # fmt: skip
    age = windows_since_use(tensor).numpy() * run.config.optim.epochs / len(windows)
    ages.hist(age[age > 0], bins=np.linspace(0, run.config.optim.epochs, 13).tolist(), color=colours(4)[3])
    title = f"time since last use of {(age > 0).sum()} dead codes"
    ages.set(xlabel="time since the last token (epochs)", ylabel="number of codes", title=title)
    return figure


def usage_by_place(run: Run) -> Figure:
    """Draw how evenly the codes of each level, head, scalar or bit are used in the last epoch (matplotlib).

    Args:
        run: the finished Run of a VQ-VAE.

    Returns:
        Two panels with a bar for each place of ``vqlab.analysis.CodePlaces``: the perplexity as a share of the number
        of values, and the share of the values that are used. The window of both is the epoch.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished training.
    """
    places = CodePlaces(Tokenizer(run)).all
    counts = [torch.from_numpy(place.usage[-1]) for place in places]
    title = f"Usage of the codes by place in the last epoch of run {run.config.id}"
    figure, panels = make_axes(2, title, width=4.5, height=max(3, 1.2 + 0.25 * len(places)))
    shares = {
        "perplexity / number of values": [float(perplexity(tokens)) / len(tokens) for tokens in counts],
        "share of the values that are used": [float((tokens > 0).float().mean()) for tokens in counts],
    }
    labels = [f"{place.name or 'all'} ({place.size})" for place in places]
    for axis, (name, values) in zip(panels, shares.items(), strict=True):
        axis.barh(range(len(places)), values, color=colours(1)[0])
        axis.set(xlabel=name, xlim=(0, 1), yticks=range(len(places)), yticklabels=labels)
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
    panels[0].set_ylabel("place (number of values)")
    return figure


def _last_epoch(run: Run) -> dict[str, np.ndarray]:
    """Tokens of each code in the last epoch, (K,), by the name of the place; one entry without a name for one code."""
    names = run.config.quantizer.place_names
    return {name: run.usage(place)[-1] for place, name in enumerate(names or [""])}


def _of_place(run: Run, place: int | None) -> str:
    names = run.config.quantizer.place_names
    return f", {names[place]}" if names and place is not None else ""


def _window_ends(run: Run, windows: np.ndarray) -> np.ndarray:
    """The epoch at the end of each window, float (windows,)."""
    return (1 + np.arange(len(windows))) * run.config.optim.epochs / len(windows)


def _histogram(counts: np.ndarray) -> np.ndarray:
    """Number of codes in each bin of relative usage, int64 (1 + bins,); counts: tokens per code (K,)."""
    relative = counts / max(counts.sum() / len(counts), 1e-12)
    used = np.log2(relative[relative > 0]).clip(_EDGES[0], _EDGES[-1] - 1e-9)
    return np.concatenate([[int((counts == 0).sum())], np.histogram(used, _EDGES)[0]])
