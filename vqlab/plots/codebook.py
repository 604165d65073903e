"""Figures of the codes themselves: decoded to patches, and projected to a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vqlab.analysis.encoded_tokens import most_used_indices
from vqlab.analysis.pictures import channels_last, tile_images
from vqlab.analysis.place_vectors import place_vectors
from vqlab.config import FIXED_CODES
from vqlab.plots.style import colours, make_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from vqlab.training import Run

_PATCH_COLUMNS = 24
_PATCH_GAP = 2
_GRID_SIZE = 5


@torch.no_grad()
def code_patches(run: Run, count: int = 96, place: int | None = None) -> Figure:
    """Draw codes decoded to image patches, from most to least used in the last epoch (matplotlib).

    Each code is decoded in a 5×5 grid of copies of itself. Its patch is the centre of that image, 2 cells wide. In
    vectors of several codes, the code at every other place is the most used one of the last epoch.

    Args:
        run: the finished Run of a VQ-VAE.
        count: number of codes, evenly spaced over the ranks; all codes if there are fewer.
        place: place of the index in vectors of several codes, from 0, as for ``Run.usage``. Default None: one code.

    Returns:
        The patches, 24 in a row; codes without a token in the last epoch have a vermilion frame.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, or has not finished training, or has no such place.
    """
    counts = torch.from_numpy(run.usage(place)[-1])
    order = counts.argsort(descending=True)
    codes = order[torch.linspace(0, len(order) - 1, min(count, len(order))).long()]
    patches = _decode_patches(run, codes, place)
    rows = -(-len(codes) // _PATCH_COLUMNS)
    names = run.config.quantizer.place_names
    of_place = f" of {names[place]}" if names and place is not None else ""
    title = f"Codes{of_place} decoded to patches, from most to least used; a frame marks dead codes"
    # One picture in one axes: the layout of an axes for each patch takes seconds.
    figure, (axis,) = make_axes(1, title, width=0.42 * _PATCH_COLUMNS, height=0.42 * rows + 0.5)
    axis.set_axis_off()
    pixels = (patches.clamp(0, 1) * 255).round().byte()
    axis.imshow(channels_last(tile_images(pixels, _PATCH_COLUMNS, _PATCH_GAP)), interpolation="nearest")
    pitch = patches.shape[-1] + _PATCH_GAP
    for position, code in enumerate(codes):
        if counts[code] == 0:
            row, column = divmod(position, _PATCH_COLUMNS)
            axis.add_patch(_frame(column * pitch, row * pitch, patches.shape[-1]))
    return figure


def _decode_patches(run: Run, codes: Tensor, place: int | None) -> Tensor:
    """Centres of the decoded grids of single codes, in [0, 1], (n, C, P, P) with P = 2 cells."""
    vectors = codes
    if run.config.quantizer.codes_per_vector > 1:
        vectors = most_used_indices(run).repeat(len(codes), 1)
        vectors[:, place] = codes
    images = run.model().decode(vectors[:, None, None].expand(-1, _GRID_SIZE, _GRID_SIZE, *vectors.shape[1:]))
    cell = 1 << run.config.model.downsample
    start = images.shape[2] // 2 - cell
    return images[:, :, start : start + 2 * cell, start : start + 2 * cell]


def _frame(left: int, top: int, size: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left - 0.5, top - 0.5), size, size, fill=False, edgecolor=colours(4)[3], linewidth=2.5)


@torch.no_grad()
def codebook_projection(runs: Mapping[str, Run], images: int = 64) -> Figure:
    """Draw codes and encoder vectors of test images on the first two principal components (matplotlib).

    The components are those of the encoder vectors (PCA), fitted for each Run. Vectors of several codes have a panel
    for each level and head, with the vectors that it quantizes: at a level, what the levels before have left. The
    vectors and codes of FSQ, LFQ and BSQ are those that the decoder receives.

    Args:
        runs: finished Runs of VQ-VAEs by the title of their panel.
        images: number of test images, evenly spaced over the test set.

    Returns:
        One panel for each Run, with the share of variance of each component. Codes that are far outside the range of
        the encoder vectors are not drawn; the title of the panel says how many.

    Raises:
        InputError: if a Run is not that of a VQ-VAE, has not finished training, or its images cannot be read.
    """
    title = "Codes and encoder vectors, first two principal components"
    drawn = [(name, run, place) for name, run in runs.items() for place in range(run.config.quantizer.codes_per_vector)]
    figure, panels = make_axes(len(drawn), title, height=4.3)
    for axis, (name, run, place) in zip(panels, drawn, strict=True):
        vectors, codes, shares = _project(run, images, place)
        axis.plot(*vectors.T, ".", color="0.75", markersize=1.5, rasterized=True)
        # The markers of the vectors are too small for the legend.
        axis.plot([], "o", color="0.75", markersize=4, label="encoder vectors z_e")
        used = run.usage(place)[-1] > 0
        axis.plot(*codes[used].T, "o", color=colours(1)[0], markersize=4, label="codes used in the last epoch")
        axis.plot(*codes[~used].T, "x", color=colours(4)[3], markersize=5, label="dead codes")
        limits = 1.3 * np.abs(vectors).max(axis=0)
        outside = int((np.abs(codes) > limits).any(axis=1).sum())
        axis.set(
            title=", ".join([name, *run.config.quantizer.place_names[place : place + 1]])
            + (f"\n({outside} of {len(codes)} codes are outside the panel)" if outside else ""),
            xlim=(-limits[0], limits[0]), ylim=(-limits[1], limits[1]),
            xlabel=f"component 1 ({shares[0]:.1%} of variance)", ylabel=f"component 2 ({shares[1]:.1%} of variance)",
        )  # fmt: skip
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(drawn)))
    return figure


def _project(run: Run, images: int, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (N, 2) and codes (K, 2) of a place on the vectors' principal components, and the variance shares (2,)."""
    from sklearn.decomposition import PCA

    vectors, codes = (rows.numpy() for rows in _vectors_and_codes(run, images, place))
    pca = PCA(2, svd_solver="full").fit(vectors)
    return pca.transform(vectors), pca.transform(codes), pca.explained_variance_ratio_


def _vectors_and_codes(run: Run, images: int, place: int) -> tuple[Tensor, Tensor]:
    """What a place quantizes, (N, C), and its codes, (K, C)."""
    model, settings = run.model(), run.config.quantizer
    quantizer, z_e = model.quantizer, model.encoder(run.data().test.evenly_spaced(images))
    if settings.codes_per_vector > 1:
        return place_vectors(quantizer, z_e, quantizer(z_e).indices, settings.levels)[place]
    rows = z_e.movedim(1, -1)
    if settings.family in FIXED_CODES:
        codes = quantizer.decode(torch.arange(settings.num_codes)[None])[0].T
        return quantizer.bypass(z_e).movedim(1, -1).reshape(-1, rows.shape[-1]), codes
    return quantizer.project_in(rows.reshape(-1, rows.shape[-1])), quantizer.codebook
