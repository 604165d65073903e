"""Figures of a Run: training curves, images and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vqlab.analysis.pictures import channels_last
from vqlab.plots.style import make_axes

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqlab.data import Images
    from vqlab.training import Run

# Inches of a row of images, and of the title above it.
_ROW_WIDTH, _TITLE_HEIGHT = 10, 0.45
_PAIRS_IN_ROW = 8
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


def image_row(images: Images, count: int = 16, title: str = "Images", rows: int = 1) -> Figure:
    """Draw images in one row or several (matplotlib).

    Args:
        images: a set of images.
        count: number of images in a row.
        title: title of the figure.
        rows: number of rows, each evenly spaced over the set; fewer if the set is smaller.

    Returns:
        One panel without axes.
    """
    parts = images.evenly_spaced(rows * count).split(count)
    return _draw_blocks([torch.stack([part for part in parts if len(part) == len(parts[0])])], title)


@torch.no_grad()
def reconstructions(run: Run, count: int = 16) -> Figure:
    """Draw test images above their reconstructions (matplotlib).

    Args:
        run: the finished Run of a VQ-VAE or VAE.
        count: number of test images, evenly spaced over the test set.

    Returns:
        One panel without axes for each eight test images.

    Raises:
        InputError: if the Run is of another kind, has not finished training, or its images cannot be read.
    """
    data = run.require_kind("vqvae", "vae").data()
    images = data.test.evenly_spaced(count)
    pairs = torch.stack([images, run.model()(images).reconstruction])
    title = f"{data.name}: test images (above) and reconstructions (below)"
    return _draw_blocks(pairs.split(_PAIRS_IN_ROW, dim=1), title)


def _draw_blocks(blocks: Sequence[Float[Tensor, "rows columns C H W"]], title: str) -> Figure:
    """Draw blocks of images without gaps inside, one below the other, in a figure whose height suits them."""
    pictures = [channels_last(torch.cat([torch.cat(list(row), dim=2) for row in block], dim=1)) for block in blocks]
    height = _ROW_WIDTH * pictures[0].shape[0] / pictures[0].shape[1] + _TITLE_HEIGHT / len(blocks)
    figure, panels = make_axes(1, title, rows=len(blocks), width=_ROW_WIDTH, height=height)
    for panel, picture in zip(panels, pictures, strict=True):
        panel.imshow(picture)
        panel.set_axis_off()
    return figure
