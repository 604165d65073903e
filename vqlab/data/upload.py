"""One image that a person hands in: PNG or JPEG bytes, checked before they are decoded."""

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
    """The image as 0…255 at ``size`` pixels, and a sentence that says what was done to it.

    The middle square is kept, transparency becomes white, grey becomes three equal channels, and a camera's
    rotation is applied. Raises InputError for bytes that are no PNG or JPEG, for a damaged image, and for more
    than 50 million pixels (read from the header, so a small file that unpacks to a huge image costs nothing).
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(name, f"{image.width}x{image.height} pixels")
            told = [f"{image.width}x{image.height} {image.format}"]
            square = _middle_square(_rgb(ImageOps.exif_transpose(image), told), told)
    except UnidentifiedImageError:
        raise InputError(f"{name}: is not a PNG or JPEG image; choose another file") from None
    except Image.DecompressionBombError:
        raise _too_large(name, "far too many pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: a damaged image ({error}); choose another file") from None
    if square.width != size:
        told.append(f"resized to {size}x{size}")
    small = square.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy()), f"{name}: {', '.join(told)}"


def _too_large(name: str, what: str) -> InputError:
    return InputError(f"{name}: {what}, at most {MAX_PIXELS:,} can be read; shrink the image")


def _rgb(image: Image.Image, told: list[str]) -> Image.Image:
    if image.mode.startswith("I;16"):
        told.append("grey to RGB")
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        told.append("transparency on white")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("L", "1"):
        told.append("grey to RGB")
    return image.convert("RGB")


def _middle_square(image: Image.Image, told: list[str]) -> Image.Image:
    side = min(image.size)
    if image.width == image.height:
        return image
    told.append("the middle square")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
