"""The files of a source, decoded in their order, in this process or in several."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

from PIL import Image

from vqlab.data.decode_batch import DecodedBatch, Fitting, decode_batch
from vqlab.data.decode_process import DecodeProcess
from vqlab.data.files import File

# Sets that are read in this time need no other processes, whose start takes as long.
SERIAL_SECONDS = 2.0
_MAX_FILES, _MAX_BATCH_BYTES, _MAX_PROCESSES = 256, 16_000_000, 8


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
