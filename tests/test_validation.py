"""Validation images for choices: grids, tunings and the doctor do not look at the test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_processes import settings, vqlab
from PIL import Image
from test_training import TINY, tiny

from vqlab import Config, Run
from vqlab.data import load_data
from vqlab.data.validation import with_validation
from vqlab.studies import make_grid, named_grid, named_tuning


def images(folder: Path, **parts: int) -> str:
    for part, count in parts.items():
        (folder / part).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{number:03d}.png")
    return f"folder:{folder}"


@pytest.mark.parametrize(
    ("parts", "validation"),
    [
        ({"train": 40, "test": 5}, 4), ({"train": 5, "test": 5}, 1), ({"train": 1, "test": 1}, 0),
        ({"train": 40, "val": 6, "test": 5}, 0),
    ],
)  # fmt: skip
def test_a_tenth_of_the_training_images_unless_the_source_has_its_own(
    tmp_path: Path, parts: dict[str, int], validation: int
) -> None:
    config = with_validation(Config().replace(**{"data.source": images(tmp_path / "set", **parts)}))
    assert config.data.validation == validation
    load_data(config.data)
    assert with_validation(config) == config


def test_what_is_set_is_kept() -> None:
    config = Config().replace(**{"data.validation": 7})
    assert with_validation(config) is config


def test_grids_and_tunings_by_name_have_validation_images() -> None:
    expected = len(load_data(Config().data).train) // 10
    for base in (named_grid("scaling").base, named_tuning().base, named_tuning("paper").base,
                 make_grid("mine", {"quantizer.beta": [0.25]}).base):  # fmt: skip
        assert base.data.validation == expected


@pytest.mark.parametrize("words", [["grid", "mine", "--axis", "quantizer.beta=[0.25,1.0]"], ["tune", "--trials", "2"]])
def test_the_commands_choose_by_the_validation_images_and_evaluate_measures_the_test_images(
    tmp_path: Path, words: list[str]
) -> None:
    done = vqlab(*words, "--runs", str(tmp_path), *settings({**TINY, "optim.epochs": 1}))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(validation set)") == 2
    assert "best PSNR on the held-out images" in done.stdout
    folders = [path.parent for path in tmp_path.glob("*/config.json")]
    assert len(folders) == 2
    for run in map(Run.open, folders):
        assert run.last_epoch_metrics()["part"] == "validation"
        assert run.evaluation("cpu")["part"] == "test"
        assert run.evaluation("cpu")["images"] == tiny().data.test_limit
