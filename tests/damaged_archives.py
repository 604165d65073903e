"""Archives with one flipped bit, and what loading them gives; run as a script for the counts of all kinds."""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from vqlab.config import DataConfig
from vqlab.data import load_data
from vqlab.errors import InputError

SIZE = 32


def image_file(number: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def members(count: int, kind: str) -> dict[str, bytes]:
    return {
        f"{'test' if number % 4 == 3 else 'train'}/{'ab'[number % 2]}/{number}.{kind.lower()}": image_file(number, kind)
        for number in range(count)
    }


def write_archive(path: Path, count: int = 8, kind: str = "PNG") -> Path:
    """An archive of the kind that its name tells, with images of a format."""
    if path.suffix == ".npz":
        images = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
        np.savez_compressed(path, train_images=images, train_labels=np.arange(count) % 2, test_images=images[:2])
    elif path.suffix == ".parquet":
        from pyarrow import parquet, table

        images = list(members(count, kind).values())
        labels = [number % 2 for number in range(count)]
        parquet.write_table(table({"image": images, "label": labels}), path, write_page_checksum=True)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members(count, kind).items():
                archive.writestr(name, content)
    elif path.suffix == ".zst":
        import zstandard

        plain = write_archive(path.with_suffix(""), count, kind)
        path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(plain.read_bytes()))
    else:
        mode = {".tar": "w", ".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}[path.suffix]
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            for name, content in members(count, kind).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def fingerprint(path: Path) -> str:
    return load_data(DataConfig(source=f"folder:{path}")).fingerprint


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped_bits(path: Path, flips: int, seed: int = 0) -> Counter[str]:
    """Load an archive with one random bit flipped, again and again: refused, equal pixels or other pixels."""
    content, whole, outcomes = path.read_bytes(), fingerprint(path), Counter[str]()
    for bit in np.random.default_rng(seed).integers(0, 8 * len(content), flips).tolist():
        path.write_bytes(flip(content, bit))
        try:
            outcomes["equal pixels" if fingerprint(path) == whole else "other pixels"] += 1
        except InputError as error:
            outcomes["refused" if path.name in str(error) and "\n" not in str(error) else "refused, unclear"] += 1
    path.write_bytes(content)
    return outcomes


def main(flips: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in (
            *((f"{kind}.{ending}", kind) for ending in ("tar", "tar.gz") for kind in ("PNG", "JPEG", "BMP")),
            *((f"PNG.{ending}", "PNG") for ending in ("tar.bz2", "tar.xz", "tar.zst", "zip", "npz", "parquet")),
            ("BMP.zip", "BMP"), ("BMP.parquet", "BMP"),
        ):  # fmt: skip
            print(name, dict(flipped_bits(write_archive(Path(folder) / name, kind=kind), flips)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
