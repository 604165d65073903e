"""What each transport would do to the gradient in a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqlab.losses import reconstruction_loss
from vqlab.probe import Probe
from vqlab.quantize import get_transport
from vqlab.training import Run

if TYPE_CHECKING:
    import pandas as pd


def probe_transports(run: Run, kinds: Sequence[str], images: int = 128) -> dict[str, pd.DataFrame]:
    """What each transport would do in the trained model of ``run``: a probe's table by transport.

    The gradient is that of the Run's reconstruction loss on ``images`` training images; the model, in eval mode,
    and the codes stay as they are. Raises InputError for a transport that is not registered.
    """
    model, data = run.require("vqvae").model(), run.data()
    batch = data.train.evenly_spaced(images)
    variance = float(batch.var())
    tables = {}
    for kind in kinds:
        model.quantizer.transport = get_transport(kind).name
        with Probe(model.quantizer) as seen:
            reconstruction_loss(model(batch).reconstruction, batch, run.config.loss, variance).backward()
        tables[kind] = seen.table()
    return tables
