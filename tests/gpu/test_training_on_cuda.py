"""A training on CUDA: its batches, what its provenance says, and checkpoints that go on on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_processes import TINY, settings, vqlab
from test_random_crop import picture

from vqlab import Config, Run, train
from vqlab.data import batches, load_data


@pytest.mark.parametrize("random_crop", [False, True])
def test_crops_and_flips_on_the_device_are_those_of_the_cpu(tmp_path: Path, random_crop: bool) -> None:
    for number in range(48):
        picture(number).save(tmp_path / f"{number:03d}.png")
    changes = {"data.source": f"folder:{tmp_path}", "data.random_crop": random_crop}
    images = load_data(Config.profile("quick", **changes).data).train
    both = (
        batches(images, 16, seed=1, epoch=0, augment=True, random_crop=random_crop, device=device)
        for device in ("cpu", "cuda")
    )
    for (pixels, labels), (uploaded, uploaded_labels) in zip(*both, strict=True):
        assert uploaded.is_cuda
        torch.testing.assert_close(uploaded.cpu(), pixels, rtol=1e-6, atol=0)
        assert torch.equal(uploaded_labels.cpu(), labels)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_on_cuda_goes_on_on_a_cpu(tmp_path: Path, precision: str) -> None:
    config = Config.profile("quick", **{**TINY, "optim.precision": precision})
    begun = train(config, tmp_path, "cuda", stop_after_steps=9)
    assert begun.provenance["hardware"]["accelerator"] == torch.cuda.get_device_name()
    assert begun.provenance["precision"] == precision
    run = train(config, tmp_path, "cpu")
    assert run.finished
    assert run.last_epoch_metrics()["psnr"] > 0


def test_the_profile_gpu_trains_compiled_near_the_uncompiled_training(tmp_path: Path) -> None:
    changes = {
        "data.train_limit": 1024, "data.test_limit": 128, "optim.batch_size": 32, "optim.epochs": 3,
        "model.hidden": 32, "quantizer.num_codes": 64, "quantizer.dim": 16,
    }  # fmt: skip
    config = Config.profile("gpu", **changes)
    assert config.optim.compile
    assert config.optim.precision == "bf16"
    psnr = {}
    for compiled in (True, False):
        # In a process of its own: compilers cannot follow the tests' checks of annotations.
        arguments = ["--profile", "gpu", *settings({**changes, "optim.compile": compiled})]
        shown = vqlab("train", *arguments, "--device", "cuda", "--runs", str(tmp_path))
        assert shown.returncode == 0, shown.stderr[-3000:]
        run = Run.open(tmp_path / config.replace(**{"optim.compile": compiled}).id)
        assert run.provenance["compile"] == compiled
        psnr[compiled] = run.last_epoch_metrics()["psnr"]
    assert psnr[False] > 12
    assert abs(psnr[True] - psnr[False]) < 1
