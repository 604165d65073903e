"""A folder of Runs in the real TensorBoard: curves, and settings as hyperparameters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from command_processes import TINY

from vqlab import Config, train

SECONDS = 60


def address(output: Path) -> str:
    """The address that the server prints when it is ready."""
    end = time.monotonic() + SECONDS
    while not (found := re.search(r"at (http://127\.0\.0\.1:\d+)/", output.read_text())):
        assert time.monotonic() < end, output.read_text()
        time.sleep(0.2)
    return found[1]


def request(url: str, body: dict[str, Any] | None = None) -> Any:
    """The answer of the server once it is there."""
    end = time.monotonic() + SECONDS
    content = None if body is None else json.dumps(body).encode()
    while True:
        try:
            asked = urllib.request.Request(url, content, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read()) from None
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end
            time.sleep(0.2)


def test_tensorboard_shows_the_runs_of_a_folder_with_their_settings(tmp_path: Path) -> None:
    changes = {**TINY, "optim.epochs": 1}
    runs = [
        train(Config.profile("quick", **changes, **{"quantizer.beta": beta}), tmp_path, "cpu") for beta in (0.25, 2.0)
    ]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(tmp_path),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    command += ["--load_fast=false", "--reload_interval", "1"]
    output = tmp_path / "output"
    with output.open("w") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as server:
        try:
            base = f"{address(output)}/data"
            names = {f"{run.config.id}/events" for run in runs}
            end = time.monotonic() + SECONDS
            while set(request(f"{base}/runs")) != names:
                assert time.monotonic() < end
                time.sleep(0.2)
            body = {"startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"]}
            groups = request(f"{base}/plugin/hparams/session_groups", body)["sessionGroups"]
            shown = {group["name"]: group["hparams"]["quantizer.beta"] for group in groups}
            assert shown == {runs[0].config.id: 0.25, runs[1].config.id: 2.0}
            curve = request(f"{base}/plugin/scalars/scalars?tag=epoch/psnr&run={runs[0].config.id}%2Fevents")
            assert [round(value, 4) for _, _, value in curve] == [round(runs[0].last_epoch_metrics()["psnr"], 4)]
        finally:
            server.terminate()
