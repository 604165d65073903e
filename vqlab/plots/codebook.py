"""Figures of how a codebook is used: over training, by rank, by window; and the codes themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vqlab.plots.style import colours, make_axes
from vqlab.quantize.usage import churn, dead_age, gini, perplexity, uniform_perplexity

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from vqlab.training import Run

# Bins of a code's use over the uniform share, on log₂; the first holds codes that were never used.
_EDGES = np.arange(-6, 6.5, 0.5)
_BINS = ["dead", *(f"{2**low:.2g}" for low in _EDGES[:-1])]


def _histogram(counts: np.ndarray) -> np.ndarray:
    """Codes in each bin of use over the uniform share, int64 (1 + bins,); counts: tokens per code (K,)."""
    relative = counts / max(counts.sum() / len(counts), 1e-12)
    alive = np.log2(relative[relative > 0]).clip(_EDGES[0], _EDGES[-1] - 1e-9)
    return np.concatenate([[int((counts == 0).sum())], np.histogram(alive, _EDGES)[0]])


def _epochs(run: Run, windows: np.ndarray) -> np.ndarray:
    """The epoch at the end of each window."""
    return (1 + np.arange(len(windows))) * run.config.optim.epochs / len(windows)


def usage_over_training(run: Run, panels: int = 4) -> Figure:
    """For print: histograms of code usage in ``panels`` windows, evenly spaced over training."""
    windows = run.usage_windows()
    epochs = _epochs(run, windows)
    title = f"Code usage over training of run {run.config.id}: how many codes are used how much"
    figure, drawn = make_axes(panels, title, width=3.1)
    for axis, which in zip(drawn, np.linspace(0, len(windows) - 1, panels).astype(int), strict=True):
        bars = axis.bar(range(len(_BINS)), _histogram(windows[which]), color=colours(1)[0], width=0.9)
        bars[0].set_color(colours(4)[3])
        axis.set(
            title=f"up to epoch {epochs[which]:.2g}", xticks=[0, 7, 13, 19], xticklabels=["dead", "⅛", "1", "8"],
            xlabel="use over the uniform share",
        )  # fmt: skip
        axis.grid(visible=False, axis="x")
    drawn[0].set_ylabel("codes")
    return figure


def usage_slider(run: Run) -> go.Figure:
    """To touch: the same histogram with a slider over epochs. Needs no kernel once made."""
    import plotly.graph_objects as go

    windows = run.usage_windows()
    labels = [f"{epoch:.2f}" for epoch in _epochs(run, windows)]
    red, blue = "#D55E00", "#0072B2"
    bars = [go.Bar(x=_BINS, y=_histogram(counts), marker_color=[red, *[blue] * (len(_BINS) - 1)]) for counts in windows]
    figure = go.Figure(
        bars[:1], frames=[go.Frame(name=label, data=[bar]) for label, bar in zip(labels, bars, strict=True)]
    )
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": label, "method": "animate", "args": [[label], now]} for label in labels]
    figure.update_layout(
        title=f"Code usage over training of run {run.config.id}", template="plotly_white", width=760, height=440,
        xaxis={"title": "use over the uniform share", "type": "category"},
        yaxis={"title": "codes", "range": [0, 1.05 * max(max(bar.y) for bar in bars)]},
        sliders=[{"steps": steps, "currentvalue": {"prefix": "up to epoch "}, "pad": {"t": 45}}],
    )  # fmt: skip
    return figure


def rank_frequency(runs: Mapping[str, Run]) -> Figure:
    """Tokens of the last epoch by the code's rank, log-log, a line for each Run, with its Gini coefficient."""
    figure, (axis,) = make_axes(1, "Rank and frequency of codes in the last epoch", width=9)
    for (name, run), colour, style in zip(runs.items(), colours(len(runs)), _styles(len(runs)), strict=True):
        counts = np.sort(run.usage()[-1])[::-1].copy()
        label = f"{name}: Gini {float(gini(torch.from_numpy(counts))):.2f}, {(counts > 0).sum()} of {len(counts)} used"
        used = counts[counts > 0]
        axis.plot(1 + np.arange(len(used)), used, style, color=colour, label=label, markersize=4)
    uniform = run.usage()[-1].sum() / len(counts)
    axis.axhline(uniform, color="0.5", linestyle=":", label="uniform use of all codes")
    axis.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="tokens in the epoch")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _styles(count: int) -> list[str]:
    return [("-", "o--", "s-.", "^:")[index % 4] for index in range(count)]


def perplexity_windows(runs: Mapping[str, Run]) -> Figure:
    """Perplexity of the last batch logged, last epoch and test set beside what uniform use would read there."""
    figure, panels = make_axes(len(runs), "The same codebook, three windows: perplexity depends on what was counted")
    for axis, (name, run) in zip(panels, runs.items(), strict=True):
        table = perplexity_by_window(run)
        places = np.arange(len(table))
        axis.bar(places, [row["perplexity"] for row in table], color=colours(1)[0], width=0.55, label="measured")
        bound = [row["uniform"] for row in table]
        axis.plot(places, bound, "D", color=colours(4)[3], label="uniform use, as many tokens")
        labels = [f"{row['window']}\n{row['tokens']:,} tokens" for row in table]
        axis.set(xticks=places, xticklabels=labels, ylabel="perplexity", title=f"{name}, K = {len(run.usage()[-1])}")
        axis.grid(visible=False, axis="x")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def perplexity_by_window(run: Run) -> list[dict[str, Any]]:
    """window (batch | epoch | data set), tokens, perplexity, and what uniform use of K codes would read there."""
    config, measured, epoch = run.config, run.last_epoch(), run.usage()[-1]
    rows = run.metrics()
    batch = rows[rows["kind"] == "train"].iloc[-1]
    tokens = config.optim.batch_size * (config.data.image_size >> config.model.downsample) ** 2
    values = [
        ("batch", tokens, float(batch["perplexity"])),
        ("epoch", int(epoch.sum()), float(perplexity(torch.from_numpy(epoch)))),
        ("data set", measured["tokens"], measured["perplexity"]),
    ]
    return [
        {"window": window, "tokens": tokens, "perplexity": value, "uniform": uniform_perplexity(tokens, len(epoch))}
        for window, tokens, value in values
    ]


def code_lifetimes(run: Run) -> Figure:
    """Codes without a token in each window, churn between windows, and how long dead codes have been dead."""
    windows = run.usage_windows()
    tensor, epochs = torch.from_numpy(windows), _epochs(run, windows)
    figure, (dead, moved, ages) = make_axes(3, f"Lives of the codes of run {run.config.id}")
    dead.plot(epochs, (windows == 0).mean(axis=1), "o-", markersize=4)
    dead.set(xlabel="epoch", ylabel="share of codes without a token", ylim=(-0.02, 1.02), title="dead in the window")
    moved.plot(epochs[1:], churn(tensor), "o-", markersize=4, color=colours(2)[1])
    moved.set(xlabel="epoch", ylabel="share that came or went", ylim=(-0.02, 1.02), title="churn")
    age = dead_age(tensor).numpy() * run.config.optim.epochs / len(windows)
    ages.hist(age[age > 0], bins=np.linspace(0, run.config.optim.epochs, 13).tolist(), color=colours(4)[3])
    ages.set(xlabel="epochs since the last token", ylabel="codes", title=f"age of {(age > 0).sum()} dead codes")
    return figure


@torch.no_grad()
def code_patches(run: Run, count: int = 96) -> Figure:
    """Codes decoded to patches, most used first, dead ones (framed) last; each is decoded amid copies of itself.

    A patch is the centre of what the decoder makes of a 5×5 grid of one code: 2 codes wide.
    """
    counts = torch.from_numpy(run.usage()[-1])
    order = counts.argsort(descending=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(count, len(order))).long()]
    images = run.model().decode(chosen[:, None, None].expand(-1, 5, 5))
    side = 1 << run.config.model.downsample
    low = images.shape[2] // 2 - side
    patches = images[:, :, low : low + 2 * side, low : low + 2 * side]
    columns = 24
    figure, drawn = make_axes(columns, "", rows=-(-len(chosen) // columns), width=0.42, height=0.45)
    figure.suptitle("Codes decoded to patches, from most to least used; dead codes have a red frame", fontsize=10)
    for axis in drawn:
        axis.set_axis_off()
    for axis, patch, code in zip(drawn, patches, chosen, strict=False):
        axis.imshow(patch.permute(1, 2, 0).clamp(0, 1).numpy())
        if counts[code] == 0:
            axis.add_patch(_frame(2 * side))
    return figure


def _frame(size: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor=colours(4)[3], linewidth=2.5)


@torch.no_grad()
def codebook_projection(runs: Mapping[str, Run], images: int = 64) -> Figure:
    """Codes among encoder vectors of test images, on the two first principal axes of the vectors (PCA), by Run."""
    figure, panels = make_axes(len(runs), "Codes and encoder vectors on the vectors' two principal axes", height=3.8)
    for axis, (name, run) in zip(panels, runs.items(), strict=True):
        vectors, codes, shares = _plane(run, images)
        axis.plot(*vectors.T, ".", color="0.75", markersize=1.5, label="z_e", rasterized=True)
        used = run.usage()[-1] > 0
        axis.plot(*codes[used].T, "o", color=colours(1)[0], markersize=4, label="codes in use")
        axis.plot(*codes[~used].T, "x", color=colours(4)[3], markersize=5, label="dead codes")
        reach = 1.3 * np.abs(vectors).max(axis=0)
        hidden = int((np.abs(codes) > reach).any(axis=1).sum())
        axis.set(
            title=f"{name}" + (f" ({hidden} codes are outside)" if hidden else ""),
            xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]),
            xlabel=f"first axis ({shares[0]:.1%} of variance)", ylabel=f"second axis ({shares[1]:.1%})",
        )  # fmt: skip
    panels[0].legend(markerscale=1.5)
    return figure


def _plane(run: Run, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encoder vectors (N, 2) and codes (K, 2) on the vectors' principal axes, and the variance shares of both."""
    from sklearn.decomposition import PCA

    model = run.model()
    z_e = model.encoder(run.data().test.evenly_spaced(images)).movedim(1, -1)
    vectors = model.quantizer.project_in(z_e.reshape(-1, z_e.shape[-1])).numpy()
    pca = PCA(2, svd_solver="full").fit(vectors)
    return pca.transform(vectors), pca.transform(model.quantizer.codebook.numpy()), pca.explained_variance_ratio_
