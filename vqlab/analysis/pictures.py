"""Tensors as pictures: bytes, tiles, error maps and PNG."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

LARGEST_ERROR = 0.5
_FAST = 1
_SMALL = 9


def to_uint8(image: Float[Tensor, "*b C H W"]) -> UInt8[Tensor, "*b C H W"]:
    """Round values in [0, 1] to 0…255; values outside are clamped.

    Args:
        image: pixels in [0, 1].

    Returns:
        The same shape as uint8.
    """
    return (image.clamp(0, 1) * 255).round().byte()


def error_map(image: Float[Tensor, "C H W"], reconstruction: Float[Tensor, "C H W"]) -> Float[np.ndarray, "H W"]:
    """Mean over colour channels of the absolute error of each pixel.

    Args:
        image: pixels in [0, 1].
        reconstruction: pixels in [0, 1].

    Returns:
        One value in [0, 1] for each pixel.
    """
    return (image - reconstruction).abs().mean(dim=0).numpy()


def tile_images(
    tiles: UInt8[Tensor, "N C H W"], columns: int | None = None, gap: int = 0
) -> UInt8[Tensor, "C height width"]:
    """Arrange tiles in rows.

    Args:
        tiles: at least one tile, 0…255.
        columns: tiles in a row; None arranges them in a square.
        gap: white pixels after each tile, to the right and below.

    Returns:
        One picture; places without a tile are white.
    """
    tiles = F.pad(tiles, (0, gap, 0, gap), value=255)
    count, channels, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = torch.full((rows * columns, channels, height, width), 255, dtype=torch.uint8)
    sheet[:count] = tiles
    sheet = sheet.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return sheet.reshape(channels, rows * height, columns * width)


def channels_last(image: Shaped[Tensor, "C H W"]) -> Shaped[np.ndarray, "H W 3"]:
    """Bring an image to the layout of matplotlib and Pillow.

    Args:
        image: pixels in [0, 1] or 0…255.

    Returns:
        The same pixels; the channel of a grey image is repeated.
    """
    return np.ascontiguousarray(image.expand(3, -1, -1).permute(1, 2, 0).numpy())


def encode_png(pixels: UInt8[Tensor, "C H W"], *, small: bool = False) -> bytes:
    """Encode an image as PNG at its own size.

    Args:
        pixels: 0…255.
        small: compress as far as possible, for files; otherwise fast, for a reply to a click.

    Returns:
        The PNG file.
    """
    return _encode(Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else channels_last(pixels)), small=small)


def encode_shade_png(opacity: UInt8[np.ndarray, "H W"]) -> bytes:
    """Encode a medium grey of varying opacity as PNG: it darkens a white page and lightens a black one.

    Args:
        opacity: 0 (transparent) to 255 for each pixel.

    Returns:
        The PNG file.
    """
    return _encode(Image.fromarray(np.stack([np.full_like(opacity, 128), opacity], axis=2), "LA"), small=False)


def encode_error_png(error: Float[np.ndarray, "H W"], *, small: bool = False) -> bytes:
    """Encode an error map as PNG in the cividis colours: dark blue at 0, yellow from LARGEST_ERROR on.

    Args:
        error: values in [0, 1], as ``error_map`` returns them.
        small: as in ``encode_png``.

    Returns:
        The PNG file.
    """
    from matplotlib import colormaps

    coloured = colormaps["cividis"](np.clip(error / LARGEST_ERROR, 0, 1), bytes=True)[:, :, :3]
    return _encode(Image.fromarray(coloured), small=small)


def data_url(content: bytes) -> str:
    """PNG bytes as a data URL, so that a page loads nothing from a server.

    Args:
        content: a PNG file.

    Returns:
        The URL.
    """
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _encode(image: Image.Image, *, small: bool) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=small, compress_level=_SMALL if small else _FAST)
    return file.getvalue()
