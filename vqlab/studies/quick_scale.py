"""The scale of the studies and grids of many Runs at profile ``quick``."""

from __future__ import annotations

# A few seconds for each Run. One scale for all, so that notebooks share Runs.
QUICK_CHANGES = {
    "model.hidden": 32, "model.residual_hidden": 16, "quantizer.num_codes": 256,
    "optim.batch_size": 8, "data.train_limit": 600, "data.test_limit": 256,
}  # fmt: skip
