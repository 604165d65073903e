"""The numbers of the paper's Tables 2 and 3, to stand beside what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqlab.studies.measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd

_LABELS = {**MEASURES, "rfid": "rFID"}
# An Enhanced VQ-VAE with the rotation trick, 3 epochs (Table 2) and 2 epochs (Table 3); perplexity is not reported.
# Its PSNR is that of its mean squared error, so it is the pooled PSNR.
PUBLISHED: dict[str, dict[str, float]] = {
    "paper, Table 2": {"mse": 0.0254, "psnr_pooled": 15.96, "ssim": 0.61, "rfid": 307.49},
    "paper, Table 3, RRT": {"mse": 0.0209, "psnr_pooled": 16.80, "ssim": 0.69, "rfid": 261.86},
    "paper, Table 3, straight-through": {"mse": 0.0137, "psnr_pooled": 18.63, "ssim": 0.79, "rfid": 198.27},
}


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
