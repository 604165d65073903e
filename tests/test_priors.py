"""Priors: training, cached and uncached sampling, sampling settings, and the check of the codebook."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from test_training import same_weights, tiny

from vqlab import InputError, Run, train
from vqlab.data.batches import seeded_generator
from vqlab.models import CodeTransformer, LatentDiffusion, sample_codes
from vqlab.models.sampling import UNKNOWN, filter_logits
from vqlab.training import load_code_grids, open_prior

TINY = {
    "prior.width": 16,
    "prior.layers": 2,
    "prior.heads": 2,
    "prior.epochs": 2,
    "prior.sample_steps": 4,
    "prior.batch_size": 16,
}


def prior_config(kind: str, **changes: object) -> object:
    return tiny(**{**TINY, "prior.kind": kind, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", params=["transformer", "diffusion"])
def run(request: pytest.FixtureRequest, root: Path) -> Run:
    return train(prior_config(request.param), root, "cpu")


@pytest.fixture(scope="module")
def transformer(root: Path) -> Run:
    return train(prior_config("transformer"), root, "cpu")


@pytest.fixture
def prior(transformer: Run) -> CodeTransformer:
    return transformer.model()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_prior_is_trained_on_the_vqvae_run_of_its_config(run: Run) -> None:
    assert run.codec().config == tiny()
    assert run.codec().finished
    assert run.provenance["codec"]["run"] == tiny().id


@pytest.mark.parametrize("steps", [5, 6])
def test_a_stopped_and_resumed_prior_has_the_same_weights(run: Run, tmp_path: Path, steps: int) -> None:
    assert not train(run.config, tmp_path, "cpu", stop_after_steps=steps).finished
    assert same_weights(run, train(run.config, tmp_path, "cpu"))


def test_the_training_loss_of_a_prior_decreases(run: Run) -> None:
    losses = run.metrics()["loss"].dropna().tolist()
    assert losses[-1] < losses[0]


def test_samples_are_code_grids_that_the_vqvae_decodes(run: Run) -> None:
    codes = run.model().sample(3, generator())
    assert codes.shape == (3, 8, 8)
    assert torch.equal(codes, run.model().sample(3, generator()))
    (images,) = run.samples(3, label=1)
    assert images.shape == (3, 3, 32, 32)


def test_an_evaluation_has_the_columns_of_the_vqvae_and_of_the_prior(run: Run) -> None:
    measured = run.evaluation("cpu")
    assert measured["psnr"] == run.codec().evaluation("cpu")["psnr"]
    assert measured["sample_fd_classifier"] > 0
    assert measured["parameters"] > run.codec().evaluation("cpu")["parameters"]


@pytest.mark.parametrize("settings", [{}, {"label": 2}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.6}])
def test_cached_sampling_equals_uncached(prior: CodeTransformer, settings: dict) -> None:
    cached, uncached = (
        sample_codes(prior, 5, generator=generator(), use_cache=use_cache, **settings) for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)


def test_cached_logits_equal_those_of_the_whole_grid(prior: CodeTransformer) -> None:
    codes = torch.randint(16, (2, 8, 8), generator=generator())
    labels, cache, steps = torch.tensor([0, 3]), None, []
    for cell in range(64):
        logits, cache = prior.logits(codes.flatten(1)[:, :cell], labels, cache)
        steps.append(logits[:, -1])
    torch.testing.assert_close(torch.stack(steps, 1), prior(codes, labels), atol=1e-5, rtol=1e-5)


def test_logits_do_not_depend_on_the_same_or_later_cells(prior: CodeTransformer) -> None:
    codes = torch.randint(16, (1, 8, 8), generator=generator())
    other = codes.clone()
    other[0, 3, 4:] = 15 - other[0, 3, 4:]
    same = (prior(codes) == prior(other)).all(-1)[0]
    assert same[: 3 * 8 + 5].all()
    assert not same[3 * 8 + 5 :].any()


def test_known_codes_are_kept_and_condition_later_cells(prior: CodeTransformer) -> None:
    known_codes = torch.full((8, 8), UNKNOWN)
    known_codes[:4] = torch.arange(32).view(4, 8) % 16
    codes = sample_codes(prior, 3, known_codes=known_codes, generator=generator())
    assert (codes[:, :4] == known_codes[:4]).all()
    unconditional = sample_codes(prior, 3, generator=generator())
    assert not torch.equal(unconditional[:, 4:], codes[:, 4:])


def test_top_k_and_top_p_keep_the_most_likely_codes() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert filter_logits(logits, top_k=2).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, top_p=0.65).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, top_p=0.75).isfinite().tolist() == [[True, True, True, False]]
    assert filter_logits(logits, top_p=1e-6).isfinite().sum() == 1
    torch.testing.assert_close(filter_logits(logits, top_p=1.0), logits)
    torch.testing.assert_close(filter_logits(logits, 0.5).softmax(1), logits.exp() ** 2 / (logits.exp() ** 2).sum())


def test_a_low_temperature_samples_the_most_likely_code(prior: CodeTransformer) -> None:
    codes = sample_codes(prior, 2, temperature=1e-4, generator=generator())
    assert torch.equal(codes.flatten(1), prior(codes).argmax(-1))


def test_diffusion_samples_the_training_codes_of_a_codebook_that_varies_in_one_direction() -> None:
    """The codes of a VQ-VAE vary in few of their D directions; samples must not drift to the largest codes."""
    training_codes, generator = torch.tensor([5, 10]), torch.Generator().manual_seed(0)
    table = 0.01 * torch.randn(16, 32, generator=generator)
    table[:, 0] += torch.linspace(-1, 1, 16)
    grids = training_codes.repeat(16).view(-1, 1, 1).expand(-1, 8, 8)
    config = tiny(**{**TINY, "prior.kind": "diffusion", "quantizer.dim": 32, "prior.sample_steps": 20})
    prior = LatentDiffusion(config, 1)
    prior.set_code_statistics(table, grids)
    adam = torch.optim.Adam(prior.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, 1, 0, 120)
    for _ in range(120):
        adam.zero_grad()
        prior(grids, torch.zeros(32).long(), generator).backward()
        adam.step()
        schedule.step()
    samples = prior.eval().sample(32, generator).flatten(1)
    assert torch.isin(samples, training_codes).float().mean() > 0.6
    assert set(samples.mode(1).values.tolist()) == {5, 10}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": 99}, "label=99"),
        ({"temperature": 0.0}, "temperature=0"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 17}, "1…16"),
        ({"top_p": 1.5}, r"top_p=1\.5"),
        ({"known_codes": torch.zeros(3, 3).long()}, r"\(8, 8\)"),
        ({"known_codes": torch.full((8, 8), 16)}, "0…15"),
    ],
)
def test_settings_out_of_range_are_refused(prior: CodeTransformer, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_codes(prior, 1, **settings)


def test_settings_of_another_kind_and_a_count_of_zero_are_refused(run: Run) -> None:
    with pytest.raises(InputError, match="count=0"):
        run.samples(0)
    if run.config.kind == "diffusion":
        with pytest.raises(InputError, match="not a setting of a diffusion"):
            run.samples(1, top_k=3)


def test_a_prior_of_another_codebook_is_refused(transformer: Run, tmp_path: Path) -> None:
    other = train(tiny(seed=7), tmp_path, "cpu")
    with pytest.raises(InputError, match=r"was trained on codebook \w+ of run .*; train a prior on that run"):
        open_prior(transformer, other)
    assert isinstance(open_prior(transformer, transformer.codec()), CodeTransformer)
    with pytest.raises(InputError, match="holds a vqvae; must hold a prior"):
        open_prior(other, other)


def test_another_vqvae_in_the_folder_of_a_priors_codec_is_refused(transformer: Run, tmp_path: Path) -> None:
    """The VQ-VAE under a prior was trained again, which may give other weights on another device or version."""
    for run in (transformer, transformer.codec()):
        shutil.copytree(run.folder, tmp_path / run.config.id)
    other = train(tiny(seed=7), tmp_path, "cpu")
    shutil.copy(other.folder / "model.safetensors", tmp_path / tiny().id / "model.safetensors")
    with pytest.raises(InputError, match="was trained on codebook"):
        next(Run.open(tmp_path / transformer.config.id).samples(1))


def test_code_grids_are_cached_and_an_unreadable_cache_is_replaced(transformer: Run, tmp_path: Path) -> None:
    folder = tmp_path / tiny().id
    shutil.copytree(transformer.codec().folder, folder)
    run, path = Run.open(folder), folder / "codes.npz"
    grids, before = load_code_grids(run), path.stat().st_mtime_ns
    model = run.model()
    assert torch.equal(grids.test, model.encode(run.data().test.pixels.float() / 255))
    assert torch.equal(load_code_grids(run).train, grids.train)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:200])
    assert torch.equal(load_code_grids(run).train, grids.train)
    assert path.stat().st_size > 200


def test_diffusion_without_diffusers_is_refused_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'vqlab\[diffusion\]'"):
        train(prior_config("diffusion"), tmp_path, "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior.heads": 3}, "multiple of prior.heads=3"),
        ({"prior.noise_steps": 10, "prior.sample_steps": 11}, "at most prior.noise_steps"),
        ({"prior.kind": "pixelcnn"}, r"must be none \| transformer \| diffusion"),
    ],
)
def test_an_invalid_prior_is_reported_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        prior_config(**{"kind": "transformer", **changes})
    assert "\n" not in str(error.value)


def test_a_prior_run_consists_of_json_and_safetensors_files(run: Run) -> None:
    assert json.loads((run.folder / "provenance.json").read_text())["codec"]["codebook"]
    assert {path.suffix for path in run.folder.rglob("*") if path.is_file() and "events" not in path.parts} <= {
        ".json", ".jsonl", ".safetensors",
    }  # fmt: skip


SEVERAL = {
    "residual": {"quantizer.family": "residual", "quantizer.levels": 3},
    "product": {"quantizer.family": "product", "quantizer.heads": 2},
    "residual of heads": {"quantizer.family": "residual", "quantizer.levels": 2, "quantizer.heads": 2},
}


def untrained(family: str) -> CodeTransformer:
    """A prior over 4·4 cells of several codes, with weights that tell codes apart."""
    prior = CodeTransformer(prior_config("transformer", **{**SEVERAL[family], "data.image_size": 16}), 4).eval()
    with torch.no_grad():
        prior.code.weight.mul_(50)
    return prior


def random_grids(prior: CodeTransformer, count: int = 2) -> torch.Tensor:
    return torch.randint(16, (count, *prior.grid, prior.codes_per_vector), generator=generator())


@pytest.mark.parametrize("family", SEVERAL)
def test_a_code_of_several_codes_depends_on_those_before_it_only(family: str) -> None:
    prior = untrained(family)
    codes = random_grids(prior, 1)
    logits, places = prior(codes), prior.codes_per_vector
    assert logits.shape == (1, 16 * places, 16)
    for token in range(0, 16 * places - 1, 5):
        other = codes.clone().view(1, -1)
        other[0, token] = 15 - other[0, token]
        same = (logits == prior(other.view_as(codes))).all(-1)[0]
        assert same[: token + 1].all()
        assert not same[token + 1 :].any()


@pytest.mark.parametrize("family", SEVERAL)
def test_logits_of_several_codes_are_those_of_the_written_out_sequence(family: str) -> None:
    """Cell by cell and place by place: embeddings and last layer of the place, against loops."""
    prior = untrained(family)
    codes, places = random_grids(prior), prior.codes_per_vector
    norm, linear = prior.head
    tokens = [prior.label(torch.tensor([4, 4]))]
    for cell in range(16):
        of_cell = codes[:, cell // 4, cell % 4]
        tokens += [prior.code.weight[16 * place + of_cell[:, place]] for place in range(places)]
    x = torch.stack(tokens[:-1], dim=1)
    x = x + torch.stack([prior.place.weight[t // places] + prior.depth.weight[t % places] for t in range(16 * places)])
    for block in prior.blocks:
        x, _ = block(x)
    rows = [slice(16 * (t % places), 16 * (t % places) + 16) for t in range(16 * places)]
    expected = [norm(x)[:, t] @ linear.weight[rows[t]].T + linear.bias[rows[t]] for t in range(16 * places)]
    torch.testing.assert_close(prior(codes), torch.stack(expected, dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", SEVERAL)
def test_cached_sampling_of_several_codes_equals_uncached(family: str) -> None:
    prior = untrained(family)
    settings = {"label": 1, "temperature": 0.8}
    cached, uncached = (
        sample_codes(prior, 3, generator=generator(), use_cache=use_cache, **settings) for use_cache in (True, False)
    )
    assert cached.shape == (3, 4, 4, prior.codes_per_vector)
    assert torch.equal(cached, uncached)


def test_known_levels_are_kept_and_the_others_sampled() -> None:
    prior = untrained("residual")
    known_codes = torch.full((4, 4, 3), UNKNOWN)
    known_codes[..., 0] = torch.arange(16).view(4, 4)
    codes = sample_codes(prior, 5, known_codes=known_codes, generator=generator())
    assert (codes[..., 0] == known_codes[..., 0]).all()
    assert not torch.equal(codes[0, ..., 1:], codes[1, ..., 1:])
    with pytest.raises(InputError, match=r"\(4, 4, 3\)"):
        sample_codes(prior, 1, known_codes=known_codes[..., 0])


@pytest.mark.parametrize("family", SEVERAL)
def test_the_loss_of_an_untrained_prior_is_that_of_uniform_codes(family: str) -> None:
    """The mean over the levels of ln K; the last layer's small weights add little to it."""
    prior = CodeTransformer(prior_config("transformer", **SEVERAL[family]), 4)
    codes = random_grids(prior, 8)
    losses = torch.nn.functional.cross_entropy(prior(codes).flatten(0, 1), codes.flatten(), reduction="none")
    by_place = losses.view(-1, prior.codes_per_vector).mean(dim=0)
    assert by_place.tolist() == pytest.approx([math.log(16)] * prior.codes_per_vector, rel=0.12)
    with torch.no_grad():
        prior.head[1].weight.zero_(), prior.head[1].bias.zero_()
        even = torch.nn.functional.cross_entropy(prior(codes).flatten(0, 1), codes.flatten())
    assert float(even) == pytest.approx(sum(math.log(16) for _ in by_place) / len(by_place), rel=1e-6)


FAMILIES_OF_PRIORS = {
    "residual": SEVERAL["residual"],
    "product": SEVERAL["product"],
    "fsq": {"quantizer.family": "fsq", "quantizer.fsq_levels": [4, 4]},
    "lfq": {"quantizer.family": "lfq"},
}


@pytest.mark.parametrize("family", FAMILIES_OF_PRIORS)
def test_a_prior_on_a_family_trains_and_its_samples_are_images(family: str, root: Path) -> None:
    config = prior_config("transformer", **FAMILIES_OF_PRIORS[family], **{"prior.epochs": 6})
    run = train(config, root, "cpu")
    codes = run.model().sample(3, seeded_generator(1, 0), label=1)
    assert codes.shape == (3, *config.code_shape)
    assert not torch.equal(codes[0], codes[1])
    images = next(run.samples(3, seed=1, label=1))
    assert images.shape == (3, 3, 32, 32)
    assert torch.equal(images, run.codec().model().decode(codes))
    nats = run.metrics()["nats_a_code"].dropna()
    assert nats.iloc[-1] < min(nats.iloc[0], math.log(16))
    grids = load_code_grids(run.codec()).test
    model = run.model()
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(grids).flatten(0, 1), grids.flatten())
    assert run.last_epoch_metrics()["nats_a_code"] == pytest.approx(float(expected), abs=1e-5)


def test_a_stopped_and_resumed_prior_of_several_codes_has_the_same_weights(root: Path, tmp_path: Path) -> None:
    config = prior_config("transformer", **SEVERAL["residual"])
    run = train(config, root, "cpu")
    assert not train(config, tmp_path, "cpu", stop_after_steps=5).finished
    assert same_weights(run, train(config, tmp_path, "cpu"))


def test_a_diffusion_prior_of_several_codes_is_refused() -> None:
    with pytest.raises(InputError, match=r"prior\.kind=diffusion: needs one code for each vector, not 3"):
        prior_config("diffusion", **SEVERAL["residual"])
