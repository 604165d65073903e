"""Parquet files as Hugging Face stores image sets, and Zstandard archives."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from command_processes import run_program
from PIL import Image

from vqlab import InputError
from vqlab.config import DataConfig
from vqlab.data import ImageData, load_data
from vqlab.data.zstandard import open_zstandard

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))


def load(path: Path, **changes: object) -> ImageData:
    return load_data(DataConfig.model_validate({"source": f"folder:{path}", **changes}))


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, numbers: range, names: tuple[str, ...] | None = ("cat", "dog"), label: str = "label") -> Path:
    """Rows with the label number % 2, in the schema and with the metadata of Hugging Face's ``datasets``."""
    features = {"image": {"_type": "Image"}}
    if names:
        features[label] = {"names": list(names), "_type": "ClassLabel"}
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]
    table = pyarrow.table(
        {"image": pyarrow.array(images, IMAGE), label: [number % 2 for number in numbers]},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=3)
    return path


def test_a_folder_of_parquet_files_has_its_parts_and_classes(tmp_path: Path) -> None:
    folder = tmp_path / "set/data"
    write(folder / "train-00000-of-00002.parquet", range(4))
    write(folder / "train-00001-of-00002.parquet", range(4, 8))
    write(folder / "validation-00000-of-00001.parquet", range(8, 11))
    write(folder / "test-00000-of-00001.parquet", range(11, 16))
    data = load(tmp_path / "set")
    assert data.validation is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 3, 5]
    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4
    expected = np.stack([pixels(number).transpose(2, 0, 1) for number in (0, 2, 4, 6, 1, 3, 5, 7)])
    assert (data.train.pixels.numpy() == expected).all()
    assert (data.sizes, data.modes) == ({"32x32": 16}, {"RGB": 16})


def test_one_file_is_divided_and_its_rows_stay_together(tmp_path: Path) -> None:
    data = load(write(tmp_path / "pictures.parquet", range(20)))
    assert (len(data.train), len(data.test), data.class_names) == (18, 2, ("cat", "dog"))
    assert load(tmp_path / "pictures.parquet").fingerprint == data.fingerprint


def test_folders_may_name_the_parts(tmp_path: Path) -> None:
    write(tmp_path / "set/train/0000.parquet", range(4))
    write(tmp_path / "set/test/0000.parquet", range(4, 6))
    data = load(tmp_path / "set")
    assert (len(data.train), len(data.test)) == (4, 2)


def test_a_set_equals_the_folder_of_its_images(tmp_path: Path) -> None:
    for part, numbers in (("train", range(6)), ("test", range(6, 10))):
        write(tmp_path / f"set/{part}-00000-of-00001.parquet", numbers)
        for number in numbers:
            path = tmp_path / f"folder/{part}/{['cat', 'dog'][number % 2]}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number))
    assert load(tmp_path / "set").fingerprint == load(tmp_path / "folder").fingerprint


@pytest.mark.parametrize("names", [("a/b", "a"), ("train", "test")])
def test_names_of_classes_are_no_paths(tmp_path: Path, names: tuple[str, str]) -> None:
    data = load(write(tmp_path / "set.parquet", range(20), names))
    assert len(data.class_names) == 2
    assert (len(data.train), len(data.test)) == (18, 2)


def test_labels_may_be_missing_numbers_or_text(tmp_path: Path) -> None:
    images = [png(number) for number in range(20)]
    for name, column, classes in (
        ("none", None, ("images",)), ("numbers", [number % 3 for number in range(20)], ("0", "1", "2")),
        ("text", ["é/x"] * 20, ("é∕x",)), ("unlabelled", [-1] * 20, ("images",)),
    ):  # fmt: skip
        columns = {"image": images, **({"label": column} if column else {})}
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet")
        assert load(tmp_path / f"{name}.parquet").class_names == classes


def test_the_label_may_have_another_name(tmp_path: Path) -> None:
    assert load(write(tmp_path / "set.parquet", range(20), label="animal")).class_names == ("cat", "dog")


def test_a_row_without_an_image_is_named_or_skipped(tmp_path: Path) -> None:
    rows = [{"bytes": png(number) if number != 5 else None, "path": "/etc/hostname"} for number in range(20)]
    parquet.write_table(pyarrow.table({"image": pyarrow.array(rows, IMAGE)}), tmp_path / "set.parquet")
    with pytest.raises(InputError, match=r"train/00000-00000005: cannot be read"):
        load(tmp_path / "set.parquet")
    assert load(tmp_path / "set.parquet", on_broken="skip").skipped == ("train/00000-00000005",)


def test_damaged_files_and_other_tables_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", range(20))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"set\.parquet: is not a whole Parquet file"):
        load(path)
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(InputError, match="has no column of images among text; name one image"):
        load(tmp_path / "text.parquet")


def _archive(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "set"
    for name, number in (("train/a/0.png", 0), ("train/b/1.png", 1), ("test/a/2.png", 2)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    (folder / "train/b/3.png").hardlink_to(folder / "train/a/0.png")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(folder, "set")
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    archive = tmp_path / "set.tar.zst"
    # Two frames, as parallel compressors write them.
    halves = content.getvalue()[:5000], content.getvalue()[5000:]
    archive.write_bytes(b"".join(zstandard.ZstdCompressor().compress(half) for half in halves))
    return archive, folder


def test_a_zstandard_archive_is_read_as_its_folder_with_hard_links(tmp_path: Path) -> None:
    archive, folder = _archive(tmp_path)
    assert load(archive).fingerprint == load(folder).fingerprint


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_zstandard_archive_is_refused(tmp_path: Path, damage: str) -> None:
    archive, _ = _archive(tmp_path)
    content = bytearray(archive.read_bytes())
    if damage == "changed":
        content[5:30] = b"\xff" * 25
    archive.write_bytes(content[:-300] if damage == "cut" else content)
    with pytest.raises(InputError, match="not a complete"):
        load(archive)


def test_a_zstandard_file_can_be_read_from_any_place(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")
    content = np.random.default_rng(0).integers(0, 4, 1_000_000, np.uint8).tobytes()
    (tmp_path / "file.zst").write_bytes(zstandard.ZstdCompressor().compress(content))
    with (tmp_path / "file.zst").open("rb") as raw:
        file = open_zstandard(raw, "file")
        for start in (900_000, 5, 500_000, 0):
            file.seek(start)
            assert file.read(1000) == content[start : start + 1000]
        assert file.seek(0, io.SEEK_END) == len(content)
        assert file.read() == b""


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "set.parquet"), ("zstandard", "set.tar.zst")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path, package: str, name: str) -> None:
    if package == "zstandard" and sys.version_info >= (3, 14):
        pytest.skip("Python reads such files itself")
    path = write(tmp_path / "set.parquet", range(4)) if package == "pyarrow" else _archive(tmp_path)[0]
    # An import that fails stands for a package that is not installed.
    code = (
        f"import sys; sys.modules[{package!r}] = None; from vqlab.config import DataConfig;"
        "from vqlab.data import load_data; load_data(DataConfig(source='folder:' + sys.argv[1]))"
    )
    done = run_program(code, str(path))
    assert done.stderr.splitlines()[-1].endswith(
        f"{name}: needs the package {package}; install it with `pip install {package}`"
    )
    assert done.returncode == 1
