"""What codes are worth: reconstructions of test images after some are replaced by random ones, or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vqlab.analysis.tokenizer import Tokenizer, image_metrics
from vqlab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.training import Run

PERCENTAGES = (0, 2, 5, 10, 20, 50)

# A code grid and the number of its image to the edited grid.
Edit = Callable[[Tensor, int], Tensor]


def replace_codes(
    grid: Int[Tensor, "h w *codes"], percent: float, num_codes: int, seed: int, place: int | None = None
) -> Int[Tensor, "h w *codes"]:
    """Replace randomly selected codes by codes drawn uniformly from the codebook.

    Args:
        grid: codes, (h, w), or (h, w, n) with n codes for a cell.
        percent: share of the codes that are replaced (%), from 0 to 100; a drawn code may equal the old one.
        num_codes: codebook size K; codes are drawn from 0…K−1.
        seed: seed of the random generator; the same seed gives the same grid.
        place: place of the codes that may be replaced, 0…n−1, as a level or a head. Default None: the codes of all
            places.

    Returns:
        The new grid.

    Raises:
        InputError: if the grid has no such place.

    Example:
        >>> replace_codes(torch.zeros(2, 2, dtype=torch.long), 0, 16, seed=0).tolist()
        [[0, 0], [0, 0]]
    """
    if place is not None:
        places = 1 if grid.dim() == 2 else grid.shape[2]
        if not 0 <= place < places:
            raise InputError(f"place={place}: must be in 0…{places - 1}, the places of a vector's codes")
        codes = grid.view(*grid.shape[:2], places)
        edited = replace_codes(codes[..., place], percent, num_codes, seed)
        return torch.cat([codes[..., :place], edited[..., None], codes[..., place + 1 :]], dim=-1).view_as(grid)
    generator = torch.Generator().manual_seed(seed)
    changed = grid.clone(memory_format=torch.contiguous_format)
    count = round(grid.numel() * percent / 100)
    cells = torch.randperm(grid.numel(), generator=generator)[:count]
    changed.view(-1)[cells] = torch.randint(num_codes, (count,), generator=generator)
    return changed


def wrong_code_scores(
    run: Run, percentages: Sequence[float] = PERCENTAGES, count: int = 8, place: int | None = None
) -> pd.DataFrame:
    """Measure how the reconstruction changes when a share of the codes is wrong.

    Args:
        run: a finished Run of a VQ-VAE.
        percentages: shares of wrong codes (%), each from 0 to 100.
        count: number of test images, evenly spaced over the test set.
        place: place of the wrong codes in vectors of several codes, from 0. Default None: codes of all places.

    Returns:
        One row for each share, with its value (%) as index: means over the images of PSNR (dB) and SSIM.

    Raises:
        InputError: if the Run is not a VQ-VAE, not finished or damaged, its images cannot be read, or its vectors have
            no such place.
    """
    tokenizer = Tokenizer(run)

    def replaced(percent: float) -> Edit:
        return lambda grid, seed: replace_codes(grid, percent, tokenizer.num_codes, seed, place)

    edits = {percent: replaced(percent) for percent in percentages}
    return _scores(tokenizer, edits, count).rename_axis("wrong codes (%)")


def place_ablation(run: Run, count: int = 8) -> pd.DataFrame:
    """Measure what each level or head is worth: reconstructions without its codes, and from the first levels alone.

    A level that is left out adds nothing to the sum of codes; the channels of a head that is left out are 0 before the
    projection of ``code_dim``.

    Args:
        run: a finished Run of a VQ-VAE whose vectors have several codes.
        count: number of test images, evenly spaced over the test set.

    Returns:
        Rows ``all codes``, ``without level 1`` …, and for several levels ``levels 1…1``, ``levels 1…2`` …; means over
        the images of PSNR (dB) and SSIM.

    Raises:
        InputError: if the vectors have one code, the Run is not a VQ-VAE, not finished or damaged, or its images cannot
            be read.
    """
    tokenizer, settings = Tokenizer(run), run.config.quantizer
    names, levels = settings.place_names, settings.levels
    if not names:
        raise InputError(
            f"run {run.folder}: its vectors have one code each; give a run with quantizer.family=residual or product"
        )
    places = torch.arange(len(names))
    kept = {"all codes": places >= 0, **{f"without {name}": places != place for place, name in enumerate(names)}}
    kept |= {f"levels 1…{level}": places % levels < level for level in range(1, levels)}

    def leaving_out(mask: Bool[Tensor, " n"]) -> Edit:
        return lambda grid, seed: torch.where(mask, grid, -1)

    return _scores(tokenizer, {name: leaving_out(mask) for name, mask in kept.items()}, count).rename_axis("codes")


def _scores(tokenizer: Tokenizer, edits: Mapping[Any, Edit], count: int) -> pd.DataFrame:
    """Mean scores of test images after each edit of their code grids."""
    import pandas as pd

    images = tokenizer.data.test.evenly_spaced(count)
    rows = {}
    for name, edit in edits.items():
        scores = [
            image_metrics(image, tokenizer.decode(edit(tokenizer.encode(image), seed)))
            for seed, image in enumerate(images)
        ]
        rows[name] = pd.DataFrame(scores).mean()
    return pd.DataFrame(rows).T.rename(columns={"psnr": "PSNR (dB)", "ssim": "SSIM"})
