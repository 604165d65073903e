"""Trainings with ``optim.compile``."""

from __future__ import annotations

import json
from pathlib import Path

from command_processes import TINY, run_program


def test_compiled_steps_train_to_the_weights_of_plain_ones(tmp_path: Path) -> None:
    # In a process of its own: compilers cannot follow the tests' checks of annotations. Without the code generator
    # of the default backend, which takes half a minute.
    code = """
import functools, json, sys, torch
torch.compile = functools.partial(torch.compile, backend="aot_eager")
from vqlab import Config, train
for kind in ("vqvae", "vae"):
    config = Config.profile("quick", **json.loads(sys.argv[1]), **{"model.kind": kind})
    plain, compiled = (train(config.replace(**{"optim.compile": on}), sys.argv[2], "cpu") for on in (False, True))
    weights = compiled.model().state_dict()
    for name, value in plain.model().state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
    print(plain.provenance["compile"], compiled.provenance["compile"])
"""
    done = run_program(code, json.dumps({**TINY, "evaluation.log_every": 5}), str(tmp_path))
    assert done.stdout.split() == ["False", "True"] * 2, done.stderr[-2000:]
