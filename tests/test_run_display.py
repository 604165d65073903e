"""The reprs of a Run: one line of text, and an HTML card that only reads files and never fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_training import tiny

from vqlab import Run, train

STORED = Path(__file__).parent / "data" / "version_0_1"
VQVAE, PRIOR = "f1ac544867be", "492d668b3d5f"


def copied(folder: Path, target: Path) -> Run:
    shutil.copytree(folder, target / folder.name)
    return Run.open(target / folder.name)


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    return copied(STORED / "finished" / VQVAE, tmp_path)


def test_a_finished_vqvae_shows_its_numbers_and_its_usage(finished: Run) -> None:
    assert repr(finished) == f"Run({VQVAE}: VQ-VAE with rotation on photos, finished, {finished.folder})"
    html = finished._repr_html_()
    for text in (VQVAE, "VQ-VAE", "rotation", "photos", "finished", "10.93 dB", "0.252", "7.3", "tokens per code"):
        assert text in html
    assert html.count("<rect") == finished.config.quantizer.num_codes


def test_an_unfinished_run_shows_its_step_and_the_last_epoch(tmp_path: Path) -> None:
    run = copied(STORED / "interrupted" / VQVAE, tmp_path)
    assert "unfinished, at step 4" in repr(run)
    html = run._repr_html_()
    assert "unfinished, at step 4" in html
    assert f"{run.last_epoch_metrics()['psnr']:.2f} dB" in html
    assert html.count("<rect") == 16


def test_a_run_that_has_not_started_has_no_numbers(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny())
    assert "unfinished, no checkpoint" in repr(run)
    html = run._repr_html_()
    assert "PSNR" not in html
    assert "<svg" not in html
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


def test_a_prior_shows_sample_metrics_and_loss(tmp_path: Path) -> None:
    run = copied(STORED / "finished" / PRIOR, tmp_path)
    assert "transformer prior with rotation on photos" in repr(run)
    html = run._repr_html_()
    for text in ("sample FD-classifier", "0.108", "nats per code", "loss (last logged step)"):
        assert text in html
    assert "<svg" not in html


def test_a_gan_without_an_evaluation_shows_what_was_logged(tmp_path: Path) -> None:
    changes = {"model.kind": "gan", "gan.width": 4, "gan.latent_dim": 6, "optim.epochs": 1}
    run = train(tiny(**changes), tmp_path, "cpu")
    html = run._repr_html_()
    assert "GAN" in repr(run)
    assert "rotation" not in repr(run) + html
    assert "standard deviation of samples" in html
    assert not (run.folder / "evaluation.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff" * 20,
        b"[1, 2]\n",
        b'{"psnr": "text"}\n',
        b'{"loss": 1e999}\n',
        b'{"psnr": 1' + b"0" * 400 + b"}\n",
    ],
)
@pytest.mark.parametrize(
    "name", ["provenance.json", "metrics.jsonl", "evaluation.json", "codebook.npz", "model.safetensors"]
)
def test_a_damaged_file_does_not_break_the_reprs(finished: Run, name: str, content: bytes) -> None:
    (finished.folder / name).write_bytes(content)
    assert VQVAE in repr(finished)
    assert VQVAE in finished._repr_html_()


def test_unreadable_files_are_named_and_the_others_shown(finished: Run) -> None:
    for name in ("evaluation.json", "codebook.npz"):
        (finished.folder / name).write_bytes((finished.folder / name).read_bytes()[:40])
    (finished.folder / "provenance.json").write_text("{")
    html = finished._repr_html_()
    assert "evaluation.json, codebook.npz" in html
    assert "provenance.json is unreadable" in html
    assert "10.93 dB" in html
    assert "provenance.json is unreadable" in repr(finished)


def test_a_missing_folder_does_not_break_the_reprs(finished: Run) -> None:
    shutil.rmtree(finished.folder)
    assert "unfinished" in repr(finished)
    assert VQVAE in finished._repr_html_()


def test_values_that_are_not_finite_numbers_are_left_out(finished: Run) -> None:
    (finished.folder / "metrics.jsonl").unlink()
    values = {"psnr": float("nan"), "ssim": None, "perplexity": [7], "mse": 0.1}
    (finished.folder / "evaluation.json").write_text(json.dumps(values))
    html = finished._repr_html_()
    assert not any(text in html for text in ("PSNR", "SSIM", "perplexity", "unreadable"))


def test_the_usage_of_an_epoch_that_has_not_begun_is_not_shown(finished: Run) -> None:
    usage = np.zeros((3, 16), np.int64)
    usage[0] = 5
    np.savez(finished.folder / "codebook.npz", usage=usage)
    assert ">5<" in finished._repr_html_()
    np.savez(finished.folder / "codebook.npz", usage=np.zeros((3, 16), np.int64))
    assert "<svg" not in finished._repr_html_()


def test_a_hostile_data_name_is_escaped(tmp_path: Path) -> None:
    source = "folder:</td><script>alert(1)</script>\n&\"'"
    run = Run.create(tmp_path / "run", tiny(**{"data.source": source}))
    html = run._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\n" not in repr(run)


def test_the_part_that_was_measured_is_named(tmp_path: Path) -> None:
    run = train(tiny(**{"data.validation": 16, "optim.epochs": 1}), tmp_path, "cpu")
    assert "perplexity (validation images)" in run._repr_html_()
    run.evaluation("cpu")
    assert "perplexity (test images)" in run._repr_html_()
