"""A Run that is pushed to an address and pulled from it: whole, verified, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from command_processes import vqlab
from filelock import FileLock
from test_training import tiny

from vqlab import InputError, Run, train
from vqlab.errors import WorkError
from vqlab.training.transfer import DIGESTS, pull_run, push_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(), tmp_path_factory.mktemp("sent"), "cpu")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(params=["file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder for Runs on a disk and in a file system of another kind."""
    return str(tmp_path / "store") if request.param == "file" else f"memory://{tmp_path.name}/store"


def test_a_pulled_run_has_all_files_and_gives_the_same_codes(run: Run, address: str, tmp_path: Path) -> None:
    copy = Run.open(pull_run(push_run(run.folder, address), tmp_path / "here"))
    assert contents(copy.folder) == contents(run.folder)
    images = run.data().test.evenly_spaced(4)
    assert torch.equal(copy.model().encode(images), run.model().encode(images))


def test_a_run_that_was_pushed_in_part_is_refused(run: Run, address: str, tmp_path: Path) -> None:
    pushed = push_run(run.folder, address)
    system, path = fsspec.core.url_to_fs(pushed)
    system.rm_file(f"{path}/{DIGESTS}")
    with pytest.raises(WorkError, match=f"no whole Run \\({DIGESTS} is missing\\)"):
        pull_run(pushed, tmp_path / "here")
    assert not list((tmp_path / "here").glob("*"))


def test_a_changed_file_is_named_and_nothing_is_left(run: Run, address: str, tmp_path: Path) -> None:
    pushed = push_run(run.folder, address)
    system, path = fsspec.core.url_to_fs(pushed)
    weights = bytearray(system.cat_file(f"{path}/model.safetensors"))
    weights[-1] ^= 1
    system.pipe_file(f"{path}/model.safetensors", bytes(weights))
    with pytest.raises(WorkError, match=r"model\.safetensors: differs from its digest"):
        pull_run(pushed, tmp_path / "here")
    assert not list((tmp_path / "here").glob(".*"))
    assert push_run(run.folder, address) == pushed
    assert pull_run(pushed, tmp_path / "here").is_dir()


@pytest.mark.parametrize("path", ["../outside.json", "/outside.json", "a/../../outside.json", "", "a\\b"])
def test_a_path_out_of_the_folder_is_refused(run: Run, path: str, tmp_path: Path) -> None:
    pushed = Path(push_run(run.folder, str(tmp_path / "store")))
    digests = json.loads((pushed / DIGESTS).read_text())
    digests[path] = digests.pop("config.json")
    (pushed / DIGESTS).write_text(json.dumps(digests))
    with pytest.raises(WorkError, match="is damaged"):
        pull_run(str(pushed), tmp_path / "here")
    assert {entry.name for entry in tmp_path.iterdir()} <= {"store", "here"}


def test_a_run_that_is_trained_is_not_pushed(run: Run, address: str) -> None:
    with FileLock(run.folder / ".lock"), pytest.raises(InputError, match="is being trained; stop that first"):
        push_run(run.folder, address)
    system, path = fsspec.core.url_to_fs(address)
    assert not system.exists(path)


def test_an_existing_run_and_an_unknown_address_are_refused(run: Run, tmp_path: Path) -> None:
    pushed = push_run(run.folder, str(tmp_path / "store"))
    shutil.copytree(run.folder, tmp_path / "here" / run.folder.name)
    with pytest.raises(InputError, match="exists already"):
        pull_run(pushed, tmp_path / "here")
    with pytest.raises(InputError, match="nowhere://x: cannot be used"):
        push_run(run.folder, "nowhere://x")


def test_the_commands_say_where_the_run_is(run: Run, tmp_path: Path) -> None:
    pushed = vqlab("push", str(run.folder), str(tmp_path / "store")).stdout.strip()
    assert pushed == str(tmp_path / "store" / run.folder.name)
    pulled = vqlab("pull", pushed, "--runs", str(tmp_path / "here")).stdout.strip()
    assert Run.open(pulled).finished
