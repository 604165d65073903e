"""Static figures of the interactive widgets, side by side in panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vqlab.analysis.code_place import CodePlace
from vqlab.analysis.pictures import LARGEST_ERROR, channels_last, error_map, tile_images, to_uint8
from vqlab.analysis.tokenizer import image_metrics
from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = 160
# Columns up to which a cell has room for its code as a number.
_MAX_NUMBERED = 16


def code_grid_panels(
    place: CodePlace,
    image: Float[Tensor, "C H W"],
    reconstruction: Float[Tensor, "C H W"],
    grid: Int[Tensor, "h w"],
    title: str,
) -> Figure:
    """Draw an image, the reconstruction from a code grid, the absolute error, and the code grid (matplotlib).

    Args:
        place: the place of the codes that the grid shows.
        image: the original image, in [0, 1].
        reconstruction: the image decoded from the codes of all places, in [0, 1].
        grid: values of the place; those of the image or edited ones.
        title: title of the figure.

    Returns:
        Four panels. The reconstruction has its PSNR and SSIM in the title; the error is the mean over colour
        channels; the code grid shows the patch of each code, and its index if there are at most 16 columns.
    """
    scores = image_metrics(image, reconstruction)
    figure, panels = make_axes(4, title, width=2.9, height=3.1)
    panels[0].imshow(channels_last(image))
    panels[1].imshow(channels_last(reconstruction))
    error = panels[2].imshow(error_map(image, reconstruction), cmap="cividis", vmin=0, vmax=LARGEST_ERROR)
    figure.colorbar(error, ax=panels[2], label="pixels in [0, 1]", shrink=0.7, extend="max")
    panels[3].imshow(_join_patches(place.patches, grid))
    if grid.shape[1] <= _MAX_NUMBERED:
        _write_indices(panels[3], grid, place.tokenizer.patch_size)
    caption = f"reconstruction\nPSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}"
    grid_name = f"code grid, {place.name}" if place.name else "code grid"
    names = ("original", caption, "absolute error\n(mean over channels)", grid_name)
    for panel, name in zip(panels, names, strict=True):
        panel.set_title(name, fontsize=10)
        panel.set_axis_off()
    return figure


def _write_indices(panel: Axes, grid: Int[Tensor, "h w"], size: int) -> None:
    box = {"color": "black", "alpha": 0.45, "pad": 0.6}
    for row, codes in enumerate(grid.tolist()):
        for column, code in enumerate(codes):
            x, y = ((position + 0.5) * size - 0.5 for position in (column, row))
            panel.text(x, y, str(code), size=6, color="white", ha="center", va="center", bbox=box)


def _join_patches(patches: UInt8[Tensor, "K C p p"], grid: Int[Tensor, "h w"]) -> UInt8[np.ndarray, "H W 3"]:
    rows = [torch.cat(list(patches[codes]), dim=2) for codes in grid]
    return channels_last(torch.cat(rows, dim=1))


def code_panels(place: CodePlace, epoch: int, code: int, count: int = 24) -> Figure:
    """Draw the usage of all codes in an epoch, and one code with the image patches nearest to it (matplotlib).

    Args:
        place: the place of the codes, in a finished Run.
        epoch: epoch of the usage, from 1.
        code: index of the code, 0…K−1.
        count: number of image patches at most.

    Returns:
        Three panels: tokens by rank from 0 (most used), with a line at the rank of the code; the decoded patch of the
        code; the patches of test images whose encoder vectors are assigned to the code, the nearest first, with the
        pixels around them.
    """
    counts = place.usage[epoch - 1]
    order = (-counts).argsort(kind="stable")
    rank = int((order == code).argmax())
    of_place = f" of {place.name}" if place.name else ""
    title = f"Code {code} of {place.size}{of_place}, epoch {epoch}"
    figure, (usage, decoded, nearest) = make_axes(3, title, width=3.6, height=3)
    usage.bar(range(len(order)), counts[order], width=1, color=colours(1)[0], linewidth=0)
    usage.axvline(rank, color=colours(4)[3])
    usage.set(xlabel="rank of the code (0: most used)", ylabel="tokens in the epoch")
    usage.set_title(f"{(counts > 0).sum()} codes used\n(line: code {code})", fontsize=10)
    decoded.imshow(channels_last(place.patches[code]))
    decoded.set_title("decoded patch of the code", fontsize=10)
    patches = place.nearest_patches(code, count)
    if len(patches):
        nearest.imshow(channels_last(tile_images(patches, 6, gap=2)))
    nearest.set_title(f"{len(patches)} nearest test image patches\n(with the pixels around them)", fontsize=10)
    for panel in (decoded, nearest):
        panel.set_axis_off()
    return figure


def sample_panels(
    place: CodePlace,
    image: Float[Tensor, "C H W"],
    known_codes: Int[Tensor, "h w"],
    samples: Float[Tensor, "n C H W"],
    title: str,
) -> Figure:
    """Draw an image, its codes that a prior was given, and the samples that complete them (matplotlib).

    Args:
        place: the place of the codes that are shown, of the VQ-VAE under the prior.
        image: the image that the known codes come from, in [0, 1].
        known_codes: values of the place; −1 for a sampled cell, which is drawn grey.
        samples: decoded samples of the prior, in [0, 1].
        title: title of the figure.

    Returns:
        Three panels.
    """
    figure, (left, middle, right) = make_axes(3, title, width=3.4, height=2.9)
    left.imshow(channels_last(image))
    left.set_title("test image", fontsize=10)
    grey = torch.full((1, *place.patches.shape[1:]), _GREY, dtype=torch.uint8)
    patches = torch.cat([place.patches, grey])
    grid = torch.where(known_codes < 0, place.size, known_codes)
    middle.imshow(_join_patches(patches, grid))
    middle.set_title(f"{int((known_codes >= 0).sum())} known codes (grey: sampled)", fontsize=10)
    right.imshow(channels_last(tile_images(to_uint8(samples), max(1, len(samples) // 2), gap=1)))
    right.set_title(f"{len(samples)} samples", fontsize=10)
    for panel in (left, middle, right):
        panel.set_axis_off()
    return figure


def training_panels(
    rows: list[dict[str, Any]],
    images: Float[Tensor, "n C H W"],
    reconstructions: Float[Tensor, "n C H W"] | None,
    title: str,
) -> Figure:
    """Draw PSNR and perplexity of a training so far, and images with their reconstructions (matplotlib).

    Args:
        rows: rows of ``metrics.jsonl`` with ``kind``, ``step``, ``psnr`` and ``perplexity``; may be empty.
        images: test images, in [0, 1].
        reconstructions: their reconstructions, in [0, 1]; None before the first one.
        title: title of the figure.

    Returns:
        Three panels: PSNR and perplexity by training step, of training batches and of the test set, and the images
        above their reconstructions.
    """
    figure, (psnr, perplexity, pictures) = make_axes(3, title)
    labels = ((psnr, "psnr", "PSNR (dB)"), (perplexity, "perplexity", "perplexity\n(window: batch, test set)"))
    for axis, name, label in labels:
        for kind, mark, window in (("train", "-", "training batch"), ("epoch", "o", "test set")):
            points = [(row["step"], row[name]) for row in rows if row["kind"] == kind and name in row]
            axis.plot([step for step, _ in points], [value for _, value in points], mark, label=window)
        axis.set(xlabel="training step", ylabel=label)
    figure.legend(*psnr.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    parts = [images] if reconstructions is None else [images, reconstructions]
    pictures.imshow(np.concatenate([channels_last(torch.cat(list(part), dim=2)) for part in parts]))
    pictures.set_title("test images" + (" and reconstructions" if len(parts) > 1 else ""), fontsize=10)
    pictures.set_axis_off()
    return figure
