"""A process that decodes image files, started without running the caller's script again."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from vqlab.data.decode_batch import DecodedBatch, Fitting, decode_batch
from vqlab.data.files import File
from vqlab.errors import InputError, WorkError

# The package without its __init__, whose import of torch would take longer than most sets.
_CODE = """
import json, sys, types
sys.path[:] = json.loads(sys.argv[1])
package = types.ModuleType("vqlab.data")
package.__path__ = [sys.argv[2]]
sys.modules["vqlab.data"] = package
from vqlab.data.decode_process import serve
serve()
"""


class DecodeProcess:
    """A child process that decodes files until the ``with`` block ends.

    ``multiprocessing`` would run the caller's script in each process, if that lacks the check for ``__main__``.

    Args:
        fitting: a ``Fitting``.
    """

    def __init__(self, fitting: Fitting) -> None:
        # In a session of its own, so that Ctrl-C reaches the parent only, which ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(sys.path), os.path.dirname(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._fitting = fitting
        self._started = False

    def decode(self, files: list[File]) -> DecodedBatch:
        """Decode files.

        Args:
            files: the files.

        Returns:
            The result of ``decode_batch``.

        Raises:
            InputError: as ``decode_batch`` raises, or if the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            for value in (files,) if self._started else (self._fitting, files):
                pickle.dump(value, self._process.stdin, protocol=5)
            self._started = True
            self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise WorkError("a process that decodes images was ended from outside; start again") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


def serve() -> None:
    """Decode the files that arrive on standard input, as pickles of the parent, until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints must not get between the answers.
    fitting = pickle.load(sys.stdin.buffer)
    while True:
        try:
            files = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any
        try:
            answer = decode_batch(files, fitting)
        except InputError as error:
            answer = error
        pickle.dump(answer, answers, protocol=5)
        answers.flush()
