"""The ordered notebooks by papermill, each as an offline page, and an index over them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqlab.errors import InputError
from vqlab.report.index import Card, headline, index_page, title
from vqlab.report.pages import write_page

# Widgets leave their static twins, and plotly its data without 5 MB of plotly.js in every notebook.
_ENVIRONMENT = {"VQLAB_HEADLESS": "1", "PLOTLY_RENDERER": "plotly_mimetype"}


def notebooks_folder() -> Path:
    """Where the ordered notebooks are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_notebooks", package.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise InputError("notebooks: not found beside or inside vqlab; install it again")


def working_copy(folder: Path | None, log: Callable[[str], None]) -> Path:
    """A folder whose notebooks a person may edit; what is there already is kept.

    Unless named, it is the checkout's own notebooks, or for an installed vqlab ./vqlab-notebooks.
    """
    source = notebooks_folder()
    if folder is None and source.name == "notebooks":
        return source
    target = folder or Path("vqlab-notebooks")
    target.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(source.glob("*.ipynb")):
        mine = target / notebook.name
        if not mine.exists():
            shutil.copyfile(notebook, mine)
        elif mine.read_bytes() != notebook.read_bytes():
            log(f"{mine}: yours is kept; delete it to get the original back")
    return target


def run_notebooks(
    parameters: dict[str, Any],
    output: Path,
    log: Callable[[str], None],
    folder: Path | None = None,
    figures: Path | None = None,
    only: Sequence[str] | None = None,
) -> tuple[Path, int]:
    """Execute every numbered notebook with ``parameters``; returns the index page and the number that failed.

    folder: where the notebooks are, the project's own unless named. figures: a folder that gets each notebook's
    headline picture as NAME.png. only: the numbers of those to execute, as "07"; all unless named. A failed notebook
    stays in the report with the cell and its error. Raises InputError for a folder without notebooks, a number that
    none has, or a parameter that a notebook lacks.
    """
    sources = sorted((folder or notebooks_folder()).glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        raise InputError(f"notebooks: no NN_name.ipynb in {folder}")
    sources = _chosen(sources, only)
    for source in sources:
        _check_parameters(source, parameters)
    output.mkdir(parents=True, exist_ok=True)
    cards = []
    for number, source in enumerate(sources, 1):
        with _environment():
            card = _execute(source, output / source.name, parameters)
        outcome = "ok" if card.error is None else f"FAILED: {card.error}"
        log(f"[{number}/{len(sources)}] {card.name}: {outcome} ({card.seconds:.0f} s)")
        cards.append(card)
        if figures and card.picture:
            figures.mkdir(parents=True, exist_ok=True)
            (figures / f"{card.name}.png").write_bytes(card.picture)
    index = output.resolve() / "index.html"
    index.write_text(index_page(cards, parameters))
    return index, sum(card.error is not None for card in cards)


def _chosen(sources: list[Path], only: Sequence[str] | None) -> list[Path]:
    by_number = {source.name[:2]: source for source in sources}
    unknown = set(only or ()) - set(by_number)
    if unknown:
        raise InputError(f"only={', '.join(sorted(unknown))}: must be one of {', '.join(by_number)}")
    return [source for number, source in by_number.items() if not only or number in only]


@contextmanager
def _environment() -> Iterator[None]:
    """_ENVIRONMENT for the kernels that start meanwhile."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _check_parameters(source: Path, parameters: dict[str, Any]) -> None:
    import papermill

    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise InputError(f"{source.name}: has no parameter {', '.join(sorted(unknown))}")


def _execute(source: Path, target: Path, parameters: dict[str, Any]) -> Card:
    import nbformat
    import papermill

    began = time.perf_counter()
    error, failing = None, ""
    try:
        papermill.execute_notebook(
            str(source), str(target), parameters, kernel_name="python3",
            progress_bar={"desc": source.stem, "disable": None, "leave": False},
            # Without this the kernel warns on every start about its loopback socket.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )  # fmt: skip
    except papermill.PapermillExecutionError as caught:
        error, failing = f"cell {caught.exec_count}: {caught.ename}: {caught.evalue}", caught.source
    notebook = nbformat.read(target, as_version=4)
    # The state of a widget would have the page ask a server for its script; the static twins are there.
    if notebook.metadata.pop("widgets", None):
        nbformat.write(notebook, target)
    write_page(notebook, target.with_suffix(".html"))
    return Card(
        source.stem, title(notebook, source.stem), time.perf_counter() - began, error, failing, *headline(notebook)
    )
