"""environment.yml and pyproject.toml say the same."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_environment_agrees_with_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    packages = [name for name in listed[-1]["pip"] if not name.startswith("-e")]
    assert f"python{project['requires-python']}" in listed
    assert set(packages) <= set(project["dependencies"])
    card = {"torch", "torchvision", "jupyterlab", "ipywidgets", "plotly", "seaborn", "piq", "papermill"}
    assert {name.split(">=")[0] for name in packages} == card
