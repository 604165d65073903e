"""The scale of the studies and grids of many Runs at profile ``quick``."""

from __future__ import annotations

from typing import Any

# A few seconds for each Run. One scale for all, so that notebooks share Runs.
QUICK_SCALE: dict[str, Any] = {
    "model.hidden": 32, "model.residual_hidden": 16, "quantizer.num_codes": 256,
    "optim.batch_size": 8, "data.train_limit": 480, "data.test_limit": 256,
}  # fmt: skip
# With the rates of the profile, which suit its larger batches, the same PSNR takes a quarter more steps.
QUICK_CHANGES: dict[str, Any] = {**QUICK_SCALE, "optim.learning_rate": 3e-3, "optim.muon_learning_rate": 16e-3}
