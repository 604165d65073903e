"""`vqlab lab`: JupyterLab at the first notebook, on loopback, behind Jupyter's own token."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import Server, Watched, free_port, keep, own_environment
from playwright.sync_api import BrowserContext, expect

pytestmark = pytest.mark.browser


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    words = ["lab", "--folder", str(tmp_path / "mine"), "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    environment = own_environment(tmp_path / "home")
    environment.pop("JUPYTER_TOKEN", None)
    server = Server([sys.executable, "-m", "vqlab", *words], tmp_path, environment, tmp_path / "lab.log")
    yield server
    server.close()


def test_the_command_opens_the_first_notebook_for_who_has_the_token(
    started: Server, context: BrowserContext, tmp_path: Path
) -> None:
    told = started.wait_for_line(r"http://127\.0\.0\.1:\d+/lab\S*token=\w+")
    started.wait_for_port(int(re.findall(r":(\d+)/", told)[0]))
    assert (tmp_path / "mine" / "00_start_here.ipynb").is_file()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(re.sub(r"/lab.*", "/api/contents", told), timeout=10)
    watched = Watched(context)
    watched.page.goto(told, timeout=60_000)
    expect(watched.page.get_by_role("heading", name="Start here")).to_be_visible(timeout=60_000)
    keep(watched, "lab_command")
    watched.assert_clean()
