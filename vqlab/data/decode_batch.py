"""Many image files to pixels of one size, in this process or in several."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vqlab.data.decode import decode_image, fit_image
from vqlab.data.decode_process import DecodeProcess
from vqlab.data.files import MAX_BYTES, File
from vqlab.errors import InputError

if TYPE_CHECKING:
    from vqlab.config import DataConfig, Fit

# Sets that are read in this time need no other processes, whose start takes as long.
SERIAL_SECONDS = 2.0
_MAX_FILES, _MAX_BATCH_BYTES, _MAX_PROCESSES = 256, 16_000_000, 8


class Fitting(NamedTuple):
    """What images are brought to; a process that decodes needs no more of a Config.

    Attributes:
        height: height of an image, pixels.
        width: width of an image, pixels.
        fit: as for ``vqlab.data.decode.fit_image``.
    """

    height: int
    width: int
    fit: Fit

    @classmethod
    def of(cls, config: DataConfig) -> Fitting:
        """Take the values from a Config.

        Args:
            config: ``image_size`` and ``fit``.

        Returns:
            The values.
        """
        return cls(config.image_size, config.image_size, config.fit)

    @property
    def image_bytes(self) -> int:
        """Size of the pixels of an image, bytes."""
        return 3 * self.height * self.width


@dataclass
class DecodedBatch:
    """Pixels of some files.

    Attributes:
        names: names of the readable files.
        pixels: one uint8 array (C, H, W) for each name.
        broken: name and message of each unreadable file.
        sizes: number of files by ``WIDTHxHEIGHT``.
        modes: number of files by Pillow's mode.
        fitted: number of images by size before they were fitted, of those that had another size.
    """

    names: list[str] = field(default_factory=list)
    pixels: list[UInt8[np.ndarray, "C H W"]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    fitted: Counter[str] = field(default_factory=Counter)


def decode_batch(files: Iterable[File], fitting: Fitting) -> DecodedBatch:
    """Read, decode and fit files.

    Args:
        files: the files.
        fitting: size, and how images of another size are brought to it.

    Returns:
        Their pixels; unreadable files are listed.

    Raises:
        InputError: if an image has another size and ``fit`` is ``exact``.
    """
    batch, (height, width, fit) = DecodedBatch(), fitting

    def count(found: str, mode: str) -> None:
        batch.sizes[found] += 1
        batch.modes[mode] += 1

    for name, content, path in files:
        try:
            content = _read(path) if path is not None else content
            if content is None:
                raise InputError(f"{name}: cannot be read, or is larger than 200 MB")
            image = decode_image(content, name, header=count)[0] if isinstance(content, bytes) else content
        except InputError as error:
            batch.broken.append((name, str(error)))
            continue
        if image.size != (width, height):
            batch.fitted[f"{image.width}x{image.height}"] += 1
        batch.pixels.append(np.ascontiguousarray(fit_image(image, height, width, fit, name, [])))
        batch.names.append(name)
    return batch


def _read(path: str) -> bytes | None:
    try:
        file = Path(path)
        return None if not file.is_file() or file.stat().st_size > MAX_BYTES else file.read_bytes()
    except OSError:
        return None


def decode_files(files: Iterator[File], fitting: Fitting, processes: int | None = None) -> Iterator[DecodedBatch]:
    """Decode files in their order, after two seconds in several processes.

    Args:
        files: the files.
        fitting: size, and how images of another size are brought to it.
        processes: number of processes; 1 for this one only, None for one for each core, at most 8.

    Yields:
        Batches of the files.

    Raises:
        InputError: as ``decode_batch``, or if a process is killed.
    """
    processes = processes or min(_MAX_PROCESSES, _cores())
    groups, start = _groups(files, fitting), time.monotonic()
    for group in groups:
        yield decode_batch(group, fitting)
        # Pixels that need no decoding cost less than their way to another process.
        encoded = not isinstance(group[0].content, Image.Image)
        if encoded and processes > 1 and time.monotonic() - start >= SERIAL_SECONDS:
            yield from _decode_in_processes(groups, fitting, processes)


def _decode_in_processes(groups: Iterator[list[File]], fitting: Fitting, processes: int) -> Iterator[DecodedBatch]:
    idle, waiting = SimpleQueue[DecodeProcess](), deque[Future[DecodedBatch]]()

    def decode(group: list[File]) -> DecodedBatch:
        process = idle.get()
        try:
            return process.decode(group)
        finally:
            idle.put(process)

    with ExitStack() as stack:
        for _ in range(processes):
            idle.put(stack.enter_context(DecodeProcess(fitting)))
        threads = ThreadPoolExecutor(processes)
        stack.callback(threads.shutdown, cancel_futures=True)
        for group in groups:
            waiting.append(threads.submit(decode, group))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _groups(files: Iterator[File], fitting: Fitting) -> Iterator[list[File]]:
    """Groups of files that hold little memory, encoded and decoded."""
    group, size = list[File](), 0
    for file in files:
        group.append(file)
        size += fitting.image_bytes + (len(file.content) if isinstance(file.content, bytes) else 0)
        if len(group) >= _MAX_FILES or size >= _MAX_BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
