"""Families of quantizers in a Config and in a Run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqlab import Config, InputError, train
from vqlab.analysis.tokenizer import Tokenizer
from vqlab.models import build_model
from vqlab.models.quantizers import build_quantizer
from vqlab.quantize.usage import joint_entropy_bits
from vqlab.studies.grid import bit_rates
from vqlab.studies.named import summary_table
from vqlab.studies.study import Study
from vqlab.training.codes import codebook_digest, load_code_grids

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
NEW_COLUMNS = ("cvu", "entropy_bits_a_vector", "joint_entropy_bits_a_vector")


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
    assert "unreadable" not in run._repr_html_()
    with pytest.raises(InputError, match="place="):
        run.usage(settings.codes_per_vector)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("family", ["product", "residual"])
def test_usage_of_several_codes_is_read_by_place(family: str, root: Path) -> None:
    run = train(config(family), root, "cpu")
    with pytest.raises(InputError, match=f"{run.config.quantizer.codes_per_vector} codes each"):
        run.usage_windows()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_reads_every_family(family: str, root: Path) -> None:
    run = train(config(family), root, "cpu")
    tokenizer, places = Tokenizer(run), run.config.quantizer.codes_per_vector
    image = run.data().test.pixels[3].float() / 255
    grid = tokenizer.encode(image)
    tokens = tokenizer.tokens(image)
    assert tokens.tolist() == grid.flatten().tolist()
    assert len(tokens) == 64 * places
    assert torch.equal(tokenizer.decode_tokens(tokens), tokenizer.decode(grid))
    assert torch.equal(tokenizer.decode(grid), run.model()(image[None]).reconstruction[0])
    if places > 1:
        left_out = torch.cat([grid[..., :-1], torch.full_like(grid[..., :1], -1)], dim=-1)
        assert not torch.equal(tokenizer.decode(left_out), tokenizer.decode(grid))
        for read in (lambda: tokenizer.usage, lambda: tokenizer.code_patches, tokenizer.token_counts):
            with pytest.raises(InputError, match=f"{places} codes each"):
                read()
    else:
        assert tokenizer.code_patches.shape == (16, 3, 4, 4)
        assert int(tokenizer.token_counts().sum()) == 32 * 64


@pytest.mark.parametrize("family", FAMILIES)
def test_code_grids_of_every_family_are_written_and_read(family: str, root: Path) -> None:
    run = train(config(family), root, "cpu")
    model, places = run.model(), run.config.quantizer.codes_per_vector
    shape = (8, 8) if places == 1 else (8, 8, places)
    grids, path = load_code_grids(run), run.folder / "codes.npz"
    with np.load(path) as stored:
        assert stored["test"].shape == (32, *shape)
        assert stored["train"].dtype == np.int32
    assert torch.equal(grids.test, model.encode(run.data().test.pixels.float() / 255))
    assert grids.train.shape == (256, *shape)
    before = path.stat().st_mtime_ns
    assert torch.equal(load_code_grids(run).train, grids.train)
    assert path.stat().st_mtime_ns == before


def test_a_file_of_codes_of_another_shape_is_replaced(root: Path) -> None:
    run = train(config("residual"), root, "cpu")
    grids, path = load_code_grids(run), run.folder / "codes.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, "test": arrays["test"][..., 0]})
    assert torch.equal(load_code_grids(run).test, grids.test)


@pytest.mark.parametrize("family", SEVERAL_CODES)
def test_the_digest_of_a_codebook_depends_on_every_place(family: str) -> None:
    model = build_model(config(family), 0)
    digests = {codebook_digest(model)}
    for book in model.quantizer.books:
        with torch.no_grad():
            book.set_codes(book.codes + 1, book.counts)
        digests.add(codebook_digest(model))
    assert len(digests) == 1 + len(model.quantizer.books)


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
        ({"family": "bsq", "num_codes": 1 << 21}, "num_codes=2097152"),
        ({"family": "simvq", "start_after": 3}, "start_after=3"),
        ({"family": "residual", "levels": 2, "rule": "cvq"}, "rule=cvq"),
    ],
)
def test_fields_that_do_not_fit_the_family_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Config().replace(**{f"quantizer.{name}": value for name, value in changes.items()})


def test_ids_of_configs_without_a_family_stay() -> None:
    assert Config().id == Config().replace(**{"quantizer.family": "vq"}).id


@pytest.mark.parametrize("family", FAMILIES)
def test_bits_of_the_config_are_those_of_the_layer(family: str) -> None:
    settings = config(family).quantizer
    layer = build_quantizer(settings)
    assert (settings.bits, settings.codes_per_vector) == (layer.bits, layer.codes_per_vector)
    assert len(settings.place_names) == (0 if settings.codes_per_vector == 1 else settings.codes_per_vector)


def test_places_of_heads_with_levels_are_named_in_the_order_of_the_indices() -> None:
    assert config("residual of heads").quantizer.place_names == [
        "head 1, level 1", "head 1, level 2", "head 2, level 1", "head 2, level 2",
    ]  # fmt: skip
    assert config("residual, joint").quantizer.place_names == ["level 1", "level 2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_usage_of_the_test_images_is_that_of_counted_codes(family: str, root: Path) -> None:
    """CVU and entropies against numpy, from the codes of the test images."""
    run = train(config(family), root, "cpu")
    measured, places = run.evaluation(inception=False), run.config.quantizer.codes_per_vector
    vectors = load_code_grids(run).test.reshape(-1, places).numpy()

    def entropy(counts: np.ndarray) -> float:
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log2(share)).sum())

    entropies = [entropy(np.bincount(vectors[:, place])) for place in range(places)]
    joint = entropy(np.unique(vectors, axis=0, return_counts=True)[1])
    assert measured["entropy_bits_a_vector"] == pytest.approx(sum(entropies), rel=1e-5)
    assert measured["joint_entropy_bits_a_vector"] == pytest.approx(joint, rel=1e-5)
    assert measured["cvu"] == pytest.approx(np.mean([2**bits for bits in entropies]) / 16, rel=1e-5)
    assert joint <= sum(entropies) + 1e-9
    assert run.last_epoch_metrics()["cvu"] == pytest.approx(measured["cvu"])


def test_the_joint_entropy_of_independent_places_is_the_sum_of_theirs() -> None:
    places = torch.cartesian_prod(torch.tensor([0, 0, 0, 1]), torch.arange(8), torch.tensor([5, 5, 9, 9]))
    expected = 2 - 0.75 * np.log2(3) + 3 + 1
    assert joint_entropy_bits(places, 1 << 40) == pytest.approx(expected)


@pytest.mark.parametrize("changes", [{}, {"quantizer.family": "residual", "quantizer.levels": 2}])
def test_the_study_of_families_has_bits_and_speed_of_the_codes(changes: dict[str, Any], tmp_path: Path) -> None:
    base = {**SMALL, **changes, "data.train_limit": 64, "optim.epochs": 1}
    study = Study(Config.profile("quick", **base), {"arm": {}}, seeds=(0,))
    table = study.run(tmp_path, "cpu")
    (row,) = table.rows.to_dict("records")
    (run,) = table.runs("arm")
    places, provenance = run.config.quantizer.codes_per_vector, run.provenance
    tokens = provenance["step"] * run.config.optim.batch_size * 64 * places
    assert row["bits_a_vector"] == 4 * places
    assert row["bits_an_image"] == 64 * 4 * places
    assert row["tokens_a_second"] == pytest.approx(tokens / provenance["wall_seconds"])
    assert row["parameters"] == run.evaluation()["parameters"]
    path = run.folder / "evaluation.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name not in NEW_COLUMNS}
    path.write_text(json.dumps(old))
    if places == 1:  # as an earlier version wrote it
        assert study.table(tmp_path).rows["cvu"].tolist() == [pytest.approx(row["cvu"])]
    shown = summary_table("families", table)
    assert {"CVU (perplexity / K)", "bits an image", "tokens a second", "parameters"} <= set(shown.columns)
    assert not {"CVU (perplexity / K)", "tokens a second"} & set(summary_table("rules", table).columns)


def test_bit_rates_of_several_codes_count_all_of_them() -> None:
    assert bit_rates(config("residual"), 8.0) == {"fixed_bits": 64 * 12.0, "entropy_bits": 64 * 9.0}
    assert bit_rates(config("residual"), 8.0, 7.5) == {"fixed_bits": 64 * 12.0, "entropy_bits": 64 * 7.5}
