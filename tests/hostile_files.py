"""Files that claim or unpack to far more than they are; run as a script for the peak of memory on each."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from damaged_archives import image_file

ZEROS = bytes(1 << 20)
# The child prints the peak of resident memory before and after each file is read, MiB, seconds, and the message.
CHILD = """
import json, resource, sys, time
from pathlib import Path
from vqlab.config import DataConfig
from vqlab.data import load_data
from vqlab.errors import InputError
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
load_data(DataConfig(source=f"folder:{sys.argv[1]}"))
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for path in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before, start = peak(), time.perf_counter()
    try:
        message = load_data(DataConfig(source=f"folder:{path}")).name + ": was read"
    except InputError as error:
        message = str(error)
    print(json.dumps([peak() - before, time.perf_counter() - start, message]))
"""


def png(width: int, height: int, data: bytes = b"", *before: tuple[bytes, bytes]) -> bytes:
    """A PNG file with right checksums, whatever it claims."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunks = ((b"IHDR", header), *before, (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _gzip(path: Path, start: bytes, chunk: bytes, count: int) -> Path:
    """A gzip file of many members, each compressed once."""
    path.write_bytes(gzip.compress(start) + gzip.compress(chunk) * count)
    return path


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _zip(path: Path, name: str, start: bytes, chunks: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        file.write(start)
        for _ in range(chunks):
            file.write(ZEROS)
    return path


def _parquet(path: Path) -> Path:
    """One page of 600 MB."""
    from pyarrow import parquet, table

    parquet.write_table(table({"image": [bytes(40_000_000)] * 15}), path, compression="zstd", use_dictionary=False)
    return path


def _image(folder: Path, content: bytes) -> Path:
    _written(folder / "train/a/0.png", image_file(0))
    _written(folder / "test/a/1.png", image_file(1))
    _written(folder / "train/a/2.png", content)
    return folder


# A function that writes the file under a path, by what is hostile about it.
HOSTILE: dict[str, Callable[[Path], Path]] = {
    "image of 60000x60000 pixels": lambda path: _image(path, png(60_000, 60_000, zlib.compress(ZEROS))),
    "image of 50 million pixels without data": lambda path: _image(path, png(50_000, 1000, zlib.compress(ZEROS))),
    "text chunk that unpacks to 1 GB": lambda path: _image(
        path, png(8, 8, zlib.compress(ZEROS), (b"zTXt", b"a\0\0" + zlib.compress(ZEROS * 1000, 9)))
    ),
    "TIFF of 16 bits and 49 million pixels": lambda path: _image(path, tiff(7000, 7000)),
    "tar header of 2**60 bytes": lambda path: _written(
        path.with_suffix(".tar"), tar_header("train/a/0.png", 1 << 60) + ZEROS
    ),
    "tar name of 2**40 bytes": lambda path: _written(
        path.with_suffix(".tar"), tar_header("a", 1 << 40, tarfile.GNUTYPE_LONGNAME) + ZEROS
    ),
    "tar.gz that unpacks to 10 GB": lambda path: _gzip(
        path.with_suffix(".tar.gz"), tar_header("train/a/0.png", 10 << 30), ZEROS * 64, 160
    ),
    "tar.gz of 4 million headers": lambda path: _gzip(
        path.with_suffix(".tar.gz"), b"", tar_header("train/a/0.txt", 0) * (1 << 16), 64
    ),
    "zip that unpacks to 1 GB": lambda path: _zip(path.with_suffix(".zip"), "train/a/0.png", b"", 1 << 10),
    "npy of 2**40 elements": lambda path: _written(path.with_suffix(".npy"), npy_header((1 << 30, 32, 32)) + ZEROS),
    "npz of 2**40 elements": lambda path: _zip(
        path.with_suffix(".npz"), "images.npy", npy_header((1 << 30, 32, 32)), 1
    ),
    "npz that unpacks to images of 1 GB": lambda path: _zip(
        path.with_suffix(".npz"), "images.npy", npy_header((1, 1 << 15, 1 << 15)), 1 << 10
    ),
    "parquet that unpacks to 600 MB": lambda path: _parquet(path.with_suffix(".parquet")),
}


def tiff(width: int, height: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("I;16", (width, height)).save(file, "TIFF", compression="tiff_deflate")
    return file.getvalue()


def read_hostile(names: Iterable[str], folder: Path) -> dict[str, tuple[float, float, str]]:
    """Write and read hostile files in another process: peak of memory, MiB, seconds, and what was said."""
    harmless = _image(folder / "harmless", image_file(2))
    paths = [str(HOSTILE[name](folder / f"file{number}")) for number, name in enumerate(names)]
    words = [sys.executable, "-c", CHILD, str(harmless), *paths]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60 + 30 * len(paths), check=True)
    return dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, (peak, seconds, message) in read_hostile(list(HOSTILE), Path(folder)).items():
            print(f"{name}: {peak:.0f} MiB, {seconds:.1f} s; {message}")
