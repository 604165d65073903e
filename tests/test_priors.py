"""Priors: cached sampling equals uncached, settings do what they say, another codebook is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_training import same_weights, tiny

from vqlab import InputError, Run, train
from vqlab.models import CodeTransformer, LatentDiffusion, sample_codes
from vqlab.models.sampling import filter_logits
from vqlab.training import code_grids, open_prior

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


def test_a_prior_stands_on_the_vqvae_run_of_its_config(run: Run) -> None:
    assert run.codec().config == tiny()
    assert run.codec().finished
    assert run.provenance["codec"]["run"] == tiny().id


@pytest.mark.parametrize("steps", [5, 6])
def test_a_stopped_and_resumed_prior_has_the_same_weights(run: Run, tmp_path: Path, steps: int) -> None:
    assert not train(run.config, tmp_path, "cpu", stop_after_steps=steps).finished
    assert same_weights(run, train(run.config, tmp_path, "cpu"))


def test_a_prior_gets_better_at_its_task(run: Run) -> None:
    losses = run.metrics()["loss"].dropna().tolist()
    assert losses[-1] < losses[0]


def test_samples_are_images_made_of_the_codecs_codes(run: Run) -> None:
    codes = run.model().sample(3, generator())
    assert codes.shape == (3, 8, 8)
    assert torch.equal(codes, run.model().sample(3, generator()))
    (images,) = run.samples(3, label=1)
    assert images.shape == (3, 3, 32, 32)


def test_a_prior_has_its_vqvaes_reconstruction_columns_and_its_own(run: Run) -> None:
    measured = run.evaluation("cpu")
    assert measured["psnr"] == run.codec().evaluation("cpu")["psnr"]
    assert measured["sample_fd_classifier"] > 0
    assert measured["parameters"] > run.codec().evaluation("cpu")["parameters"]


@pytest.mark.parametrize("how", [{}, {"label": 2}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.6}])
def test_cached_sampling_equals_uncached(prior: CodeTransformer, how: dict) -> None:
    cached, plain = (sample_codes(prior, 5, generator=generator(), use_cache=c, **how) for c in (True, False))
    assert torch.equal(cached, plain)


def test_cached_logits_are_those_of_the_whole_grid(prior: CodeTransformer) -> None:
    codes = torch.randint(16, (2, 8, 8), generator=generator())
    labels, past, steps = torch.tensor([0, 3]), None, []
    for cell in range(64):
        logits, past = prior.logits(codes.flatten(1)[:, :cell], labels, past)
        steps.append(logits[:, -1])
    torch.testing.assert_close(torch.stack(steps, 1), prior(codes, labels), atol=1e-5, rtol=1e-5)


def test_no_cell_sees_itself_or_a_later_one(prior: CodeTransformer) -> None:
    codes = torch.randint(16, (1, 8, 8), generator=generator())
    other = codes.clone()
    other[0, 3, 4:] = 15 - other[0, 3, 4:]
    same = (prior(codes) == prior(other)).all(-1)[0]
    assert same[: 3 * 8 + 5].all()
    assert not same[3 * 8 + 5 :].any()


def test_given_cells_are_kept_and_seen(prior: CodeTransformer) -> None:
    given = torch.full((8, 8), -1)
    given[:4] = torch.arange(32).view(4, 8) % 16
    codes = sample_codes(prior, 3, known_codes=given, generator=generator())
    assert (codes[:, :4] == given[:4]).all()
    free = sample_codes(prior, 3, generator=generator())
    assert not torch.equal(free[:, 4:], codes[:, 4:])


def test_sharpened_logits_keep_what_they_should() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert filter_logits(logits, top_k=2).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, top_p=0.65).isfinite().tolist() == [[True, True, False, False]]
    assert filter_logits(logits, top_p=0.75).isfinite().tolist() == [[True, True, True, False]]
    assert filter_logits(logits, top_p=1e-6).isfinite().sum() == 1
    torch.testing.assert_close(filter_logits(logits, top_p=1.0), logits)
    torch.testing.assert_close(filter_logits(logits, 0.5).softmax(1), logits.exp() ** 2 / (logits.exp() ** 2).sum())


def test_a_low_temperature_draws_the_likeliest_code(prior: CodeTransformer) -> None:
    codes = sample_codes(prior, 2, temperature=1e-4, generator=generator())
    assert torch.equal(codes.flatten(1), prior(codes).argmax(-1))


def test_diffusion_over_codes_in_a_line_draws_the_codes_it_was_shown() -> None:
    """Codes of a VQ-VAE spread in few of their D directions; drawing must not leave them for the largest codes."""
    shown, generator = torch.tensor([5, 10]), torch.Generator().manual_seed(0)
    table = 0.01 * torch.randn(16, 32, generator=generator)
    table[:, 0] += torch.linspace(-1, 1, 16)
    grids = shown.repeat(16).view(-1, 1, 1).expand(-1, 8, 8)
    config = tiny(**{**TINY, "prior.kind": "diffusion", "quantizer.dim": 32, "prior.sample_steps": 20})
    prior = LatentDiffusion(config, 1)
    prior.set_code_statistics(table, grids)
    adam = torch.optim.Adam(prior.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.LinearLR(adam, 1, 0, 120)
    for _ in range(120):
        adam.zero_grad()
        prior(grids, torch.zeros(32).long(), generator).backward()
        adam.step()
        falling.step()
    drawn = prior.eval().sample(32, generator).flatten(1)
    assert torch.isin(drawn, shown).float().mean() > 0.6
    assert set(drawn.mode(1).values.tolist()) == {5, 10}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"label": 99}, "label=99"),
        ({"temperature": 0}, "temperature=0"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 17}, "1…16"),
        ({"top_p": 1.5}, r"top_p=1\.5"),
        ({"known_codes": torch.zeros(3, 3).long()}, r"\(8, 8\)"),
        ({"known_codes": torch.full((8, 8), 16)}, "0…15"),
    ],
)
def test_settings_out_of_range_are_refused(prior: CodeTransformer, how: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        sample_codes(prior, 1, **how)


def test_settings_that_a_kind_lacks_and_no_samples_are_refused(run: Run) -> None:
    with pytest.raises(InputError, match="count=0"):
        run.samples(0)
    if run.config.kind == "diffusion":
        with pytest.raises(InputError, match="not a setting of a diffusion"):
            run.samples(1, top_k=3)


def test_a_prior_of_another_codebook_is_refused(transformer: Run, tmp_path: Path) -> None:
    other = train(tiny(seed=7), tmp_path, "cpu")
    with pytest.raises(InputError, match=r"knows the codebook of run .* not that of"):
        open_prior(transformer, other)
    assert isinstance(open_prior(transformer, transformer.codec()), CodeTransformer)
    with pytest.raises(InputError, match="holds a vqvae, no prior"):
        open_prior(other, other)


def test_a_vqvae_trained_anew_under_a_prior_is_noticed(transformer: Run, tmp_path: Path) -> None:
    """The folder of the prior's VQ-VAE gets the weights of another: what a change of device or version may do."""
    for run in (transformer, transformer.codec()):
        shutil.copytree(run.folder, tmp_path / run.config.id)
    other = train(tiny(seed=7), tmp_path, "cpu")
    shutil.copy(other.folder / "model.safetensors", tmp_path / tiny().id / "model.safetensors")
    with pytest.raises(InputError, match="knows the codebook"):
        next(Run.open(tmp_path / transformer.config.id).samples(1))


def test_code_grids_are_extracted_once_and_again_only_when_they_do_not_fit(transformer: Run, tmp_path: Path) -> None:
    folder = tmp_path / tiny().id
    shutil.copytree(transformer.codec().folder, folder)
    run, path = Run.open(folder), folder / "codes.npz"
    grids, before = code_grids(run), path.stat().st_mtime_ns
    model = run.model()
    assert torch.equal(grids.test, model.encode(run.data().test.pixels.float() / 255))
    assert torch.equal(code_grids(run).train, grids.train)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:200])
    assert torch.equal(code_grids(run).train, grids.train)
    assert path.stat().st_size > 200


def test_diffusion_without_diffusers_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'vqlab\[diffusion\]'"):
        train(prior_config("diffusion"), tmp_path, "cpu")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prior.heads": 3}, "divide by prior.heads=3"),
        ({"prior.noise_steps": 10, "prior.sample_steps": 11}, "at most prior.noise_steps"),
        ({"prior.kind": "pixelcnn"}, "'none', 'transformer' or 'diffusion'"),
    ],
)
def test_a_senseless_prior_is_told_in_one_line(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        prior_config(**{"kind": "transformer", **changes})
    assert "\n" not in str(error.value)


def test_a_prior_run_is_json_and_safetensors_alone(run: Run) -> None:
    assert json.loads((run.folder / "provenance.json").read_text())["codec"]["codebook"]
    assert {path.suffix for path in run.folder.rglob("*") if path.is_file() and "events" not in path.parts} <= {
        ".json", ".jsonl", ".safetensors",
    }  # fmt: skip
