"""The numbers of the paper, and tables in which they stand beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqlab.studies.measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.data import ImageData
    from vqlab.studies.grid import GridTable
    from vqlab.studies.study_table import StudyTable
    from vqlab.training import Run

_LABELS = {**MEASURES, "rfid": "rFID"}
# An Enhanced VQ-VAE with the rotation trick, 3 epochs (Table 2) and 2 epochs (Table 3); perplexity is not reported.
# Its PSNR is that of its mean squared error, so it is the pooled PSNR.
PUBLISHED: dict[str, dict[str, float]] = {
    "paper, Table 2": {"mse": 0.0254, "psnr_pooled": 15.96, "ssim": 0.61, "rfid": 307.49},
    "paper, Table 3, RRT": {"mse": 0.0209, "psnr_pooled": 16.80, "ssim": 0.69, "rfid": 261.86},
    "paper, Table 3, straight-through": {"mse": 0.0137, "psnr_pooled": 18.63, "ssim": 0.79, "rfid": 198.27},
}
# CIFAR-10 (§4.1.1).
PUBLISHED_SIZES = {"training images": 50_000, "test images": 10_000, "pixels": 32}
_USAGE = ("psnr", "psnr_pooled", "ssim", "perplexity", "utilisation")
_TRANSPORTS = ("RRT", "straight-through")


def beside_published(
    rows: Mapping[str, Mapping[str, Any]], measures: Sequence[str], tables: Sequence[str] = ("paper, Table 2",)
) -> pd.DataFrame:
    """Put measured rows above rows of the paper.

    Args:
        rows: columns of ``Run.evaluation`` or means of a study, by name of the row.
        measures: keys of ``MEASURES``, or ``rfid``.
        tables: keys of ``PUBLISHED``.

    Returns:
        One row for each name, one column for each measure by label; NaN where a value was not measured or reported.

    Example:
        >>> table = beside_published({"RRT": {"mse": 0.005, "psnr_pooled": 23.0}}, ("mse", "psnr_pooled"))
        >>> list(table.index), table["pooled PSNR (dB)"].tolist()
        (['RRT', 'paper, Table 2'], [23.0, 15.96])
    """
    import pandas as pd

    values: dict[str, Mapping[str, Any]] = {**rows, **{name: PUBLISHED[name] for name in tables}}
    columns = {_LABELS[measure]: [row.get(measure) for row in values.values()] for measure in measures}
    return pd.DataFrame(columns, index=list(values), dtype=float)


def sizes_beside_published(images: ImageData) -> pd.DataFrame:
    """Put the sizes of a data source beside those of the paper.

    Args:
        images: the images.

    Returns:
        The columns ``measured`` and ``paper §4.1.1``; one row each for training images, test images and pixels along
        the longer side.
    """
    import pandas as pd

    measured = [len(images.train), len(images.test), max(images.train.pixels.shape[2:])]
    return pd.DataFrame({"measured": measured, "paper §4.1.1": PUBLISHED_SIZES.values()}, index=list(PUBLISHED_SIZES))


def transports_beside_published(studies: Mapping[str, StudyTable]) -> pd.DataFrame:
    """Put means over seeds of RRT and straight-through beside the paper's Table 3.

    Args:
        studies: tables with the arms ``RRT`` and ``straight-through``, by what distinguishes them.

    Returns:
        One row for each arm and study, as "RRT, healthy codebook", and one for each row of Table 3.

    Raises:
        InputError: if a study has no finished row of one of the arms.
    """
    measures = ("mse", "psnr", "psnr_pooled", "ssim", "rfd_classifier", "perplexity")
    rows = {}
    for name, study in studies.items():
        summary = study.summary(measures)
        for arm in _TRANSPORTS:
            means = {measure: summary[measure, "mean"].to_dict()[arm] for measure in measures}
            rows[f"{arm}, {name}"] = {**means, "rfid": study.runs(arm)[0].evaluation()["rfid"]}
    tables = [name for name in PUBLISHED if "Table 3" in name]
    return beside_published(rows, (*measures, "rfid"), tables).round(4)


def codebooks_beside_published(runs: Mapping[str, Run], grid: GridTable) -> pd.DataFrame:
    """Put Runs that differ in their codebooks, and the best point of a grid, beside the paper's Table 2.

    Args:
        runs: finished Runs of VQ-VAEs by name.
        grid: the table of a grid.

    Returns:
        One row each: PSNR, pooled PSNR, SSIM, perplexity and utilisation after the last epoch.

    Raises:
        InputError: if no point of the grid is finished, or a Run has no finished epoch.
    """
    rows = {name: run.last_epoch_metrics() for name, run in runs.items()}
    rows["best point of the grid (its own training length)"] = grid.best_row()
    return beside_published(rows, _USAGE).round(3)


def scaling_beside_published(grid: GridTable) -> pd.DataFrame:
    """Put a grid over the codebook's size beside the paper's one measured point, K = 1024 and D = 64.

    Args:
        grid: the table of the grid ``scaling``.

    Returns:
        The points in descending order of PSNR with quality, bit rates and cost; the last row is the paper's.
    """
    import pandas as pd

    measures = (*_USAGE, "fixed_bits", "entropy_bits", "wall_seconds", "peak_memory_mib")
    paper = beside_published({}, ("psnr_pooled", "ssim")).assign(num_codes=1024, dim=64)
    return pd.concat([grid.formatted(measures), paper]).round(3)
