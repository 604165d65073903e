"""Downloads from real servers on loopback: verified, limited, resumed, once for all processes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer, serve

from vqlab.config import DataConfig
from vqlab.data import download, load_data
from vqlab.data.download import PublishedFile, fetch
from vqlab.errors import InputError

CONTENT = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def published(server: FileServer, content: bytes = CONTENT, algorithm: str = "sha256") -> PublishedFile:
    checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    return PublishedFile("published.bin", "files", server.url, checksum, 4_000_000)


def left_over(file: PublishedFile) -> list[str]:
    return sorted(path.name for path in file.path.parent.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_is_downloaded_once_and_verified(algorithm: str) -> None:
    with serve(FileServer(CONTENT)) as server:
        file = published(server, algorithm=algorithm)
        for _ in range(2):
            assert fetch(file).read_bytes() == CONTENT
        assert server.asked == [""]
        assert left_over(file) == ["published.bin"]


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_what_a_killed_process_left_is_gone_on_with(ranges: bool, length: bool) -> None:
    with serve(FileServer(CONTENT, ranges=ranges, length=length)) as server:
        file = published(server)
        file.path.parent.mkdir(parents=True)
        (file.path.parent / ".published.bin.part").write_bytes(CONTENT[:1_000_000])
        assert fetch(file).read_bytes() == CONTENT
        assert server.asked == ["bytes=1000000-"]


def test_lost_connections_go_on_where_they_were_lost() -> None:
    with serve(FileServer(CONTENT, cuts=[1_000_000, 500_000])) as server:
        assert fetch(published(server)).read_bytes() == CONTENT
        assert server.asked == ["", "bytes=1000000-", "bytes=1500000-"]


@pytest.mark.parametrize("left", [CONTENT, b"x" * 1000, CONTENT + b"x", b"x" * len(CONTENT), b""])
def test_other_content_in_the_unfinished_file_is_replaced(left: bytes) -> None:
    with serve(FileServer(CONTENT)) as server:
        file = published(server)
        file.path.parent.mkdir(parents=True)
        (file.path.parent / ".published.bin.part").write_bytes(left)
        assert fetch(file).read_bytes() == CONTENT
        assert left_over(file) == ["published.bin"]


def test_a_server_that_always_breaks_off_keeps_what_came() -> None:
    with serve(FileServer(CONTENT, cuts=[1_000_000, *[0] * 20])) as server:
        file = published(server)
        with pytest.raises(InputError, match=r"lost after 1\.0 of 2\.9 MiB\); 1\.0 MiB are kept.*save http") as caught:
            fetch(file)
        assert "\n" not in str(caught.value)
        assert len(server.asked) == 2
        server.cuts.clear()
        assert fetch(file).read_bytes() == CONTENT
        assert server.asked[2:] == ["bytes=1000000-"]


@pytest.mark.parametrize("length", [True, False])
def test_endless_bytes_are_refused_at_the_limit(length: bool) -> None:
    with serve(FileServer(CONTENT, endless=True, length=length)) as server:
        file = published(server)
        with pytest.raises(InputError, match=r"published\.bin: .* has more than 4 MiB") as caught:
            fetch(file)
        assert "\n" not in str(caught.value)
        assert left_over(file) == []
        # What the buffers of both sides hold comes on top.
        assert server.sent < 40_000_000


def test_wrong_bytes_are_refused_and_not_kept() -> None:
    with serve(FileServer(CONTENT[:-1] + b"x")) as server:
        file = published(server)
        with pytest.raises(InputError, match=r"has other content than the published one \(its SHA-256") as caught:
            fetch(file)
        assert "\n" not in str(caught.value)
        assert left_over(file) == []


def test_a_server_that_sends_next_to_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SLOW_SECONDS", -1)
    with (
        serve(FileServer(CONTENT[:1000], ranges=False)) as server,
        pytest.raises(InputError, match="only 1000 bytes came"),
    ):
        fetch(published(server, CONTENT[:1000]))


def test_missing_files_and_closed_ports_cost_one_line() -> None:
    with serve(FileServer(b"")) as server:
        file = published(server)
        server.answer = lambda handler: handler.send_error(404)  # type: ignore[method-assign]
        with pytest.raises(InputError, match=r"could not be downloaded \(HTTP Error 404: Not Found\); save http"):
            fetch(file)
    with pytest.raises(InputError, match=r"could not be downloaded \(.*refused\); save http") as caught:
        fetch(file)
    assert "\n" not in str(caught.value)
    assert left_over(file) == []


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with serve(FileServer(CONTENT)) as server, pytest.raises(InputError, match=r"published\.bin: cannot be stored"):
        fetch(published(server))


def test_two_processes_download_once(tmp_path: Path) -> None:
    """The server answers when one of them has said that it waits for the other."""
    program = (
        "import sys; from vqlab.data.download import PublishedFile, fetch\n"
        "print(len(fetch(PublishedFile('published.bin', 'files', sys.argv[1], sys.argv[2], 4_000_000)).read_bytes()))"
    )
    errors = [tmp_path / name for name in "ab"]
    with serve(FileServer(CONTENT, ready=threading.Event())) as server, contextlib.ExitStack() as stack:
        command = [sys.executable, "-c", program, server.url, published(server).checksum]
        both = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stack.enter_context(path.open("w")), text=True)
            for path in errors
        ]
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in errors) and time.monotonic() < deadline:
            time.sleep(0.02)
        server.ready.set()
        assert [process.communicate(timeout=60)[0] for process in both] == [f"{len(CONTENT)}\n"] * 2
        assert server.asked == [""]
    waiting = "published.bin: is being downloaded by another process; waiting for it\n"
    assert sorted(path.read_text() for path in errors) == ["", waiting]


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small archive in the format of CIFAR-10, whose checksums take the place of the published ones."""
    from torchvision.datasets import CIFAR10

    generator = np.random.default_rng(0)
    files = {
        name: pickle.dumps({"data": generator.integers(0, 256, (4, 3072), np.uint8), "labels": [0, 1, 1, 0]})
        for name in ("data_batch_1", "test_batch")
    } | {"batches.meta": pickle.dumps({"label_names": ["a", "b"]})}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    checksums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", checksums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", checksums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": checksums["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    return buffer.getvalue()


def test_cifar10_is_resumed_verified_and_read_without_the_network_later(
    cifar10: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    config = DataConfig(source="cifar10")
    with serve(FileServer(cifar10, cuts=[5000])) as server:
        monkeypatch.setattr(CIFAR10, "url", server.url)
        data = load_data(config)
        assert (len(data.train), len(data.test), data.class_names) == (4, 4, ("a", "b"))
        assert server.asked == ["", "bytes=5000-"]
    again = load_data(config)
    assert again.fingerprint == data.fingerprint
    batch = tmp_path / "cache/cifar10" / CIFAR10.base_folder / "test_batch"
    batch.write_bytes(b"half")
    assert load_data(config).fingerprint == data.fingerprint
    archive = tmp_path / "cache/cifar10" / CIFAR10.filename
    archive.write_bytes(cifar10[:-1])
    batch.write_bytes(b"half")
    with pytest.raises(InputError, match=r"data\.source=cifar10: .*incomplete or altered .*MD5") as caught:
        load_data(config)
    assert "\n" not in str(caught.value)
