"""A private JupyterLab server on loopback, and notebooks in it, driven by Chromium."""

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

KERNEL_READY = """() => { const c = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  return !!c && c.isReady && !c.hasNoKernel && c.session?.kernel?.connectionStatus === 'connected'
    && c.session.kernel.status === 'idle'; }"""
CELLS_FINISHED = """() => { const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(c => c.type === 'code' && c.sharedModel.getSource().trim());
  return cells.some(c => c.outputs.toJSON().some(o => o.output_type === 'error'))
    || cells.every(c => c.executionCount != null && c.executionState === 'idle'); }"""
CELL_ERRORS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')
    .flatMap(c => c.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue))"""
SCREENSHOTS = Path(__file__).parent / "shots"
# Without these options Chromium's own services send requests, which the tests would count as the page's.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


def free_port() -> int:
    """Find an unused port on loopback."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def isolated_environment(home: Path) -> dict[str, str]:
    """Return the environment with Jupyter's settings in ``home``, so that those of the user have no effect."""
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    folders = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if name != "VQLAB_HEADLESS"}
    return {**inherited, **{name: str(home / folder) for name, folder in folders.items()}}


class Server:
    """A server process in its own process group; ``close`` ends it and its kernels."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for_line(self, pattern: str, seconds: float = 90) -> str:
        """Wait until the log matches ``pattern`` and return the match; raise AssertionError with the log at the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            match = re.search(pattern, self.log.read_text())
            if match:
                return match.group()
            time.sleep(0.2)
        raise AssertionError(f"{pattern}: not in the log: {self.log.read_text()[-2000:]}")

    def wait_for_port(self, port: int, seconds: float = 90) -> None:
        """Wait until the server accepts connections on ``port``: it logs its address before it listens."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError(f"nothing listens on {port}: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        """End the process group."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class LabServer(Server):
    """JupyterLab in ``root`` with a random token."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.port, self.token = root, free_port(), secrets.token_hex(16)
        command = [
            sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        super().__init__(command, root, {**isolated_environment(home), "JUPYTER_TOKEN": self.token}, home / "lab.log")
        self.wait_for_line(rf"http://127\.0\.0\.1:{self.port}/lab")
        self.wait_for_port(self.port)

    def url(self, name: str) -> str:
        """Return the address of the notebook ``name``, with a new workspace."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{name}?reset&token={self.token}"


class MonitoredPage:
    """A page whose external requests and console errors are recorded."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.external_requests: list[str] = []
        self.console_errors: list[str] = []
        self.page.on("request", self._on_request)
        self.page.on("console", self._on_console_message)
        self.page.on("pageerror", lambda error: self.console_errors.append(f"uncaught: {str(error)[:300]}"))

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:")):
            self.external_requests.append(request.url)

    def _on_console_message(self, message: Any) -> None:
        if message.type == "error":
            self.console_errors.append(message.text[:300])

    def assert_clean(self) -> None:
        """Assert that no request left the machine and the console has no error."""
        assert not self.external_requests, self.external_requests
        assert not self.console_errors, self.console_errors


def write_notebook(path: Path, cells: list[str]) -> None:
    """Write a notebook of the given cells."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


class Notebook(MonitoredPage):
    """A notebook of the given cells, open in JupyterLab with its kernel ready."""

    def __init__(self, context: BrowserContext, server: LabServer, name: str, cells: list[str]) -> None:
        super().__init__(context)
        write_notebook(server.root / name, cells)
        self.open(server.url(name))

    def open(self, url: str) -> None:
        """Open the notebook and wait for its kernel."""
        self.page.goto(url, wait_until="domcontentloaded", timeout=60_000)
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Wait until the notebook is shown and its kernel is ready."""
        self.page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=90_000)
        self.page.wait_for_function(KERNEL_READY, timeout=120_000)
        self.page.evaluate("() => { window.jupyterapp.shell.collapseLeft(); }")
        self.wait_until("() => !document.getElementById('jupyterlab-splash')")

    def start_command(self, name: str) -> None:
        """Start a JupyterLab command without waiting for its end."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)

    def run_all(self, seconds: float = 120) -> None:
        """Run every cell and wait; raise AssertionError if a cell fails."""
        self.start_command("notebook:run-all-cells")
        self.page.wait_for_function(CELLS_FINISHED, timeout=seconds * 1000, polling=100)
        assert self.page.evaluate(CELL_ERRORS) == []

    def save(self) -> None:
        """Save the notebook with its outputs."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def execute(self, code: str) -> str:
        """Execute ``code`` in the notebook's kernel outside its cells; return the printed text or the error."""
        return self.page.evaluate(
            """async code => {
              const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              const future = kernel.requestExecute({code});
              let text = '';
              future.onIOPub = m => { text += m.content.text ?? m.content.evalue ?? ''; };
              await future.done;
              return text; }""",
            code,
        )

    def expect_printed(self, code: str, *words: str, seconds: float = 30) -> None:
        """Execute ``code`` until it prints ``words``: a widget sends its state after the last answer."""
        end = time.monotonic() + seconds
        while (printed := self.execute(code).split()) != list(words):
            assert time.monotonic() < end, f"{code} prints {printed}, not {words}"
            self.page.wait_for_timeout(100)

    def wait_until(self, script: str, argument: Any = None, seconds: float = 90) -> None:
        """Wait until ``script`` returns true in the page."""
        self.page.wait_for_function(script, arg=argument, timeout=seconds * 1000)

    def widget(self, name: str) -> Locator:
        """Return the first element of the class vqlab-``name``."""
        return self.page.locator(f".vqlab-{name}").first

    def expect_picture_change(self, name: str, action: Callable[[], object]) -> None:
        """Run ``action`` and wait until the picture ``name`` changes."""
        before = self.picture_url(name)
        action()
        self.wait_until("([name, old]) => document.querySelector(`img.vqlab-${name}`).src !== old", [name, before])

    def expect_chart_change(self, name: str, action: Callable[[], object]) -> None:
        """Run ``action`` and wait until the bars or lines of the chart ``name`` change."""
        paths = (
            "name => [...document.querySelectorAll(`.vqlab-${name} .trace path`)].map(p => p.getAttribute('d')).join()"
        )
        self.wait_until(f"name => ({paths})(name) !== ''", name)
        before = self.page.evaluate(paths, name)
        action()
        self.wait_until(f"([name, old]) => ({paths})(name) !== old", [name, before])

    def expect_bars_change(self, action: Callable[[], object]) -> None:
        """Run ``action`` and wait until the bars of the usage histogram change."""
        bars = "document.querySelector('.vqlab-usage-plot .bars').getAttribute('d')"
        before = self.page.evaluate(bars)
        action()
        self.wait_until(f"old => {bars} !== old", before)

    def press_slider(self, name: str, key: str) -> None:
        """Focus the slider ``name`` and press ``key``."""
        handle = self.widget(name).locator(".noUi-handle")
        handle.focus()
        handle.press(key)

    def picture_url(self, name: str) -> str:
        """Return the URL of the picture ``name``; it changes with its content."""
        return self.page.locator(f"img.vqlab-{name}").first.get_attribute("src") or ""

    def set_theme(self, name: str) -> None:
        """Switch to the JupyterLab theme ``name``, such as "JupyterLab Dark"."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.wait_until(
            "name => document.body.dataset.jpThemeName === name && !document.getElementById('jupyterlab-splash')", name
        )


def save_screenshot(page: MonitoredPage, name: str) -> Path:
    """Save a screenshot of the page as a test artefact."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.page.screenshot(path=path)
    return path
