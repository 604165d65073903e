"""The layout of the package: levels that import downwards only, and no cycle between files."""

from __future__ import annotations

import graphlib
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
LEVEL = {package.strip(): -height for height, line in enumerate(CONTRACT["layers"]) for package in line.split("|")}
PACKAGES = {
    "widgets", "report", "plots", "studies", "analysis", "training", "metrics", "models", "losses", "data", "quantize",
    "probe", "frontend",
}  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import in the package, those for type checkers too."""
    return grimp.build_graph("vqlab", exclude_type_checking_imports=False, cache_dir=None)


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _cycle(imports: dict[str, set[str]]) -> list[str] | None:
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


def test_the_levels_name_six_files_and_thirteen_packages() -> None:
    files = {path.stem for path in (ROOT / "vqlab").glob("*.py") if not path.stem.startswith("__")}
    folders = {path.parent.name for path in (ROOT / "vqlab").glob("*/__init__.py")}
    assert files == {"cli", "config", "errors", "exit_signals", "files", "versions"}
    assert folders == PACKAGES
    assert set(LEVEL) == files | folders
    assert CONTRACT["ignore_imports"] == []


def test_every_import_goes_to_a_lower_level(graph: grimp.ImportGraph) -> None:
    checked = 0
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            here, there = _package(importer), _package(imported)
            if here == there or here not in LEVEL:
                continue
            checked += 1
            assert there in LEVEL, f"{importer} imports {imported}"
            assert LEVEL[there] < LEVEL[here], f"{importer} imports {imported}"
    assert checked > 200


def test_no_files_import_each_other_in_a_cycle(graph: grimp.ImportGraph) -> None:
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert _cycle(imports) is None


def test_a_cycle_for_types_alone_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "example"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from example import two\n")
    (package / "two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from example.one import Name\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = grimp.build_graph("example", exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: set(found.find_modules_directly_imported_by(module)) for module in found.modules}
    assert set(_cycle(imports) or ()) == {"example.one", "example.two"}
