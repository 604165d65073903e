"""One uploaded image: PNG or JPEG bytes, checked before they are decoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vqlab.errors import InputError

MAX_PIXELS = 50_000_000
_FORMATS = ("PNG", "JPEG")


def read_image(content: bytes, size: int, name: str = "upload") -> tuple[UInt8[Tensor, "3 size size"], str]:
    """Decode an uploaded image, crop its central square and resize it.

    The EXIF orientation is applied, transparency is replaced by white, and other colour modes are converted to RGB.
    The number of pixels is read from the header, so that a small file with a huge image is refused before decoding.

    Args:
        content: the bytes of a PNG or JPEG file.
        size: height and width of the result, pixels.
        name: name of the file, for messages.

    Returns:
        The pixels, 0…255, and a description of what was done, for example
        ``photo.png: 96x48 PNG, cropped to the central square, resized to 32x32``.

    Raises:
        InputError: if ``content`` is not a PNG or JPEG image, is damaged, or has more than 50 million pixels.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(name, f"{image.width}x{image.height} pixels")
            steps = [f"{image.width}x{image.height} {image.format}"]
            square = _crop_to_square(_to_rgb(ImageOps.exif_transpose(image), steps), steps)
    except UnidentifiedImageError:
        raise InputError(f"{name}: is not a PNG or JPEG image; choose another file") from None
    except Image.DecompressionBombError:
        raise _too_large(name, "too many pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: a damaged image ({error}); choose another file") from None
    if square.width != size:
        steps.append(f"resized to {size}x{size}")
    resized = square.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(resized).transpose(2, 0, 1).copy()), f"{name}: {', '.join(steps)}"


def _too_large(name: str, pixels: str) -> InputError:
    return InputError(f"{name}: {pixels}, at most {MAX_PIXELS:,} are allowed; use a smaller image")


def _to_rgb(image: Image.Image, steps: list[str]) -> Image.Image:
    """The image in mode RGB; a conversion that changes the colours is appended to ``steps``."""
    if image.mode.startswith("I;16"):
        steps.append("converted from grey to RGB")
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        steps.append("transparency replaced by white")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("L", "1"):
        steps.append("converted from grey to RGB")
    return image.convert("RGB")


def _crop_to_square(image: Image.Image, steps: list[str]) -> Image.Image:
    side = min(image.size)
    if image.width == image.height:
        return image
    steps.append("cropped to the central square")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
