"""Gradients of each transport in a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vqlab.losses import reconstruction_loss
from vqlab.probe import Probe
from vqlab.quantize import get_transport
from vqlab.training import Run

if TYPE_CHECKING:
    import pandas as pd

# Columns of ``vqlab.probe.COLUMNS`` that ``probe_medians`` compares.
MEDIANS = ("angle_codes", "angle_gradients", "length_ratio", "relative_error")


def probe_transports(run: Run, kinds: Sequence[str], num_images: int = 128) -> dict[str, pd.DataFrame]:
    """Measure the gradients at the quantizer of a trained model with several transports.

    The gradient is that of the reconstruction loss of the Run's Config. The model is in eval mode, and its weights and
    codes do not change.

    Args:
        run: a finished Run of a VQ-VAE.
        kinds: names of transports, see ``vqlab.quantize.transport_names``.
        num_images: number of training images, evenly spaced in the data set.

    Returns:
        The table of ``vqlab.probe`` by name of the transport: one row for each of at most 4096 tokens.

    Raises:
        InputError: if a transport is unknown or the Run is not a VQ-VAE.
    """
    model, data = run.require_kind("vqvae").model(), run.data()
    batch = data.train.evenly_spaced(num_images)
    variance = float(batch.var())
    tables = {}
    for kind in kinds:
        model.quantizer.transport = get_transport(kind).name
        with Probe(model.quantizer) as probe:
            reconstruction_loss(model(batch).reconstruction, batch, run.config.loss, variance).backward()
        tables[kind] = probe.table()
    return tables


def probe_medians(states: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """Compute medians over tokens of what ``probe_transports`` measured in several models.

    Args:
        states: tables of ``probe_transports`` by name of the model.

    Returns:
        One row for each model and transport, as "rotation, healthy"; the columns are ``MEDIANS``.
    """
    import pandas as pd

    medians = {
        f"{kind}, {state}": table[list(MEDIANS)].astype(float).median()
        for state, tables in states.items()
        for kind, table in tables.items()
    }
    return pd.DataFrame(medians).T
