"""Damage of files by their structure, values of wrong types, and commands run in this process for many of them."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from limited_inputs import last_frames
from safetensors import safe_open
from safetensors.torch import save_file

from vqlab.cli import main

# Values that a damaged or foreign JSON file may have in place of any other; NaN and Infinity are Python's own JSON.
VALUES: list[Any] = [
    None, True, False, "", "x", "é\u202e\0", "9" * 5000, 0, -1, 3, 2**31, 2**63, 10**400, 0.5, -1e308, float("nan"),
    float("inf"), [], {}, [[1]], [None], {"a": {"b": 1}}, ["x"] * 50, "folder:/nowhere", "../../outside",
]  # fmt: skip
DEEP = "[" * 100_000


class Outcome(NamedTuple):
    """What a command did: exit status, lines on standard error, and the traceback if it ended with one."""

    status: int | None
    lines: list[str]
    error: str

    def problem(self, allowed: Sequence[int] = (0, 1, 2)) -> str:
        """What is wrong with it; empty if it succeeded, or failed with one line."""
        if self.error:
            return self.error
        if self.status not in allowed:
            return f"status {self.status}: {self.lines}"
        if self.status and not (self.lines and self.lines[-1].startswith("vqlab: ")):
            return f"no line of its own: {self.lines}"
        if any(len(line) > 2000 for line in self.lines):
            return f"a line of {max(map(len, self.lines))} characters: {max(self.lines, key=len)[:300]}"
        return ""


def run_command(words: Sequence[str]) -> Outcome:
    """Run ``vqlab`` with these words in this process."""
    output, errors, argv, error, status = io.StringIO(), io.StringIO(), sys.argv, "", None
    sys.argv = ["vqlab", *words]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    except Exception:
        error = last_frames()
    finally:
        sys.argv = argv
    return Outcome(status, errors.getvalue().splitlines(), error)


# Values for --set, as text, and for Config.replace: wrong types, edges, far out of range.
config_values = st.one_of(
    st.sampled_from(VALUES), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=30),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.just("x" * 100_000),
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], new: Any, how: str) -> Any:
    """A copy of JSON values in which one place is replaced, missing or has another name."""
    if not path:
        return new
    copy, key = value.copy(), path[0]
    if len(path) > 1:
        copy[key] = _changed(value[key], path[1:], new, how)
    elif how == "replace":
        copy[key] = new
    else:
        removed = copy.pop(key)
        if how == "rename" and isinstance(copy, dict):
            copy[f"{key}_"] = removed
    return copy


@st.composite
def damaged_value(draw: st.DrawFn, value: Any) -> Any:
    """A value of JSON with one place changed."""
    path = draw(st.sampled_from(list(_places(value))))
    return _changed(value, path, draw(st.sampled_from(VALUES)), draw(st.sampled_from(["replace", "remove", "rename"])))


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A file that is empty, cut, overwritten, of other bytes, or has flipped bits."""
    kind = draw(st.sampled_from(["empty", "cut", "zeros", "flip", "other", "twice"]))
    position = draw(st.integers(0, max(0, len(content) - 1)))
    flipped = bytearray(content or b"\0")
    flipped[min(position, len(flipped) - 1)] ^= 1 << draw(st.integers(0, 7))
    return {
        "empty": b"", "cut": content[:position], "zeros": content[:position] + bytes(len(content) - position),
        "flip": bytes(flipped), "other": draw(st.binary(max_size=64)), "twice": content * 2,
    }[kind]  # fmt: skip


@st.composite
def damaged_json(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON file with a wrong value, a missing key, deep nesting, or damaged bytes."""
    kind = draw(st.sampled_from(["value"] * 6 + ["bytes", "deep", "utf-16"]))
    if kind == "value":
        return json.dumps(draw(damaged_value(json.loads(content)))).encode()
    return {
        "bytes": draw(damaged_bytes(content)), "deep": DEEP.encode(), "utf-16": content.decode().encode("utf-16"),
    }[kind]  # fmt: skip


@st.composite
def damaged_lines(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON-lines file with one damaged row, or damaged bytes."""
    lines = content.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(["value"] * 6 + ["bytes", "deep", "removed", "twice"]))
    if kind == "bytes":
        return draw(damaged_bytes(content))
    row = json.loads(lines[number])
    new = {
        "value": json.dumps(draw(damaged_value(row))).encode() + b"\n", "deep": DEEP.encode() + b"\n",
        "removed": b"", "twice": lines[number] * 2,
    }[kind]  # fmt: skip
    return b"".join([*lines[:number], new, *lines[number + 1 :]])


@st.composite
def damaged_npz(draw: st.DrawFn, content: bytes) -> bytes:
    """A file of arrays with one that is missing, or has another type, shape or values, or damaged bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    name = draw(st.sampled_from(sorted(arrays)))
    array = arrays.pop(name)
    changes: list[Callable[[], Any]] = [
        lambda: array.astype(float) * np.nan, lambda: array.astype(str), lambda: array[0], lambda: array[:0],
        lambda: np.array(5), lambda: -array, lambda: array[..., :3], lambda: array.astype(bool),
        lambda: np.full_like(array, np.iinfo(np.int64).max), lambda: array.astype(complex), lambda: array[..., None],
    ]  # fmt: skip
    if number := draw(st.integers(0, len(changes))):
        arrays[name] = changes[number - 1]()
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def damaged_tensors(path: Path, draw: st.DrawFn) -> bytes:
    """A file of tensors with one that is missing, or has another name, type, shape or values, or damaged bytes."""
    content = path.read_bytes()
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    with safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = stored.metadata() or {}
    metadata.pop("checksum", None)  # as files of version 0.1
    name = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    changes: list[Callable[[], dict[str, torch.Tensor]]] = [
        dict, lambda: {f"{name}_": tensor}, lambda: {name: tensor.double()},
        lambda: {name: tensor.flatten()[:1].clone()},
        lambda: {name: tensor[None].clone()}, lambda: {name: torch.full_like(tensor, 3)},
        lambda: {name: torch.empty(0)}, lambda: {name: torch.zeros_like(tensor, dtype=torch.int8)},
        lambda: {name: tensor.float() * torch.nan},
    ]  # fmt: skip
    other = path.with_name("other.safetensors")
    tensors |= draw(st.sampled_from(changes))()
    metadata |= draw(st.sampled_from([{}, {"step": "x"}, {"step": "-1"}, {"step": "9" * 400}]))
    save_file(tensors, other, metadata)
    written = other.read_bytes()
    other.unlink()
    return written


@st.composite
def damaged_file(draw: st.DrawFn, folder: Path, names: Sequence[str]) -> tuple[str, bytes]:
    """Name and new content of one file of a Run's folder."""
    name = draw(st.sampled_from(names))
    content = (folder / name).read_bytes()
    if name.endswith(".safetensors"):
        return name, damaged_tensors(folder / name, draw)
    damage = {".json": damaged_json, ".jsonl": damaged_lines, ".npz": damaged_npz}[Path(name).suffix]
    return name, draw(damage(content))


def restore(source: Path, target: Path) -> None:
    """Make a folder equal to another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
