"""Read a source in processes that are killed at each of their moments, and once more to the end; prints JSON lines.

Run with: python killed_readings.py SOURCE CACHE CONFIG
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import sys
from contextlib import redirect_stderr
from pathlib import Path

from vqlab.config import DataConfig
from vqlab.data import decoding, load_data, spool


def in_process(config: DataConfig, cache: Path, kill_at: int) -> str:
    """Lines on standard error of a process that reads the source; it is killed at one of its writes to the disk."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        calls = 0

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal calls
            if event in ("os.rename", "os.remove", "os.fsync") and str(cache) in str(arguments):
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        synchronize = os.fsync

        def fsync(descriptor: int) -> None:
            watch("os.fsync", (cache,))
            synchronize(descriptor)

        os.fsync = fsync
        sys.addaudithook(watch)
        with redirect_stderr(io.StringIO()) as lines:
            load_data(config)
        os.write(writing, lines.getvalue().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines_read = pipe.read()
    _, status = os.waitpid(child, 0)
    assert (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL) or status == 0
    return lines_read


def entry(cache: Path) -> dict[str, str]:
    """Digest of each file of the only finished entry; empty if there is none."""
    folders = [path for path in (cache / "images").glob("*") if path.is_dir() and path.suffix != ".part"]
    assert len(folders) <= 1
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for folder in folders for path in folder.iterdir()}


def main(source: str, folder: str, changes: str) -> None:
    """Print what each killed reading and the one after it left."""
    cache = Path(folder)
    os.environ |= {"VQLAB_CACHE": folder, "VQLAB_DATA_MEMORY": "0"}
    config = DataConfig(source=f"folder:{source}", **json.loads(changes))
    # Small batches, each of which goes to the disk.
    decoding._MAX_FILES, spool._SYNC_BYTES = 7, 0
    moment, killed = 0, True
    while killed:
        moment += 1
        shutil.rmtree(cache, ignore_errors=True)
        killed = "are stored in" not in in_process(config, cache, kill_at=moment)
        half = entry(cache)
        lines = in_process(config, cache, kill_at=-1)
        left = [path.name for path in (cache / "images").iterdir() if path.is_dir()]
        result = {
            "moment": moment,
            "killed": killed,
            "half": half,
            "lines": lines,
            "entry": entry(cache),
            "folder": left,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
