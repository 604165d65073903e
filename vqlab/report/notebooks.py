"""Execution of the numbered notebooks with papermill: an offline page of each, and an index page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqlab.errors import InputError
from vqlab.report.index import NotebookResult, headline_outputs, index_page, notebook_title
from vqlab.report.pages import write_page

# Widgets show static figures, and plotly stores its data without 5 MB of plotly.js in every notebook.
_ENVIRONMENT = {"VQLAB_HEADLESS": "1", "PLOTLY_RENDERER": "plotly_mimetype"}


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
) -> tuple[Path, int]:
    """Execute the numbered notebooks, and write each as a page with an index page over all.

    A failed notebook stays in the report with the failed cell and its error, and the others are executed.

    Args:
        parameters: values of the cell tagged ``parameters``, by name; every notebook must have each of them.
        output: folder of the report, created if missing.
        log: called with one line for each executed notebook.
        folder: folder of the notebooks ``NN_name.ipynb``; None (default) uses the project's own.
        figures: folder that receives the first picture of each notebook's cells tagged ``headline``, as
            ``NN_name.png``; None (default) writes none.
        only: two-digit numbers of the notebooks to execute, such as ``["07"]``; None (default) executes all.

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
    results = []
    for number, source in enumerate(sources, 1):
        with _environment():
            result = _execute(source, output / source.name, parameters)
        outcome = "ok" if result.error is None else f"FAILED: {result.error}"
        log(f"[{number}/{len(sources)}] {result.name}: {outcome} ({result.seconds:.0f} s)")
        results.append(result)
        if figures and result.picture:
            figures.mkdir(parents=True, exist_ok=True)
            (figures / f"{result.name}.png").write_bytes(result.picture)
    index = output.resolve() / "index.html"
    index.write_text(index_page(results, parameters))
    return index, sum(result.error is not None for result in results)


def _select(sources: list[Path], only: Sequence[str] | None) -> list[Path]:
    by_number = {source.name[:2]: source for source in sources}
    unknown = set(only or ()) - set(by_number)
    if unknown:
        raise InputError(f"only={', '.join(sorted(unknown))}: must be one of {', '.join(by_number)}")
    return [source for number, source in by_number.items() if not only or number in only]


@contextmanager
def _environment() -> Iterator[None]:
    """Set _ENVIRONMENT for the kernels that start in the ``with`` block."""
    previous = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in previous.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _check_parameters(source: Path, parameters: dict[str, Any]) -> None:
    """Raise InputError for an unknown parameter, for which papermill only prints a warning."""
    import papermill

    allowed = papermill.inspect_notebook(str(source))
    unknown = set(parameters) - set(allowed)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise InputError(f"{source.name}: has no parameter {names}; allowed: {', '.join(allowed)}")


def _execute(source: Path, target: Path, parameters: dict[str, Any]) -> NotebookResult:
    import nbformat
    import papermill

    start_time = time.perf_counter()
    error, failing_cell = None, ""
    try:
        papermill.execute_notebook(
            str(source), str(target), parameters, kernel_name="python3",
            progress_bar={"desc": source.stem, "disable": None, "leave": False},
            # Without this the kernel warns on every start about its loopback socket.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )  # fmt: skip
    except papermill.PapermillExecutionError as failure:
        error = f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}"
        failing_cell = failure.source
    notebook = nbformat.read(target, as_version=4)
    # A page with the widgets' state would load its script from a server; the outputs hold static figures instead.
    if notebook.metadata.pop("widgets", None):
        nbformat.write(notebook, target)
    write_page(notebook, target.with_suffix(".html"))
    seconds = time.perf_counter() - start_time
    title = notebook_title(notebook, source.stem)
    return NotebookResult(source.stem, title, seconds, error, failing_cell, *headline_outputs(notebook))
