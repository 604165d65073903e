"""Time and memory of large sets of images, in processes of their own; prints the table of the README.

Run with: python tests/benchmarks/measure_image_sets.py --folder DIR 10000 100000 1000000

The sets are Parquet files of 32x32 PNG images; 10,000 different images are repeated. Resident memory is the largest
anonymous part (RssAnon of /proc/self/status): pages of a mapped file are not counted, because the system takes them
back when it needs them. ``--train GIB`` trains on a .npy file of this size, mapped, for ``--steps`` steps.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE, DIFFERENT, CLASSES = 32, 10_000, 10
ROWS_A_FILE = 100_000
COLUMNS = (
    "images", "GiB", "first batch, cold (s)", "of processes, cold (s)", "first batch, warm, mapped (s)",
    "first batch, warm, in memory (s)", "resident, mapped (MiB)", "resident, in memory (MiB)",
    "images/s of process time, mapped", "images/s of process time, in memory",
)  # fmt: skip


def pictures(count: int) -> np.ndarray:
    """Smooth random colours with some noise, (count, 32, 32, 3)."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in small]
    noise = generator.integers(-4, 5, (count, SIZE, SIZE, 3))
    return np.clip(np.stack(large) + noise, 0, 255).astype(np.uint8)


def write_parquet(folder: Path, count: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    encoded = []
    for image in pictures(min(count, DIFFERENT)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for part, rows in (("train", count - count // 10), ("test", count // 10)):
        for number, start in enumerate(range(0, rows, ROWS_A_FILE)):
            indices = range(start, min(rows, start + ROWS_A_FILE))
            images = pa.array([encoded[index % len(encoded)] for index in indices], kind)
            table = pa.table({"image": images, "label": [index % CLASSES for index in indices]})
            pq.write_table(table, folder / f"{part}-{number:05d}.parquet")
    return folder


def write_array(path: Path, gib: float) -> Path:
    count = int(gib * 2**30 / (3 * SIZE * SIZE)) + 1
    different = pictures(DIFFERENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
    for start in range(0, count, DIFFERENT):
        stop = min(count, start + DIFFERENT)
        array[start:stop] = different[: stop - start]
    array.flush()
    return path


class Memory:
    """The largest resident memory of this process, sampled every 10 ms."""

    def __init__(self) -> None:
        self.anonymous = self.file = 0
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            values = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.anonymous = max(self.anonymous, int(values["RssAnon"].split()[0]))
            self.file = max(self.file, int(values["RssFile"].split()[0]))
            time.sleep(0.01)

    def values(self) -> dict[str, float]:
        return {"anonymous_mib": self.anonymous / 1024, "file_mib": self.file / 1024}


def process_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measure_loading(source: str) -> dict[str, Any]:
    """Load a set, take the first batch, then an epoch of batches."""
    from vqlab.config import DataConfig
    from vqlab.data import batches, load_data

    memory, start, used = Memory(), time.perf_counter(), process_seconds()
    data = load_data(DataConfig(source=f"folder:{source}"))
    next(batches(data.train, 128, seed=0, epoch=0, augment=True))
    first = {"seconds": time.perf_counter() - start, "process_seconds": process_seconds() - used}
    start, used, images = time.perf_counter(), process_seconds(), 0
    for epoch in range(max(1, 200_000 // len(data.train))):
        for batch, _ in batches(data.train, 128, seed=0, epoch=epoch, augment=True):
            images += len(batch)
    return {
        **first, **memory.values(), "mapped": data.mapped is not None,
        "images_a_second": images / (time.perf_counter() - start),
        "images_a_process_second": images / (process_seconds() - used),
        "gib": sum(part.pixels.numel() for part in (data.train, data.test)) / 2**30,
    }  # fmt: skip


def measure_training(source: str, steps: int) -> dict[str, Any]:
    """Train, measured from the reading of the source to the checkpoint after the last step."""
    from vqlab import Config, train

    config = Config.profile(
        "paper", **{
            "data.source": f"folder:{source}", "data.test_limit": 1000, "optim.epochs": 1, "optim.batch_size": 128,
            "model.hidden": 8, "model.residual_hidden": 4, "quantizer.num_codes": 16, "quantizer.dim": 8,
        },
    )  # fmt: skip
    memory, start, used = Memory(), time.perf_counter(), process_seconds()
    run = train(config, Path(source).parent / "runs", "cpu", stop_after_steps=steps)
    return {
        "seconds": time.perf_counter() - start, "process_seconds": process_seconds() - used, **memory.values(),
        "steps": run.provenance["step"],
    }  # fmt: skip


def in_process(what: str, source: Path, cache: Path, memory: float, *more: str) -> dict[str, Any]:
    """The result of one measurement in a process of its own."""
    environment = {**os.environ, "VQLAB_CACHE": str(cache), "VQLAB_DATA_MEMORY": str(memory), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", what, "--folder", str(source), *more]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(what, source.name, f"memory={memory}", json.dumps(result), file=sys.stderr, flush=True)
    return result


def table_row(folder: Path, count: int) -> list[str]:
    source, cache = write_parquet(folder / f"images-{count}", count), folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cold, mapped, memory = (in_process("loading", source, cache, budget) for budget in (0, 0, 1000))
    shutil.rmtree(cache)
    shutil.rmtree(source)
    return [
        f"{count:,}", f"{cold['gib']:.2f}", f"{cold['seconds']:.1f}", f"{cold['process_seconds']:.1f}",
        f"{mapped['seconds']:.2f}", f"{memory['seconds']:.2f}",
        f"{mapped['anonymous_mib']:.0f}", f"{memory['anonymous_mib']:.0f}",
        f"{mapped['images_a_process_second']:,.0f}", f"{memory['images_a_process_second']:,.0f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--train", type=float, help="train on a set of this size, GiB")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--child", choices=("loading", "training"))
    options = parser.parse_args()
    if options.child:
        source = str(options.folder)
        loading = options.child == "loading"
        print(json.dumps(measure_loading(source) if loading else measure_training(source, options.steps)))
        return
    if options.train:
        source = write_array(options.folder / "set.npy", options.train)
        in_process("training", source, options.folder / "cache", 0.25, "--steps", str(options.steps))
    rows = [table_row(options.folder, count) for count in options.counts]
    for row in (COLUMNS, ["---"] * len(COLUMNS), *rows) if rows else ():
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
