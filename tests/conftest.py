"""Options of all tests: annotations of vqlab are checked in most (VQLAB_UNCHECKED=1 turns this off)."""

from __future__ import annotations

import gc
import os
import signal
import urllib.request
from collections.abc import Iterator

import annotation_checks
import jaxtyping
import pytest
from jaxtyping import install_import_hook

# Not collected for doctests: pytest cannot import two files of one name that way, and two scripts set variables of the
# arithmetic when they are imported, which all processes of the tests would inherit.
collect_ignore = ["conftest.py", "browser/conftest.py", "record_weights.py", "triton_interpreter.py"]

# A shell starts commands in the background with Ctrl-C ignored, and the processes of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("VQLAB_UNCHECKED") != "1":
    install_import_hook("vqlab", "annotation_checks.check_lazily")


# Tests that train whole Runs call each function thousands of times, and the checks took most of their time. The tests
# of layers, losses, metrics and readers check the annotations of what these call.
UNCHECKED = {
    "test_baselines", "test_changed_data", "test_code_editing", "test_code_places", "test_compatibility",
    "test_distances", "test_doctor", "test_exit_status", "test_families", "test_generation", "test_grids",
    "test_named", "test_phases", "test_precision", "test_priors", "test_processes", "test_reproduction",
    "test_shapes_end_to_end", "test_studies", "test_training", "test_tuning", "test_usage", "test_validation",
    "test_weights",
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _unchecked_trainings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave annotations unchecked in the files of ``UNCHECKED``, module-wide fixtures included."""
    jaxtyping.config.update("jaxtyping_disable", request.path.stem in UNCHECKED)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _wrong_types(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave annotations unchecked in tests marked wrong_types."""
    if request.node.get_closest_marker("wrong_types") is None:
        yield
        return
    with annotation_checks.unchecked():
        yield


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy at a closed port replaces the network: a download is attempted and fails."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # urllib keeps the proxies of its first request, for all tests that follow in the process.
    monkeypatch.setattr(urllib.request, "_opener", None)


# Of torch, its libraries and Triton. Subprocesses inherit them, so their results would differ from those of the tests.
_ARITHMETIC = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "TRITON_INTERPRET")
_BEFORE = {name: os.environ.get(name) for name in _ARITHMETIC}


def pytest_collection_finish() -> None:
    """Refuse files that change the arithmetic when they are imported, and freeze what the collection made.

    The garbage collector's passes over the latter took a fifth of the tests' time.
    """
    changed = [name for name in _ARITHMETIC if os.environ.get(name) != _BEFORE[name]]
    if changed:
        raise pytest.UsageError(f"a file of the tests has set {', '.join(changed)} when it was imported")
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give everything back, since extension modules complain of what is alive at the exit."""
    gc.unfreeze()
