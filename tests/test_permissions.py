"""Users without a home folder or a writable cache, and the permissions of what is written."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_changed_data import write_images
from test_training import tiny

from vqlab import Config, Run, train
from vqlab.data import load_data
from vqlab.plots import save_samples
from vqlab.report import write_run_page
from vqlab.studies import Grid
from vqlab.training import load_code_grids

# The number of no user.
USER = 54321
SIZES = {"optim.batch_size": 4, "optim.epochs": 1, "evaluation.log_every": 1, "quantizer.init": "normal"}
WORK = """
import json, sys
from vqlab import Config, train
run = train(Config.parse(json.loads(sys.argv[1])), "runs", "cpu")
print(json.dumps(run.evaluation("cpu", inception=True)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a cache that is made readable again, so that it can be removed."""
    (tmp_path / "work/cache").mkdir(parents=True)
    yield tmp_path / "work"
    (tmp_path / "work/cache").chmod(0o755)


class Expected(NamedTuple):
    """What a training with a cache measures on the images of an archive."""

    config: Config
    measured: dict[str, Any]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    folder = tmp_path_factory.mktemp("expected")
    config = tiny(**{**SIZES, "data.source": f"folder:{write_archive(folder)}"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQLAB_CACHE", str(folder / "cache"))
        yield Expected(config, train(config, folder / "runs", "cpu").evaluation("cpu"))


def write_archive(folder: Path) -> Path:
    with tarfile.open(folder / "images.tar", "w") as file:
        file.add(write_images(folder / "images"), "images")
    return folder / "images.tar"


def as_other_user(folder: Path, code: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    hidden = {"HOME", "USER", "LOGNAME", "VQLAB_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    # In a namespace in which this user has another number, and no right that the permissions of a file do not give.
    changed = ["unshare", "--user", f"--map-user={USER}", f"--map-group={USER}"]
    return subprocess.run(
        [*changed, sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=200,
        check=False, env={**variables, **environment},
    )  # fmt: skip


CACHES = {
    "no home": (None, "this user has no home folder"),
    "not writable": (0o555, "Permission denied"),
    "not searchable": (0o000, "Permission denied"),
}


# Each trains Runs in processes of its own, half a minute.
@pytest.mark.parametrize("case", ["no home", *(pytest.param(case, marks=pytest.mark.slow) for case in [*CACHES][1:])])
def test_all_works_without_a_cache_and_one_line_says_why(case: str, folder: Path, expected: Expected) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    namespace = as_other_user(folder, "")
    if namespace.returncode:
        pytest.skip(f"no other user: {namespace.stderr.strip()}")
    mode, reason = CACHES[case]
    cache = {} if mode is None else {"VQLAB_CACHE": str(folder / "cache")}
    if mode is not None:
        (folder / "cache").chmod(mode)
    done = as_other_user(folder, WORK, json.dumps(expected.config.model_dump(mode="json")), **cache)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["rfd_classifier"] == pytest.approx(expected.measured["rfd_classifier"], rel=1e-4)
    assert measured["rfid"] is None
    assert "no home folder" in measured["rfid_reason"] or "Permission denied" in measured["rfid_reason"]
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("cache folder "))
    assert f"{reason}; nothing is stored there: set VQLAB_CACHE to" in line
    assert "Traceback" not in done.stderr
    cleared = as_other_user(
        folder, "import sys; sys.argv = ['vqlab', 'data', '--clear']; from vqlab.cli import main; main()", **cache
    )
    assert cleared.returncode == (0 if case == "not writable" else 1)
    assert len(cleared.stderr.splitlines()) == 1
    assert "Traceback" not in cleared.stderr


READ = """
import json, sys
from vqlab import Run
from vqlab.training import load_code_grids
run = Run.open(sys.argv[1])
print(json.dumps([run.evaluation("cpu"), list(load_code_grids(run).test.shape)]))
"""


def test_a_run_that_may_not_be_written_is_measured_and_one_line_for_each_file_says_so(
    folder: Path, expected: Expected
) -> None:
    if shutil.which("unshare") is None or as_other_user(folder, "").returncode:
        pytest.skip("no other user")
    (original,) = (Path(expected.config.data.source.removeprefix("folder:")).parent / "runs").iterdir()
    copy = Path(shutil.copytree(original, folder / "runs" / original.name))
    (copy / "evaluation.json").unlink()
    copy.chmod(0o555)
    try:
        done = as_other_user(folder, READ, str(copy), VQLAB_CACHE=str(folder / "cache"))
    finally:
        copy.chmod(0o755)
    assert done.returncode == 0, done.stderr
    measured, shape = json.loads(done.stdout)
    assert measured["psnr"] == pytest.approx(expected.measured["psnr"], rel=1e-6)
    assert shape[1:] == list(expected.config.code_shape)
    lines = [line for line in done.stderr.splitlines() if "is not stored" in line]
    assert [Path(line.split(":")[0]).name for line in lines] == ["evaluation.json", "codes.npz"]
    assert not (copy / "evaluation.json").exists()


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_every_file_has_the_permissions_of_the_umask(
    mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "work/cache"))
    config = tiny(**{**SIZES, "data.source": f"folder:{write_archive(tmp_path)}"})
    prior = config.replace(**{"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 16, "prior.layers": 1})
    earlier = os.umask(mask)
    try:
        write_all(prior, tmp_path / "work")
    finally:
        os.umask(earlier)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "work").rglob("*")}
    names = {path.name for path in found}
    assert names >= {
        "config.json", "provenance.json", "metrics.jsonl", "angles.jsonl", "checkpoint.safetensors",
        "model.safetensors", "codebook.npz", "codes.npz", "evaluation.json", "explorer.html", "samples.png",
        "studies.journal", "pixels.bin", "index.json",
    }  # fmt: skip
    assert any(name.startswith("classifier-") for name in names)
    wrong = {
        str(path.relative_to(tmp_path)): oct(mode)
        for path, mode in found.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~mask
    }
    assert not wrong


def write_all(prior: Config, work: Path) -> None:
    """What the commands write: two Runs, a cache, a journal, a page and a picture."""
    trained = train(prior, work / "runs", "cpu")
    codec: Run = trained.codec()
    codec.evaluation("cpu")
    load_code_grids(codec)
    load_data(codec.config.data)
    train(codec.config.replace(seed=1), work / "runs", "cpu", stop_after_steps=1)
    write_run_page(codec, codec.folder / "explorer.html")
    save_samples(trained, 1, work / "samples.png", device="cpu")
    Grid("modes", codec.config, {"seed": [0]}).run(work / "runs", "cpu")
