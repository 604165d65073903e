"""Runs whose images were replaced, and the spellings of one path."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_processes import vqlab
from PIL import Image
from test_training import same_weights, tiny

from vqlab import Config, Run, train
from vqlab.analysis.doctor import apply_changes
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.config import DataConfig
from vqlab.errors import ChangedDataError
from vqlab.report import write_run_page
from vqlab.studies import Grid, Study, Tuning, named_study
from vqlab.training import load_code_grids
from vqlab.widgets.run_sources import RunSources

SIZES = {"optim.batch_size": 4, "optim.epochs": 1, "evaluation.log_every": 1, "quantizer.init": "normal"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def write_images(folder: Path, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for part, count in (("train", 6), ("test", 2)):
        for name in "ab":
            for number in range(count):
                path = folder / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


def config_of(path: Path | str, **changes: object) -> Config:
    return tiny(**{**SIZES, "data.source": f"folder:{path}", **changes})


USES: dict[str, Callable[[Run], object]] = {
    "train": lambda run: train(run.config, run.folder.parent, "cpu"),
    "open": lambda run: run.data(),
    "evaluate": lambda run: run.evaluation("cpu"),
    "tokenize": lambda run: Tokenizer(run).data,
    "explore": lambda run: write_run_page(run, run.folder / "explorer.html"),
    "widgets": lambda run: RunSources(run).tokenizer(next(iter(RunSources(run).names))),
    "code grids": lambda run: load_code_grids(run),
    "prior": lambda run: train(run.config.replace(**{"prior.kind": "transformer"}), run.folder.parent, "cpu"),
    "doctor": lambda run: apply_changes(run, "cpu"),
}


@pytest.mark.parametrize("use", USES)
def test_a_run_says_that_its_images_were_replaced(images: Path, tmp_path: Path, use: str) -> None:
    run = train(config_of(images), tmp_path / "runs", "cpu")
    before = (run.folder / "provenance.json").read_text()
    if use == "evaluate":
        run.evaluation("cpu")
    write_images(images, seed=1)
    with pytest.raises(ChangedDataError, match=r"was trained on other images .*`vqlab train --retrain`") as caught:
        USES[use](run)
    assert "\n" not in str(caught.value)
    assert (run.folder / "provenance.json").read_text() == before
    write_images(images)
    run.check_data()
    assert USES[use](run) is not None if use != "doctor" else True


def test_an_interrupted_run_does_not_resume_on_other_images(images: Path, tmp_path: Path) -> None:
    run = train(config_of(images), tmp_path / "runs", "cpu", stop_after_steps=1)
    before = (run.folder / "provenance.json").read_text()
    (images / "train/a/0.png").unlink()
    with pytest.raises(ChangedDataError):
        train(config_of(images), tmp_path / "runs", "cpu")
    assert (run.folder / "provenance.json").read_text() == before
    write_images(images)
    resumed = train(config_of(images), tmp_path / "runs", "cpu")
    assert same_weights(resumed, train(config_of(images), tmp_path / "other", "cpu"))


def test_a_row_of_a_study_says_so(images: Path, tmp_path: Path) -> None:
    study = Study(config_of(images), {"one": {}})
    assert study.run(tmp_path / "runs", "cpu").rows["error"].tolist() == [""]
    write_images(images, seed=1)
    for table in (study.table(tmp_path / "runs"), study.run(tmp_path / "runs", "cpu")):
        assert "was trained on other images" in table.rows["error"][0]


def test_a_study_so_far_says_which_rows_are_left_out(images: Path, tmp_path: Path) -> None:
    """One arm is trained again on the new images, the others are not."""
    settings = [f"--set={key}={value}" for key, value in config_of(images).changes().items() if key != "data.source"]
    options = ["--profile", "paper", "--data", f"folder:{images}", "--seeds", "1", *settings]
    command = ["study", "rotation", *options, "--so-far"]
    study = named_study("rotation", "paper", [0], **config_of(images).changes())
    configs = [config for _, _, config in study.configs()]
    for config in configs[:3]:
        train(config, "runs", "cpu")
    write_images(images, seed=1)
    done = vqlab(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "was trained on other images" in done.stderr.splitlines()[-1]
    train(configs[0], "runs", "cpu", retrain=True)
    done = vqlab(*command)
    assert done.returncode == 0
    changed, unfinished = done.stderr.splitlines()
    assert changed.startswith(f"2 of {len(configs)} rows are left out: ChangedDataError: run runs/{configs[1].id}: was")
    assert unfinished == f"{len(configs) - 3} of {len(configs)} rows are left out: InputError: not finished yet"


def make_grid(images: Path) -> Grid:
    return Grid("changed", config_of(images), {"quantizer.decay": [0.9, 0.99]})


def make_tuning(images: Path) -> Tuning:
    return Tuning("changed", config_of(images), {"quantizer.decay": (0.9, 0.99)}, trials=2)


@pytest.mark.parametrize("use", ["table", "run", "tuning"])
def test_a_grid_or_tuning_on_changed_images_says_so_in_one_line(images: Path, tmp_path: Path, use: str) -> None:
    uses: dict[str, Callable[[], object]] = {
        "table": lambda: make_grid(images).table(tmp_path / "runs"),
        "run": lambda: make_grid(images).run(tmp_path / "runs", "cpu"),
        "tuning": lambda: make_tuning(images).run(tmp_path / "runs", "cpu"),
    }
    (make_tuning if use == "tuning" else make_grid)(images).run(tmp_path / "runs", "cpu")
    write_images(images, seed=1)
    with pytest.raises(ChangedDataError, match=r"was trained on other images") as caught:
        uses[use]()
    assert "\n" not in str(caught.value)
    runs = [path.parent for path in (tmp_path / "runs").glob("*/config.json")]
    for run in runs:
        train(Run.open(run).config, tmp_path / "runs", "cpu", retrain=True)
    with pytest.raises(ChangedDataError, match=r"trained again on other images .* move the journal away") as caught:
        uses[use]()
    assert "\n" not in str(caught.value)
    (tmp_path / "runs/studies.journal").unlink()
    uses[use]()
    images.rename(tmp_path / "elsewhere")
    uses[use]()


def test_the_command_says_so_in_one_line_and_retrains(images: Path, tmp_path: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in config_of(images).changes().items() if key != "data.source"]
    command = ["train", "--profile", "paper", "--data", f"folder:{images}", *settings]
    first = Path(vqlab(*command).stdout.strip())
    fingerprint = Run.open(first).provenance["data_fingerprint"]
    write_images(images, seed=1)
    for words in (command, ["evaluate", str(first)], ["explore", str(first)]):
        done = vqlab(*words)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "vqlab train --retrain" in done.stderr
    again = Path(vqlab(*command, "--retrain").stdout.strip())
    kept = Run.open(again.with_name(f"{again.name}-{fingerprint}"))
    assert (again, kept.finished, Run.open(again).finished) == (first, True, True)
    assert kept.provenance["data_fingerprint"] == fingerprint != Run.open(again).provenance["data_fingerprint"]


def test_a_prior_is_retrained_with_its_autoencoder(images: Path, tmp_path: Path) -> None:
    config = config_of(images, **{"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 8, "prior.heads": 1})
    old = train(config, tmp_path / "runs", "cpu").provenance["data_fingerprint"]
    write_images(images, seed=1)
    prior = train(config, tmp_path / "runs", "cpu", retrain=True)
    assert prior.finished
    assert prior.codec().provenance["data_fingerprint"] == prior.provenance["data_fingerprint"] != old
    assert len(list((tmp_path / "runs").glob(f"*-{old}"))) == 2


def test_touched_and_missing_images_are_no_other_images(images: Path, tmp_path: Path) -> None:
    run = train(config_of(images), tmp_path / "runs", "cpu")
    columns = run.evaluation("cpu")
    for path in images.rglob("*.png"):
        os.utime(path, (1, 1))
    assert train(config_of(images), tmp_path / "runs", "cpu").finished
    images.rename(tmp_path / "elsewhere")
    assert run.evaluation("cpu") == columns
    assert train(config_of(images), tmp_path / "runs", "cpu").finished


def test_a_run_without_a_stored_fingerprint_opens(images: Path, tmp_path: Path) -> None:
    run = train(config_of(images), tmp_path / "runs", "cpu")
    stored = {key: value for key, value in run.provenance.items() if key not in ("data_fingerprint", "data_key")}
    (run.folder / "provenance.json").write_text(json.dumps(stored))
    write_images(images, seed=1)
    assert run.evaluation("cpu")["images"] == 4


def test_all_spellings_of_a_path_are_one_config(tmp_path: Path) -> None:
    (tmp_path / "home/images").mkdir(parents=True)
    path = tmp_path / "home/images"
    spellings = [
        str(path), f"{path}/", "home/images", "./home/images", "home//images/", "~/images", "home/../home/images",
        f"{tmp_path}/./home/images", f"//{path}",
    ]  # fmt: skip
    configs = [Config(data=DataConfig(source=f"folder:{spelling}")) for spelling in spellings]
    assert {config.data.source for config in configs} == {f"folder:{path}"}
    assert len({config.id for config in configs}) == 1


def test_ids_of_absolute_paths_are_those_of_version_0_1() -> None:
    config = Config.profile("paper", **{"data.source": "folder:/data/images"})
    assert config.data.source == "folder:/data/images"
    assert config.id == "56ba423cca4a"


def test_a_parent_after_a_link_is_not_taken_back(tmp_path: Path) -> None:
    (tmp_path / "far/away/inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away/inside")
    source = DataConfig(source="folder:link/../images").source
    assert Path(source.removeprefix("folder:")).resolve() == (tmp_path / "far/away/images").resolve()


@pytest.mark.parametrize("spelling", ["images", "./images", "images/", "{}/"])
def test_a_run_of_an_earlier_spelling_keeps_its_id_and_is_found(images: Path, tmp_path: Path, spelling: str) -> None:
    """A Run as version 0.1 stored it: ``data.source`` as it was typed, and an id of that."""
    source = f"folder:{spelling.format(images)}"
    config = config_of(images, **{"prior.kind": "transformer", "prior.epochs": 1, "prior.width": 8, "prior.heads": 1})
    earlier = config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
    trained = train(earlier, tmp_path / "runs", "cpu")
    assert trained.folder.name == earlier.id != config.id
    opened = Run.open(trained.folder)
    assert opened.config.id == earlier.id
    assert opened.codec().finished
    assert train(config, tmp_path / "runs", "cpu").folder == trained.folder
