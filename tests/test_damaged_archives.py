"""Damaged and hostile files of images: what a checksum can tell is told, and memory stays in proportion."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from damaged_archives import fingerprint, flip, flipped_bits, image_file, write_archive
from hostile_files import read_hostile, tar_header

from vqlab import InputError
from vqlab.config import DataConfig
from vqlab.data import load_data

# The rest takes seconds each; ``python tests/hostile_files.py`` reads them all.
QUICK = (
    "image of 60000x60000 pixels", "TIFF of 16 bits and 49 million pixels", "tar name of 2**40 bytes",
    "tar.gz that unpacks to 10 GB", "npz of 2**40 elements",
)  # fmt: skip


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["png.tar", "png.zip", "png.npz", "bmp.tar.gz", "jpeg.tar.xz"])
def test_a_flipped_bit_never_becomes_other_pixels(tmp_path: Path, name: str) -> None:
    outcomes = flipped_bits(write_archive(tmp_path / name, kind=name.partition(".")[0].upper()), 30)
    assert set(outcomes) <= {"refused", "equal pixels"}
    assert outcomes["refused"] >= 20


def test_page_checksums_of_parquet_are_compared(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    outcomes = flipped_bits(write_archive(tmp_path / "set.parquet", kind="BMP"), 30)
    assert set(outcomes) == {"refused", "equal pixels"}


def _tar(tmp_path: Path) -> tuple[Path, bytes]:
    path = write_archive(tmp_path / "set.tar", kind="BMP")
    return path, path.read_bytes()


@pytest.mark.parametrize("kind", ["header", "hole", "cut after a member", "one end block", "second archive"])
def test_a_tar_that_does_not_end_as_it_should_is_refused(tmp_path: Path, kind: str) -> None:
    """Each of these archives had images beyond the damage that were left out without a word."""
    path, content = _tar(tmp_path)
    with tarfile.open(path) as archive:
        third, last = archive.getmembers()[2], archive.getmembers()[-1]
        end = last.offset_data + (last.size + 511) // 512 * 512
    path.write_bytes({
        "header": flip(content, 8 * third.offset + 3),
        "hole": content[: third.offset] + bytes(1024) + content[third.offset + 1024 :],
        "cut after a member": content[: third.offset],
        "one end block": content[: end + 512],
        "second archive": content + content,
    }[kind])  # fmt: skip
    with pytest.raises(InputError, match=r"set\.tar: not a complete .*replace the file"):
        load_data(DataConfig(source=f"folder:{path}"))


def test_a_png_whose_pixels_have_another_checksum_is_refused(tmp_path: Path) -> None:
    """Pillow does not compare the CRC of pixels, and ends before zlib's when it has all rows."""
    content = image_file(0)
    (tmp_path / "set").mkdir()
    for number in range(3):
        (tmp_path / f"set/{number}.png").write_bytes(content)
    fingerprint(tmp_path / "set")
    (tmp_path / "set/1.png").write_bytes(content[:-17] + bytes([content[-17] ^ 1]) + content[-16:])
    with pytest.raises(InputError, match=r"1\.png: is a damaged image \(checksum of the PNG chunk IDAT\)"):
        fingerprint(tmp_path / "set")


def test_formats_whose_readers_start_programs_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n%%EOF\n")
    (tmp_path / "1.png").write_bytes(image_file(0))
    with pytest.raises(InputError, match=r"0\.png: is not a readable image"):
        fingerprint(tmp_path)


def test_hostile_files_take_little_memory_and_time(tmp_path: Path) -> None:
    for name, (peak, seconds, message) in read_hostile(QUICK, tmp_path).items():
        assert peak < 600, name
        assert seconds < 30, name
        assert message.startswith("data.source=folder:") or "TIFF" in name


def test_the_size_of_a_tar_member_is_no_promise(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(tar_header("train/a/0.png", 1 << 60) + bytes(4096))
    with pytest.raises(InputError, match=r"set\.tar: not a complete"):
        fingerprint(path)


@pytest.mark.parametrize("text", ["path\n\0.png\n", "path,label\n\0,\n", 'path\n"' + "a" * 200_000 + '"\n'])
def test_a_list_with_names_that_no_file_can_have_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match=r"list\.csv|cannot be read"):
        fingerprint(tmp_path / "list.csv")


@pytest.mark.parametrize("device", ["/dev/zero", "fifo"])
def test_devices_and_pipes_are_refused_also_in_a_list(tmp_path: Path, device: str) -> None:
    if device == "fifo":
        device = str(tmp_path / "fifo.png")
        os.mkfifo(device)
    with pytest.raises(InputError, match="is a pipe or a device"):
        fingerprint(Path(device))
    (tmp_path / "list.txt").write_text(f"{device}\n")
    with pytest.raises(InputError, match="cannot be read"):
        fingerprint(tmp_path / "list.txt")
