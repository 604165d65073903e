"""The report: notebooks by papermill, offline pages, failures shown with their cell."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vqlab import InputError
from vqlab.report import notebooks_folder, run_notebooks

NOTEBOOKS = sorted(notebooks_folder().glob("*.ipynb"))


def _write(folder: Path, name: str, *cells: str) -> None:
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    shown = [new_code_cell(cell, metadata={"tags": ["headline"]}) for cell in cells]
    notebook = new_notebook(cells=[new_markdown_cell(f"# About {name}"), parameters, *shown])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")


def test_a_failed_notebook_stays_with_its_cell_and_the_rest_go_on(tmp_path: Path) -> None:
    _write(tmp_path, "00_breaks", "1 / (seed - 7)")
    _write(
        tmp_path, "01_works",
        "from vqlab.plots.style import axes\naxes(1, 'A figure made without pyplot')[0]",
        "import pandas as pd\npd.DataFrame({'seed': [seed]})",
    )  # fmt: skip
    said: list[str] = []
    index, failed = run_notebooks(
        {"seed": 7}, tmp_path / "report", said.append, folder=tmp_path, figures=tmp_path / "figures"
    )
    page = index.read_text()
    assert failed == 1
    assert "ZeroDivisionError" in said[0]
    assert "ok" in said[1]
    assert "1 / (seed - 7)" in page
    assert "ZeroDivisionError" in page
    assert "About 01_works" in page
    assert "<td>7</td>" in page
    assert (tmp_path / "figures" / "01_works.png").read_bytes().startswith(b"\x89PNG")
    for html in (tmp_path / "report").glob("*.html"):
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"', html.read_text())


def test_a_parameter_that_a_notebook_lacks_is_refused_before_anything_runs(tmp_path: Path) -> None:
    _write(tmp_path, "00_one", "seed")
    with pytest.raises(InputError, match="no parameter sead"):
        run_notebooks({"sead": 1}, tmp_path / "report", print, folder=tmp_path)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean_parameterised_and_thin(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert sum("headline" in cell.metadata.get("tags", []) for cell in code) >= 1
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    assert notebook.cells[0].source.startswith("# ")
    assert "**Question.**" in notebook.cells[0].source
