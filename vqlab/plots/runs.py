"""Figures from a Run and its images, for print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vqlab.plots.style import make_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vqlab.data import Images
    from vqlab.training import Run


def training_curves(run: Run) -> Figure:
    """PSNR, perplexity and the gradient's cosine over the steps of training, each of one batch."""
    rows = run.require("vqvae").metrics()
    rows = rows[rows["kind"] == "train"]
    figure, panels = make_axes(3, f"Training of run {run.config.id} ({run.config.quantizer.transport})")
    labels = {
        "psnr": "PSNR of a training batch (dB)",
        "perplexity": "perplexity (window: batch)",
        "gradient_cosine": "cos(∇ at z_q, ∇ at z_e)",
    }
    for axis, (name, label) in zip(panels, labels.items(), strict=True):
        axis.plot(rows["step"], rows[name])
        axis.set(xlabel="step", ylabel=label)
    return figure


def image_grid(images: Images, count: int = 16, title: str = "Images") -> Figure:
    """``count`` images in a row, evenly spaced over the set."""
    figure, (axis,) = make_axes(1, title)
    figure.set_size_inches(10, 1.4)
    axis.imshow(torch.cat(list(images.evenly_spaced(count)), dim=2).permute(1, 2, 0).numpy())
    axis.set_axis_off()
    return figure


@torch.no_grad()
def reconstructions(run: Run, count: int = 12) -> Figure:
    """Test images above, what the Run makes of them below, evenly spaced over the test set."""
    data = run.require("vqvae", "vae").data()
    images = data.test.evenly_spaced(count)
    rows = torch.stack([images, run.model()(images).reconstruction])
    figure, (axis,) = make_axes(1, f"{data.name}: test images (above) and reconstructions (below)")
    figure.set_size_inches(10, 2.2)
    axis.imshow(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).permute(1, 2, 0).numpy())
    axis.set_axis_off()
    return figure


def usage_by_rank(run: Run) -> Figure:
    """How often each code was used in the last epoch, most used first."""
    counts = run.usage()[-1]
    figure, (axis,) = make_axes(1, f"Code usage in the last epoch: {(counts > 0).sum()} of {len(counts)} codes used")
    axis.plot(sorted(counts, reverse=True))
    axis.set(xlabel="rank of the code", ylabel="tokens in the epoch")
    return figure


def training_panels(rows: list[dict[str, Any]], images: Tensor, reconstructions: Tensor | None, title: str) -> Figure:
    """PSNR and perplexity of the log ``rows``, and images (n, 3, H, W) above their reconstructions."""
    figure, (left, middle, right) = make_axes(3, title)
    for axis, name, label in ((left, "psnr", "PSNR (dB)"), (middle, "perplexity", "perplexity")):
        for kind, mark, told in (("train", "-", "training batch"), ("epoch", "o", "test set")):
            points = [(row["step"], row[name]) for row in rows if row["kind"] == kind and name in row]
            axis.plot([step for step, _ in points], [value for _, value in points], mark, label=told)
        axis.set(xlabel="step", ylabel=label)
    left.legend()
    shown = images if reconstructions is None else torch.cat([images, reconstructions])
    right.imshow(
        torch.cat([torch.cat(list(part), dim=2) for part in shown.split(len(images))], dim=1).permute(1, 2, 0).numpy()
    )
    right.set_title("test images" + (" and reconstructions" if reconstructions is not None else ""), fontsize=10)
    right.set_axis_off()
    return figure
