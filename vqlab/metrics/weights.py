"""Published weights files: downloaded once into the cache folder and verified by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vqlab.data.cache import cache_folder
from vqlab.errors import WorkError

_TIMEOUT_SECONDS = 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """A published file with weights.

    Attributes:
        name: file name in the folder ``weights`` of the cache folder.
        url: address of the file.
        sha256: hexadecimal SHA-256 of its content.
    """

    name: str
    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Path of the file in the cache folder, whether or not it is downloaded."""
        return cache_folder() / "weights" / self.name


# The network of FID (as in piq and pytorch-fid), VGG16 (torchvision), and the linear layers of LPIPS on VGG16.
INCEPTION = WeightsFile(
    "pt_inception-2015-12-05.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
VGG16 = WeightsFile(
    "vgg16.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
LPIPS = WeightsFile(
    "lpips_vgg.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
)


def fetch_weights(file: WeightsFile) -> Path:
    """Download a weights file if the cache folder does not have it, and verify its SHA-256.

    Args:
        file: the file.

    Returns:
        Its path in the cache folder.

    Raises:
        WorkError: if the download fails, or the file is incomplete or altered.
    """
    try:
        if not file.path.is_file():
            _download(file)
        digest = _sha256(file.path)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise WorkError(
            f"weights {file.name}: could not be downloaded ({reason}); save {file.url} as {file.name} in the folder "
            "weights of $VQLAB_CACHE (default ~/.cache/vqlab)"
        ) from None
    if digest != file.sha256:
        raise WorkError(
            f"{file.path}: incomplete or altered (its SHA-256 must be {file.sha256[:12]}…); remove it and try again"
        )
    return file.path


def load_weights(file: WeightsFile) -> dict[str, Any]:
    """Load the tensors of a weights file; other objects are not unpickled.

    Args:
        file: the file; it is downloaded if the cache folder does not have it.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        WorkError: if the download fails, or the file is incomplete or altered.
    """
    return torch.load(fetch_weights(file), map_location="cpu", weights_only=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(file: WeightsFile) -> None:
    path = file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(file.url, timeout=_TIMEOUT_SECONDS) as response, temporary.open("wb") as stream:
            while chunk := response.read(_CHUNK_BYTES):
                stream.write(chunk)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
