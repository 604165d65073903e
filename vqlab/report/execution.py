"""Execution of one notebook in a process of its own, so that neither a dead kernel nor its memory reaches others.

``python -m vqlab.report.execution JOB`` executes the notebook of a job, given as JSON, and writes its result.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from vqlab.files import read_json, write_json
from vqlab.report.index import headline_picture, last_finding, read_title
from vqlab.report.notebook_result import NotebookResult
from vqlab.report.pages import write_page
from vqlab.report.process_server import module_command

_KERNEL = "vqlab"
# Widgets show static figures, and plotly stores its data without 5 MB of plotly.js in every notebook.
_HEADLESS = {"VQLAB_HEADLESS": "1", "PLOTLY_RENDERER": "plotly_mimetype"}
# What the two processes of a notebook import. torch._dynamo: every optimizer imports it at its first step.
LIBRARIES = {
    "vqlab.report.execution": (
        "papermill", "plotly.io.json", "latex2mathml.converter", "vqlab.report.pages:fill_caches",
    ),
    "ipykernel_launcher": (
        "torch", "torch._dynamo", "tensorboard.summary.writer.record_writer", "torchvision", "piq", "pandas",
        "pandas.io.formats.style", "scipy.stats", "sklearn.decomposition", "seaborn", "matplotlib.pyplot",
        "matplotlib_inline.backend_inline", "PIL.PngImagePlugin", "plotly.graph_objects", "plotly.io._renderers",
        "anywidget", "ipywidgets",
        "ipykernel.kernelapp", "optuna", "sqlalchemy", "vqlab.plots.samples", "vqlab.report.study_findings",
        "vqlab.studies", "vqlab.training", "vqlab.widgets",
    ),
}  # fmt: skip
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Threads that wait for another by spinning take the time of the one they wait for, if other processes run.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True)
class NotebookJob:
    """A notebook to execute.

    Attributes:
        source: the notebook.
        target: the executed copy; the page beside it has the ending ``.html``, the result ``.json``.
        parameters: values of the cell tagged ``parameters``, by name.
    """

    source: Path
    target: Path
    parameters: dict[str, Any]

    @property
    def result(self) -> Path:
        """The file that holds the result."""
        return self.target.with_suffix(".json")


def job_environment(threads: int) -> dict[str, str]:
    """Environment variables of the processes that execute a notebook.

    Args:
        threads: number of threads for arithmetic, at least 1.

    Returns:
        Values by name.
    """
    return {**_HEADLESS, **_WAITING, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}


def start_job(job: NotebookJob, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that executes a notebook in the Python that runs this function.

    Args:
        job: the notebook.
        environment: environment variables of the process, as ``process_servers`` yields them for ``job_environment``.

    Returns:
        The process; its standard output and error go to the file of the target with the ending ``.log``.
    """
    job.result.unlink(missing_ok=True)
    description = {**asdict(job), "source": str(job.source), "target": str(job.target)}
    with job.target.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            module_command(environment, "vqlab.report.execution", json.dumps(description)),
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment},
        )  # fmt: skip


def job_result(job: NotebookJob, returncode: int) -> NotebookResult:
    """Read the result of a job whose process has ended.

    Args:
        job: the notebook.
        returncode: exit status of the process.

    Returns:
        The result; without one, a failure that names the exit status and the last line of the log.
    """
    log = job.target.with_suffix(".log")
    if not job.result.is_file():
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        reason = f"its process ended with status {returncode}: {lines[-1]}"
        return NotebookResult(job.source.stem, read_title(job.source), error=reason)
    values = read_json(job.result)
    job.result.unlink()
    log.unlink(missing_ok=True)
    picture = bytes.fromhex(values.pop("picture"))
    return NotebookResult(**values, picture=picture or None)


def execute_notebook(job: NotebookJob) -> NotebookResult:
    """Execute a notebook with papermill and write its page.

    Args:
        job: the notebook.

    Returns:
        The result; an error of a cell, a kernel that died or a notebook that cannot be read is its ``error``.
    """
    start_time = time.perf_counter()
    error, failing_cell = _run_papermill(job)
    picture, finding = None, None
    if job.target.is_file():
        import nbformat

        notebook = nbformat.read(job.target, as_version=4)
        # A page with the widgets' state would load its script from a server; the outputs hold static figures instead.
        notebook.metadata.pop("widgets", None)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, job.target)
        write_page(notebook, job.target.with_suffix(".html"))
        picture, finding = headline_picture(notebook), last_finding(notebook)
    seconds = time.perf_counter() - start_time
    return NotebookResult(job.source.stem, read_title(job.source), seconds, error, failing_cell, picture, finding)


def _run_papermill(job: NotebookJob) -> tuple[str | None, str]:
    """Execute the notebook; return what failed, or None, and the source of the failed cell."""
    import papermill

    job.target.unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _install_kernel(Path(folder))
            papermill.execute_notebook(
                str(job.source),
                str(job.target),
                job.parameters,
                kernel_name=_KERNEL,
                progress_bar=False,
                request_save_on_cell_execute=False,
            )
    except papermill.PapermillExecutionError as failure:
        return f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}", failure.source
    except Exception as failure:
        return " ".join(f"{type(failure).__name__}: {failure}".split()), ""
    return None, ""


def _install_kernel(folder: Path) -> None:
    """Add a kernel of this Python to Jupyter's path: ``python3`` may be another Python, or missing."""
    specification = {
        # Without the level the kernel warns on every start about its loopback socket.
        "argv": module_command(
            os.environ, "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=40"
        ),
        "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    path = folder / "kernels" / _KERNEL / "kernel.json"
    path.parent.mkdir(parents=True)
    write_json(path, specification)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("JUPYTER_PATH", "")]))


def _interrupt_once(number: int, frame: FrameType | None) -> NoReturn:
    """End the kernel, whose training writes a checkpoint; a terminal and ``vqlab run`` may send a signal each."""
    for each in _END_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _main(description: str) -> None:
    for number in _END_SIGNALS:
        signal.signal(number, _interrupt_once)
    values = json.loads(description)
    job = NotebookJob(Path(values["source"]), Path(values["target"]), values["parameters"])
    result = asdict(execute_notebook(job))
    write_json(job.result, {**result, "picture": (result["picture"] or b"").hex()})


if __name__ == "__main__":
    _main(sys.argv[1])
