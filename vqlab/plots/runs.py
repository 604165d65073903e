"""Figures of a Run: training curves, images and reconstructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vqlab.analysis.pictures import channels_last
from vqlab.plots.style import make_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vqlab.data import Images
    from vqlab.training import Run

_CURVES = {
    "psnr": "PSNR of the training batch (dB)",
    "perplexity": "perplexity (window: batch)",
    "gradient_cosine": "cos(∇ at z_q, ∇ at z_e)",
}


def training_curves(run: Run) -> Figure:
    """Draw PSNR, perplexity and gradient cosine of the logged training batches (matplotlib).

    Args:
        run: the Run of a VQ-VAE with at least one logged step.

    Returns:
        Three panels by training step. The cosine is that of the angle between the gradients at z_q and at z_e, the
        mean over the tokens of the batch; it is 1 for straight-through.

    Raises:
        InputError: if the Run is not that of a VQ-VAE.
    """
    rows = run.require_kind("vqvae").metrics()
    rows = rows[rows["kind"] == "train"]
    figure, panels = make_axes(3, f"Training of run {run.config.id} (transport: {run.config.quantizer.transport})")
    for axis, (name, label) in zip(panels, _CURVES.items(), strict=True):
        axis.plot(rows["step"], rows[name])
        axis.set(xlabel="training step", ylabel=label)
    return figure


def image_row(images: Images, count: int = 16, title: str = "Images") -> Figure:
    """Draw images in one row (matplotlib).

    Args:
        images: a set of images.
        count: number of images, evenly spaced over the set.
        title: title of the figure.

    Returns:
        One panel without axes.
    """
    pixels = images.evenly_spaced(count)
    figure, (axis,) = make_axes(1, title, width=10, height=0.775 + 0.625 * pixels.shape[2] / pixels.shape[3])
    axis.imshow(channels_last(torch.cat(list(pixels), dim=2)))
    axis.set_axis_off()
    return figure


@torch.no_grad()
def reconstructions(run: Run, count: int = 12) -> Figure:
    """Draw test images above their reconstructions (matplotlib).

    Args:
        run: the finished Run of a VQ-VAE or VAE.
        count: number of test images, evenly spaced over the test set.

    Returns:
        One panel without axes.

    Raises:
        InputError: if the Run is of another kind, has not finished training, or its images cannot be read.
    """
    data = run.require_kind("vqvae", "vae").data()
    images = data.test.evenly_spaced(count)
    rows = torch.stack([images, run.model()(images).reconstruction])
    title = f"{data.name}: test images (above) and reconstructions (below)"
    figure, (axis,) = make_axes(1, title, width=10, height=0.6 + 1.6 * images.shape[2] / images.shape[3])
    axis.imshow(channels_last(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)))
    axis.set_axis_off()
    return figure
