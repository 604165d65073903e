"""`vqlab lab`: JupyterLab at the first notebook, on loopback, protected by Jupyter's token."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_page import MonitoredPage, Server, free_port, isolated_environment, save_screenshot
from playwright.sync_api import BrowserContext, expect

pytestmark = pytest.mark.browser


@pytest.fixture
def lab_process(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    arguments = ["lab", "--folder", str(tmp_path / "copy"), "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    environment = isolated_environment(tmp_path / "home")
    environment.pop("JUPYTER_TOKEN", None)
    server = Server([sys.executable, "-m", "vqlab", *arguments], tmp_path, environment, tmp_path / "lab.log")
    yield server
    server.close()


def test_the_command_opens_the_first_notebook_and_requires_the_token(
    lab_process: Server, context: BrowserContext, tmp_path: Path
) -> None:
    address = lab_process.wait_for_line(r"http://127\.0\.0\.1:\d+/lab\S*token=\w+")
    lab_process.wait_for_port(int(re.findall(r":(\d+)/", address)[0]))
    assert (tmp_path / "copy" / "00_start_here.ipynb").is_file()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(re.sub(r"/lab.*", "/api/contents", address), timeout=10)
    page = MonitoredPage(context)
    page.page.goto(address, timeout=60_000)
    expect(page.page.get_by_role("heading", name="Start here")).to_be_visible(timeout=60_000)
    save_screenshot(page, "lab_command")
    page.assert_clean()
