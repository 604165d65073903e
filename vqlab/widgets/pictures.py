"""Tensors as PNG bytes, small enough to be sent at every click."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def png(pixels: UInt8[Tensor, "3 H W"]) -> bytes:
    """The image as PNG, at its own size: the page enlarges it, pixel by pixel."""
    return _encoded(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def error_png(error: Float[np.ndarray, "H W"], most: float = 0.5) -> bytes:
    """An error map as PNG in the cividis colours, dark blue at 0 and yellow from ``most`` on."""
    from matplotlib import colormaps

    return _encoded(colormaps["cividis"](np.clip(error / most, 0, 1), bytes=True)[:, :, :3])


def data_url(content: bytes) -> str:
    """PNG bytes as a URL that asks no server."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def tiled(tiles: UInt8[Tensor, "N 3 H W"], columns: int | None = None) -> UInt8[Tensor, "3 R C"]:
    """Tiles in rows of ``columns`` (a square unless given), white where there are none."""
    count, channels, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = torch.full((rows * columns, channels, height, width), 255, dtype=torch.uint8)
    sheet[:count] = tiles
    sheet = sheet.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return sheet.reshape(channels, rows * height, columns * width)


def _encoded(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
