"""Tables and figures of notebooks name their Runs, and how to reproduce them."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_training import TINY, tiny

from vqlab import Run, train
from vqlab.report import notebooks_folder, run_notebooks
from vqlab.report.run_names import reproduce_line, runs_of
from vqlab.studies import Grid, Study, Tuning

NOTEBOOKS = sorted(notebooks_folder().glob("*.ipynb"))
CELLS = {
    "setup": f"from vqlab import Config, train\nfrom vqlab.report import name_runs\nname_runs()\nname_runs()\n"
             f"tiny = Config.profile('paper', **{TINY!r})\nfirst = train(tiny, 'runs', 'cpu')\n"
             "both = [first, train(tiny.replace(seed=1), 'runs', 'cpu')]",
    "figure": "from vqlab.plots import training_curves\ntraining_curves(first)",
    "derived": "table = both[1].metrics()\nlosses = table[['loss']]",
    "table": "losses.tail(2)",
    "both": "training_curves(both[0]) if len(both) else None",
    "number": "float(losses['loss'].iloc[0])",
    "no Run": "import pandas as pd\npd.DataFrame({'a': [1]})",
    "replaced": "losses = pd.DataFrame({'a': [1]})\nlosses",
    "later": "losses.head()",
}  # fmt: skip


def text_of(cell: nbformat.NotebookNode) -> list[str]:
    """What the cell shows as text, without its table or figure."""
    texts = [output.data.get("text/plain", "") for output in cell.outputs if "data" in output]
    return [text for text in texts if text.startswith("Run")]


def test_a_notebook_names_the_runs_below_its_tables_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    cells = [new_code_cell(source) for source in CELLS.values()]
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), parameters, *cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks/00_runs.ipynb")
    _, failed = run_notebooks({"seed": 0}, tmp_path / "report", print, folder=tmp_path / "notebooks")
    assert not failed
    executed = nbformat.read(tmp_path / "report/00_runs.ipynb", as_version=4).cells[-len(CELLS) :]
    shown = dict(zip(CELLS, map(text_of, executed), strict=True))
    first, second = tiny().id, tiny(seed=1).id
    assert shown == {
        "setup": [], "derived": [], "number": [], "no Run": [], "replaced": [], "later": [],
        "figure": [f"Run {first}. To reproduce it: vqlab reproduce runs/{first}"],
        "table": [f"Runs {first}, {second}. To reproduce one: vqlab reproduce runs/{first}"],
        "both": [f"Runs {first}, {second}. To reproduce one: vqlab reproduce runs/{first}"],
    }  # fmt: skip
    assert f"vqlab reproduce runs/{first}" in (tmp_path / "report/00_runs.html").read_text()


def test_tables_of_studies_grids_and_tunings_hold_their_finished_runs(tmp_path: Path) -> None:
    short = tiny(**{"optim.epochs": 1, "data.train_limit": 32})
    study = Study(short, {"one": {}, "failing": {"quantizer.decay": 0.5}}).run(tmp_path, "cpu")
    assert runs_of({"a": [study]}) == [tmp_path / run for run in study.rows["run"]]
    study.rows.loc[1, "error"] = "InputError: a reason"
    assert runs_of(study) == [tmp_path / short.id]
    grid = Grid("names", short, {"quantizer.decay": [0.9, 0.5]}).run(tmp_path, "cpu")
    assert runs_of(grid) == [tmp_path / run for run in grid.rows["run"]]
    tuning = Tuning("names", short, {"quantizer.decay": (0.5,)}, trials=1).run(tmp_path, "cpu")
    assert [folder.name for folder in runs_of(tuning)] == [short.replace(**{"quantizer.decay": 0.5}).id]
    assert runs_of([1, {"a": None}, short]) == []


def test_the_command_of_the_line_reproduces_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(tiny(**{"optim.epochs": 1, "data.train_limit": 32}), "runs", "cpu")
    line = reproduce_line([run.folder, *[Path("runs") / str(number) for number in range(4)]])
    assert line.startswith(f"Runs {run.config.id}, 0, 1 and 2 more. ")
    assert Run.open(line.rpartition(" ")[2]).finished


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_with_runs_name_them(path: Path) -> None:
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    calls = [
        ast.unparse(node.func).rpartition(".")[2]
        for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
    ]  # fmt: skip
    assert ("name_runs" in calls) == bool({"train", "run"} & set(calls))
