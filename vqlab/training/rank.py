"""One of the processes of ``vqlab.training.processes``: ``python -m vqlab.training.rank FOLDER PIPE``."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch.distributed as dist

from vqlab.config import Config
from vqlab.errors import InputError
from vqlab.training import train


def main(folder: Path, pipe: int) -> int:
    """Train the Config of ``job.json``, and report progress and errors to the process that started this one.

    Args:
        folder: has the job; the file ``stop`` in it ends the training with a checkpoint.
        pipe: file descriptor that gets a line of JSON for each row of progress, and for an error.

    Returns:
        The exit status, 0 or 1; after 0 the last line in the pipe has the key ``finished``.
    """
    parent = os.getppid()
    job = json.loads((folder / "job.json").read_text())
    config = Config.parse(job.pop("config"), as_stored=True)

    def report(message: dict[str, Any]) -> None:
        os.write(pipe, (json.dumps(message) + "\n").encode())

    def should_stop() -> bool:
        return (folder / "stop").exists() or os.getppid() != parent

    try:
        train(config, job.pop("root"), job.pop("device"), report, should_stop=should_stop, **job)
    except InputError as error:
        report({"error": str(error), "kind": type(error).__name__})
        return 1
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr)
        report({"error": "".join(traceback.format_exception_only(error)).strip(), "kind": ""})
        return 1
    dist.destroy_process_group()
    report({"finished": True})
    return 0


if __name__ == "__main__":
    exit_status = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the process group may abort a process that ends as usual.
    os._exit(exit_status)
