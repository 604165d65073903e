"""A program that uses the public API passes ``mypy --strict``; calls of torch's unannotated functions are allowed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
from typing import Any

import pandas as pd
import torch
import vqlab

quantizer: vqlab.VectorQuantizer = vqlab.VectorQuantizer(8, 4, transport="rotation", code_dim=2, channel_dim=-1)
z_e = torch.randn(3, 4, requires_grad=True)
with vqlab.probe(quantizer, max_tokens=16) as probe:
    out: vqlab.QuantizerOutput = quantizer(z_e)
    (out.z_q.sum() + out.loss).backward()
table: pd.DataFrame = probe.table()
decoded: torch.Tensor = quantizer.decode(out.indices)
carried: torch.Tensor = vqlab.transport(z_e, z_e.detach(), kind="rodrigues")
config: vqlab.Config = vqlab.Config.profile("quick", **{"optim.epochs": 1})
run: vqlab.Run = vqlab.train(config, root="runs", device="cpu")
again: vqlab.Run = vqlab.Run.open(run.folder)
measured: dict[str, Any] = again.evaluation()
wrong: int = vqlab.VectorQuantizer(8, 4)
"""


def test_the_public_api_is_typed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    # With the settings of the package, a strict check but for calls of torch's functions, its cache saves a minute.
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / "cache")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    errors = [line for line in done.stdout.splitlines() if "error:" in line and line.startswith("program.py")]
    # The last line is wrong on purpose: it shows that the types are known and not Any.
    assert len(errors) == 1, done.stdout
    assert "VectorQuantizer" in errors[0]
