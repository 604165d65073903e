"""Images as people have them: any size, mode, layout and container."""

from __future__ import annotations

import io
import json
import os
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_processes import vqlab
from PIL import Image
from test_training import tiny

from vqlab import InputError
from vqlab.config import DataConfig
from vqlab.data import ImageData, load_data
from vqlab.data.decode import decode_image, fit_image
from vqlab.training import train

SIZE = 32


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def save(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name)
    return folder


def load(path: Path, **changes: object) -> ImageData:
    return load_data(DataConfig.model_validate({"source": f"folder:{path}", **changes}))


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    image, _ = decode_image(content, "test")
    return np.asarray(image)


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation", "Test"])
def test_a_part_for_measurement_may_have_any_of_its_names(tmp_path: Path, held_out: str) -> None:
    data = load(save(tmp_path / "set", "train/a/0.png", "train/b/1.png", f"{held_out}/a/2.png"))
    assert (len(data.train), len(data.test), data.validation) == (2, 1, None)
    assert bool(data.notes) == held_out.startswith("val")


def test_three_parts_stay_three(tmp_path: Path) -> None:
    data = load(save(tmp_path / "set", "train/a/0.png", "valid/a/1.png", "test/a/2.png", "test/b/3.png"))
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (1, 1, 2)
    with pytest.raises(InputError, match="has validation images of its own; set 0"):
        load(tmp_path / "set", validation=1)


def test_classes_without_parts_are_divided_by_class_and_told(tmp_path: Path) -> None:
    names = [f"{name}/{number}.png" for name in "ab" for number in range(20)]
    data = load(save(tmp_path / "set", *names))
    assert (len(data.train), len(data.test), data.class_names) == (36, 4, ("a", "b"))
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.notes == ("no test images: 4 of 40 images were drawn for them, by class",)
    assert load(tmp_path / "set").fingerprint == data.fingerprint


@pytest.mark.parametrize("inside", ["", "more/folders/"])
def test_a_folder_of_images_has_one_class(tmp_path: Path, inside: str) -> None:
    data = load(save(tmp_path / "set", *(f"{inside}{number}.png" for number in range(3))))
    assert (len(data.train), len(data.test), data.class_names) == (2, 1, ("images",))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_is_read_as_its_folder(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "train/b/1.png", "test/a/2.png")
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*"):
                file.write(path, path.relative_to(tmp_path))
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind]
        with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
            tar.add(folder, "set")
    assert load(archive).fingerprint == load(folder).fingerprint


def test_hard_links_of_an_archive_are_images(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    os.link(folder / "train/a/0.png", folder / "train/a/2.png")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder, "set")
    assert len(load(tmp_path / "set.tar").train) == 2


def test_a_wrong_checksum_at_the_end_of_an_archive_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
        tar.add(folder, "set")
    content = bytearray((tmp_path / "set.tar.gz").read_bytes())
    content[-6] ^= 1
    (tmp_path / "set.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match="not a complete"):
        load(tmp_path / "set.tar.gz")


@pytest.mark.parametrize("header", ["", "path,label,split\n"])
def test_a_list_of_paths_is_read(tmp_path: Path, header: str) -> None:
    save(tmp_path, *(f"{number}.png" for number in range(4)))
    lines = [
        f"{number}.png" + (f",{'ab'[number % 2]},{'test' if number > 1 else 'train'}" if header else "")
        for number in range(4)
    ]
    source = tmp_path / ("list.csv" if header else "list.txt")
    source.write_text(header + "\n".join(lines))
    data = load(source)
    assert (len(data.train), len(data.test)) == ((2, 2) if header else (3, 1))
    assert data.class_names == (("a", "b") if header else ("images",))


def test_a_list_has_the_last_word_on_classes(tmp_path: Path) -> None:
    save(tmp_path, "x/train/0.png", "x/train/1.png", "x/test/2.png")
    (tmp_path / "list.csv").write_text("path,label\nx/train/0.png,a\nx/train/1.png,b\nx/test/2.png,b\n")
    data = load(tmp_path / "list.csv")
    assert (data.class_names, data.train.labels.tolist(), data.test.labels.tolist()) == (("a", "b"), [0, 1], [1])


@pytest.mark.parametrize("shape", [(10, SIZE, SIZE), (10, SIZE, SIZE, 3), (10, 3, SIZE, SIZE), (10, SIZE, SIZE, 1)])
def test_an_array_of_images_is_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "set.npy", images)
    data = load(tmp_path / "set.npy")
    assert (len(data.train), len(data.test)) == (9, 1)
    expected = images[0] if shape[1] == 3 else images[0].reshape(SIZE, SIZE, -1).transpose(2, 0, 1)
    assert (
        any((data.train.pixels[number].numpy() == expected).all() for number in range(9))
        or (data.test.pixels[0].numpy() == expected).all()
    )


def test_arrays_of_parts_have_their_labels(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE), np.uint8)
    np.savez(tmp_path / "set.npz", train_images=images[:4], train_labels=[[0], [1], [0], [1]], test_images=images[4:],
             test_labels=[[1], [0]])  # fmt: skip
    data = load(tmp_path / "set.npz")
    assert (data.class_names, data.train.labels.tolist(), data.test.labels.tolist()) == (
        ("0", "1"),
        [0, 0, 1, 1],
        [0, 1],
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 8, 8), np.uint8)}, "has no array of images"),
        ({"images": np.zeros((2, 8, 8))}, r"float64 of shape \(2, 8, 8\), must be uint8"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": [1]}, "2 images, but 1 labels"),
        ({"images": np.array([{}])}, "not a whole NumPy file"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        load(tmp_path / "set.npz")


def test_what_systems_add_is_passed_over(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    for name in ("train/a/._0.png", "__MACOSX/train/a/0.png", "train/.ipynb_checkpoints/0.png", "train/a/.DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0\5\26\7")
    data = load(folder)
    assert (len(data.train), data.class_names) == (1, ("a",))


def test_accents_of_another_system_make_no_other_class(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert load(save(tmp_path / "set", f"train/{one}/0.png", f"test/{other}/1.png")).class_names == (one,)


def test_circles_of_links_and_pipes_end(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    (folder / "train/a/again").symlink_to(folder)
    os.mkfifo(folder / "train/a/2.png")
    assert len(load(folder).train) == 1
    with pytest.raises(InputError, match="is a pipe or a device"):
        load(folder / "train/a/2.png")


def test_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    os.rename(os.fsencode(folder / "train/a/0.png"), os.fsencode(folder) + b"/train/a/\xff.png")
    (folder / "test/a/2.png").write_bytes(b"no image")
    assert load(folder, on_broken="skip").skipped == ("test/a/2.png",)


@pytest.mark.parametrize(
    ("fit", "left", "middle"),
    [("crop", (0, 0, 255), (0, 0, 255)), ("squash", (255, 0, 0), (0, 0, 255)), ("pad", (255, 0, 0), (0, 0, 255))],
)
def test_other_sizes_are_cropped_squashed_or_padded(fit: str, left: tuple[int, ...], middle: tuple[int, ...]) -> None:
    image = np.zeros((16, 48, 3), np.uint8)
    image[:, :, 0], image[:, 16:32] = 255, (0, 0, 255)
    pixels = fit_image(Image.fromarray(image), 24, 24, fit, "test", [])
    assert pixels.shape == (3, 24, 24)
    assert (tuple(pixels[:, 12, 0]), tuple(pixels[:, 12, 12])) == (left, middle)
    assert (tuple(pixels[:, 0, 12]) == (0, 0, 0)) == (fit == "pad")


def test_photographs_of_any_size_are_fitted_and_counted_once(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    picture(5, 40, 30).save(folder / "train/a/2.jpg")
    assert load(folder).notes == ("images of another size than 32x32: 1 (1 of 40x30); data.fit=crop",)
    with pytest.raises(InputError, match=r"40x30 pixels, must be 32x32; resize the image, set"):
        load(folder, fit="exact")


def test_sixteen_bits_become_eight() -> None:
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    assert pixels_of(encoded(Image.fromarray(values), "PNG"))[:, :, 0].flatten().tolist() == (
        np.floor(values / 257 + 0.5).astype(int).flatten().tolist()
    )


def test_other_modes_have_their_colours() -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    for content in (
        encoded(red.convert("CMYK"), "TIFF"), encoded(red.quantize(), "PNG"), encoded(red, "GIF"),
        encoded(red, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")]), encoded(red, "PPM"),
    ):  # fmt: skip
        assert abs(pixels_of(content)[4, 4].astype(int) - (200, 30, 40)).max() <= 2
    assert pixels_of(encoded(Image.new("1", (8, 8), 1), "PNG"))[0, 0].tolist() == [255] * 3
    assert pixels_of(encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"))[0, 0].tolist() == [128] * 3
    for mode in "LI":
        assert pixels_of(encoded(Image.new("L", (8, 8), 200).convert(mode), "TIFF"))[0, 0].tolist() == [200] * 3
    assert pixels_of(encoded(Image.new("I", (8, 8), 51_400), "TIFF"))[0, 0].tolist() == [200] * 3
    assert pixels_of(encoded(Image.new("RGBA", (8, 8), (200, 30, 40, 0)), "PNG"))[0, 0].tolist() == [255] * 3


def test_a_turned_photograph_stands_upright() -> None:
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = pixels_of(encoded(image, "JPEG", exif=exif, quality=95))
    assert turned.shape == (16, 8, 3)
    assert turned[2].mean() > 200 > 50 > turned[13].mean()


def test_a_damaged_image_is_refused_or_listed_whatever_the_reader_raises(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "test/a/1.png")
    whole = encoded(picture(0, 64, 64), "PNG")
    bad = {
        "cut.png": whole[:300],
        "chunk.png": whole[:40],
        "empty.png": b"",
        "bomb.png": whole[:16] + b"\0\1\0\0\0\1\0\0" + whole[24:],
    }
    for name, content in bad.items():
        (folder / "train/a" / name).write_bytes(content)
    assert load(folder, on_broken="skip").skipped == tuple(f"train/a/{name}" for name in sorted(bad))
    with pytest.raises(InputError, match=r"bomb\.png: .*set data\.on_broken=skip"):
        load(folder)


def test_the_command_data_tells_what_would_be_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", *(f"{name}/{number}.png" for name in "ab" for number in range(10)))
    picture(9, 40, 30).convert("L").save(folder / "a/grey.png")
    (folder / "a/broken.png").write_bytes(b"no image")
    sheet = tmp_path / "sheet.png"
    told = vqlab("data", str(folder), "--sheet", str(sheet))
    for text in (
        "train: 19 images, classes: a 10, b 9", "test: 2 images, classes: a 1, b 1",
        "sizes found: 32x32 (20), 40x30 (1)", "modes found: RGB (20), L (1)", "2 of 21 images were drawn",
        "skipped, 1 unreadable:\n  a/broken.png: ",
    ):  # fmt: skip
        assert text in told.stdout
    with Image.open(sheet) as image:
        assert image.size == (16 * (SIZE + 4), 2 * (SIZE + 4))
    values = json.loads(vqlab("data", str(folder), "--json").stdout)
    assert values["parts"]["train"] == {"a": 10, "b": 9}
    assert values["fingerprint"] in told.stdout


def test_a_run_of_one_test_image_has_all_numbers_but_the_error(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "train/a/0.png", "train/a/1.png", "test/a/2.png")
    config = tiny().replace(**{"data.source": f"folder:{folder}", "data.image_size": 16})
    finished = train(config, tmp_path / "runs", "cpu")
    values = finished.evaluation("cpu")
    assert values["images"] == 1
    assert "psnr" in values
    assert "psnr_error" not in values
    assert finished.provenance["data_notes"] == ["images of another size than 16x16: 3 (3 of 32x32); data.fit=crop"]
