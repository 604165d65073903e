"""One way from the bytes of an image file to its pixels, for files and uploads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vqlab.data.png import damaged_chunk
from vqlab.errors import InputError

if TYPE_CHECKING:
    from vqlab.config import Fit

MAX_PIXELS = 50_000_000
_CHUNK_VALUES = 1 << 20
_GREY_STEP = "converted from grey to RGB"


# A strip of pixels would need gigabytes when its shorter side is enlarged to the size.
_LONGEST = 8
# What Pillow may read; some of its other readers start programs, as Ghostscript for EPS.
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "AVIF")
# Pillow's mode by number of channels.
_MODES = {1: "L", 3: "RGB"}


def decode_image(
    content: bytes, name: str, formats: tuple[str, ...] | None = None, header: Callable[[str, str], None] | None = None
) -> tuple[Image.Image, list[str]]:
    """Decode the first frame of an image file to RGB.

    The number of pixels is read from the header, so that a small file with a huge image is refused before decoding.
    The EXIF orientation is applied, transparency is replaced by white, 16-bit and 32-bit values are brought to 8 bits.

    Args:
        content: the bytes of the file.
        name: name of the file, for messages.
        formats: names of the accepted formats, as Pillow has them; None accepts those of ``layout.SUFFIXES``.
        header: called with the size, ``WIDTHxHEIGHT``, and Pillow's mode of a file that opens; None: not called.

    Returns:
        The image in mode RGB, and what was done, beginning with ``WIDTHxHEIGHT FORMAT``.

    Raises:
        InputError: if ``content`` is no image of these formats, is damaged, or has more than 50 million pixels.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(content), formats=formats or _formats()) as image,
        ):
            if header:
                header(f"{image.width}x{image.height}", image.mode)
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(name, f"{image.width}x{image.height} pixels")
            if (chunk := damaged_chunk(content)) is not None:
                raise InputError(f"{name}: is a damaged image (checksum of the PNG chunk {chunk})")
            steps = [f"{image.width}x{image.height} {image.format}"]
            if getattr(image, "n_frames", 1) > 1:
                steps.append("first frame")
            return _to_rgb(ImageOps.exif_transpose(image), steps), steps
    except UnidentifiedImageError:
        wanted = " or ".join(formats) if formats else "readable"
        raise InputError(f"{name}: is not a {wanted} image") from None
    except Image.DecompressionBombError:
        raise _too_large(name, "too many pixels") from None
    except InputError:
        raise
    except Exception as error:
        # Pillow's readers raise many kinds of errors on damaged files: OSError, SyntaxError, struct.error, …
        raise InputError(f"{name}: is a damaged image ({error})") from None


@cache
def _formats() -> tuple[str, ...]:
    """Those of the accepted formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def fit_image(
    image: Image.Image, height: int, width: int, fit: Fit, name: str, steps: list[str], channels: int = 3
) -> UInt8[np.ndarray, "C height width"]:
    """Bring an image to a size, and to colour or grey.

    Args:
        image: an image in mode RGB or L.
        height: height of the result, pixels.
        width: width of the result, pixels.
        fit: ``crop`` (the central part of the same shape, resized), ``squash`` (resized without regard to its shape),
            ``pad`` (resized to lie inside, the rest black) or ``exact`` (another size is refused).
        name: name of the file, for messages.
        steps: what was done; it is extended.
        channels: C, 3 (default), or 1 for grey: the luma 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded.

    Returns:
        The pixels, 0…255. Smaller sizes are averaged over the pixels that they cover (Lanczos).

    Raises:
        InputError: if ``fit`` is ``exact`` and the image has another size.
    """
    image = _to_channels(image, channels, steps)
    if image.size != (width, height):
        if fit == "exact":
            raise InputError(
                f"{name}: {image.width}x{image.height} pixels, must be {width}x{height}; resize the image, set "
                "data.image_size (or data.width and data.height), or data.fit=crop"
            )
        if fit == "crop":
            image = _crop_to_shape(image, width / height, steps)
        if image.size != (width, height):
            steps.append(f"resized to {width}x{height}" if fit != "pad" else f"resized into {width}x{height}")
            pad = ImageOps.pad if fit == "pad" else Image.Image.resize
            image = pad(image, (width, height), Image.Resampling.LANCZOS)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def scale_image(image: Image.Image, height: int, width: int, channels: int = 3) -> UInt8[np.ndarray, "C h w"]:
    """Resize an image so that it just covers a size, without changing its shape.

    Args:
        image: an image in mode RGB or L.
        height: height that is covered, pixels.
        width: width that is covered, pixels.
        channels: as for ``fit_image``.

    Returns:
        The pixels, 0…255: h or w is the given one, the other at least it. Of an image that would have more than eight
        times its length, the central part.
    """
    image = _to_channels(image, channels, [])
    scale = max(width / image.width, height / image.height)
    kept = [min(length, max(1, round(_LONGEST * wanted / scale)))
            for length, wanted in ((image.width, width), (image.height, height))]  # fmt: skip
    if tuple(kept) != image.size:
        left, top = (image.width - kept[0]) // 2, (image.height - kept[1]) // 2
        image = image.crop((left, top, left + kept[0], top + kept[1]))
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _too_large(name: str, pixels: str) -> InputError:
    return InputError(f"{name}: {pixels}, at most {MAX_PIXELS:,} are allowed")


def _to_rgb(image: Image.Image, steps: list[str]) -> Image.Image:
    """The image in mode RGB; a conversion that changes the colours is appended to ``steps``."""
    if image.mode.startswith(("I", "F")):
        steps.append(_GREY_STEP)
        return _eight_bits(image).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        steps.append("transparency replaced by white")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("L", "1"):
        steps.append(_GREY_STEP)
    return image.convert("RGB")


def _to_channels(image: Image.Image, channels: int, steps: list[str]) -> Image.Image:
    if image.mode == _MODES[channels]:
        return image
    if channels == 1:
        if _GREY_STEP in steps:
            steps.remove(_GREY_STEP)
        else:
            steps.append("converted to grey")
    return image.convert(_MODES[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits or floating point as 8 bits: the range is 0…255, 0…65535, 0…1, or the image's."""
    stored = np.asarray(image)
    bounds = [(float(rows.min(initial=0)), float(rows.max(initial=0))) for rows in _in_float64(stored)]
    low, high = min((low for low, _ in bounds), default=0.0), max((high for _, high in bounds), default=0.0)
    if image.mode == "I" and low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif image.mode.startswith("I") and low >= 0 and high <= 65_535:
        low, high = 0.0, 65_535.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    factor = 255 / (high - low if high > low else 1)
    scaled = [np.floor((rows - low) * factor + 0.5).astype(np.uint8) for rows in _in_float64(stored)]
    return Image.fromarray(np.concatenate(scaled))


def _in_float64(stored: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows at a time, since large images would take eight bytes for each pixel several times."""
    step = max(1, _CHUNK_VALUES // max(1, stored.shape[1]))
    for start in range(0, len(stored), step):
        yield np.nan_to_num(stored[start : start + step].astype(np.float64))


def _crop_to_shape(image: Image.Image, shape: float, steps: list[str]) -> Image.Image:
    """The central part of an image whose width over height is ``shape``."""
    width, height = min(image.width, round(image.height * shape)), min(image.height, round(image.width / shape))
    if (width, height) == image.size:
        return image
    steps.append("cropped to the central square" if width == height else f"cropped to the central {width}x{height}")
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + max(1, width), top + max(1, height)))
