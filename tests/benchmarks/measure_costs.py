"""Time and memory against the sizes of a training, with the exponents of notebooks/costs.md.

Run with: OMP_NUM_THREADS=1 python tests/benchmarks/measure_costs.py
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image

from vqlab import Config
from vqlab.analysis.layer_cost import layer_cost
from vqlab.data import load_data
from vqlab.models import build_model

STEPS, ROUNDS = 41, 5
TRAIN = """
import json, sys, time
from vqlab import Config, train
config, times = Config.parse(json.loads(sys.argv[1])), []
note = lambda row: row["kind"] == "train" and times.append((row["step"], time.perf_counter()))
steps = config.data.train_limit // config.optim.batch_size
run = train(config, sys.argv[2], "cpu", note, processes=int(sys.argv[3]), force=True, stop_after_steps=steps)
(first, start), (last, end) = times[1], times[-1]
speed = (last - first) * config.optim.batch_size / (end - start)
print(json.dumps([speed, run.provenance["peak_memory_mib"]]))
"""


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the logarithms, by least squares."""
    logs = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True)]
    slope, _ = statistics.linear_regression(*zip(*logs, strict=True))
    return slope


def print_row(name: str, sizes: Iterable[object], values: Sequence[float], unit: str, slope: float) -> None:
    cells = ", ".join(f"{size}: {value:.3g}" for size, value in zip(sizes, values, strict=True))
    print(f"| {name} | {cells} | {unit} | {slope:.2f} |", flush=True)


def measure_layer() -> None:
    """A step of the layer alone, one thread, around N = 8,192, K = 1,024, D = 64."""
    vectors, codes, channels = (2048, 4096, 8192, 16_384), (256, 1024, 4096, 16_384), (16, 64, 256)
    times = [layer_cost([1024], tokens=count, repeats=7, device="cpu")["ms"][0] for count in vectors]
    print_row("layer, vectors N", vectors, times, "ms", exponent(vectors, times))
    times = list(layer_cost(codes, repeats=7, device="cpu")["ms"])
    print_row("layer, codes K", codes, times, "ms", exponent(codes, times))
    times = [layer_cost([1024], dim=dim, repeats=7, device="cpu")["ms"][0] for dim in channels]
    print_row("layer, channels D", channels, times, "ms", exponent(channels, times))


def training(processes: int = 1, **changes: object) -> tuple[float, float]:
    """Images a second from the second logged step of the first epoch to its last, and peak memory of the main process.

    As in a long training, usage is summed once an epoch. Memory in MiB.
    """
    batch = int(changes.get("optim.batch_size", 32))  # type: ignore[call-overload]
    settings = {
        "data.train_limit": STEPS * batch, "data.test_limit": 8, "optim.epochs": 24, "evaluation.log_every": 8,
        **changes,
    }  # fmt: skip
    config = Config.profile("paper", **settings)
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(config.model_dump(mode="json"))
        command = [sys.executable, "-c", TRAIN, text, folder, str(processes)]
        speed, memory = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return speed, memory


def write_images(folder: Path, size: int) -> None:
    """Training and test images of a size, enlarged from the photographs of the package."""
    photos = load_data(Config.profile("quick").data)
    for part, images in (("train", photos.train.pixels[: STEPS * 8]), ("test", photos.test.pixels[:8])):
        (folder / part / "photo").mkdir(parents=True)
        for number, pixels in enumerate(images):
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((size, size))
            picture.save(folder / part / "photo" / f"{number:04}.png")


def measure_channels_last() -> None:
    """Forward and backward of the network in both layouts of memory, in turn."""
    images = torch.rand(32, 3, 32, 32)
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    models = {
        name: build_model(Config.profile("paper"), 0).to(memory_format=layout) for name, layout in layouts.items()
    }
    times: dict[str, list[float]] = {name: [] for name in layouts}
    for name in [*layouts] * (2 * ROUNDS):
        batch = images.to(memory_format=layouts[name])
        start = time.perf_counter()
        (models[name](batch).reconstruction - batch).square().mean().backward()
        times[name].append(1000 * (time.perf_counter() - start))
    medians = [statistics.median(values[1:]) for values in times.values()]
    print_row("network, layout of memory", layouts, medians, "ms", math.nan)


def measure_training() -> None:
    """Steps of the profile paper, one thread for each process."""
    pixels = (32, 64, 128)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), max(pixels))
        common = {"data.source": f"folder:{folder}", "optim.batch_size": 8}
        speeds, memory = zip(*(training(**{**common, "data.image_size": size}) for size in pixels), strict=True)
    print_row("training, pixels a side", pixels, [1 / speed for speed in speeds], "s an image",
              exponent(pixels, [1 / speed for speed in speeds]))  # fmt: skip
    print_row("training, pixels a side", pixels, memory, "MiB", exponent(pixels, memory))
    batches = (8, 32, 128)
    speeds, memory = zip(*(training(**{"optim.batch_size": size}) for size in batches), strict=True)
    print_row("training, batch", batches, speeds, "images/s", exponent(batches, speeds))
    print_row("training, batch", batches, memory, "MiB", exponent(batches, memory))
    parts = (1, 2, 4, 8)
    memory = [training(**{"optim.batch_size": 512, "optim.accumulate": count})[1] for count in parts]
    print_row("training, batch of 512 in parts", parts, memory, "MiB", exponent(parts, memory))
    processes = (1, 2)
    # In turn, as the speed of a shared machine changes with the minutes.
    rounds = [[training(count, **{"optim.batch_size": 128})[0] for count in processes] for _ in range(ROUNDS)]
    speeds = [statistics.median(speed) for speed in zip(*rounds, strict=True)]
    print_row("training, processes", processes, speeds, "images/s", exponent(processes, speeds))
    ratios = sorted(two / one for one, two in rounds)
    print(
        f"two processes: {statistics.median(ratios):.2f} times the images a second of one", [f"{r:.2f}" for r in ratios]
    )


if __name__ == "__main__":
    print("| what | values | unit | exponent |\n|---|---|---|---|")
    measure_layer()
    measure_channels_last()
    measure_training()
