"""Uploaded images: what they may be, and what becomes of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vqlab import InputError
from vqlab.data.upload import read_image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A few hundred bytes whose header promises side × side pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a PNG or JPEG"),
        (b"GIF89a plainly", "not a PNG or JPEG"),
        (encoded(Image.new("RGB", (8, 8)), "GIF"), "not a PNG or JPEG"),
        (encoded(Image.new("RGB", (64, 64), "red"))[:70], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")[:400], "damaged"),
        (bomb(9_000), "9000x9000 pixels, at most 50,000,000"),
        (bomb(60_000), "at most 50,000,000"),
    ],
)
def test_what_cannot_be_read_is_one_line(content: bytes, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_image(content, 32)
    assert "\n" not in str(caught.value)


def test_the_middle_square_at_the_asked_size() -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = (10, 20, 30)
    pixels, told = read_image(encoded(Image.fromarray(wide)), 32, "mine.png")
    assert pixels.shape == (3, 32, 32)
    assert (pixels[:, 5, 5].tolist(), pixels[:, 31, 31].tolist()) == ([10, 20, 30], [10, 20, 30])
    assert told == "mine.png: 96x32 PNG, the middle square"


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
def test_every_kind_of_pixel_becomes_three_colours(image: Image.Image, colour: list[int]) -> None:
    pixels, told = read_image(encoded(image, "JPEG" if image.mode == "CMYK" else "PNG"), 32)
    assert np.abs(np.array(pixels[:, 9, 9].tolist()) - colour).max() <= 3
    assert "resized to 32x32" in told


def test_a_photograph_is_turned_as_its_camera_was_held() -> None:
    image = Image.new("RGB", (32, 32), "black")
    image.paste((255, 255, 255), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    pixels, _ = read_image(file.getvalue(), 32)
    assert (int(pixels[0, 4, 4]), int(pixels[0, 28, 28])) == (0, 255)
