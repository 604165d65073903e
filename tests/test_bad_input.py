"""Bad input by the thousand: no traceback, no hang, nothing outside the asked folders, one line each.

Each test tries a tenth of its inputs by default, and all of them with ``pytest -m fuzz``; the inputs are the same each
time.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import (
    config_values,
    damaged_bytes,
    damaged_file,
    restore,
    run_command,
)  # fmt: skip
from damaged_archives import image_file, write_archive
from hypothesis import strategies as st
from limited_inputs import TryInputs, only_inside
from safetensors.torch import load_file, save_file
from test_training import TINY, tiny
from typer.main import get_command

from vqlab import Config, InputError, Run, train
from vqlab.cli import app
from vqlab.config import DataConfig, describe_fields
from vqlab.data import load_data
from vqlab.studies import Grid

pytestmark = [
    pytest.mark.wrong_types,
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]
SHORT = 10
KEYS = [field.key for field in describe_fields()]


@pytest.fixture(params=[pytest.param(1, marks=pytest.mark.fuzz), SHORT], ids=["all", "tenth"])
def try_inputs(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Iterator[TryInputs]:
    with capfd.disabled():
        errors = os.dup(2)
    yield TryInputs(request.param, errors)
    os.close(errors)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = train(tiny(), tmp_path_factory.mktemp("finished"), "cpu")
    run.evaluation("cpu")
    return run


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("started"), "cpu", stop_after_steps=6)


def one_line(error: InputError) -> str:
    text = str(error)
    return (
        f"{len(text)} characters, {text.count(chr(10))} breaks: {text[:200]}"
        if "\n" in text or len(text) > 2000
        else ""
    )


def test_values_of_a_config_are_taken_or_refused_by_name(try_inputs: TryInputs) -> None:
    def check(values: dict[str, Any]) -> str:
        try:
            config = Config.profile("quick", **values)
        except InputError as error:
            named = any(key in str(error) or key.rpartition(".")[2] in str(error) for key in values)
            return one_line(error) or ("" if named else f"names no field: {error}")
        assert Config.parse(json.loads(json.dumps(config.model_dump(mode="json")))).id == config.id
        return ""

    try_inputs(st.dictionaries(st.sampled_from(KEYS), config_values, min_size=1, max_size=2), 600, check)


VALUES = [
    "", "-1", "0", "1", "1e999", "nan", "x.csv", "nodir/x.csv", "hpu", "cuda:99", "meta", "mps", "/dev/null",
    "quantizer.decay=[[1]]", "quantizer.decay=[]", "quantizer.decay=5", "quantizer.decay={}", "quantizer.decay=[NaN]",
    'quantizer.decay={"low":1}', 'quantizer.decay={"low":0.9,"high":0.1}', "quantizer.decay=[0.9,0.9]", "seed=[1,1]",
    "=", "data.source=[1]", "data=[1]", "quantizer={}", "postgresql://u@h:port/x",
    "postgresql://u:secret@127.0.0.1:1/x", "mysql://x", "sqlite:///nodir/a.db", "folder:", "folder:\0",
    "folder:/dev/zero", "folder:nowhere", "folder:~nobody/x", "x" * 100_000, "1000000000", "2" * 5000, "reconstruction",
    "generation", "scaling", "photos", "quick", "paper", "é\ud800", "quantizer.", ".", "..", "a\nb",
]  # fmt: skip
WORDS = st.one_of(st.sampled_from(VALUES), st.text(max_size=12))
COMMANDS = {
    name: [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    if name in ("train", "data", "evaluate", "sample", "study", "grid", "tune", "doctor", "explore", "config")
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with some of its options; nothing is trained, because the images do not exist."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    line = [name, *draw(st.lists(WORDS, max_size=2 if name == "sample" else 1))]
    for option in draw(st.lists(st.sampled_from(COMMANDS[name]), max_size=3)):
        if option != "--clear":
            line += [option, draw(WORDS)] if draw(st.integers(0, 9)) else [option]
    return [*line, *(["--data", "folder:nowhere"] if "--data" in COMMANDS[name] else [])]


def test_command_lines_end_with_one_line(try_inputs: TryInputs, tmp_path: Path) -> None:
    def check(line: list[str]) -> str:
        with only_inside(tmp_path / "work", tmp_path / "cache"):
            return run_command(line).problem()

    try_inputs(command_lines(), 500, check)


def test_image_files_are_read_or_refused_by_name(try_inputs: TryInputs, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(image_file(number))

    def check(damaged: tuple[str, bytes]) -> str:
        kind, content = damaged
        path = folder / f"2.{kind.lower()}"
        path.write_bytes(content)
        try:
            with only_inside(tmp_path / "cache"):
                load_data(DataConfig(source=f"folder:{folder}"))
        except InputError as error:
            return one_line(error) or ("" if path.name in str(error) else f"names no file: {error}")
        finally:
            path.unlink()
        return ""

    kinds = st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
    damaged = kinds.flatmap(lambda kind: st.tuples(st.just(kind), damaged_bytes(image_file(5, kind))))
    try_inputs(damaged, 400, check)


def test_archives_are_read_or_refused_by_name(try_inputs: TryInputs, tmp_path: Path) -> None:
    names = [
        "set.tar",
        "set.tar.gz",
        "set.tar.xz",
        "set.tar.zst",
        "set.zip",
        "set.npz",
        "set.parquet",
        "set.npy",
        "set.csv",
    ]
    contents = {}
    for name in names[:-2]:
        contents[name] = write_archive(tmp_path / name).read_bytes()
    contents["set.npy"] = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (4, 8, 8), }"
        + b" " * 56
        + b"\n"
        + bytes(256)
    )
    contents["set.csv"] = b"path,label,split\n0.png,a,train\n1.png,b,test\n"

    def check(damaged: tuple[str, bytes]) -> str:
        path = tmp_path / damaged[0]
        path.write_bytes(damaged[1])
        try:
            with only_inside(tmp_path / "cache"):
                load_data(DataConfig(source=f"folder:{path}"))
        except InputError as error:
            return one_line(error) or ("" if path.name in str(error) else f"names no file: {error}")
        return ""

    damaged = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), damaged_bytes(contents[name])))
    try_inputs(damaged, 300, check)


RUN_FILES = ["config.json", "provenance.json", "evaluation.json", "metrics.jsonl", "angles.jsonl", "codebook.npz",
             "model.safetensors"]  # fmt: skip


def names_file(message: str, name: str) -> bool:
    """Whether a message names the damaged file, or says what is missing where it holds less than before."""
    missing = ("has not finished", "not finished yet", "has no logged step", "has no finished epoch", "other images")
    # Values of a checkpoint of version 0.1, which has no checksum, cannot be told from others before they are used.
    diverged = name == "checkpoint.safetensors" and message.startswith("training diverged")
    # With another valid Config, the other files are not those of the Config.
    other = name == "config.json" and any(file in message for file in RUN_FILES)
    return name in message or diverged or other or any(words in message for words in missing)


def test_damaged_runs_are_opened_or_refused_by_name(try_inputs: TryInputs, finished: Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / finished.folder.name

    def check(case: tuple[str, tuple[str, bytes]]) -> str:
        command, (name, content) = case
        restore(finished.folder, folder)
        (folder / name).write_bytes(content)
        words = {
            "explore": ["explore", str(folder), "--output", str(tmp_path / "work/page.html")],
            "study": ["study", "reconstruction", "--profile", "paper", "--seeds", "1", "--so-far",
                      "--runs", str(folder.parent), *settings_of(TINY)],
        }.get(command, [command, str(folder)])  # fmt: skip
        with only_inside(tmp_path / "work", tmp_path / "cache", folder):
            outcome = run_command(words)
        if outcome.status and not names_file(" ".join(outcome.lines), name):
            return f"{command} names not {name}: {outcome.lines[-1:]}"
        return outcome.problem()

    commands = st.sampled_from(["evaluate", "doctor", "doctor", "explore", "study"])
    try_inputs(st.tuples(commands, damaged_file(finished.folder, RUN_FILES)), 400, check)


def test_what_a_notebook_shows_of_a_damaged_run(try_inputs: TryInputs, finished: Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / finished.folder.name

    def check(damaged: tuple[str, bytes]) -> str:
        restore(finished.folder, folder)
        (folder / damaged[0]).write_bytes(damaged[1])
        try:
            with only_inside(folder):
                run = Run.open(folder)
                repr(run), run._repr_html_(), run.metrics(), run.angles(), run.usage(), run.usage_windows()
                run.last_epoch_metrics()
                run.model()
        except InputError as error:
            return one_line(error) or ("" if names_file(str(error), damaged[0]) else f"names not {damaged[0]}: {error}")
        return ""

    try_inputs(damaged_file(finished.folder, RUN_FILES), 300, check)


def test_damaged_trainings_go_on_or_are_refused_by_name(try_inputs: TryInputs, started: Run, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / started.folder.name
    names = ["config.json", "provenance.json", "metrics.jsonl", "angles.jsonl", "codebook.npz",
             "checkpoint.safetensors", "checkpoint.safetensors"]  # fmt: skip

    def check(damaged: tuple[str, bytes]) -> str:
        restore(started.folder, folder)
        (folder / damaged[0]).write_bytes(damaged[1])
        try:
            with only_inside(folder.parent, tmp_path / "cache"):
                train(tiny(), folder.parent, "cpu")
        except InputError as error:
            return one_line(error) or ("" if names_file(str(error), damaged[0]) else f"names not {damaged[0]}: {error}")
        return ""

    existing = [name for name in names if (started.folder / name).exists()]
    try_inputs(damaged_file(started.folder, existing), 100, check)


@pytest.mark.parametrize(("missing", "added", "message"), [
    ("adam.0.step", {}, r"adam: 0\.step is missing"),
    ("adam.0.exp_avg", {}, r"adam: 0\.exp_avg is missing"),
    ("adam.0.exp_avg", {"adam.0.exp_avg": torch.zeros(1)}, r"adam: 0\.exp_avg is \(1,\)"),
])  # fmt: skip
def test_an_incomplete_state_of_an_optimizer_is_refused_by_name(
    started: Run, tmp_path: Path, missing: str, added: dict[str, torch.Tensor], message: str
) -> None:
    folder = tmp_path / "runs" / started.folder.name
    restore(started.folder, folder)
    path = folder / "checkpoint.safetensors"
    tensors = load_file(path)
    del tensors[missing]
    save_file(tensors | added, path, {"step": "6"})
    with pytest.raises(InputError, match=rf"checkpoint\.safetensors: is not that of this Config \({message}"):
        train(tiny(), folder.parent, "cpu")


def settings_of(changes: dict[str, Any]) -> Iterator[str]:
    for key, value in changes.items():
        yield from ("--set", f"{key}={json.dumps(value)}")


def test_damaged_journals_are_read_or_refused_by_name(try_inputs: TryInputs, tmp_path: Path) -> None:
    grid = Grid("journals", tiny(**{"optim.epochs": 1, "data.train_limit": 32}), {"quantizer.decay": [0.9]})
    grid.run(tmp_path / "runs", "cpu")
    journal = tmp_path / "runs/studies.journal"
    lines = journal.read_bytes()

    def check(content: bytes) -> str:
        journal.write_bytes(content)
        try:
            with only_inside(tmp_path / "runs"):
                grid.table(tmp_path / "runs")
        except InputError as error:
            return one_line(error) or ("" if "studies.journal" in str(error) else f"names no journal: {error}")
        return ""

    from bad_input import damaged_lines

    try_inputs(damaged_lines(lines), 100, check)


def test_real_processes_end_as_those_in_this_process(tmp_path: Path) -> None:
    for line in (["train", "--set", "quantizer.decay=[[1]]"], ["grid", "x", "--axis", "quantizer.decay=[[1]]"]):
        done = subprocess.run(
            [sys.executable, "-m", "vqlab", *line, "--data", "folder:nowhere"], capture_output=True, text=True,
            timeout=60, check=False, env=dict(os.environ),
        )  # fmt: skip
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def endless(value: int) -> str:
    while value:
        pass
    return ""


def write_shared(value: int) -> None:
    """Half a GiB of pages that no limit on a process's own data counts."""
    with mmap.mmap(-1, 1 + (value << 29)) as pages:
        for _ in range(value << 5):
            pages.write(bytes(1 << 24))


LIMITED: dict[str, tuple[Callable[[int], object], str]] = {
    "time": (endless, r"no end within 0\.2 seconds"),
    "allocation of an array": (lambda value: np.ones(value << 31, np.uint8), "MemoryError: Unable to allocate"),
    "allocation of a tensor": (lambda value: torch.ones(value << 31, dtype=torch.uint8), "can't allocate memory"),
    "shared pages": (write_shared, "takes "),
    "exception": (lambda value: 1 // (1 - value), "ZeroDivisionError"),
}


@pytest.mark.parametrize("limit", LIMITED)
def test_what_passes_a_limit_is_found(limit: str) -> None:
    """Of the inputs 0 and 1, the second one passes the limit."""
    function, message = LIMITED[limit]
    memory = (400 << 20) + int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    try_two = TryInputs(1, 2, seconds=0.2 if limit == "time" else 60, memory=memory)
    with pytest.raises(AssertionError, match=rf"{message}(?s:.)*\n    1$") as caught:
        try_two(st.sampled_from([0, 1]), 2, lambda value: str(function(value))[:0])
    assert "    0" not in str(caught.value)


def test_files_outside_of_the_asked_folders_are_found(tmp_path: Path) -> None:
    for path in (tmp_path / "a", tmp_path / "b"):
        path.mkdir()
    with only_inside(tmp_path / "a"):
        (tmp_path / "a/file").write_text("")
        (tmp_path / "a/file").rename(tmp_path / "a/other")
    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "b/file").write_text(""), lambda: (tmp_path / "a/other").rename(tmp_path / "b/other"),
        lambda: (tmp_path / "b/folder").mkdir(), lambda: os.close(os.open(tmp_path / "b/raw", os.O_CREAT)),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(AssertionError, match="outside of the asked folders"), only_inside(tmp_path / "a"):
            change()


def test_code_that_cannot_be_interrupted_ends_the_process() -> None:
    program = (
        "from limited_inputs import TryInputs\n"
        "TryInputs(1, 2, seconds=0.3).check(10**11, lambda count: str(sum(range(count))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Timeout (0:00:00.6" in done.stderr
