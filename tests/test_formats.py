"""Runs, caches and studies carry a format version: those of version 0.1 open, those of a newer one are refused by name.

tests/data/version_0_1/cache was written by commit 6c2aed7, the last one of version 0.1: the pixels of the archive
``images.tar.gz`` beside it, and the statistics of the mean colours of 16 test images of ``photos``.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from test_compatibility import STORED, VQVAE
from test_training import tiny

from vqlab import Config, InputError, Run
from vqlab.config import DataConfig
from vqlab.data import load_data
from vqlab.data.cache import cached_arrays
from vqlab.data.image_cache import clear_image_cache
from vqlab.metrics.features import Extractor, reference_statistics
from vqlab.studies import Grid
from vqlab.studies.storage import open_storage

PIXELS = "d2ec9fac159b42fe.npz"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def no_computation(*arguments: object) -> dict[str, np.ndarray]:
    raise AssertionError("is computed again")


def load_archive() -> DataConfig:
    config = DataConfig(source=f"folder:{STORED / 'images.tar.gz'}")
    load_data(config)
    return config


def grid() -> Grid:
    return Grid("kept", Run.open(STORED / "finished" / VQVAE).config, {"quantizer.beta": (0.25, 0.5)})


def newer_run(folder: Path) -> Callable[[], object]:
    shutil.copytree(STORED / "finished" / VQVAE, folder)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, "format": 7}))
    return lambda: Run.open(folder)


def newer_images(folder: Path) -> Callable[[], object]:
    load_archive()
    (index,) = folder.parent.glob("cache/images/*/index.json")
    index.write_text(json.dumps({**json.loads(index.read_text()), "format": 7}))
    return load_archive


def newer_arrays(folder: Path) -> Callable[[], object]:
    cached_arrays("statistics", lambda: {"mean": np.ones(3)})
    with zipfile.ZipFile(folder.parent / "cache/statistics.npz", "a") as archive:
        archive.comment = archive.comment.replace(b"1", b"7")
    return lambda: cached_arrays("statistics", no_computation)


def newer_study(folder: Path) -> Callable[[], object]:
    grid().table(folder)
    storage = open_storage(folder)
    study = optuna.load_study(study_name=grid().study_name, storage=storage)
    assert list(study.user_attrs.values()) == [1]
    study.set_user_attr(*study.user_attrs, 7)
    return lambda: grid().table(folder)


@pytest.mark.parametrize(
    ("write", "name"),
    [(newer_run, "config.json"), (newer_images, "index.json"), (newer_arrays, "statistics.npz"),
     (newer_study, "studies.journal")],
)  # fmt: skip
def test_what_a_newer_version_wrote_is_refused_by_name(
    write: Callable[[Path], Callable[[], object]], name: str, tmp_path: Path
) -> None:
    read = write(tmp_path / "runs")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert re.fullmatch(
        rf"[^\n]*{re.escape(name)}[^\n]*: was written by a newer vqlab \(format 7; this version reads up to 1\); "
        r"upgrade vqlab, or [^\n]*",
        message,
    )
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed <= {"studies.journal"}  # Optuna appends the attempt to create the study


@pytest.mark.parametrize("found", [0, -1, True, 1.5, "1", [1], {}])
def test_a_version_that_is_none_is_refused_as_damage(found: object, tmp_path: Path) -> None:
    newer_run(tmp_path / "run")
    stored = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps({**stored, "format": found}))
    with pytest.raises(InputError, match=r"config\.json: is damaged \(format is"):
        Run.open(tmp_path / "run")


def test_a_run_without_a_version_opens(tmp_path: Path) -> None:
    newer_run(tmp_path / "run")
    stored = json.loads((tmp_path / "run/config.json").read_text())
    del stored["format"]
    (tmp_path / "run/config.json").write_text(json.dumps(stored))
    assert Run.open(tmp_path / "run").config.id == VQVAE


def test_statistics_that_version_0_1_stored_are_read(cache: Path) -> None:
    shutil.copytree(STORED / "cache", cache)
    data = load_data(Config.profile("paper", **{"data.train_limit": 48, "data.test_limit": 16}).data)
    colours = Extractor("mean colour", "mean colour", no_computation)
    moments = reference_statistics(colours, data, "test").moments
    expected = (data.test.pixels.double() / 255).mean((2, 3)).numpy()
    np.testing.assert_allclose(moments.mean, expected.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(expected.T), rtol=1e-5)


def test_an_archive_has_the_pixels_that_version_0_1_stored(cache: Path) -> None:
    """The pixels are read again, as some formats of images give others since; the earlier file can be cleared."""
    shutil.copytree(STORED / "cache", cache)
    data = load_data(load_archive())
    with np.load(cache / PIXELS, allow_pickle=False) as stored:
        for part, images in (("train", data.train), ("test", data.test)):
            assert (images.pixels.numpy() == stored[f"{part}_pixels"]).all()
            assert (images.labels.numpy() == stored[f"{part}_labels"]).all()
    assert clear_image_cache()[0] == 2
    assert not (cache / PIXELS).exists()


def test_a_study_of_version_0_1_gets_the_version_and_keeps_its_rows(tmp_path: Path) -> None:
    shutil.copy(STORED / "studies.journal", tmp_path / "studies.journal")
    for _ in range(2):
        assert grid().table(tmp_path).rows["psnr"].round(4).tolist() == [10.9258, 10.9262]
    assert (tmp_path / "studies.journal").read_text().count('"user_attr":{"format":1}') == 1


def test_new_files_carry_the_version(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", tiny())
    assert json.loads((tmp_path / "run/config.json").read_text())["format"] == 1
    load_archive()
    (index,) = tmp_path.glob("cache/images/*/index.json")
    assert json.loads(index.read_text())["format"] == 1
    cached_arrays("statistics", lambda: {"mean": np.ones(3)})
    with zipfile.ZipFile(tmp_path / "cache/statistics.npz") as archive:
        assert archive.comment == b"vqlab format 1"
    assert cached_arrays("statistics", no_computation)["mean"].tolist() == [1, 1, 1]
