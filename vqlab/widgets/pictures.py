"""Tensors as PNG bytes, small enough to be sent at every click."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def png(pixels: UInt8[Tensor, "3 H W"]) -> bytes:
    """The image as PNG, at its own size: the page enlarges it, pixel by pixel."""
    return encoded(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())))


def error_png(error: Float[np.ndarray, "H W"], most: float = 0.5) -> bytes:
    """An error map as PNG in the cividis colours, dark blue at 0 and yellow from ``most`` on."""
    from matplotlib import colormaps

    return encoded(Image.fromarray(colormaps["cividis"](np.clip(error / most, 0, 1), bytes=True)[:, :, :3]))


def data_url(content: bytes) -> str:
    """PNG bytes as a URL that asks no server."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def encoded(image: Image.Image) -> bytes:
    """PNG bytes, written for speed."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
