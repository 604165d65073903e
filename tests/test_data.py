"""Image sources and batches."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqlab import InputError
from vqlab.config import DataConfig
from vqlab.data import batches, load_data


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for class_name in ("cat", "dog"):
            class_folder = tmp_path / "images" / split / class_name
            class_folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(class_folder / f"{index}.png")
    return tmp_path / "images"


def folder_config(path: Path, **changes: object) -> DataConfig:
    return DataConfig.model_validate({"source": f"folder:{path}", **changes})


def test_a_folder_and_its_archive_hold_the_same_images(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "images")
    data = load_data(folder_config(folder))
    assert (len(data.train), len(data.test), data.class_names) == (6, 4, ("cat", "dog"))
    assert [load_data(folder_config(archive)).fingerprint for _ in range(2)] == [data.fingerprint] * 2


def test_an_unreadable_file_is_refused_by_name_or_skipped_and_listed(folder: Path) -> None:
    (folder / "train/cat/1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"train/cat/1\.png: is not a readable image; fix or remove the file"):
        load_data(folder_config(folder))
    assert load_data(folder_config(folder, on_broken="skip")).skipped == ("train/cat/1.png",)


def test_wrong_size_missing_and_empty_sources_are_refused(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(folder / "test/dog/big.png")
    with pytest.raises(InputError, match=r"big\.png: 40x20 pixels, must be 32x32"):
        load_data(folder_config(folder, fit="exact"))
    (tmp_path / "empty").mkdir()
    for name, message in (("empty", "no images in train"), ("nowhere", "no such folder")):
        with pytest.raises(InputError, match=message):
            load_data(folder_config(tmp_path / name))


def test_an_incomplete_archive_is_refused(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "images.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "images")
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a complete"):
        load_data(folder_config(archive))


def test_training_and_test_patches_are_from_different_photographs() -> None:
    data = load_data(DataConfig())
    assert not set(data.train.labels.tolist()) & set(data.test.labels.tolist())
    assert len(data.train) > 4000


def test_pixel_variance_equals_that_of_numpy() -> None:
    images = load_data(DataConfig(train_limit=50)).train
    assert images.variance == pytest.approx((images.pixels.numpy() / 255).var(), rel=1e-12)


def test_an_epoch_has_every_image_once_and_can_start_at_any_step() -> None:
    images = load_data(DataConfig(train_limit=50)).train
    epoch = torch.cat([batch for batch, _ in batches(images, 16, seed=1, epoch=2, augment=False)])
    assert sorted(epoch.sum((1, 2, 3)).tolist()) == pytest.approx(sorted((images.pixels / 255).sum((1, 2, 3)).tolist()))
    augmented = list(batches(images, 16, seed=1, epoch=2, augment=True))
    assert torch.equal(augmented[2][0], next(batches(images, 16, seed=1, epoch=2, augment=True, start=2))[0])


def test_crops_are_windows_of_the_padded_image_flipped_or_not() -> None:
    images = load_data(DataConfig(train_limit=8)).train
    batch, _ = next(batches(images, 8, seed=0, epoch=0, augment=True))
    for crop in (batch * 255).round().byte().numpy():
        candidates = [
            np.pad(image.numpy(), ((0, 0), (2, 2), (2, 2)), "reflect")[:, top : top + 32, left : left + 32]
            for image in images.pixels for top in range(5) for left in range(5)
        ]  # fmt: skip
        assert any(np.array_equal(crop, c) or np.array_equal(crop, c[..., ::-1]) for c in candidates)


@pytest.mark.usefixtures("no_network")
def test_cifar10_without_network_is_refused_with_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"could not be downloaded .*as cifar-10-python\.tar\.gz in the folder"):
        load_data(DataConfig(source="cifar10"))
