"""Docstrings of everything public have Google's sections: every argument, what is returned, what is raised."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest

import vqlab

# The command line documents its options by their help texts, see test_config.py.
EXEMPT = ("vqlab._notebooks", "vqlab.cli", "vqlab.__main__")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(vqlab.__path__, "vqlab.") if not module.name.startswith(EXEMPT)
)
SKIPPED = {"self", "cls", "_"}


def _documented(docstring: str, section: str) -> set[str]:
    """Names that a section of the docstring describes."""
    found = re.search(rf"^{section}:\n((?:[ ]+.*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return {name.lstrip("*") for name in re.findall(r"^ {4}(\*{0,2}\w+):", found[1], re.MULTILINE)} if found else set()


def _parameters(function: Callable[..., Any]) -> set[str]:
    return {name for name in inspect.signature(function).parameters if name not in SKIPPED}


def _returns_something(function: Callable[..., Any]) -> bool:
    returned = inspect.signature(function).return_annotation
    return returned not in (None, "None", inspect.Signature.empty)


def _raises_input_error(function: Callable[..., Any]) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return any(ast.unparse(call.func).endswith("InputError") for call in raised)


def _inherits_documentation(owner: type | None, name: str) -> bool:
    """Whether a base class of this project documents the method."""
    bases = owner.__mro__[1:] if owner else ()
    return any(
        "Args:" in (vars(base)[name].__doc__ or "") or "Returns:" in (vars(base)[name].__doc__ or "")
        for base in bases
        if base.__module__.startswith("vqlab") and name in vars(base) and vars(base)[name].__doc__
    )


def _function_faults(name: str, function: Callable[..., Any], owner: type | None = None) -> Iterator[str]:
    docstring = inspect.cleandoc(function.__doc__ or "")
    if not docstring:
        yield f"{name}: no docstring"
        return
    if not docstring.splitlines()[0].endswith((".", ":", "?")):
        yield f"{name}: the first line is not a sentence"
    if _inherits_documentation(owner, function.__name__):
        return
    missing = _parameters(function) - _documented(docstring, "Args")
    if missing:
        yield f"{name}: Args lacks {', '.join(sorted(missing))}"
    if _returns_something(function) and not re.search(r"^(Returns|Yields):$", docstring, re.MULTILINE):
        yield f"{name}: no Returns"
    if _raises_input_error(function) and "InputError" not in _documented(docstring, "Raises"):
        yield f"{name}: raises InputError and has no Raises for it"


def _is_protocol(owner: type) -> bool:
    return getattr(owner, "_is_protocol", False)


def _class_faults(name: str, owner: type) -> Iterator[str]:
    docstring = inspect.cleandoc(owner.__doc__ or "")
    if not docstring:
        yield f"{name}: no docstring"
        return
    described = _documented(docstring, "Args") | _documented(docstring, "Attributes")
    if dataclasses.is_dataclass(owner):
        fields = {field.name for field in dataclasses.fields(owner) if not field.name.startswith("_")}
    elif "__init__" in vars(owner) and not issubclass(owner, pydantic.BaseModel) and not _is_protocol(owner):
        fields = _parameters(owner.__init__)
    else:
        fields = set()
    if fields - described:
        yield f"{name}: Args or Attributes lacks {', '.join(sorted(fields - described))}"
    for attribute, value in vars(owner).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if attribute.startswith("_") or not inspect.isfunction(function):
            continue
        if function.__module__ != owner.__module__:
            continue
        if _is_protocol(owner):
            if not function.__doc__:
                yield f"{name}.{attribute}: no docstring"
            continue
        yield from _function_faults(f"{name}.{attribute}", inspect.unwrap(function), owner)


def _faults(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    if not module.__doc__:
        yield f"{module_name}: no docstring"
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module_name:
            continue
        if inspect.isclass(value):
            yield from _class_faults(f"{module_name}.{name}", value)
        elif inspect.isfunction(inspect.unwrap(value)) and not hasattr(value, "__supertype__"):
            yield from _function_faults(f"{module_name}.{name}", inspect.unwrap(value))


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_documented(module: str) -> None:
    assert list(_faults(module)) == []


def test_a_missing_section_is_found() -> None:
    def undocumented(count: int, seed: int) -> int:
        """Counts.

        Args:
            count: how many.
        """
        if not count:
            raise vqlab.InputError("count=0: must be at least 1")
        return seed

    faults = " ".join(_function_faults("f", undocumented))
    assert "Args lacks seed" in faults
    assert "no Returns" in faults
    assert "no Raises" in faults
