"""Execution of the numbered notebooks, several at a time: an offline page of each, and an index page."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vqlab.errors import InputError
from vqlab.files import write_atomic
from vqlab.report.execution import LIBRARIES, NotebookJob, job_environment, job_result, start_job
from vqlab.report.index import index_page, read_cells, read_title
from vqlab.report.notebook_result import NotebookResult
from vqlab.report.process_server import process_servers
from vqlab.report.run_table import NotebookState, run_table

# The first picture comes first; then what takes longest, so that the cores end together.
_ORDER = ("00", "04", "10", "07", "08", "12", "09", "13", "03", "06", "11", "05", "02", "01")
_POLL_SECONDS = 0.1
# Longer than Jupyter waits for the end of a kernel.
_END_SECONDS = 15


def notebooks_folder() -> Path:
    """Find the numbered notebooks of the project.

    Returns:
        The folder ``notebooks`` of the checkout, or the copy inside an installed package.

    Raises:
        InputError: if neither exists.
    """
    package = Path(__file__).resolve().parent.parent
    folders = (package / "_notebooks", package.parent / "notebooks")
    for folder in folders:
        if folder.is_dir():
            return folder
    raise InputError(f"notebooks: neither {folders[0]} nor {folders[1]} exists; reinstall vqlab")


def working_copy(folder: Path | None, log: Callable[[str], None]) -> Path:
    """Create a folder of the notebooks that can be edited; notebooks that it already holds are kept.

    Args:
        folder: the folder, created if missing. None uses the checkout's own notebooks, or for an installed vqlab
            ``vqlab-notebooks`` in the working directory.
        log: called with one line for each notebook that is kept and differs from the original.

    Returns:
        The folder.

    Raises:
        InputError: if the project's notebooks do not exist.
    """
    source = notebooks_folder()
    if folder is None and source.name == "notebooks":
        return source
    target = folder or Path("vqlab-notebooks")
    target.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(source.glob("*.ipynb")):
        copy = target / notebook.name
        if not copy.exists():
            shutil.copyfile(notebook, copy)
        elif copy.read_bytes() != notebook.read_bytes():
            log(f"{copy}: differs from the original and is kept; delete it to restore the original")
    return target


def run_notebooks(
    parameters: dict[str, Any],
    output: Path,
    log: Callable[[str], None],
    folder: Path | None = None,
    figures: Path | None = None,
    only: Sequence[str] | None = None,
    processes: int | None = None,
    on_index: Callable[[Path], object] | None = None,
) -> tuple[Path, int]:
    """Execute the numbered notebooks, and write each as a page with an index page over all.

    Each notebook runs in processes of its own, with an equal share of the cores. The index page exists from the start
    and is written again when a notebook starts or ends. A notebook that fails, whose kernel dies or that cannot be
    read stays in the report with the reason, and the others are executed.

    Args:
        parameters: values of the cell tagged ``parameters``, by name; every notebook must have each of them.
        output: folder of the report, created if missing.
        log: called with one line for the index page and one for each executed notebook.
        folder: folder of the notebooks ``NN_name.ipynb``; None (default) uses the project's own.
        figures: folder that receives the first picture of each notebook's cells tagged ``headline``, as
            ``NN_name.png``; None (default) writes none.
        only: two-digit numbers of the notebooks to execute, such as ``["07"]``; None (default) executes all.
        processes: notebooks that run at a time, at least 1; None (default) runs one for each core.
        on_index: called with the index page as soon as it exists; None (default) calls nothing.

    Returns:
        The index page, and the number of failed notebooks.

    Raises:
        InputError: if the folder holds no numbered notebook, a number of ``only`` does not exist, or a notebook lacks
            one of the parameters.
    """
    folder = folder or notebooks_folder()
    sources = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        raise InputError(f"folder={folder}: must hold notebooks named NN_name.ipynb")
    sources = _select(sources, only)
    for source in sources:
        _check_parameters(source, parameters)
    output.mkdir(parents=True, exist_ok=True)
    jobs = [NotebookJob(source, output / source.name, parameters) for source in sources]
    run = _ReportRun(jobs, parameters, output.resolve() / "index.html", log, figures)
    run.write_index()
    log(f"report: {run.index}")
    if on_index:
        on_index(run.index)
    run.execute(min(processes or _available_cores(), len(jobs)))
    return run.index, sum(result.error is not None for result in run.results.values())


class _ReportRun:
    """The jobs of one report: which run, which have ended, and the index page over them."""

    def __init__(
        self,
        jobs: list[NotebookJob],
        parameters: dict[str, Any],
        index: Path,
        log: Callable[[str], None],
        figures: Path | None,
    ) -> None:
        self.jobs, self.parameters, self.index, self.log, self.figures = jobs, parameters, index, log, figures
        self.titles = {job.source.stem: read_title(job.source) for job in jobs}
        self.waiting = sorted(jobs, key=_rank)
        self.running: dict[str, tuple[NotebookJob, subprocess.Popen[bytes], float]] = {}
        self.results: dict[str, NotebookResult] = {}

    def execute(self, processes: int) -> None:
        """Execute all jobs, ``processes`` at a time; on an error, Ctrl-C for one, end those that run."""
        threads = max(1, _available_cores() // processes)
        servers = process_servers(LIBRARIES, job_environment(threads))
        with servers as environment, run_table(self.states) as update:
            try:
                while self.waiting or self.running:
                    while self.waiting and len(self.running) < processes:
                        job = self.waiting.pop(0)
                        self.running[job.source.stem] = (job, start_job(job, environment), time.perf_counter())
                        self.write_index()
                    self._collect()
                    update()
                    time.sleep(_POLL_SECONDS)
            finally:
                self._end_jobs()

    def _end_jobs(self) -> None:
        """End the jobs that run; their trainings have some seconds to write a checkpoint."""
        processes = [process for _, process, _ in self.running.values()]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + _END_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def states(self) -> list[NotebookState]:
        """Name, state, seconds and headline number of each notebook; no seconds before its start."""
        rows: list[NotebookState] = []
        for job in self.jobs:
            name = job.source.stem
            if name in self.results:
                result = self.results[name]
                rows.append((name, result.state, result.seconds, result.headline))
            elif name in self.running:
                rows.append((name, "running", time.perf_counter() - self.running[name][2], ""))
            else:
                rows.append((name, "waiting", None, ""))
        return rows

    def _collect(self) -> None:
        for name, (job, process, _) in list(self.running.items()):
            returncode = process.poll()
            if returncode is None:
                continue
            del self.running[name]
            result = self.results[name] = job_result(job, returncode)
            if self.figures and result.picture:
                self.figures.mkdir(parents=True, exist_ok=True)
                (self.figures / f"{name}.png").write_bytes(result.picture)
            self.write_index()
            detail = f": {result.error}" if result.error else ""
            headline = f", {result.headline}" if result.headline else ""
            number = f"[{len(self.results)}/{len(self.jobs)}]"
            self.log(f"{number} {name}: {result.state}{detail} ({result.seconds:.0f} s){headline}")

    def write_index(self) -> None:
        """Write the index page with the present state of each notebook."""
        cards = [self.results.get(name, NotebookResult(name, name, pending=state)) for name, state, *_ in self.states()]
        page = index_page(cards, self.parameters)
        write_atomic(self.index, lambda temporary: temporary.write_text(page))


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rank(job: NotebookJob) -> tuple[int, str]:
    number = job.source.name[:2]
    return (_ORDER.index(number) if number in _ORDER else len(_ORDER), number)


def _select(sources: list[Path], only: Sequence[str] | None) -> list[Path]:
    by_number = {source.name[:2]: source for source in sources}
    unknown = set(only or ()) - set(by_number)
    if unknown:
        raise InputError(f"only={', '.join(sorted(unknown))}: must be one of {', '.join(by_number)}")
    return [source for number, source in by_number.items() if not only or number in only]


def _check_parameters(source: Path, parameters: dict[str, Any]) -> None:
    """Raise InputError for an unknown parameter, for which papermill only prints a warning."""
    cells = read_cells(source)
    if not cells:
        return  # The notebook cannot be read; its execution reports the reason.
    tagged = [cell["source"] for cell in cells if "parameters" in cell["tags"]]
    try:
        statements = ast.parse(tagged[0] if tagged else "").body
    except SyntaxError:
        return  # So does the execution of this cell.
    targets = [target for statement in statements if isinstance(statement, ast.Assign) for target in statement.targets]
    allowed = [target.id for target in targets if isinstance(target, ast.Name)]
    unknown = set(parameters) - set(allowed)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise InputError(f"{source.name}: has no parameter {names}; allowed: {', '.join(allowed)}")
