"""A cache of decoded images whose writing was killed goes on where it was, to the same bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vqlab import InputError
from vqlab.config import DataConfig
from vqlab.data import decoding, load_data

COUNT = 30


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VQLAB_DATA_MEMORY", "0")
    monkeypatch.setattr(decoding, "_MAX_FILES", 7)
    return tmp_path / "cache/images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        path = tmp_path / "set" / f"{'ab'[number % 2]}/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 36 + number % 3, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "set/a/broken.png").write_bytes(b"no image")
    return tmp_path / "set"


def killed_readings(source: Path, tmp_path: Path, **changes: object) -> list[dict[str, Any]]:
    command = [sys.executable, str(Path(__file__).with_name("killed_readings.py")), str(source), str(tmp_path / "k")]
    done = subprocess.run(
        [*command, json.dumps({"on_broken": "skip", **changes})], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("kind", "random_crop"),
    # Half a minute each.
    [("folder", False), *(pytest.param(kind, True, marks=pytest.mark.slow) for kind in ("folder", "zip"))],
)
def test_a_killed_reading_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, kind: str, *, random_crop: bool
) -> None:
    """The process is killed before each of its renames, removals and synchronizations."""
    source = folder
    if kind == "zip":
        source = tmp_path / "set.zip"
        with zipfile.ZipFile(source, "w") as file:
            for path in sorted(folder.rglob("*.png"), reverse=True):
                file.write(path, path.relative_to(tmp_path))
    results = killed_readings(source, tmp_path, random_crop=random_crop)
    *killed, whole = results
    assert not whole["killed"]
    assert len(killed) > 20
    assert {"pixels.bin", "labels.npy", "index.json"} <= whole["entry"].keys()
    resumed = set()
    for result in killed:
        assert result["entry"] == whole["entry"]
        assert result["half"] in ({}, whole["entry"])
        assert len(result["folder"]) == 1
        if found := re.search(r"goes on after (\d+) images", result["lines"]):
            resumed.add(int(found[1]))
    # Batches of seven files, one of them unreadable.
    assert resumed == {7, 14, 21, 28, 31}


def test_a_changed_source_does_not_use_what_was_read_of_the_earlier_one(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(source=f"folder:{folder}", on_broken="skip")
    stop_after(2, config, monkeypatch)
    Image.new("RGB", (32, 32), "red").save(folder / "a/000.png")
    data = load_data(config)
    assert "goes on" not in capsys.readouterr().err
    assert data.train.pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert [path.suffix for path in cache.iterdir()] == [""]


def test_what_was_read_before_an_unreadable_image_is_kept(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a, after 14 readable images."""
    config = DataConfig(source=f"folder:{folder}", on_broken="refuse")
    (folder / "a/broken.png").rename(folder / "b/broken.png")
    for _ in range(2):
        with pytest.raises(InputError, match=r"b/broken\.png: is not a readable image"):
            load_data(config)
    assert "goes on after 28 images" in capsys.readouterr().err
    skipping = config.model_copy(update={"on_broken": "skip"})
    resumed = load_data(skipping)
    assert "goes on after 28 images" in capsys.readouterr().err
    assert resumed.skipped == ("b/broken.png",)
    assert resumed.fingerprint == from_memory(skipping)


@pytest.mark.parametrize("name", ["pixels.bin", "progress.jsonl"])
@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "missing"])
def test_damaged_files_of_a_killed_reading_cost_what_they_held(
    folder: Path, cache: Path, name: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(source=f"folder:{folder}", on_broken="skip")
    stop_after(2, config, monkeypatch)
    (path,) = cache.glob(f"*.part/{name}")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[:-10], "longer": content + b"\0" * 99}[damage])
    assert load_data(config).fingerprint == from_memory(config)


def stop_after(batches: int, config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the reading as Ctrl-C does, after some batches."""
    decode, count = decoding.decode_batch, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > batches:
            raise KeyboardInterrupt
        return decode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_data(config)


def from_memory(config: DataConfig) -> str:
    """Fingerprint of the same images, read without the cache."""
    before = os.environ["VQLAB_DATA_MEMORY"]
    os.environ["VQLAB_DATA_MEMORY"] = "1"
    try:
        data = load_data(config)
    finally:
        os.environ["VQLAB_DATA_MEMORY"] = before
    assert data.mapped is None
    return data.fingerprint
