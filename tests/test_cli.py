"""The command line: one line and status 2 for wrong input."""

import subprocess
import sys
from pathlib import Path

import pytest


def vqlab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vqlab", *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_names_the_commands() -> None:
    text = vqlab("--help").stdout
    assert all(name in text for name in ("run", "train", "evaluate", "lab"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--set", "quantizer.num_codes=0"], "quantizer.num_codes=0"),
        (["train", "--profile", "huge"], "quick, paper, gpu"),
        (["train", "--data", "folder:nowhere"], "no such folder"),
        (["evaluate", "nowhere"], "no config.json"),
        (["train", "--runs", "/proc/runs"], "/proc/runs"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(words: list[str], told: str, tmp_path: Path) -> None:
    if words[0] == "train" and "--runs" not in words:
        words = [*words, "--runs", str(tmp_path)]
    done = vqlab(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
