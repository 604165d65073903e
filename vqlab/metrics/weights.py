"""Published weights files, loaded without unpickling."""

from __future__ import annotations

from typing import Any

import torch

from vqlab.data.download import PublishedFile, fetch

_FOLDER = "weights"

# The network of FID (as in piq and pytorch-fid), VGG16 (torchvision), and the linear layers of LPIPS on VGG16.
INCEPTION = PublishedFile(
    "pt_inception-2015-12-05.pth",
    _FOLDER,
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "sha256:6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    128 << 20,
)
VGG16 = PublishedFile(
    "vgg16.pth",
    _FOLDER,
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    640 << 20,
)
LPIPS = PublishedFile(
    "lpips_vgg.pth",
    _FOLDER,
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    "sha256:a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    1 << 20,
)


def load_weights(file: PublishedFile) -> dict[str, Any]:
    """Load the tensors of a weights file; other objects are not unpickled.

    Args:
        file: the file; it is downloaded if the cache folder does not have it.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        WorkError: if the download fails, or the file is incomplete or altered.
    """
    return torch.load(fetch(file), map_location="cpu", weights_only=True)
