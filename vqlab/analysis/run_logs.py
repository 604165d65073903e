"""Logs of a Run as the rules of the doctor read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.training import Run

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunLogs:
    """Logs of the training of a VQ-VAE.

    Attributes:
        config: the Config of the Run.
        steps: one row for each logged training step, with the columns of metrics.jsonl.
        usage_windows: tokens of each code in consecutive windows of the training, for each of the n places of an index
            in a vector, int64 (windows, n, K).
    """

    config: Config
    steps: pd.DataFrame
    usage_windows: Int64[np.ndarray, "windows n K"]

    @classmethod
    def from_run(cls, run: Run) -> RunLogs:
        """Read the logs of a Run.

        Args:
            run: a Run of a VQ-VAE with at least one logged step.

        Returns:
            Its logs.

        Raises:
            InputError: if the Run is not a VQ-VAE or has no logged step.
        """
        if run.config.kind != "vqvae":
            raise InputError(f"run {run.folder}: is a {run.config.kind}, which has no codebook; give a VQ-VAE's Run")
        rows = run.metrics()
        if rows.empty or (rows["kind"] != "train").all():
            raise InputError(f"run {run.folder}: has no logged step yet; train it with `vqlab train`")
        return cls(run.config, rows[rows["kind"] == "train"].reset_index(drop=True), run.usage_windows_of_places())

    @property
    def batch_tokens(self) -> int:
        """Tokens in a training batch."""
        config = self.config
        return config.optim.batch_size * math.prod(config.grid)

    @property
    def tokens_per_code(self) -> float:
        """Tokens in a training batch for one codebook, divided by its number of codes."""
        quantizer = self.config.quantizer
        return self.batch_tokens * (quantizer.codes_per_vector if quantizer.shared else 1) / quantizer.num_codes

    @property
    def last_quarter_counts(self) -> Int64[np.ndarray, "n K"]:
        """Tokens of each code of each place in the last quarter of the training."""
        return self.usage_windows[-max(1, len(self.usage_windows) // 4) :].sum(axis=0)

    @property
    def codebook_counts(self) -> dict[str, Int64[np.ndarray, " K"]]:
        """Tokens of each code of each codebook in the last quarter of the training, by the name of its places."""
        return counts_by_codebook(self.config, self.last_quarter_counts)

    @property
    def dead_share(self) -> float:
        """Share of codes without a token in the last quarter of the training, 0…1; that of the worst codebook."""
        return max(float((counts == 0).mean()) for counts in self.codebook_counts.values())

    @property
    def last_step(self) -> int:
        """Number of the last logged step."""
        return int(self.steps["step"].iloc[-1])

    def quarter_mean(self, column: str, quarter: int) -> float:
        """Mean of a logged value over a quarter of the training.

        Args:
            column: a column of ``steps``.
            quarter: 0 (first) … 3 (last).

        Returns:
            The mean; NaN if the column was not logged in that quarter.
        """
        if column not in self.steps:
            return math.nan
        values = np.array_split(self.steps[column].to_numpy(float), 4)[quarter]
        return math.nan if np.isnan(values).all() else float(np.nanmean(values))

    def mean(self, column: str) -> float:
        """Mean of a logged value over the training.

        Args:
            column: a column of ``steps``.

        Returns:
            The mean; NaN if the column was not logged.
        """
        return float(self.steps[column].mean()) if column in self.steps else math.nan


def counts_by_codebook(config: Config, counts: Int64[np.ndarray, "n K"]) -> dict[str, Int64[np.ndarray, " K"]]:
    """Sum the tokens of the places that share a codebook.

    Args:
        config: the Config of the Run.
        counts: tokens of each code, by the place of the index in a vector.

    Returns:
        Tokens of each code by the name of the place, as "level 2"; under "" for the only codebook of a Run.
    """
    names = config.quantizer.place_names
    if config.quantizer.shared or not names:
        return {"": counts.sum(axis=0)}
    return dict(zip(names, counts, strict=True))
