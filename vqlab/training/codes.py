"""The code grids of a VQ-VAE's images: extracted once, kept in its Run's folder."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.data import Images, ordered_batches
from vqlab.errors import InputError
from vqlab.models import VQVAE
from vqlab.training.files import write_atomic
from vqlab.training.run_folder import RunFolder

_FILE = "codes.npz"


@dataclass(frozen=True)
class CodeGrids:
    """train (N, h, w) and test (M, h, w): codes, int64, in the order of the images."""

    train: Int[Tensor, "N h w"]
    test: Int[Tensor, "M h w"]


def code_grids(run: RunFolder, device: str = "cpu") -> CodeGrids:
    """The grids of the Run's images, without crops and flips.

    Kept as codes.npz beside its weights with the Run's id, the codebook's digest and the data's fingerprint; a file
    that does not fit them, or cannot be read, is made again. Raises InputError for a Run that is no VQ-VAE.
    """
    data, model = run.require("vqvae").data(), run.model(device)
    identity = [run.config.id, codebook_digest(model), data.fingerprint]
    path = run.folder / _FILE
    found = _stored(path, identity)
    if found is None:
        grids = {part: _extract(model, images, device) for part, images in (("train", data.train), ("test", data.test))}
        write_atomic(path, lambda beside: _write(beside, {"told": np.array(identity), **grids}))
        found = grids
    return CodeGrids(*(torch.from_numpy(found[part].astype(np.int64)) for part in ("train", "test")))


def code_vectors(model: VQVAE) -> Float[Tensor, "K D"]:
    """The z_q of every code, on the CPU."""
    every = torch.arange(model.quantizer.num_codes, device=model.quantizer.codebook.device)
    return model.quantizer.decode(every[None, :, None])[0, :, :, 0].T.detach().cpu().contiguous()


def codebook_digest(model: VQVAE) -> str:
    """Twelve hex digits of the SHA-256 of ``code_table``."""
    return hashlib.sha256(code_vectors(model).numpy().tobytes()).hexdigest()[:12]


def check_codebook(prior: RunFolder, codec: RunFolder) -> None:
    """Raise InputError unless ``prior`` was trained on the codebook that ``codec`` has."""
    known = prior.provenance.get("codec") or {}
    if not known:
        raise InputError(f"run {prior.folder}: holds a {prior.config.kind}, no prior; train one with prior.kind set")
    if known["codebook"] != codebook_digest(codec.model()):
        raise InputError(
            f"run {prior.folder}: this prior knows the codebook of run {known['run']} ({known['codebook']}), not that "
            f"of {codec.folder}; train a prior on that run"
        )


@torch.no_grad()
def _extract(model: VQVAE, images: Images, device: str) -> np.ndarray:
    grids = [model.encode(batch).cpu() for batch, _ in ordered_batches(images, 256, device)]
    return torch.cat(grids).numpy().astype(np.int32)


def _stored(path: Path, identity: list[str]) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored) if stored["told"].tolist() == identity else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
