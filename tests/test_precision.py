"""Parts of a batch, half precision, checkpoints by time and the best weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_processes import TINY, vqlab

from vqlab import Config, InputError, Run, train
from vqlab.training import checkpoint, loop
from vqlab.training.best_weights import BEST_FILE
from vqlab.training.device import slow_precision
from vqlab.training.files import read_tensors
from vqlab.training.loss_scale import LossScale


def tiny(**changes: object) -> Config:
    return Config.profile("quick", **{**TINY, **changes})


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.folder / "checkpoint.safetensors")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"quantizer.update": "gradient"}, {"quantizer.family": "residual", "quantizer.levels": 2},
        {"quantizer.rule": "cvq"}, {"quantizer.family": "product", "quantizer.heads": 2, "quantizer.code_dim": 4},
        {"optim.decoder_phase": 0.5, "optim.ema": 0.9}, {"quantizer.start_after": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_batch_in_parts_trains_as_the_whole_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    common = {"optim.optimizer": "adam", "optim.learning_rate": 1e-3, **changes}
    whole, parts = (train(tiny(**common, **{"optim.accumulate": n}), tmp_path, "cpu") for n in (1, 3))
    expected = weights(whole)
    for name, value in weights(parts).items():
        torch.testing.assert_close(value, expected[name], msg=name, rtol=1e-4, atol=2e-5)
    rows = [run.metrics().drop(columns="images_per_second") for run in (whole, parts)]
    numbers = [table.select_dtypes("number").to_numpy() for table in rows]
    np.testing.assert_allclose(*numbers, rtol=1e-3, atol=1e-4)


def test_a_batch_in_parts_has_one_step_of_the_codebook(tmp_path: Path) -> None:
    run = train(tiny(**{"optim.accumulate": 4}), tmp_path, "cpu")
    assert int(weights(run)["model.quantizer.book.step"]) == run.provenance["step"] == 16
    assert float(weights(run)["model.quantizer.book.recent"].sum()) == 64 * 8 * (16 % 3)


def test_parts_are_refused_where_they_would_train_something_else() -> None:
    for changes in ({"model.kind": "vae"}, {"loss.adversarial": 0.1}, {"prior.kind": "transformer"}):
        with pytest.raises(InputError, match=r"optim\.accumulate=2: needs a VQ-VAE without prior"):
            tiny(**changes, **{"optim.accumulate": 2})
    with pytest.raises(InputError, match=r"optim\.accumulate=9: must be at most optim\.batch_size=8"):
        tiny(**{"optim.accumulate": 9})


def test_float16_is_refused_beside_an_adversarial_term() -> None:
    with pytest.raises(InputError, match=r"optim\.precision=fp16: needs loss\.adversarial=0"):
        tiny(**{"optim.precision": "fp16", "loss.adversarial": 0.1})


def test_float16_trains_near_float32_and_resumes_with_its_scale(tmp_path: Path) -> None:
    half, full = (train(tiny(**{"optim.precision": name}), tmp_path, "cpu") for name in ("fp16", "fp32"))
    losses = [run.metrics().query("kind == 'train'")["loss"].to_numpy() for run in (half, full)]
    np.testing.assert_allclose(losses[0][:4], losses[1][:4], rtol=0.02)
    assert losses[0][-8:].mean() == pytest.approx(losses[1][-8:].mean(), rel=0.1)
    records = half.metrics().query("kind == 'train'")["gradient_length_ratio"].dropna()
    assert 0.5 < records.median() < 2
    stored = weights(half)["loss_scale"].tolist()
    assert stored[0] <= 16
    assert stored[1] > 0
    interrupted = train(tiny(**{"optim.precision": "fp16"}), tmp_path / "again", "cpu", stop_after_steps=7)
    assert not interrupted.finished
    resumed = train(tiny(**{"optim.precision": "fp16"}), tmp_path / "again", "cpu")
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(half)[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {"model.kind": "vae"},
        {"model.kind": "gan", "gan.width": 8, "optim.optimizer": "adam", "optim.learning_rate": 1e-4},
        {"prior.kind": "diffusion", "prior.width": 16, "prior.layers": 1, "prior.epochs": 2, "prior.batch_size": 8},
    ],
    ids=["vae", "gan", "diffusion"],
)
def test_every_kind_of_model_trains_in_float16_near_float32(tmp_path: Path, changes: dict[str, Any]) -> None:
    losses = []
    for precision in ("fp16", "fp32"):
        run = train(tiny(**changes, **{"optim.precision": precision}), tmp_path, "cpu")
        losses.append(run.metrics().query("kind == 'train'")["loss"].to_numpy())
    np.testing.assert_allclose(losses[0][:3], losses[1][:3], rtol=0.05, atol=0.02)
    assert losses[0][-8:].mean() == pytest.approx(losses[1][-8:].mean(), rel=0.1, abs=0.05)


def test_a_checkpoint_of_one_precision_loads_in_another(tmp_path: Path) -> None:
    run = train(tiny(**{"optim.precision": "bf16"}), tmp_path, "cpu")
    other = train(tiny(), tmp_path, "cpu")
    model = other.model()
    model.load_state_dict(run.model().state_dict())
    assert {value.dtype for value in run.model().state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_a_scale_is_halved_when_a_gradient_is_infinite_and_the_step_left_out() -> None:
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scale = LossScale(True, "cpu")
    for factor, expected, exponent in ((math.inf, 1.0, 15), (1.0, 0.9, 15)):
        weight.grad = None
        scale.scale(weight * factor).backward()
        scale.unscale([optimizer])
        scale.step([optimizer])
        scale.store()
        assert weight.item() == pytest.approx(expected)
        assert scale.state[0] == exponent
    other = LossScale(True, "cpu")
    other.state[:] = scale.state
    other.restore()
    assert other.factor == scale.factor == 2**15


def test_slow_precisions_are_named_once_at_the_start_and_in_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_amx_fp16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    train(tiny(**{"optim.precision": "bf16"}), tmp_path, "cpu", stop_after_steps=1)
    assert capsys.readouterr().err.count("no units for it") == 1
    assert slow_precision("bf16", "cuda") == slow_precision("fp32") == ""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert slow_precision("bf16") == ""
    shown = vqlab("config", "optim.precision").stdout
    assert ("no units" in shown) == bool(slow_precision("fp16"))


def test_a_checkpoint_is_due_after_minutes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, save = list[int](), checkpoint.save_checkpoint

    def save_checkpoint(folder: Path, step: int, *arguments: Any) -> None:
        steps.append(step)
        save(folder, step, *arguments)

    monkeypatch.setattr(loop, "save_checkpoint", save_checkpoint)
    common = {"evaluation.checkpoint_every": 100}
    train(tiny(**common), tmp_path, "cpu")
    assert steps == [8, 16, 16]
    steps.clear()
    train(tiny(**common, **{"evaluation.checkpoint_minutes": 1e-6}), tmp_path, "cpu")
    assert steps[:8] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_best_weights_are_those_of_the_finished_run(tmp_path: Path) -> None:
    # A learning rate that worsens the model after some epochs.
    changes = {"data.validation": 16, "optim.epochs": 6, "optim.learning_rate": 0.2, "optim.optimizer": "adam"}
    best = train(tiny(**changes, **{"evaluation.weights": "best"}), tmp_path, "cpu")
    last = train(tiny(**changes), tmp_path, "cpu")
    epochs = best.metrics().query("kind == 'epoch'").set_index("step")["psnr"]
    assert best.provenance["best_step"] == epochs.idxmax() != epochs.index[-1]
    stored, metadata = read_tensors(best.folder / BEST_FILE)
    assert json.loads(metadata["psnr"]) == epochs.max()
    final = read_tensors(best.folder / "model.safetensors")[0]
    assert all(torch.equal(value, stored[name]) for name, value in final.items())
    assert np.array_equal(np.load(best.folder / "codebook.npz")["codebook"], stored["quantizer.book.codes"])
    # The last weights stay in the checkpoint.
    for name, value in read_tensors(last.folder / "model.safetensors")[0].items():
        assert torch.equal(value, weights(best)[f"model.{name}"]), name


def test_a_resumed_training_has_the_best_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    changes = {"data.validation": 16, "optim.epochs": 4, "evaluation.weights": "best"}
    whole = train(tiny(**changes), tmp_path / "whole", "cpu")
    for _ in range(8):
        resumed = train(tiny(**changes), tmp_path / "parts", "cpu", stop_after_steps=5)
    assert resumed.finished
    assert resumed.provenance["best_step"] == whole.provenance["best_step"]
    tensors = [read_tensors(run.folder / "model.safetensors")[0] for run in (whole, resumed)]
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def test_the_best_weights_need_images_to_choose_by() -> None:
    with pytest.raises(InputError, match=r"evaluation\.weights=best: needs a VQ-VAE or a VAE, and data\.validation"):
        tiny(**{"evaluation.weights": "best"})
