"""Trains a tiny Config of every kind and prints the ids, weight digests and weight norms as JSON.

``python tests/record_weights.py FOLDER`` keeps the Runs under FOLDER. It uses the public API alone, so the same file
runs on any version: tests/data/weights_0_1.json is what it printed on commit 6c2aed7, the last one of version 0.1.
The entry "gumbel" is of a later commit: until then a restart changed the codes that the backward pass of the same step
used. Without restarts its weights are those of version 0.1.
The arithmetic is pinned to instructions that every x86-64 processor has and to one thread, so that the digests do
not depend on the machine.
"""

from __future__ import annotations

import os

PINNED = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
os.environ.update(PINNED)  # read by the libraries when torch is imported

import hashlib
import json
import sys

import torch

from vqlab import Config, Run, train

TINY = {
    "data.train_limit": 96, "data.test_limit": 16, "optim.batch_size": 16, "optim.epochs": 2, "model.hidden": 16,
    "model.residual_hidden": 8, "quantizer.num_codes": 32, "quantizer.dim": 8, "quantizer.restart_every": 3,
    "optim.learning_rate": 2e-3, "evaluation.log_every": 4, "evaluation.checkpoint_every": 5,
}  # fmt: skip
PRIOR = {
    "prior.epochs": 2, "prior.batch_size": 16, "prior.width": 16, "prior.layers": 2, "prior.heads": 2,
    "prior.noise_steps": 20, "prior.sample_steps": 4,
}  # fmt: skip
GAN = {"model.kind": "gan", "gan.width": 8, "gan.latent_dim": 8}
KINDS = {
    "rotation": {},
    "rodrigues": {"quantizer.transport": "rodrigues"},
    "straight_through": {"quantizer.transport": "straight_through"},
    "reflection": {"quantizer.transport": "reflection"},
    "nsvq": {"quantizer.transport": "nsvq"},
    "diveq": {"quantizer.transport": "diveq"},
    "gumbel": {
        "quantizer.transport": "straight_through", "quantizer.assignment": "gumbel", "quantizer.update": "gradient",
        "quantizer.init": "normal",
    },
    "projected": {"quantizer.code_dim": 4, "quantizer.distance": "cosine", "quantizer.init": "data"},
    "perceptual": {"loss.classifier": 0.1, "loss.reconstruction": "l1"},
    "vae": {"model.kind": "vae", "vae.latent_dim": 8},
    "gan": GAN,
    "gan_nonsaturating": {**GAN, "gan.loss": "nonsaturating", "gan.spectral_norm": False},
    "transformer": {"prior.kind": "transformer", **PRIOR},
    "diffusion": {"prior.kind": "diffusion", **PRIOR},
}  # fmt: skip


def config_of(kind: str) -> Config:
    """The tiny Config of one entry of KINDS."""
    return Config.profile("paper", **{**TINY, **KINDS[kind]})


def described(run: Run) -> dict[str, object]:
    """The id of a Run, the SHA-256 over names and bytes of its weights, and the norm of every tensor."""
    digest, norms = hashlib.sha256(), {}
    for name, tensor in sorted(run.model().state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        norms[name] = float(tensor.double().norm())
    return {"id": run.config.id, "digest": digest.hexdigest(), "norms": norms}


def main(folder: str) -> None:
    """Train every entry of KINDS under ``folder`` and print what came out."""
    torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        runs = {kind: described(train(config_of(kind), folder, "cpu")) for kind in KINDS}
    print(json.dumps({"torch": torch.__version__, "runs": runs}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
