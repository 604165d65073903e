"""What wrong codes cost: reconstructions of test images after some codes are replaced by random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from vqlab.analysis.tokenizer import Tokenizer, image_metrics

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.training import Run

PERCENTAGES = (0, 2, 5, 10, 20, 50)


def replace_codes(grid: Int[Tensor, "h w"], percent: float, num_codes: int, seed: int) -> Int[Tensor, "h w"]:
    """Replace the codes of randomly selected cells by codes drawn uniformly from the codebook.

    Args:
        grid: codes.
        percent: share of the cells that get a new code (%), from 0 to 100; a drawn code may equal the old one.
        num_codes: codebook size K; codes are drawn from 0…K−1.
        seed: seed of the random generator; the same seed gives the same grid.

    Returns:
        The new grid.

    Example:
        >>> replace_codes(torch.zeros(2, 2, dtype=torch.long), 0, 16, seed=0).tolist()
        [[0, 0], [0, 0]]
    """
    generator = torch.Generator().manual_seed(seed)
    changed = grid.clone()
    count = round(grid.numel() * percent / 100)
    cells = torch.randperm(grid.numel(), generator=generator)[:count]
    changed.view(-1)[cells] = torch.randint(num_codes, (count,), generator=generator)
    return changed


def wrong_code_scores(run: Run, percentages: Sequence[float] = PERCENTAGES, count: int = 8) -> pd.DataFrame:
    """Measure how the reconstruction changes when a share of the codes is wrong.

    Args:
        run: a finished Run of a VQ-VAE.
        percentages: shares of wrong codes (%), each from 0 to 100.
        count: number of test images, evenly spaced over the test set.

    Returns:
        One row for each share, with its value (%) as index: means over the images of PSNR (dB) and SSIM.

    Raises:
        InputError: if the Run is not a VQ-VAE, not finished or damaged, or its images cannot be read.
    """
    import pandas as pd

    tokenizer = Tokenizer(run)
    images = tokenizer.data.test.evenly_spaced(count)
    rows = {}
    for percent in percentages:
        scores = []
        for seed, image in enumerate(images):
            grid = replace_codes(tokenizer.encode(image), percent, tokenizer.num_codes, seed)
            scores.append(image_metrics(image, tokenizer.decode(grid)))
        rows[percent] = pd.DataFrame(scores).mean()
    table = pd.DataFrame(rows).T.rename(columns={"psnr": "PSNR (dB)", "ssim": "SSIM"})
    return table.rename_axis("wrong codes (%)")
