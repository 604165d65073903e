"""One uploaded image: PNG or JPEG bytes, checked before they are decoded."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from vqlab.data.decode import decode_image, fit_image
from vqlab.errors import InputError

_FORMATS = ("PNG", "JPEG")


def read_image(content: bytes, size: int, name: str = "upload") -> tuple[UInt8[Tensor, "3 size size"], str]:
    """Decode an uploaded image as ``decode_image`` does, crop its central square and resize it.

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
        image, steps = decode_image(content, name, _FORMATS)
    except InputError as error:
        raise InputError(f"{error}; choose another file") from None
    pixels = fit_image(image, size, size, "crop", name, steps)
    return torch.from_numpy(pixels.copy()), f"{name}: {', '.join(steps)}"
