"""Random crops of images that are not of the wanted shape."""

from __future__ import annotations

import itertools
import json
import tarfile
import time
import zipfile
from pathlib import Path

import annotation_checks
import numpy as np
import pytest
import torch
from command_processes import vqlab
from PIL import Image
from test_training import tiny

from vqlab import Config, InputError
from vqlab.config import DataConfig
from vqlab.data import ImageData, Images, batches, decoding, load_data
from vqlab.data.batches import crop_uncropped, seeded_generator
from vqlab.data.decode import scale_image
from vqlab.data.uncropped import UncroppedImages
from vqlab.training import train

COUNT = 24


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


def picture(number: int) -> Image.Image:
    """Smooth colours, some wide, some high, some square; none of the wanted size."""
    width, height = [(60, 40), (33, 50), (48, 48), (100, 40)][number % 4]
    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(COUNT):
        path = tmp_path / "set" / ("test" if number % 6 == 0 else "train") / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "set"


def load(path: Path, **changes: object) -> ImageData:
    return load_data(DataConfig.model_validate({"source": f"folder:{path}", "random_crop": True, **changes}))


def epoch_of(images: Images, *, epoch: int = 0, start: int = 0, padding: int = 2) -> list[torch.Tensor]:
    found = batches(
        images, 8, seed=3, epoch=epoch, augment=True, crop_padding=padding, random_crop=True, start=start
    )  # fmt: skip
    return [batch for batch, _ in found]


@pytest.mark.parametrize("size", [(60, 40), (33, 50), (32, 32), (20, 70), (16, 16)])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 48)])
def test_an_image_is_scaled_to_cover_the_size(size: tuple[int, int], height: int, width: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    scaled = scale_image(image, height, width)
    assert scaled.shape[1] == height or scaled.shape[2] == width
    assert scaled.shape[1] >= height
    assert scaled.shape[2] >= width
    assert scaled.shape[2] / scaled.shape[1] == pytest.approx(size[0] / size[1], abs=0.05)
    expected = image.resize(scaled.shape[:0:-1], Image.Resampling.LANCZOS)
    assert np.array_equal(scaled, np.asarray(expected).transpose(2, 0, 1))


def test_a_strip_of_pixels_is_cut_before_it_is_enlarged() -> None:
    strip = scale_image(Image.new("RGB", (1_000_000, 2)), 32, 32)
    assert strip.shape == (3, 32, 8 * 32)


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("shape", [{}, {"height": 24, "width": 48}, {"channels": 1}])
def test_every_crop_is_a_window_of_the_padded_image_flipped_or_not(
    folder: Path, padding: int, shape: dict[str, int]
) -> None:
    data = load(folder, **shape)
    channels, height, width = DataConfig(**shape).shape
    uncropped = data.train.uncropped
    assert uncropped is not None
    order = torch.randperm(len(data.train), generator=seeded_generator(3, 0))
    moved = 0
    for index, crop in zip(order.tolist(), torch.cat(epoch_of(data.train, padding=padding)), strict=True):
        pixels = (crop * 255).round().byte().numpy()
        assert pixels.shape == (channels, height, width)
        sides = ((0, 0), (padding, padding), (padding, padding))
        padded = np.pad(uncropped.image(index), sides, "reflect" if padding else "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (channels, height, width))[0]
        equal = [(windows == candidate).all((2, 3, 4)) for candidate in (pixels, pixels[..., ::-1])]
        assert any(found.any() for found in equal)
        moved += not np.array_equal(pixels, data.train.pixels[index].numpy())
    assert moved > 0.8 * len(data.train)


def test_all_positions_and_both_directions_are_drawn_alike() -> None:
    """Each pixel of a row has its position for a value: chi-square of 12 positions and of the flips."""
    row = np.broadcast_to(np.arange(16, dtype=np.uint8), (1, 8, 16))
    images = UncroppedImages(np.ascontiguousarray(row).ravel(), np.array([[0, 8, 16]]), 1)
    drawn = 6000
    crops = crop_uncropped(images, torch.zeros(drawn).long(), 8, 8, 2, seeded_generator(0))[:, 0, 0].numpy()
    # A reflection begins with 2 1 0 or 1 0, an end in the same way.
    flipped = crops[:, 3] > crops[:, 4]
    starts = np.where(flipped, crops[:, 7 - 3], crops[:, 3]).astype(int) - 3
    counts = np.bincount(starts + 2, minlength=13)
    assert len(counts) == 13
    assert ((counts - drawn / 13) ** 2 / (drawn / 13)).sum() < 32.9  # 0.1 % of a chi-square of 12 degrees
    assert abs(flipped.mean() - 0.5) < 0.02


def test_batches_are_repeatable_and_can_start_at_any_step(folder: Path) -> None:
    images = load(folder).train
    whole = epoch_of(images, epoch=2)
    for start in range(len(whole)):
        for one, other in zip(epoch_of(images, epoch=2, start=start), whole[start:], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(whole[0], epoch_of(images, epoch=3)[0])


def test_all_but_training_has_the_central_crop(folder: Path) -> None:
    """Pixels, variance and test images are those without random crops; the fingerprint covers what is cropped, too."""
    data, central = load(folder), load(folder, random_crop=False)
    for one, other in ((data.train, central.train), (data.test, central.test)):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)
    assert data.train.variance == central.train.variance
    assert data.test.uncropped is None
    assert data.fingerprint != central.fingerprint
    for (one, _), (other, _) in zip(
        *(batches(part.train, 8, seed=0, epoch=0, augment=True) for part in (data, central)), strict=True
    ):
        assert torch.equal(one, other)


def test_another_margin_is_another_fingerprint(folder: Path) -> None:
    before = load(folder)
    path = folder / "train/b/003.png"
    image = Image.open(path)
    image.putpixel((0, 20), (0, 0, 0))
    image.putpixel((0, 21), (255, 255, 255))
    image.save(path)
    after = load(folder)
    assert torch.equal(before.train.pixels, after.train.pixels)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz", "list", "parquet", "npz"])
@pytest.mark.parametrize("mapped", [False, True])
def test_every_source_of_larger_images_is_cropped_from_memory_and_from_the_cache(
    folder: Path, tmp_path: Path, kind: str, *, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(folder, kind, tmp_path)
    expected = load(folder)
    if kind == "npz":
        path, stored = tmp_path / "folder-of-npz", np.load(source)
        for part in ("train", "test"):
            for number, pixels in enumerate(stored[f"x_{part}"]):
                (path / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path / part / f"{number:08d}.png")
        expected = load(path)
    if mapped:
        monkeypatch.setenv("VQLAB_DATA_MEMORY", "0")
    for _ in ("written", "read"):
        data = load(source)
        assert (data.mapped is not None) == mapped
        for one, other in zip(epoch_of(data.train), epoch_of(expected.train), strict=True):
            assert torch.equal(one, other)
        if kind != "npz":  # whose classes have other names, and so perhaps other labels
            assert data.fingerprint == expected.fingerprint


def write_source(folder: Path, kind: str, tmp_path: Path) -> Path:
    paths = sorted(folder.rglob("*.png"))
    names = [str(path.relative_to(folder)) for path in paths]
    target = tmp_path / f"source.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path, name in zip(paths, names, strict=True):
                archive.write(path, name)
    elif kind == "tar.gz":
        with tarfile.open(target, "w:gz") as tar:
            tar.add(folder, "set")
    elif kind == "list":
        target = folder / "list.txt"
        target.write_text("\n".join(names))
    elif kind == "parquet":
        parquet, arrow = (pytest.importorskip(name) for name in ("pyarrow.parquet", "pyarrow"))
        target.mkdir()
        for part in ("train", "test"):
            rows = [(path.read_bytes(), path.parent.name) for path in paths if path.parts[-3] == part]
            images = arrow.array([{"bytes": content, "path": None} for content, _ in rows])
            parquet.write_table(
                arrow.table({"image": images, "label": [label for _, label in rows]}), target / f"{part}.parquet"
            )
    elif kind == "npz":
        arrays = {
            f"x_{part}": np.stack([np.asarray(picture(4 * n + k)) for n in range(9)])
            for k, part in ((0, "train"), (1, "test"))
        }
        np.savez(target, allow_pickle=False, **arrays)
    return folder if kind == "folder" else target


@pytest.mark.parametrize("budget", ["1", "0.00003", "0"])
@pytest.mark.parametrize("changes", [{"validation": 5}, {"train_limit": 9}, {"validation": 3, "train_limit": 12}])
def test_selected_images_keep_what_is_cropped(
    folder: Path, changes: dict[str, int], budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, mapped with a selection in memory, and with one that is mapped."""
    central = load(folder, random_crop=False, **changes)
    whole = load(folder)
    monkeypatch.setenv("VQLAB_DATA_MEMORY", budget)
    data = load(folder, **changes)
    assert torch.equal(data.train.pixels, central.train.pixels)
    kept, all_kept = data.train.uncropped, whole.train.uncropped
    assert kept is not None
    assert all_kept is not None
    for row, pixels in enumerate(data.train.pixels):
        (origin,) = (whole.train.pixels == pixels).all(3).all(2).all(1).nonzero().flatten().tolist()
        assert np.array_equal(kept.image(row), all_kept.image(origin))


def test_several_processes_give_the_same_crops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(folder).fingerprint
    monkeypatch.setattr(decoding, "SERIAL_SECONDS", 0.0)
    monkeypatch.setattr(decoding, "_MAX_FILES", 3)
    monkeypatch.setattr(decoding, "_cores", lambda: 2)
    assert load(folder).fingerprint == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "photos"}, r"random_crop=True: needs own images; those of source=photos all have the wanted size"),
        ({"source": "cifar10"}, r"random_crop=True: needs own images"),
        ({"fit": "squash"}, r"random_crop=True: needs fit=crop, not fit=squash"),
        ({"augment": False}, r"random_crop=True: needs augment=True, not augment=False"),
    ],
)
def test_what_it_cannot_be_combined_with_is_refused(changes: dict[str, object], message: str) -> None:
    values = {"source": "folder:/images", "random_crop": True, **changes}
    with pytest.raises(InputError, match=message):
        Config().replace(**{f"data.{name}": value for name, value in values.items()})


def test_images_that_leave_nothing_to_crop_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.zeros((20, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"no training image of .* is longer or higher than 32x32 pixels once it is"):
        load(tmp_path / "set.npy")


def test_the_id_of_a_config_without_it_is_unchanged() -> None:
    assert Config().id == Config.parse({"data": {"random_crop": False}}).id
    changed = Config().replace(**{"data.source": "folder:/images", "data.random_crop": True})
    assert changed.id != changed.replace(**{"data.random_crop": False}).id


def test_a_training_stopped_at_any_step_has_the_weights_of_a_whole_one(folder: Path, tmp_path: Path) -> None:
    config = tiny().replace(**{
        "data.source": f"folder:{folder}", "data.random_crop": True, "data.image_size": 16, "data.train_limit": None,
        "data.test_limit": None, "optim.batch_size": 5, "optim.epochs": 2,
    })  # fmt: skip
    whole = train(config, tmp_path / "whole", "cpu")
    for _ in range(4):
        parts = train(config, tmp_path / "parts", "cpu", stop_after_steps=3)
    assert parts.finished
    weights = [run.model("cpu").state_dict() for run in (whole, parts)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    central = train(config.replace(**{"data.random_crop": False}), tmp_path / "whole", "cpu")
    other = central.model("cpu").state_dict()
    assert not all(torch.equal(weights[0][name], other[name]) for name in other)
    assert whole.evaluation("cpu")["images"] == central.evaluation("cpu")["images"]
    # Other margins are other images.
    picture(99).resize((60, 40)).save(folder / "train/b/001.png")
    with pytest.raises(InputError, match="was trained on other images"):
        whole.data()


def test_the_command_data_tells_of_it_and_counts_its_memory(folder: Path) -> None:
    told = vqlab("data", str(folder), "--set", "data.random_crop=true")
    assert "in training: a random part of each image, data.random_crop=True" in told.stdout
    memory = [
        json.loads(vqlab("data", str(folder), "--json", "--set", f"data.random_crop={word}").stdout)["memory_mib"]
        for word in ("true", "false")
    ]
    assert memory[0] > 2 * memory[1]


@pytest.mark.slow  # a second for each measurement, so that the timing means something
@pytest.mark.parametrize("size", [32, 64])
def test_random_crops_are_nearly_as_fast_as_padded_ones(size: int) -> None:
    count = 20_000 * 32 * 32 // size**2
    buffer = np.random.default_rng(0).integers(0, 256, count * size * size * 3 * 3 // 2, np.uint8)
    lengths = np.full(count, 3 * size * size * 3 // 2)
    places = np.stack([lengths.cumsum() - lengths, np.full(count, size), np.full(count, size * 3 // 2)], 1)
    central = torch.from_numpy(buffer).view(count, 3, size, -1)[..., :size].contiguous()
    images = Images(central, torch.zeros(count).long(), UncroppedImages(buffer, places, 3))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with annotation_checks.unchecked():
        for epoch, (random_crop, found) in itertools.product(range(5), seconds.items()):
            start = time.process_time()
            for _ in batches(images, 128, seed=0, epoch=epoch, augment=True, random_crop=random_crop):
                pass
            found.append(time.process_time() - start)
    plain, random = (count / min(found) for found in seconds.values())
    print(f"{size} pixels: {plain:,.0f} images/s padded, {random:,.0f} images/s of larger images")
    assert random / plain > 0.7
