"""A private JupyterLab on loopback, and a notebook in it as a person sees it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import BrowserContext, Locator, Page

READY = """() => { const c = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  return !!c && c.isReady && !c.hasNoKernel && c.session?.kernel?.connectionStatus === 'connected'
    && c.session.kernel.status === 'idle'; }"""
DONE = """() => { const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(c => c.type === 'code' && c.sharedModel.getSource().trim());
  return cells.some(c => c.outputs.toJSON().some(o => o.output_type === 'error'))
    || cells.every(c => c.executionCount != null && c.executionState === 'idle'); }"""
ERRORS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')
    .flatMap(c => c.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue))"""
SHOTS = Path(__file__).parent / "shots"
# Chromium's own services would ask for updates; they are no part of the page.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


def free_port() -> int:
    """A port on loopback that nothing listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def own_environment(home: Path) -> dict[str, str]:
    """The environment with Jupyter's settings in ``home``, so that a person's own play no part."""
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    folders = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    quiet = {name: value for name, value in os.environ.items() if name != "VQLAB_HEADLESS"}
    return {**quiet, **{name: str(home / folder) for name, folder in folders.items()}}


class Server:
    """A process that serves pages, in a group of its own; ``close`` ends it and its kernels."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for_line(self, pattern: str, seconds: float = 90) -> str:
        """What ``pattern`` finds in the log, when it does; raises AssertionError with the log when it never does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(pattern, self.log.read_text())
            if found:
                return found.group()
            time.sleep(0.2)
        raise AssertionError(f"{pattern} never came: {self.log.read_text()[-2000:]}")

    def wait_for_port(self, port: int, seconds: float = 90) -> None:
        """Return when the server answers on ``port``: it tells its address before it listens."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError(f"nothing listens on {port}: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        """End the process's own group."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


class LabServer(Server):
    """JupyterLab in ``root`` with a random token."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.port, self.token = root, free_port(), secrets.token_hex(16)
        command = [
            sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        super().__init__(command, root, {**own_environment(home), "JUPYTER_TOKEN": self.token}, home / "lab.log")
        self.wait_for_line(rf"http://127\.0\.0\.1:{self.port}/lab")
        self.wait_for_port(self.port)

    def url(self, name: str) -> str:
        """The page of the notebook ``name``, with nothing left over from earlier pages."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{name}?reset&token={self.token}"


def settled(page: Page, read: Callable[[], str | None], seconds: float = 2) -> str | None:
    """What ``read`` gives once it has not changed for ``seconds``: the answers to earlier keys have come."""
    value, since = read(), time.monotonic()
    while time.monotonic() - since < seconds:
        page.wait_for_timeout(200)
        now = read()
        if now != value:
            value, since = now, time.monotonic()
    return value


class Watched:
    """A page whose requests and console are kept: nothing may leave the machine, nothing may go wrong unseen."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", lambda told: told.type == "error" and self.errors.append(told.text[:300]))
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {str(error)[:300]}"))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:")):
            self.outside.append(request.url)

    def assert_clean(self) -> None:
        """No request left the machine and the console has no error."""
        assert not self.outside, self.outside
        assert not self.errors, self.errors


class Notebook(Watched):
    """A notebook of the given cells, open in JupyterLab with its kernel ready."""

    def __init__(self, context: BrowserContext, server: LabServer, name: str, cells: list[str]) -> None:
        super().__init__(context)
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, server.root / name)
        self.page.goto(server.url(name), wait_until="domcontentloaded", timeout=60_000)
        self.page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=90_000)
        self.page.wait_for_function(READY, timeout=120_000)
        self.page.evaluate("() => { window.jupyterapp.shell.collapseLeft(); }")
        self.until("() => !document.getElementById('jupyterlab-splash')")

    def command(self, name: str) -> None:
        """Start a command of JupyterLab without waiting for its end."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)

    def run_all(self) -> None:
        """Run every cell and wait; raises AssertionError with what a cell raised."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(DONE, timeout=120_000, polling=100)
        assert self.page.evaluate(ERRORS) == []

    def run(self, code: str) -> str:
        """Run ``code`` in the notebook's kernel, beside its cells, and return what it printed or raised."""
        return self.page.evaluate(
            """async code => {
              const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              const future = kernel.requestExecute({code});
              let told = '';
              future.onIOPub = m => { told += m.content.text ?? m.content.evalue ?? ''; };
              await future.done;
              return told; }""",
            code,
        )

    def until(self, script: str, argument: Any = None, seconds: float = 90) -> None:
        """Wait until the page's ``script`` holds."""
        self.page.wait_for_function(script, arg=argument, timeout=seconds * 1000)

    def widget(self, name: str) -> Locator:
        """The part of an explorer that has the class vqlab-``name``."""
        return self.page.locator(f".vqlab-{name}").first

    def changes(self, name: str, act: Callable[[], object]) -> None:
        """``act`` must put other bytes into the picture ``name``."""
        before = self.picture(name)
        act()
        self.until("([name, old]) => document.querySelector(`img.vqlab-${name}`).src !== old", [name, before])

    def redraws(self, name: str, act: Callable[[], object]) -> None:
        """``act`` must change the drawn bars or lines of the chart ``name``."""
        drawn = (
            "name => [...document.querySelectorAll(`.vqlab-${name} .trace path`)].map(p => p.getAttribute('d')).join()"
        )
        self.until(f"name => ({drawn})(name) !== ''", name)
        before = self.page.evaluate(drawn, name)
        act()
        self.until(f"([name, old]) => ({drawn})(name) !== old", [name, before])

    def slide(self, name: str, key: str) -> None:
        """Move the slider ``name`` by pressing ``key``, as who has no mouse does."""
        handle = self.widget(name).locator(".noUi-handle")
        handle.focus()
        handle.press(key)

    def picture(self, name: str) -> str:
        """The address of a picture's present bytes; each new picture has a new one."""
        return self.page.locator(f"img.vqlab-{name}").first.get_attribute("src") or ""

    def theme(self, name: str) -> None:
        """Use the JupyterLab theme ``name``, such as "JupyterLab Dark"."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.until(
            "name => document.body.dataset.jpThemeName === name && !document.getElementById('jupyterlab-splash')", name
        )


def keep_for_readme(page: Watched, name: str) -> None:
    """Keep a picture of the explorer alone; where VQLAB_FIGURES names a folder, there too."""
    SHOTS.mkdir(exist_ok=True)
    for folder in (SHOTS, os.environ.get("VQLAB_FIGURES")):
        if folder is not None:
            page.page.locator(".jp-OutputArea-output").first.screenshot(path=Path(folder) / f"{name}.png")


def keep(page: Watched, name: str) -> Path:
    """Keep a picture of the page as a test artefact."""
    SHOTS.mkdir(exist_ok=True)
    path = SHOTS / f"{name}.png"
    page.page.screenshot(path=path)
    return path
