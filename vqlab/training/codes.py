"""Code grids of the images of a VQ-VAE, its code vectors, and the check that a prior fits them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vqlab.data import Images, ordered_batches
from vqlab.data.cache import read_arrays
from vqlab.errors import InputError, WorkError
from vqlab.files import skip_if_read_only, write_atomic
from vqlab.models import VQVAE
from vqlab.training.run_folder import RunFolder

_FILE = "codes.npz"
_BATCH_SIZE = 256
# The key under which files of version 0.1 hold the identity of their grids.
_IDENTITY_KEY = "told"


@dataclass(frozen=True)
class CodeGrids:
    """Code indices of all images, in the order of the images.

    Attributes:
        train: code indices of the training images, int64 (N, h, w), or (N, h, w, n) with n codes for a vector.
        test: code indices of the test images, int64 (M, h, w) or (M, h, w, n).
    """

    train: Int[Tensor, "N h w *codes"]
    test: Int[Tensor, "M h w *codes"]


def load_code_grids(run: RunFolder, device: str = "cpu") -> CodeGrids:
    """Load the code grids of a Run's images, without crops and flips.

    The first call encodes the images and writes ``codes.npz`` into the folder of the Run, with the Run's id, the
    codebook's digest and the data's fingerprint. Later calls read the file. A file that is unreadable, or that
    belongs to other weights or images, is replaced. Its arrays ``train`` and ``test`` are int32 (N, h, w); with n codes
    for a vector they have a last axis of n levels, heads, or levels of each head.

    Args:
        run: the finished Run of a VQ-VAE.
        device: the torch device that encodes the images.

    Returns:
        The grids, on the CPU.

    Raises:
        InputError: if the Run is not that of a VQ-VAE, has not finished training, or its images cannot be read.
    """
    data, model = run.require_kind("vqvae").data(), run.model(device)
    identity = [run.config.id, codebook_digest(model), data.fingerprint]
    path = run.folder / _FILE
    arrays = _read(path, identity)
    shape = run.config.code_shape
    if arrays is None or not _are_grids(arrays, {"train": (len(data.train), *shape), "test": (len(data.test), *shape)}):
        grids = {part: _encode(model, images, device) for part, images in (("train", data.train), ("test", data.test))}
        with skip_if_read_only(path):
            write_atomic(path, lambda temporary: _write(temporary, {_IDENTITY_KEY: np.array(identity), **grids}))
        arrays = grids
    return CodeGrids(*(torch.from_numpy(arrays[part].astype(np.int64)) for part in ("train", "test")))


def code_vectors(model: VQVAE, place: int = 0) -> Float[Tensor, "K D"]:
    """Decode every code index to its z_q, the vector that the decoder receives.

    Args:
        model: a VQ-VAE.
        place: place of the index in vectors of several codes, from 0; the other places of a vector have no code.
            Default 0.

    Returns:
        One row for each code, float (K, D), on the CPU. It differs from the codebook if the codes are projected
        (``quantizer.code_dim``).

    Raises:
        InputError: if the vectors have no such place.
    """
    device, places = next(model.parameters()).device, model.quantizer.codes_per_vector
    if not 0 <= place < places:
        raise InputError(f"place={place}: must be in 0…{places - 1}, the places of a vector's codes")
    indices = torch.arange(model.quantizer.num_codes, device=device)
    if places > 1:
        indices = F.pad(indices[:, None], (place, places - 1 - place), value=-1)
    return model.quantizer.decode(indices[None, :, None])[0, :, :, 0].T.detach().cpu().contiguous()


def codebook_digest(model: VQVAE) -> str:
    """Compute a short hash of ``code_vectors``, which identifies a codebook.

    Args:
        model: a VQ-VAE.

    Returns:
        The first twelve hex digits of the SHA-256; of the code vectors of all places, for vectors of several codes.
    """
    digest = hashlib.sha256()
    for place in range(model.quantizer.codes_per_vector):
        digest.update(code_vectors(model, place).numpy().tobytes())
    return digest.hexdigest()[:12]


def check_codebook(prior: RunFolder, codec: RunFolder) -> None:
    """Check that a prior was trained on the codebook of a VQ-VAE.

    Args:
        prior: the Run of the prior, finished or interrupted.
        codec: the finished Run of the VQ-VAE.

    Raises:
        InputError: if ``prior`` is not the Run of a prior.
        WorkError: if it was trained on another codebook.
    """
    stored = prior.provenance.get("codec") or {}
    if not stored:
        raise InputError(
            f"run {prior.folder}: holds a {prior.config.kind}; must hold a prior; train one with "
            "prior.kind=transformer or prior.kind=diffusion"
        )
    digest = codebook_digest(codec.model())
    if stored["codebook"] != digest:
        raise WorkError(
            f"run {prior.folder}: was trained on codebook {stored['codebook']} of run {stored['run']}; "
            f"{codec.folder} has codebook {digest}; train a prior on that run"
        )


@torch.no_grad()
def _encode(model: VQVAE, images: Images, device: str) -> np.ndarray:
    grids = [model.encode(batch).cpu() for batch, _ in ordered_batches(images, _BATCH_SIZE, device)]
    return torch.cat(grids).numpy().astype(np.int32)


def _read(path: Path, identity: list[str]) -> dict[str, np.ndarray] | None:
    try:
        stored = read_arrays(path)
        return stored if stored[_IDENTITY_KEY].tolist() == identity else None
    except (OSError, ValueError, KeyError):
        return None


def _are_grids(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the arrays of a file are integers of these shapes."""
    return all(
        part in arrays and arrays[part].dtype.kind in "iu" and arrays[part].shape == shape
        for part, shape in shapes.items()
    )


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
