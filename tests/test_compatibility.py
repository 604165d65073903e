"""Compatibility with version 0.1: the same weights, and its Runs, checkpoints and journals stay usable.

tests/data/weights_0_1.json is the output of ``python -W ignore tests/record_weights.py FOLDER`` on commit 6c2aed7, the
last one of version 0.1, with an empty cache (``VQLAB_CACHE``). The same command on the present code must print the
same ids, and with the same version of torch the same SHA-256 digests of all weights.

tests/data/version_0_1/ was written by that commit in the pinned environment of record_weights.py: a finished VQ-VAE and
a transformer prior on it (``finished``), the same VQ-VAE stopped after 4 of 6 steps (``interrupted``), and the journal
of a grid named "kept" over quantizer.beta. TensorBoard events were left out.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vqlab import Run
from vqlab.metrics.distances import NOT_REQUESTED
from vqlab.studies import Grid
from vqlab.training import load_code_grids
from vqlab.training.evaluation import pixel_metrics

TESTS = Path(__file__).parent
STORED = TESTS / "data" / "version_0_1"
VQVAE, PRIOR = "f1ac544867be", "492d668b3d5f"
RECORDED = json.loads((TESTS / "data" / "weights_0_1.json").read_text())
# Another build of torch, or another processor family, may round sums in another order.
SAME_ARITHMETIC = torch.__version__ == RECORDED["torch"] and platform.machine() == "x86_64"
# record_weights sets the pinned environment when it is imported, which must precede the import of torch.
RESUME = """
import sys
sys.path.insert(0, sys.argv[1])
import record_weights, torch
from vqlab import Run, train
torch.set_num_threads(1)
with torch.backends.mkldnn.flags(enabled=False):
    assert train(Run.open(sys.argv[2]).config, sys.argv[3], "cpu").finished
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run_python(cache: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "VQLAB_CACHE": str(cache)}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(STORED / "finished", tmp_path, dirs_exist_ok=True)
    return tmp_path


def stored_json(run: Run, name: str) -> Any:
    return json.loads((STORED / "finished" / run.config.id / name).read_text())


def test_every_kind_of_config_trains_to_the_weights_of_version_0_1(cache: Path, tmp_path: Path) -> None:
    printed = json.loads(run_python(cache, tmp_path, str(TESTS / "record_weights.py"), str(tmp_path / "runs")))
    runs, recorded = printed["runs"], RECORDED["runs"]
    assert {kind: run["id"] for kind, run in runs.items()} == {kind: run["id"] for kind, run in recorded.items()}
    for kind, run in runs.items():
        if SAME_ARITHMETIC:
            assert run["digest"] == recorded[kind]["digest"], kind
        # Digests change with the last bit of any weight, so other arithmetic cannot reproduce them. Norms of whole
        # tensors average rounding out: 1e-3 is far above its effect in 12 steps, and below that of another algorithm.
        assert run["norms"] == pytest.approx(recorded[kind]["norms"], rel=1e-3, abs=1e-6), kind


@pytest.mark.parametrize("name", [VQVAE, PRIOR])
def test_a_finished_run_opens_with_its_model_and_its_evaluation(root: Path, name: str) -> None:
    run = Run.open(root / name)
    assert run.finished
    assert run.config.id == name
    assert run.provenance == stored_json(run, "provenance.json")
    weights = load_file(STORED / "finished" / name / "model.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in run.model().state_dict().items())
    stored = stored_json(run, "evaluation.json")
    assert run.evaluation("cpu") == {**stored, "psnr_pooled": pytest.approx(-10 * math.log10(stored["mse"]))}


def test_a_stored_reason_for_an_absent_fid_is_still_recognised(root: Path) -> None:
    """Run.evaluation compares reasons in files with this text, to measure FID when a GPU is available later."""
    assert Run.open(root / VQVAE).evaluation("cpu")["rfid_reason"] == NOT_REQUESTED


def test_logs_and_usage_of_a_run_are_read(root: Path) -> None:
    run = Run.open(root / VQVAE)
    rows = run.metrics()
    assert len(rows) == 6
    assert rows[rows["kind"] == "epoch"]["step"].tolist() == [3, 6]
    assert run.last_epoch_metrics()["psnr"] == pytest.approx(stored_json(run, "evaluation.json")["psnr"])
    assert run.angles()["angle_gradients"].map(sum).tolist() == [16 * 64] * 2
    assert run.usage().shape == (2, 16)
    assert run.usage_windows().shape == (24, 16)
    assert run.usage().sum(axis=1).tolist() == [48 * 64] * 2
    assert (run.usage_windows().reshape(2, 12, 16).sum(axis=1) == run.usage()).all()


def test_pixel_metrics_are_those_that_version_0_1_measured(root: Path) -> None:
    run = Run.open(root / VQVAE)
    measured, stored = pixel_metrics(run.model(), run.data(), run.config, "cpu"), stored_json(run, "evaluation.json")
    for name in ("mse", "psnr", "ssim", "perplexity", "utilisation"):
        assert measured[name] == pytest.approx(stored[name], rel=1e-4), name


def test_code_grids_are_read_from_the_stored_file(root: Path) -> None:
    path = root / VQVAE / "codes.npz"
    before = path.read_bytes()
    grids = load_code_grids(Run.open(root / VQVAE))
    with np.load(path, allow_pickle=False) as stored:
        assert (grids.train.numpy() == stored["train"]).all()
        assert (grids.test.numpy() == stored["test"]).all()
    assert path.read_bytes() == before


def test_samples_are_drawn_from_the_prior(root: Path) -> None:
    prior = Run.open(root / PRIOR)
    assert prior.codec().config.id == VQVAE
    images = torch.cat(list(prior.samples(3)))
    assert images.shape == (3, 3, 32, 32)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_an_interrupted_run_resumes_to_the_weights_of_the_finished_one(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    shutil.copytree(STORED / "interrupted", root)
    run = Run.open(root / VQVAE)
    assert not run.finished
    assert run.provenance["step"] == 4
    run_python(cache, tmp_path, "-c", RESUME, str(TESTS), str(run.folder), str(root))
    assert run.finished
    finished = Run.open(STORED / "finished" / VQVAE)
    resumed, stored = (load_file(each.folder / "model.safetensors") for each in (run, finished))
    assert set(resumed) == set(stored)
    for name, value in resumed.items():
        if SAME_ARITHMETIC:
            assert torch.equal(value, stored[name]), name
        torch.testing.assert_close(value, stored[name], rtol=1e-3, atol=1e-4)
    assert run.metrics()["step"].tolist() == finished.metrics()["step"].tolist()
    assert (run.usage() == finished.usage()).all() or not SAME_ARITHMETIC


def test_the_journal_of_a_grid_is_read(root: Path) -> None:
    shutil.copy(STORED / "studies.journal", root / "studies.journal")
    table = Grid("kept", Run.open(root / VQVAE).config, {"quantizer.beta": (0.25, 0.5)}).table(root)
    assert table.rows["error"].tolist() == ["", ""]
    assert table.rows["quantizer.beta"].tolist() == [0.25, 0.5]
    assert table.rows["psnr"].round(4).tolist() == [10.9258, 10.9262]
    assert table.rows["run"].tolist()[0] == VQVAE
