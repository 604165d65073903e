"""What a prior has learned: nats for each code, and the quality of its samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.training import Run

NATS = "nats a code, test images"
MAX_NATS = "ln K"


def prior_measures(run: Run) -> pd.DataFrame:
    """Collect what was measured of a prior.

    Args:
        run: the finished Run of a transformer prior.

    Returns:
        One column, ``measured``: ``NATS`` (cross-entropy of the codes of the test images after the last epoch) beside
        ``MAX_NATS``, its value without any knowledge; FD-classifier of the samples with its standard error, precision
        and recall.

    Raises:
        InputError: if the Run is of another kind, or training has not finished.
    """
    import pandas as pd

    nats = run.require_kind("transformer").metrics()["nats_a_code"].dropna().iloc[-1]
    measured = run.evaluation()
    values = {
        NATS: nats,
        MAX_NATS: math.log(run.config.quantizer.num_codes),
        "sample FD-classifier": measured["sample_fd_classifier"],
        "its standard error": measured["sample_fd_classifier_error"],
        "precision": measured["sample_precision_classifier"],
        "recall": measured["sample_recall_classifier"],
    }
    return pd.Series(values, name="measured", dtype=float).to_frame()
