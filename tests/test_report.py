"""Reports: execution of notebooks, offline pages, failed cells, the page of one Run."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console
from test_training import tiny

from vqlab import InputError, train
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.report import Finding, notebooks_folder, run_notebooks, working_copy, write_run_page
from vqlab.report.cards import grid_style
from vqlab.report.execution import LIBRARIES
from vqlab.report.index import index_page
from vqlab.report.notebook_result import NotebookResult
from vqlab.report.pages import write_page
from vqlab.report.run_page import run_page_data
from vqlab.report.run_table import _table

NOTEBOOKS = sorted(notebooks_folder().glob("*.ipynb"))
FINDING = """from vqlab.report import Finding
Finding(f"The seed is {seed}.", {"seed": (seed, "units"), "two": (2, ""), "three": (3.0, "%")})"""


@pytest.fixture(autouse=True)
def few_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels start without the libraries of the project's notebooks, whose import takes seconds for each report."""
    light = {**LIBRARIES, "ipykernel_launcher": ("ipykernel.kernelapp",)}
    monkeypatch.setattr("vqlab.report.notebooks.LIBRARIES", light)


def _write(folder: Path, name: str, *cells: str) -> None:
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    code = [new_code_cell(cell, metadata={"tags": ["headline"]}) for cell in cells]
    notebook = new_notebook(cells=[new_markdown_cell(f"# About {name}"), parameters, *code])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")


def test_a_failed_notebook_stays_in_the_report_with_its_cell(tmp_path: Path) -> None:
    _write(tmp_path, "00_fails", "1 / (seed - 7)")
    _write(tmp_path, "01_works", "from vqlab.plots.style import make_axes\nmake_axes(1, 'Without pyplot')[0]", FINDING)
    lines: list[str] = []
    index, failed = run_notebooks(
        {"seed": 7}, tmp_path / "report", lines.append, folder=tmp_path, figures=tmp_path / "figures", processes=1
    )
    page = index.read_text()
    assert failed == 1
    assert lines[0] == f"report: {index}"
    assert lines[1].startswith("[1/2] 00_fails: FAILED: cell 3: ZeroDivisionError: division by zero")
    assert re.fullmatch(r"\[2/2\] 01_works: ok \(\d+ s\), seed 7 units", lines[2])
    assert "1 / (seed - 7)" in page
    assert "ZeroDivisionError" in page
    assert "About 01_works" in page
    assert "The seed is 7." in page
    assert (tmp_path / "figures" / "01_works.png").read_bytes().startswith(b"\x89PNG")
    for html in (tmp_path / "report").glob("*.html"):
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"', html.read_text())


def test_only_the_requested_notebooks_are_executed(tmp_path: Path) -> None:
    for name in ("00_first", "07_second", "12_third"):
        _write(tmp_path, name, "seed")
    lines: list[str] = []
    run_notebooks({"seed": 7}, tmp_path / "report", lines.append, folder=tmp_path, only=["12", "07"], processes=1)
    assert [line.split(":")[0] for line in lines[1:]] == ["[1/2] 07_second", "[2/2] 12_third"]
    with pytest.raises(InputError, match=r"only=13: must be one of 00, 07, 12"):
        run_notebooks({"seed": 7}, tmp_path / "report", print, folder=tmp_path, only=["13"])


def test_the_index_page_exists_from_the_start_and_follows_the_notebooks(tmp_path: Path) -> None:
    _write(tmp_path, "00_first", "seed")
    _write(tmp_path, "01_second", "seed")
    pages: list[str] = []

    def log(line: str) -> None:
        pages.append((tmp_path / "report" / "index.html").read_text())

    opened: list[Path] = []
    index, _ = run_notebooks(
        {"seed": 7}, tmp_path / "report", log, folder=tmp_path, processes=1, on_index=opened.append
    )
    assert opened == [index]
    classes = [re.findall(r'class="card (\w+)"', page) for page in pages]
    assert classes == [["waiting", "waiting"], ["ok", "waiting"], ["ok", "ok"]]
    assert not list((tmp_path / "report").glob("*.log"))
    assert not list((tmp_path / "report").glob("*.json"))


def test_a_dead_kernel_and_an_unreadable_notebook_fail_alone(tmp_path: Path) -> None:
    _write(tmp_path, "00_dies", "import os\nos._exit(3)")
    (tmp_path / "01_damaged.ipynb").write_text('{"cells": [')
    _write(tmp_path, "02_works", "seed")
    lines: list[str] = []
    index, failed = run_notebooks({"seed": 7}, tmp_path / "report", lines.append, folder=tmp_path, processes=3)
    outcomes = {line.split("] ")[1].split(":")[0]: line for line in lines[1:]}
    assert failed == 2
    assert "FAILED: DeadKernelError" in outcomes["00_dies"]
    assert "FAILED: NotJSONError" in outcomes["01_damaged"]
    assert ": ok" in outcomes["02_works"]
    page = index.read_text()
    assert "DeadKernelError" in page
    assert "NotJSONError" in page
    assert 'href="02_works.html"' in page
    assert 'href="01_damaged.html"' not in page


def test_notebooks_run_in_this_python_whatever_kernels_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(json.dumps({"argv": ["/bin/false"], "display_name": "Foreign", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    _write(tmp_path, "00_where", "import sys\nsys.executable", "import os\nos.environ['OMP_NUM_THREADS']")
    _, failed = run_notebooks({"seed": 7}, tmp_path / "report", print, folder=tmp_path)
    executed = nbformat.read(tmp_path / "report" / "00_where.ipynb", as_version=4)
    assert not failed
    assert executed.cells[-2].outputs[0].data["text/plain"] == repr(sys.executable)
    assert executed.metadata["kernelspec"]["name"] == "python3"
    assert int(eval(executed.cells[-1].outputs[0].data["text/plain"])) == len(os.sched_getaffinity(0))


def test_pages_are_small_and_load_nothing_from_a_server(tmp_path: Path) -> None:
    figure = "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1, 2]))"
    _write(tmp_path, "00_live", figure, "go.Figure(go.Bar(y=[2]))", "import ipywidgets\nipywidgets.IntSlider()",
           "import os\nos.environ['VQLAB_HEADLESS']")  # fmt: skip
    run_notebooks({"seed": 7}, tmp_path / "report", print, folder=tmp_path)
    page = (tmp_path / "report" / "00_live.html").read_text()
    assert page.count('<script src="plotly.min.js">') == 1
    # The code of four cells and of the parameters that papermill added; their defaults are not shown.
    assert page.count('<details class="vqlab-code">') == 5
    assert page.count("Plotly.newPlot(") == 2
    assert not re.findall(r"""(?:src|href|from|import)\s*\(?=?\s*["'](?:https?:)?//[^"']+["']""", page)
    assert (tmp_path / "report" / "plotly.min.js").stat().st_size > 1e6
    assert len(page) < 5e6
    executed = nbformat.read(tmp_path / "report" / "00_live.ipynb", as_version=4)
    assert "widgets" not in executed.metadata
    assert executed.cells[-1].outputs[0].data["text/plain"] == "'1'"
    assert "VQLAB_HEADLESS" not in os.environ


def test_the_page_of_a_run_shows_codes_and_usage_of_the_run(tmp_path: Path) -> None:
    run = train(tiny(), tmp_path, "cpu")
    data = run_page_data(Tokenizer(run), num_images=4)
    (place,) = data["places"]
    assert (place["name"], place["codes"], data["levels"]) == ("", 16, [1])
    assert place["usage"] == run.usage().tolist()
    model, pixels = run.model(), run.data().test.pixels
    for image in data["images"]:
        assert image["grids"] == [model.encode(pixels[image["index"]][None].float() / 255)[0].tolist()]
    page = write_run_page(run, tmp_path / "new" / "page.html").read_text()
    assert run.config.id in page
    assert len(page) < 5e6
    assert "http://" not in page
    assert "https://" not in page


def test_a_working_copy_keeps_edited_notebooks(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = working_copy(tmp_path / "copy", lines.append)
    assert {path.name for path in folder.iterdir()} == {path.name for path in NOTEBOOKS}
    notebook = folder / "00_start_here.ipynb"
    notebook.write_text("edited")
    working_copy(folder, lines.append)
    assert notebook.read_text() == "edited"
    assert len(lines) == 1
    assert "00_start_here" in lines[0]


def test_an_unknown_parameter_is_refused_before_any_notebook_runs(tmp_path: Path) -> None:
    _write(tmp_path, "00_first", "seed")
    with pytest.raises(InputError, match="no parameter sead; allowed: seed"):
        run_notebooks({"sead": 1}, tmp_path / "report", print, folder=tmp_path)
    assert not (tmp_path / "report").exists()


def _result(name: str, **values: Any) -> NotebookResult:
    return NotebookResult(name, f"Title of {name}", seconds=3.0, **values)


def test_a_card_has_finding_numbers_and_provenance_or_the_reason_or_the_picture_alone() -> None:
    finding = Finding("It is <so>.", {"PSNR": (23.61, "dB"), "SSIM": (0.7, ""), "codes": (16, "")}).content
    results = [
        _result("00_found", finding=finding, picture=b"png"), _result("01_picture", picture=b"png"),
        _result("02_fails", error="cell 3: <E>", failing_cell="1 / 0"), _result("03_waits", pending="waiting"),
    ]  # fmt: skip
    page = index_page(results, {"seed": 7, "runs": "/secret"})
    cards = re.findall(r"<section.*?</section>", page)
    assert [re.search(r'class="card (\w+)"', card)[1] for card in cards] == ["ok", "ok", "failed", "waiting"]
    assert "It is &lt;so&gt;." in cards[0]
    assert "<b>23.6 dB</b>" in cards[0]
    assert "ok</span>, 3 s · vqlab" in cards[0]
    assert "<img" in cards[1]
    assert 'class="numbers"' not in cards[1]
    assert "cell 3: &lt;E&gt;" in cards[2]
    assert "1 / 0" in cards[2]
    assert "href" not in cards[3]
    assert "/secret" not in page
    assert '<meta http-equiv="refresh"' in page
    assert "refresh" not in index_page(results[:3], {})


@pytest.mark.parametrize(("width", "cards", "columns"), [(1000, 14, 2), (1240, 14, 3), (1800, 14, 5), (1000, 3, 3)])
def test_the_grid_has_the_number_of_columns_with_the_fewest_gaps(width: int, cards: int, columns: int) -> None:
    assert f"@media(min-width:{width}px){{.cards{{grid-template-columns:repeat({columns}," in grid_style(cards)


def test_the_table_of_a_run_shows_state_seconds_and_headline_number() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(
        _table([("00_a", "ok", 12.3, "PSNR 23.6 dB"), ("01_b", "running", 2.0, ""), ("02_c", "waiting", None, "")])
    )
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[1] == ["00_a", "ok", "12", "PSNR", "23.6", "dB"]
    assert lines[2] == ["01_b", "running", "2"]
    assert lines[3] == ["02_c", "waiting"]


def _page(folder: Path, *cells: str) -> BeautifulSoup:
    write_page(new_notebook(cells=[new_markdown_cell(cell) for cell in cells]), folder / "page.html")
    return BeautifulSoup((folder / "page.html").read_text(), "html.parser").find("main")


def test_latex_is_mathml_in_a_page(tmp_path: Path) -> None:
    page = _page(tmp_path, "The vector $\\hat e$ gets\n\n$$\\nabla_e = \\lambda R^\\top g$$")
    inline, block = page.find_all("math")
    assert (inline["display"], block["display"]) == ("inline", "block")
    assert inline["alttext"] == r"\hat e"
    assert [element.text for element in block.find_all("mi")] == ["e", "λ", "R", "g"]
    assert [element.text for element in block.find("msup").children] == ["R", "⊤"]
    assert "$" not in page.text


@pytest.mark.parametrize(
    "text",
    ["5 $ and 6 $", "$5 and $6", r"\$x\$ is", "`$x$` is code", "```\n$x$ and $$y$$\n```", "    $x$",
     r"$\unknown{x}$ is", r"$\frac{1$ is"],
)  # fmt: skip
def test_code_money_and_unreadable_latex_stay_text(tmp_path: Path, text: str) -> None:
    page = _page(tmp_path, text)
    assert not page.find_all("math")
    assert page.text.count("$") == text.count("$")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_mathematics_of_notebooks_can_be_typeset(path: Path, tmp_path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    assert "$" not in _page(tmp_path, *cells).text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean_parameterised_and_thin(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert sum("headline" in cell.metadata.get("tags", []) for cell in code) >= 1
    assert max(len(cell.source.splitlines()) for cell in code) <= 8
    tagged = [index for index, cell in enumerate(notebook.cells) if "finding" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert all(cell.cell_type == "markdown" for cell in notebook.cells[tagged[0] + 1 :])
    assert notebook.cells[0].source.startswith("# ")
    assert "**Question.**" in notebook.cells[0].source
