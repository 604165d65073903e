"""Pretrained weights of others: downloaded once, kept in the cache, refused unless their SHA-256 is the known one."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vqlab.data.cache import cache_folder
from vqlab.errors import InputError

_TIMEOUT = 20  # seconds without an answer
_PIECE = 1 << 20


@dataclass(frozen=True)
class Weights:
    """A published file: its name in the cache, where it is, and what it must hash to."""

    file: str
    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it lies once downloaded."""
        return cache_folder() / "weights" / self.file


# The networks of FID (as piq and pytorch-fid take it), of VGG16 (torchvision), and LPIPS's layers on VGG16.
INCEPTION = Weights(
    "pt_inception-2015-12-05.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
VGG16 = Weights(
    "vgg16.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
LPIPS = Weights(
    "lpips_vgg.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
)


def fetch(weights: Weights) -> Path:
    """The file in the cache, downloaded if it is not there.

    Raises InputError where there is no network (with the folder to put the file into), and for a file that was
    cut short or altered.
    """
    if not weights.path.is_file():
        _download(weights)
    if _digest(weights.path) != weights.sha256:
        raise InputError(
            f"{weights.path}: cut short or altered (SHA-256 is not the known one); remove it and try again"
        )
    return weights.path


def load(weights: Weights) -> dict[str, Any]:
    """The tensors of a checked file, on the CPU; nothing but tensors is unpickled. Raises as ``fetch``."""
    return torch.load(fetch(weights), map_location="cpu", weights_only=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(weights: Weights) -> None:
    path = weights.path
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(weights.url, timeout=_TIMEOUT) as answer, beside.open("wb") as file:
            while piece := answer.read(_PIECE):
                file.write(piece)
        os.replace(beside, path)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"weights {weights.file}: could not be downloaded ({reason}); put {weights.url} as {weights.file} into the "
            "folder weights of $VQLAB_CACHE (default ~/.cache/vqlab)"
        ) from None
    finally:
        beside.unlink(missing_ok=True)
