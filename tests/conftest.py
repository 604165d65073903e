"""Options of all tests: annotations of vqlab are checked on every call (VQLAB_UNCHECKED=1 turns this off)."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import annotation_checks
import pytest
from jaxtyping import install_import_hook

# Not collected for doctests: pytest cannot import two files of one name that way.
collect_ignore = ["conftest.py", "browser/conftest.py"]

# A shell starts commands in the background with Ctrl-C ignored, and the processes of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("VQLAB_UNCHECKED") != "1":
    install_import_hook("vqlab", "annotation_checks.check_lazily")


@pytest.fixture(autouse=True)
def _wrong_types(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave annotations unchecked in tests marked wrong_types."""
    if request.node.get_closest_marker("wrong_types") is None:
        yield
        return
    with annotation_checks.unchecked():
        yield


def pytest_collection_finish() -> None:
    """Leave what the collection made out of the garbage collector's passes: they took a fifth of the tests' time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give everything back, since extension modules complain of what is alive at the exit."""
    gc.unfreeze()
