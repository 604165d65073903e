"""Families of quantizers in a Config and in a Run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqlab import Config, InputError, train
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.models.quantizers import build_quantizer
from vqlab.training.codes import load_code_grids

SMALL = {
    "data.train_limit": 256, "data.test_limit": 32, "model.hidden": 16, "model.residual_hidden": 8, "quantizer.dim": 8,
    "quantizer.num_codes": 16, "optim.epochs": 2, "evaluation.log_every": 1,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "product": {"quantizer.family": "product", "quantizer.heads": 2},
    "residual": {"quantizer.family": "residual", "quantizer.levels": 3},
    "residual, shared": {"quantizer.family": "residual", "quantizer.levels": 3, "quantizer.shared": True},
    "residual, joint": {"quantizer.family": "residual", "quantizer.levels": 2, "quantizer.joint": True},
    "residual, dropout, beam": {
        "quantizer.family": "residual", "quantizer.levels": 2, "quantizer.level_dropout": 0.5, "quantizer.beam": 2,
    },
    "residual of heads": {"quantizer.family": "residual", "quantizer.levels": 2, "quantizer.heads": 2},
    "fsq": {"quantizer.family": "fsq", "quantizer.fsq_levels": [4, 4], "quantizer.code_dim": None},
    "lfq": {"quantizer.family": "lfq", "quantizer.code_dim": None},
    "bsq": {"quantizer.family": "bsq", "quantizer.code_dim": None},
    "simvq": {"quantizer.family": "simvq"},
}  # fmt: skip
SEVERAL_CODES = list(FAMILIES)[:6]


def config(family: str, **changes: Any) -> Config:
    return Config.profile("quick", **{**SMALL, **FAMILIES[family], **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_of_each_family_trains_and_is_repeated_bit_for_bit(family: str, tmp_path: Path) -> None:
    run, again = (train(config(family), tmp_path / name, "cpu") for name in ("one", "two"))
    settings = run.config.quantizer
    weights = [one.model().state_dict() for one in (run, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = run.metrics()["reconstruction_loss"].dropna()
    assert losses.iloc[-4:].mean() < 0.9 * losses.iloc[:4].mean()
    images = run.data().test.pixels[:4].float() / 255
    model = run.model()
    with torch.no_grad():
        indices = model.encode(images)
        assert indices.shape == (4, 8, 8, *([settings.codes_per_vector] if family in SEVERAL_CODES else []))
        assert torch.equal(model.decode(indices), model(images).reconstruction)
    usage = [run.usage(place) for place in range(settings.codes_per_vector)]
    tokens = 256 * 64
    assert all(np.all(counts.sum(axis=1) <= tokens) for counts in usage)
    assert np.all(usage[0].sum(axis=1) == tokens)
    if not settings.level_dropout:
        assert np.all(usage[-1].sum(axis=1) == tokens)
    measured = run.evaluation(inception=False)
    assert 1 <= measured["perplexity"] <= settings.num_codes
    assert measured["tokens"] == 32 * 64 * settings.codes_per_vector
    with pytest.raises(InputError, match="place="):
        run.usage(settings.codes_per_vector)


@pytest.mark.parametrize("family", SEVERAL_CODES[:2])
def test_what_reads_one_code_for_each_vector_says_so(family: str, tmp_path: Path) -> None:
    run = train(config(family), tmp_path, "cpu")
    with pytest.raises(InputError, match=f"{run.config.quantizer.codes_per_vector} codes each"):
        run.usage_windows()
    with pytest.raises(InputError, match="codes each"):
        Tokenizer(run)


@pytest.mark.parametrize("family", ["fsq", "lfq", "bsq", "simvq"])
def test_explorers_and_priors_read_the_families_of_one_code(family: str, tmp_path: Path) -> None:
    run = train(config(family), tmp_path, "cpu")
    tokenizer = Tokenizer(run)
    assert tokenizer.code_patches.shape[0] == 16
    assert int(tokenizer.token_counts().sum()) == 32 * 64
    assert load_code_grids(run).train.shape == (256, 8, 8)


@pytest.mark.parametrize("family", ["product", "residual, shared"])
def test_codes_can_start_after_steps_without_quantization(family: str, tmp_path: Path) -> None:
    run = train(config(family, **{"quantizer.start_after": 2}), tmp_path, "cpu")
    assert run.metrics()["perplexity"].dropna().gt(1).all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"levels": 3}, "levels=3"),
        ({"heads": 2}, "heads=2"),
        ({"family": "product"}, "heads=1"),
        ({"family": "product", "heads": 3}, "heads=3"),
        ({"family": "product", "heads": 2, "levels": 2}, "levels=2"),
        ({"family": "residual"}, "levels=1"),
        ({"family": "residual", "levels": 2, "assignment": "gumbel", "update": "gradient"}, "assignment=gumbel"),
        ({"beam": 2}, "beam=2"),
        ({"family": "fsq"}, "fsq_levels"),
        ({"family": "fsq", "fsq_levels": [8, 5, 5, 5], "num_codes": 1024}, "num_codes=1024"),
        ({"family": "lfq", "num_codes": 1000}, "num_codes=1000"),
        ({"family": "bsq", "code_dim": 8}, "code_dim=8"),
        ({"family": "bsq", "num_codes": 1 << 17}, "num_codes=131072"),
        ({"family": "simvq", "start_after": 3}, "start_after=3"),
        ({"family": "residual", "levels": 2, "rule": "cvq"}, "rule=cvq"),
    ],
)
def test_fields_that_do_not_fit_the_family_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Config().replace(**{f"quantizer.{name}": value for name, value in changes.items()})


def test_a_prior_of_vectors_with_several_codes_is_refused() -> None:
    with pytest.raises(InputError, match="needs one code for each vector"):
        config("residual", **{"prior.kind": "transformer"})


def test_ids_of_configs_without_a_family_stay() -> None:
    assert Config().id == Config().replace(**{"quantizer.family": "vq"}).id


@pytest.mark.parametrize("family", FAMILIES)
def test_bits_of_the_config_are_those_of_the_layer(family: str) -> None:
    settings = config(family).quantizer
    layer = build_quantizer(settings)
    assert (settings.bits, settings.codes_per_vector) == (layer.bits, layer.codes_per_vector)
