"""One uploaded image: PNG or JPEG bytes, checked before they are decoded."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from vqlab.config import DataConfig
from vqlab.data.decode import decode_image, fit_image
from vqlab.errors import InputError

_FORMATS = ("PNG", "JPEG")


def read_image(content: bytes, config: DataConfig, name: str = "upload") -> tuple[UInt8[Tensor, "C H W"], str]:
    """Decode an uploaded image and fit it as the images of a Run.

    Args:
        content: the bytes of a PNG or JPEG file.
        config: size, colour and ``fit`` of the Run's images. With ``fit=exact`` the image is cropped: only what a
            model is trained and measured on must have the exact size.
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
    channels, height, width = config.shape
    fit = "crop" if config.fit == "exact" else config.fit
    pixels = fit_image(image, height, width, fit, name, steps, channels)
    return torch.from_numpy(pixels.copy()), f"{name}: {', '.join(steps)}"
