"""Uploaded images: what is accepted, and how they are converted."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vqlab import InputError
from vqlab.config import DataConfig
from vqlab.data.upload import read_image


def encoded(image: Image.Image, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG file of a few hundred bytes whose header declares side × side pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PNG or JPEG"),
        (b"GIF89a", "not a PNG or JPEG"),
        (encoded(Image.new("RGB", (8, 8)), "GIF"), "not a PNG or JPEG"),
        (encoded(Image.new("RGB", (64, 64), "red"))[:70], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")[:400], "damaged"),
        (bomb(9_000), "9000x9000 pixels, at most 50,000,000"),
        (bomb(60_000), "at most 50,000,000"),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_image(content, DataConfig())
    assert "\n" not in str(error.value)


def test_the_central_square_is_resized() -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = (10, 20, 30)
    pixels, description = read_image(encoded(Image.fromarray(wide)), DataConfig(), "wide.png")
    assert pixels.shape == (3, 32, 32)
    assert (pixels[:, 5, 5].tolist(), pixels[:, 31, 31].tolist()) == ([10, 20, 30], [10, 20, 30])
    assert description == "wide.png: 96x32 PNG, cropped to the central square"


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGBA", (40, 40), (255, 0, 0, 0)), [255, 255, 255]),
        (Image.new("LA", (40, 40), (0, 0)), [255, 255, 255]),
        (Image.new("L", (40, 40), 77), [77, 77, 77]),
        (Image.new("1", (40, 40), 1), [255, 255, 255]),
        (Image.fromarray(np.full((40, 40), 77 * 256, np.uint16)), [77, 77, 77]),
        (Image.new("RGB", (40, 40), (1, 2, 3)).convert("P"), [0, 0, 0]),
        (Image.new("CMYK", (40, 40), (0, 255, 255, 0)), [254, 0, 0]),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_every_colour_mode_is_converted_to_rgb(image: Image.Image, colour: list[int]) -> None:
    pixels, description = read_image(encoded(image, "JPEG" if image.mode == "CMYK" else "PNG"), DataConfig())
    assert np.abs(np.array(pixels[:, 9, 9].tolist()) - colour).max() <= 3
    assert "resized to 32x32" in description


def test_the_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (32, 32), "black")
    image.paste((255, 255, 255), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    pixels, _ = read_image(file.getvalue(), DataConfig())
    assert (int(pixels[0, 4, 4]), int(pixels[0, 28, 28])) == (0, 255)
