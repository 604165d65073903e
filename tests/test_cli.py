"""The command line: one line and status 2 for wrong input."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_processes import MAIN, run_program, vqlab


def test_help_names_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "vqlab", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("run", "train", "evaluate", "lab"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--set", "quantizer.num_codes=0"], "quantizer.num_codes=0"),
        (["train", "--profile", "huge"], "quick, paper, best, best-long, gpu"),
        (["train", "--data", "folder:nowhere"], "no such folder"),
        (["run", "--data", "folder:nowhere"], "no such folder"),
        (["evaluate", "nowhere"], "no config.json"),
        (["evaluate"], "RUN"),
        (["explore", "nowhere"], "no config.json"),
        (["frobnicate"], "frobnicate"),
        (["train", "--sead", "3"], "--sead"),
        (["train", "--runs", ""], "'--runs': is empty"),
        (["run", "--output", ""], "'--output': is empty"),
        (["run", "--output", "/dev/null/report"], "/dev/null is no folder"),
        (["bench", "--table", "nodir/x.csv"], "the folder nodir does not exist"),
        (["study", "reconstruction", "--table", "x.txt"], "must end in .csv or .md"),
        (["sample", "nowhere", "--output", "/"], "is a folder"),
        (["study", "reconstruction", "--seeds", "1000000000", "--so-far"], "less than or equal to 1000"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(words: list[str], told: str, tmp_path: Path) -> None:
    if words[0] == "train" and "--runs" not in words:
        words = [*words, "--runs", str(tmp_path)]
    done = vqlab(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path: Path) -> None:
    """A bound on the size of a file stands for a full disk: the checkpoint is the first file over it."""
    words = ["train", "--runs", str(tmp_path), "--set", "data.train_limit=64", "--set", "data.test_limit=8"]
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); {MAIN}"
    done = run_program(code, *words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("vqlab: ")
    (folder,) = tmp_path.iterdir()
    assert (folder / "config.json").is_file()
    assert not list(folder.glob("*.part"))
