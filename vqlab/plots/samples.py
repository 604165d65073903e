"""Figures of images that models generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vqlab.analysis.pictures import channels_last
from vqlab.analysis.samples import interpolate, neighbour_distances
from vqlab.errors import InputError
from vqlab.files import write_atomic
from vqlab.models.sampling import UNKNOWN
from vqlab.plots.style import colours, make_axes
from vqlab.training.device import find_device

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.figure import Figure

    from vqlab.training import Run

_FILE_COLUMNS = 8


def sample_grids(runs: Mapping[str, Run], count: int = 12, rows: int = 2, seed: int = 0) -> Figure:
    """Draw samples of each model below training images (matplotlib).

    Args:
        runs: finished Runs of VAEs, GANs or priors on one data source, by their label; at least one.
        count: number of images in a row.
        rows: number of rows for each model.
        seed: seed of the samples.

    Returns:
        One panel for the training images and one for each Run.

    Raises:
        InputError: if a Run is a VQ-VAE without a prior, has not finished training, or its images cannot be read.
    """
    data = next(iter(runs.values())).data()
    panels = {"training images": data.train.evenly_spaced(rows * count)}
    panels |= {name: torch.cat(list(run.samples(rows * count, seed=seed))) for name, run in runs.items()}
    return _draw_rows(panels, count, f"{data.name}: training images, and samples of each model")


def samples_by_setting(run: Run, settings: Mapping[str, Mapping[str, Any]], count: int = 12, seed: int = 0) -> Figure:
    """Draw samples of one prior for each of some sampling settings, with the same seed (matplotlib).

    Args:
        run: the finished Run of a prior.
        settings: keyword arguments of ``Run.samples`` (``label``, ``temperature``, ``top_k``, ``top_p``), by the label
            of their row.
        count: number of samples in a row.
        seed: seed of every row.

    Returns:
        One row of samples for each setting.

    Raises:
        InputError: if the Run does not have a setting, cannot be sampled, or has not finished training.
    """
    rows = {name: torch.cat(list(run.samples(count, seed=seed, **values))) for name, values in settings.items()}
    return _draw_rows(rows, count, f"{run.data().name}: samples of a {run.config.kind} by setting, same seed")


def distance_by_noise(noise: Sequence[float], distances: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the distances of real images with added noise to the training images (matplotlib).

    It checks the metric: the distance must grow with the noise.

    Args:
        noise: standard deviations of the noise, for pixels in [0, 1].
        distances: rows of ``vqlab.metrics.distances.noise_distances``, one for each standard deviation.

    Returns:
        Two panels: FD-classifier, and KD-classifier (kernel distance), both on features of the classifier.
    """
    figure, panels = make_axes(2, "Distance of real images with added noise to the training images")
    labels = {"sample_fd_classifier": "FD-classifier", "sample_kd_classifier": "KD-classifier"}
    for axis, colour, (name, label) in zip(panels, colours(2), labels.items(), strict=True):
        axis.plot(noise, [row[name] for row in distances], "o-", color=colour)
        axis.set(xlabel="standard deviation of the noise\n(pixels in [0, 1])", ylabel=label)
    return figure


def nearest_neighbours(run: Run, name: str, count: int = 10, compared: int = 250) -> Figure:
    """Draw samples with their nearest training images, and a histogram of the distances (matplotlib).

    A model that copies training images gives equal pairs, and distances near 0 that test images do not have.

    Args:
        run: the finished Run of a VAE, a GAN or a prior.
        name: name of the model, for the title.
        count: number of pairs to draw.
        compared: number of samples, and of test images, in the histogram; at least ``count``.

    Returns:
        Two panels: samples above their nearest training images, and the densities of the distance to the nearest
        training image for samples and for test images. The distance is the root mean square over pixels in [0, 1].

    Raises:
        InputError: if the Run cannot be sampled, has not finished training, or its images cannot be read.
    """
    data = run.data()
    samples = torch.cat(list(run.samples(compared)))
    found = neighbour_distances(run, samples)
    title = f"{name}: samples and their nearest training images"
    figure, (pictures, histogram) = make_axes(2, title, width=5.5, height=2.8)
    pairs = torch.cat([samples[:count], data.train.pixels[found["samples"].indices[:count]].float() / 255])
    pictures.imshow(_tile(pairs, count))
    pictures.set_axis_off()
    pictures.set_title("samples (above), nearest training images (below)", fontsize=9)
    bins = np.linspace(0, float(torch.cat([neighbours.distances for neighbours in found.values()]).max()), 40).tolist()
    for (label, neighbours), colour in zip(found.items(), colours(2), strict=True):
        histogram.hist(neighbours.distances.numpy(), bins=bins, alpha=0.6, density=True, label=label, color=colour)
    histogram.set(xlabel="distance to the nearest training image (RMS of pixels in [0, 1])", ylabel="density")
    histogram.legend()
    return figure


def interpolations(run: Run, pairs: int = 3, steps: int = 11) -> Figure:
    """Draw interpolations in code space between the reconstructions of test images (matplotlib).

    Args:
        run: the finished Run of a VQ-VAE.
        pairs: number of pairs of test images, evenly spaced over the test set.
        steps: number of images from one end to the other, both included; at least 2.

    Returns:
        One row for each pair; see ``vqlab.analysis.interpolate``.

    Raises:
        InputError: if ``steps`` is below 2, or the Run is not that of a VQ-VAE, has not finished training, or its
            images cannot be read.
    """
    data = run.data()
    ends = data.test.evenly_spaced(2 * pairs)
    paths = torch.cat([interpolate(run, torch.stack([ends[n], ends[n + pairs]]), steps) for n in range(pairs)])
    title = f"{data.name}: linear interpolation between test images in code space"
    return _draw_rows({"": paths}, steps, title)


def completions(run: Run, count: int = 8, kept_rows: int | None = None) -> Figure:
    """Draw test images whose upper codes are kept while a transformer prior samples the others (matplotlib).

    Args:
        run: the finished Run of a transformer prior.
        count: number of test images, evenly spaced over the test set.
        kept_rows: rows of codes to keep, from the top; half of the grid if None.

    Returns:
        Four rows: test images, their reconstructions, and two completions.

    Raises:
        InputError: if the Run is of another kind, has not finished training, or its images cannot be read.
    """
    codec, prior = run.require_kind("transformer").codec().model(), run.model()
    data = run.data()
    images = data.test.evenly_spaced(count)
    codes = codec.encode(images)
    kept = prior.grid[0] // 2 if kept_rows is None else kept_rows
    generator = torch.Generator().manual_seed(run.config.seed)
    sampled = []
    for grid in codes:
        known_codes = grid.clone()
        known_codes[kept:] = UNKNOWN
        sampled.append(prior.sample(2, generator, known_codes=known_codes))
    with torch.no_grad():
        rows = {
            "test images": images,
            "reconstructions": codec.decode(codes),
            "completion 1": codec.decode(torch.stack([pair[0] for pair in sampled])),
            "completion 2": codec.decode(torch.stack([pair[1] for pair in sampled])),
        }
    return _draw_rows(rows, count, f"{data.name}: the upper {kept} rows of codes are kept, the others sampled")


def save_samples(
    run: Run, count: int, path: Path, *, seed: int = 0, device: str | None = None, **settings: Any
) -> Path:
    """Sample images and write them as one PNG file, eight in a row.

    The file is complete or not written.

    Args:
        run: the finished Run of a VAE, a GAN or a prior.
        count: number of images, at least 1.
        path: the file to write, ending in ``.png``; its folder must exist.
        seed: seed of the samples.
        device: where to sample; CUDA if available, else CPU, if None.
        **settings: as in ``Run.samples``.

    Returns:
        ``path``.

    Raises:
        InputError: if ``path`` has another ending, or ``Run.samples`` raises it.
    """
    from PIL import Image

    if path.suffix.lower() != ".png":
        raise InputError(f"output {path}: must end in .png")
    images = torch.cat(list(run.samples(count, seed=seed, device=find_device(device), **settings))).cpu()
    missing = -count % _FILE_COLUMNS if count > _FILE_COLUMNS else 0
    filled = torch.cat([images, images.new_ones(missing, *images.shape[1:])])
    picture = Image.fromarray((_tile(filled, _FILE_COLUMNS) * 255).round().astype("uint8"))
    write_atomic(path, lambda temporary: picture.save(temporary, format="png"))
    return path


def _draw_rows(panels: Mapping[str, Float[Tensor, "n C H W"]], columns: int, title: str) -> Figure:
    heights = [-(-len(images) // columns) for images in panels.values()]
    image_height, image_width = next(iter(panels.values())).shape[2:]
    height = (0.75 * sum(heights) * image_height / image_width + 0.8) / len(panels)
    figure, axes = make_axes(1, title, rows=len(panels), width=11, height=height)
    for axis, (name, images) in zip(axes, panels.items(), strict=True):
        axis.imshow(_tile(images, columns))
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def _tile(images: Float[Tensor, "n C H W"], columns: int) -> Float[np.ndarray, "height width 3"]:
    rows = [torch.cat(list(part), dim=2) for part in images.clamp(0, 1).split(columns)]
    return channels_last(torch.cat(rows, dim=1))
