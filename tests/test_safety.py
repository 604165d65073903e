"""What a stranger's file or an option can not do: run code, or open the lab to others."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from bad_input import run_command

import vqlab
from vqlab.errors import InputError
from vqlab.report import server_options

PACKAGE = Path(vqlab.__file__).parent
# Talks to a child that the same program started, through a pipe.
OWN_PIPE = {"data/decode_process.py"}


def test_no_file_is_unpickled() -> None:
    """No source but the pipe of the decoding processes uses pickle; torch and numpy are told not to."""
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"} & set(modules)
                assert not unsafe or name in OWN_PIPE, name
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            call, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if call in ("torch.load", "torch.hub.load_state_dict_from_url"):
                assert keywords.get("weights_only") == "True", f"{name}:{node.lineno}"
            if call == "np.load":
                assert keywords.get("allow_pickle") == "False", f"{name}:{node.lineno}"
            assert call not in ("pd.read_pickle", "yaml.load", "os.system"), f"{name}:{node.lineno}"


def test_only_one_function_uses_the_network() -> None:
    """No other file of the package opens an address, or lets a library download something."""
    network = {"urllib.request", "urllib", "http.client", "requests", "httpx", "aiohttp", "pooch"}
    downloading = ("urlopen", "urlretrieve", "load_state_dict_from_url", "download_url", "download_and_extract_archive")
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {getattr(node, "module", None) or "", *(alias.name for alias in node.names)}
                assert not modules & network or name == "data/download.py", f"{name}:{node.lineno}"
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func).rpartition(".")[2] not in downloading or name == "data/download.py", name
                assert not any(word.arg == "download" for word in node.keywords), f"{name}:{node.lineno}"


@pytest.mark.parametrize(
    "options",
    [
        ["--ServerApp.ip=0.0.0.0"], ["--ip", "0.0.0.0"], ["--ip=*"], ["--ServerApp.token="], ["--no-token"],
        ["--IdentityProvider.token="], ["--NotebookApp.token="], ["--ServerApp.password="],
        ["--ServerApp.allow_remote_access=True"], ["--ServerApp.allow_origin=*"], ["--config=open.py"],
        ["--ServerApp.allow_unauthenticated_access=True"], ["--ServerApp.sock=/tmp/socket"], ["--gateway-url=http://x"],
        ["--ServerApp.disable_check_xsrf=True"], ["--port", "8888", "--ip=0.0.0.0"], ["--no-browser", "0.0.0.0"],
        ["--LabApp.expose_app_in_browser=True"], ["--ServerApp.port", "--ip=::"], ["--no-browser=x"], ["-f", "x.py"],
    ],
)  # fmt: skip
@pytest.mark.wrong_types  # typer passes a context of its own class
def test_no_option_opens_the_lab(options: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must stay on this machine"):
        server_options(options, tmp_path)
    with patch.object(os, "execvp", side_effect=AssertionError("a server was started")):
        outcome = run_command(["lab", "--folder", str(tmp_path / "notebooks"), *options])
    assert (outcome.status, outcome.error) == (2, "")


def test_harmless_options_are_passed_before_the_address(tmp_path: Path) -> None:
    given = ["--no-browser", "--port=8890", "--ServerApp.port_retries", "3"]
    assert server_options(given, tmp_path) == [*given, "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={tmp_path}"]
