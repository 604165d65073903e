"""The cache of decoded images: whole or absent, shared, mapped, and equal to images in memory."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from command_processes import Command, run_program, vqlab
from filelock import FileLock
from PIL import Image
from test_training import tiny

from vqlab import Config, InputError, Run
from vqlab.config import DataConfig
from vqlab.data import ImageData, Images, batches, decoding, images, load_data, progress
from vqlab.data.memory import memory_budget, total_memory
from vqlab.training import train

COUNT = 40
LOAD = (
    "import sys; from vqlab.config import DataConfig; from vqlab.data import load_data;"
    "print(load_data(DataConfig(source='folder:' + sys.argv[1])).fingerprint)"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        path = tmp_path / "set" / f"{'ab'[number % 2]}/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "set"


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(tmp_path))
    return tmp_path / "set.zip"


def load(path: Path, **changes: object) -> ImageData:
    return load_data(DataConfig.model_validate({"source": f"folder:{path}", **changes}))


def mapped(path: Path, monkeypatch: pytest.MonkeyPatch, budget: str = "0", **changes: object) -> ImageData:
    monkeypatch.setenv("VQLAB_DATA_MEMORY", budget)
    data = load(path, **changes)
    monkeypatch.delenv("VQLAB_DATA_MEMORY")
    assert data.mapped is not None
    return data


def loading(path: Path, output: Path) -> Command:
    """A process whose last line is the fingerprint of the images."""
    return Command([str(path)], output, code=LOAD)


@pytest.mark.parametrize("kind", ["folder", "zip", "list"])
def test_mapped_images_equal_those_in_memory(
    folder: Path, archive: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"set/{path.relative_to(folder)}" for path in folder.rglob("*.png")))
    source = {"folder": folder, "zip": archive, "list": tmp_path / "list.txt"}[kind]
    for _ in ("written", "read"):
        data = mapped(source, monkeypatch)
        assert data.fingerprint == load(source).fingerprint
        assert data.train.variance == load(source).train.variance
    epochs = [batches(part, 8, seed=0, epoch=1, augment=True) for part in (data.train, load(source).train)]
    for one, other in zip(*epochs, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("budget", ["0", "0.0001"])
@pytest.mark.parametrize(
    "changes", [{"validation": 7}, {"train_limit": 9, "test_limit": 2}, {"validation": 3, "train_limit": 30}]
)
def test_selected_images_of_a_large_set_are_those_of_a_small_one(
    folder: Path, changes: dict[str, int], budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, expected = mapped(folder, monkeypatch, budget, **changes), load(folder, **changes)
    assert chosen.fingerprint == expected.fingerprint
    assert (len(chosen.train), len(chosen.held_out)) == (len(expected.train), len(expected.held_out))
    assert mapped(folder, monkeypatch, budget, **changes).fingerprint == expected.fingerprint


def test_a_stored_archive_is_not_decoded_again_and_a_changed_one_is(archive: Path, cache: Path) -> None:
    before, stat = load(archive).fingerprint, archive.stat()
    archive.write_bytes(b"x" * stat.st_size)
    os.utime(archive, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert load(archive).fingerprint == before
    os.utime(archive)
    with pytest.raises(InputError, match="not a complete"):
        load(archive)


def test_a_later_state_of_a_source_replaces_the_earlier_one(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = mapped(folder, monkeypatch)
    (folder / "a/000.png").unlink()
    second = mapped(folder, monkeypatch)
    assert first.fingerprint != second.fingerprint
    assert [path.name for path in cache.iterdir()] == [second.mapped.name if second.mapped else ""]


@pytest.mark.parametrize("name", ["pixels.bin", "labels.npy", "index.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100])
def test_a_damaged_entry_is_made_again(archive: Path, cache: Path, name: str, content: bytes) -> None:
    before = load(archive).fingerprint
    (entry,) = cache.iterdir()
    (entry / name).write_bytes(content)
    assert load(archive).fingerprint == before
    assert (entry / name).stat().st_size > 100


def test_a_killed_process_leaves_nothing_half(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(folder).fingerprint
    for copy in range(50):
        shutil.copytree(folder / "a", folder / f"c{copy}")
    monkeypatch.setenv("VQLAB_DATA_MEMORY", "0")
    process = loading(folder, tmp_path / "output")
    process.wait_for(lambda: any(path.stat().st_size for path in cache.glob("*.part/pixels.bin")))
    process.send(signal.SIGKILL)
    process.wait()
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".part"]
    for copy in range(50):
        shutil.rmtree(folder / f"c{copy}")
    assert mapped(folder, monkeypatch).fingerprint == expected
    assert vqlab("data", "--clear").returncode == 0
    assert not [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.parametrize(("memory", "works"), [("0", False), ("1", True)])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(
    archive: Path, memory: str, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound on the size of a file stands for a full disk."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));" + LOAD
    monkeypatch.setenv("VQLAB_DATA_MEMORY", memory)
    done = run_program(code, str(archive))
    assert done.stdout.strip() == (load(archive).fingerprint if works else "")
    assert works or "set VQLAB_CACHE to a folder with enough space" in done.stderr.splitlines()[-1]


def test_without_a_cache_folder_small_sets_are_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(archive).fingerprint
    (tmp_path / "file").touch()
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "file"))
    assert load(archive).fingerprint == expected
    monkeypatch.setenv("VQLAB_DATA_MEMORY", "0.00001")
    with pytest.raises(InputError, match="the cache folder cannot be written"):
        load(archive)


def test_a_second_process_waits_for_the_first_and_says_so(archive: Path, cache: Path, tmp_path: Path) -> None:
    expected = load(archive).fingerprint
    (entry,) = cache.iterdir()
    shutil.rmtree(entry)
    with FileLock(entry.with_name(entry.name + ".lock")):
        process = loading(archive, tmp_path / "output")
        process.wait_for(lambda: "another process is reading these images; waiting for it" in process.text())
    assert process.wait() == 0
    assert process.text().splitlines()[-1] == expected


def test_two_processes_share_one_cache(
    archive: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQLAB_DATA_MEMORY", "0")
    processes = [loading(archive, tmp_path / f"output{number}") for number in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    one, other = (process.text().splitlines() for process in processes)
    assert one[-1] == other[-1]
    assert sum("are stored in" in line for line in one + other) == 1
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("broken", [False, True])
def test_several_processes_decode_the_same_images(
    folder: Path, archive: Path, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(folder).fingerprint
    if broken:
        (folder / "b/no.png").write_bytes(b"no image")
    monkeypatch.setattr(decoding, "SERIAL_SECONDS", 0.0)
    monkeypatch.setattr(decoding, "_MAX_FILES", 3)
    monkeypatch.setattr(decoding, "_cores", lambda: 2)
    data = load(folder, on_broken="skip")
    assert (data.fingerprint, data.skipped) == (expected, ("b/no.png",) if broken else ())
    assert load(archive).fingerprint == expected
    Image.new("RGB", (8, 8)).save(folder / "b/small.png")
    with pytest.raises(InputError, match=r"b/small\.png: 8x8 pixels, must be 32x32"):
        load(folder, on_broken="skip", fit="exact")


def test_an_unreadable_image_is_refused_from_the_cache_too(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("set/a/no.png", b"no image")
    assert load(archive, on_broken="skip").skipped == ("set/a/no.png",)
    for _ in range(2):
        with pytest.raises(InputError, match=r"set/a/no\.png: is not a readable image; fix or remove"):
            load(archive)


def test_pieces_give_the_numbers_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(256, (50, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    part, labels = Images(pixels, torch.arange(50)), torch.arange(50).numpy().tobytes()
    expected = hashlib.sha256((pixels.numpy().tobytes() + labels) * 2).hexdigest()[:16]
    for size in (1, 1000, 1 << 20):
        monkeypatch.setattr(images, "_CHUNK_BYTES", size)
        assert ImageData("", part, part, ()).fingerprint == expected
        assert part.variance == pytest.approx((pixels.numpy() / 255).var(), rel=1e-12)


def test_the_budget_is_a_quarter_of_the_memory_or_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VQLAB_DATA_MEMORY", raising=False)
    assert memory_budget() == total_memory() // 4
    monkeypatch.setenv("VQLAB_DATA_MEMORY", "0.5")
    assert memory_budget() == 1 << 29
    for wrong in ("-1", "much", "nan", "inf"):
        monkeypatch.setenv("VQLAB_DATA_MEMORY", wrong)
        with pytest.raises(InputError, match=f"VQLAB_DATA_MEMORY={wrong}: must be a number of GiB"):
            memory_budget()


def test_the_budget_of_a_config_is_no_part_of_its_id(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before the variable; a Run that was stopped goes on with another one, and does not store it."""
    monkeypatch.setenv("VQLAB_DATA_MEMORY", "1")
    assert (load(folder).mapped, load(folder, memory=1).mapped) == (None, None)
    assert load(folder, memory=0).mapped is not None
    assert load(folder, memory=0).fingerprint == load(folder).fingerprint
    config = tiny().replace(**{"data.source": f"folder:{folder}", "optim.batch_size": 4})
    mapped = config.replace(**{"data.memory": 0})
    assert mapped.id == config.id
    assert Config().id == Config().replace(**{"data.memory": 2}).id
    assert train(config, tmp_path / "runs", "cpu", stop_after_steps=1).config.data.memory is None
    run = train(mapped, tmp_path / "runs", "cpu")
    assert run.finished
    assert run.data().mapped is not None
    assert Run.open(run.folder).config == config
    with pytest.raises(InputError, match=r"data\.memory=-1.*: must be float, at least 0"):
        config.replace(**{"data.memory": -1})


def test_the_command_clears_the_cache_and_names_its_place(archive: Path, cache: Path) -> None:
    told = vqlab("data", str(archive))
    assert f"are stored in {cache}" in told.stderr
    (cache.parent / f"{'0' * 16}.npz").write_bytes(b"an archive of version 0.1")
    (cache.parent / "features-x.npz").write_bytes(b"not images")
    assert f"2 sets of decoded images removed from {cache}" in vqlab("data", "--clear").stderr
    assert not list(cache.iterdir())
    assert [path.name for path in cache.parent.glob("*.npz")] == ["features-x.npz"]
    assert vqlab("data").returncode == 2


@pytest.mark.slow  # seconds of reading, so that the timing means something
def test_batches_of_mapped_images_are_nearly_as_fast_as_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "set.npy", np.random.default_rng(0).integers(0, 256, (40_000, 32, 32, 3), np.uint8))
    sets = [load(tmp_path / "set.npy").train, mapped(tmp_path / "set.npy", monkeypatch).train]
    seconds: list[list[float]] = [[], []]
    for epoch in range(5):
        for found, part in zip(seconds, sets, strict=True):
            start = time.process_time()
            for _ in batches(part, 128, seed=0, epoch=epoch, augment=True):
                pass
            found.append(time.process_time() - start)
    memory, from_file = (min(found) for found in seconds)
    print(f"from memory {memory:.2f} s, mapped {from_file:.2f} s of process time")
    assert memory / from_file > 0.7


def test_the_summary_reads_a_source_once(archive: Path) -> None:
    expected, stat = vqlab("data", str(archive)).stdout, archive.stat()
    assert "sizes found: 32x32 (40)\nmodes found: RGB (40)" in expected
    archive.write_bytes(b"x" * stat.st_size)
    os.utime(archive, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert vqlab("data", str(archive)).stdout == expected


def test_long_reading_tells_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(folder)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    monkeypatch.setattr(decoding, "_MAX_FILES", 10)
    load(folder)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"set: 20 images read, 48%, \d+ s left", lines[1])
