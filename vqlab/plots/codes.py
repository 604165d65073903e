"""Figures of code grids and codebooks, for print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vqlab.analysis.pictures import error_map, tile_images, to_uint8
from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def code_grid_panels(
    tokenizer: Tokenizer, image: Float[Tensor, "3 H W"], grid: Int[Tensor, "h w"], title: str
) -> Figure:
    """An image, what ``grid`` decodes to, the absolute error, and the grid with each code's own patch and number."""
    decoded = tokenizer.decode(grid)
    measured = image_metrics(image, decoded)
    figure, panels = make_axes(4, title, width=2.9, height=3.1)
    panels[0].imshow(image.permute(1, 2, 0).numpy())
    panels[1].imshow(decoded.permute(1, 2, 0).numpy())
    error = panels[2].imshow(error_map(image, decoded), cmap="cividis", vmin=0, vmax=0.5)
    figure.colorbar(error, ax=panels[2], label="mean over colours, of 1", shrink=0.7, extend="max")
    panels[3].imshow(_mosaic(tokenizer.code_patches, grid).numpy())
    size = tokenizer.patch
    for row, codes in enumerate(grid.tolist()):
        for column, code in enumerate(codes):
            panels[3].text((column + 0.5) * size - 0.5, (row + 0.5) * size - 0.5, str(code), size=6, color="white",
                           ha="center", va="center", bbox={"color": "black", "alpha": 0.45, "pad": 0.6})  # fmt: skip
    told = f"reconstruction\nPSNR {measured['psnr']:.2f} dB, SSIM {measured['ssim']:.3f}"
    for panel, name in zip(panels, ("original", told, "absolute error", "code grid"), strict=True):
        panel.set_title(name, fontsize=10)
        panel.set_axis_off()
    return figure


def _mosaic(patches: UInt8[Tensor, "K 3 p p"], grid: Int[Tensor, "h w"]) -> UInt8[Tensor, "H W 3"]:
    rows = [torch.cat(list(patches[codes]), dim=2) for codes in grid]
    return torch.cat(rows, dim=1).permute(1, 2, 0)


def code_panels(tokenizer: Tokenizer, epoch: int, code: int, count: int = 24) -> Figure:
    """Usage of all codes in ``epoch`` (from 1) with ``code`` marked, its patch, and the patches nearest to it."""
    counts = tokenizer.usage[epoch - 1]
    order = (-counts).argsort(kind="stable")
    rank = int((order == code).argmax())
    figure, (left, middle, right) = make_axes(
        3, f"Code {code} of {tokenizer.num_codes}, epoch {epoch}", width=3.6, height=3
    )
    left.bar(range(len(order)), counts[order], width=1, color=colours(1)[0], linewidth=0)
    left.axvline(rank, color=colours(4)[3])
    left.set(xlabel="rank of the code by use", ylabel="tokens in the epoch", title=f"{(counts > 0).sum()} codes used")
    middle.imshow(tokenizer.code_patches[code].permute(1, 2, 0).numpy())
    middle.set_title("the code, decoded")
    found = tokenizer.nearest_patches(code, count)
    if len(found):
        right.imshow(tile_images(found, 6, gap=2).permute(1, 2, 0).numpy())
    right.set_title(f"{len(found)} image patches nearest to it,\nwith their surroundings", fontsize=10)
    for panel in (middle, right):
        panel.set_axis_off()
    return figure


def sample_panels(
    tokenizer: Tokenizer,
    image: Float[Tensor, "3 H W"],
    given: Int[Tensor, "h w"],
    images: Float[Tensor, "n 3 H W"],
    title: str,
) -> Figure:
    """An image, the codes of it that were given (−1, so grey: drawn), and what was drawn to complete them."""
    figure, (left, middle, right) = make_axes(3, title, width=3.4, height=2.9)
    left.imshow(image.permute(1, 2, 0).numpy())
    left.set_title("a test image", fontsize=10)
    grey = torch.full((1, 3, tokenizer.patch, tokenizer.patch), 160, dtype=torch.uint8)
    patches = torch.cat([tokenizer.code_patches, grey])
    middle.imshow(_mosaic(patches, torch.where(given < 0, tokenizer.num_codes, given)).numpy())
    middle.set_title(f"{int((given >= 0).sum())} given codes (grey: drawn)", fontsize=10)
    right.imshow(tile_images(to_uint8(images), max(1, len(images) // 2), gap=1).permute(1, 2, 0).numpy())
    right.set_title(f"{len(images)} samples", fontsize=10)
    for panel in (left, middle, right):
        panel.set_axis_off()
    return figure
