"""Figures of what models generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vqlab.analysis.samples import interpolate, nearest_training_images
from vqlab.errors import InputError
from vqlab.models.sampling import UNKNOWN
from vqlab.plots.style import colours, make_axes
from vqlab.training.device import find_device
from vqlab.training.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vqlab.training import Run

_SHEET = 8


def sample_grids(runs: Mapping[str, Run], count: int = 12, rows: int = 2, seed: int = 0) -> Figure:
    """``rows`` × ``count`` samples of each Run, real training images above them."""
    data = next(iter(runs.values())).data()
    panels = {"real": data.train.evenly_spaced(rows * count)}
    panels |= {name: torch.cat(list(run.samples(rows * count, seed=seed))) for name, run in runs.items()}
    return _panels(panels, count, f"{data.name}: training images, and samples of each model")


def sample_settings(run: Run, settings: Mapping[str, Mapping[str, Any]], count: int = 12, seed: int = 0) -> Figure:
    """A row of ``count`` samples of one prior for each of its settings (temperature, top_k, top_p, label)."""
    rows = {name: torch.cat(list(run.samples(count, seed=seed, **how))) for name, how in settings.items()}
    return _panels(rows, count, f"{run.data().name}: samples of a {run.config.kind} by setting, one seed")


def distance_by_noise(shares: Sequence[float], distances: Sequence[Mapping[str, Any]]) -> Figure:
    """FD-classifier and kernel distance of real images with noise (``noise_distances``) to the training images."""
    figure, panels = make_axes(2, "Noise on real images: a distance that can be trusted grows")
    labels = {"sample_fd_classifier": "FD-classifier to the training images", "sample_kd_classifier": "KD-classifier"}
    for axis, colour, (name, label) in zip(panels, colours(2), labels.items(), strict=True):
        axis.plot(shares, [row[name] for row in distances], "o-", color=colour)
        axis.set(xlabel="standard deviation of the noise (pixels in [0, 1])", ylabel=label)
    return figure


def nearest_neighbours(run: Run, name: str, count: int = 10, compared: int = 250) -> Figure:
    """Samples above their nearest training images, and how near they are beside how near real test images are.

    Copies would show as equal pairs, and as distances near 0 where those of test images are not.
    """
    data = run.data()
    made = torch.cat(list(run.samples(compared)))
    found = nearest_training_images(made, data.train)
    real = nearest_training_images(data.test.evenly_spaced(compared), data.train)
    figure, (left, right) = make_axes(2, f"{name}: samples and their nearest training images")
    figure.set_size_inches(11, 2.8)
    pairs = torch.cat([made[:count], data.train.pixels[found.places[:count]].float() / 255])
    left.imshow(_tiles(pairs, count))
    left.set_axis_off()
    left.set_title("samples (above), nearest training image (below)", fontsize=9)
    bins = np.linspace(0, float(torch.cat([found.distances, real.distances]).max()), 40).tolist()
    for values, label, colour in zip(
        (found.distances, real.distances), ("samples", "real test images"), colours(2), strict=True
    ):
        right.hist(values.numpy(), bins=bins, alpha=0.6, density=True, label=label, color=colour)
    right.set(xlabel="distance to the nearest training image (RMS of pixels in [0, 1])", ylabel="density")
    right.legend()
    return figure


def interpolations(run: Run, pairs: int = 3, steps: int = 11) -> Figure:
    """Paths between reconstructions of test images in code space, one a row."""
    ends = run.data().test.evenly_spaced(2 * pairs)
    made = torch.cat([interpolate(run, torch.stack([ends[n], ends[n + pairs]]), steps) for n in range(pairs)])
    title = f"{run.data().name}: straight paths in code space, each cell on its nearest code"
    return _panels({"": made}, steps, title)


def completions(run: Run, count: int = 8, kept_rows: int | None = None) -> Figure:
    """A transformer prior completes test images: the upper half of the codes is given, the rest is drawn.

    Raises InputError for a Run of another kind.
    """
    codec, prior = run.require("transformer").codec().model(), run.model()
    images = run.data().test.evenly_spaced(count)
    codes = codec.encode(images)
    kept = prior.grid[0] // 2 if kept_rows is None else kept_rows
    generator = torch.Generator().manual_seed(run.config.seed)
    drawn = []
    for grid in codes:
        known_codes = grid.clone()
        known_codes[kept:] = UNKNOWN
        drawn.append(prior.sample(2, generator, known_codes=known_codes))
    with torch.no_grad():
        rows = {
            "test image": images,
            "its codes, decoded": codec.decode(codes),
            "completed": codec.decode(torch.stack([pair[0] for pair in drawn])),
            "completed again": codec.decode(torch.stack([pair[1] for pair in drawn])),
        }
    return _panels(rows, count, f"{run.data().name}: the upper {kept} rows of codes are given, the others drawn")


def sample_sheet(run: Run, count: int, path: Path, *, seed: int = 0, device: str | None = None, **how: Any) -> Path:
    """Write ``count`` samples, eight in a row, as the picture ``path``, whole; how: see Run.samples.

    Raises InputError for another ending than .png and for what Run.samples refuses.
    """
    from PIL import Image

    if path.suffix.lower() != ".png":
        raise InputError(f"output {path}: must end in .png")
    images = torch.cat(list(run.samples(count, seed=seed, device=find_device(device), **how))).cpu()
    short_name = -count % _SHEET if count > _SHEET else 0
    filled = torch.cat([images, images.new_ones(short_name, *images.shape[1:])])
    picture = Image.fromarray((_tiles(filled, _SHEET) * 255).round().astype("uint8"))
    write_atomic(path, lambda beside: picture.save(beside, format="png"))
    return path


def _panels(panels: Mapping[str, Tensor], columns: int, title: str) -> Figure:
    figure, places = make_axes(1, title, rows=len(panels))
    heights = [-(-len(images) // columns) for images in panels.values()]
    figure.set_size_inches(11, 0.75 * sum(heights) + 0.8)
    for axis, (name, images) in zip(places, panels.items(), strict=True):
        axis.imshow(_tiles(images, columns))
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def _tiles(images: Tensor, columns: int) -> np.ndarray:
    """(N, 3, H, W) as one picture (rows·H, columns·W, 3)."""
    rows = [torch.cat(list(part), dim=2) for part in images.clamp(0, 1).split(columns)]
    return torch.cat(rows, dim=1).permute(1, 2, 0).numpy()
