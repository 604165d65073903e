"""The table of generative models, figures of samples, and the perceptual losses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_processes import vqlab
from PIL import Image
from test_baselines import BASELINES
from test_training import tiny
from torch import nn

from vqlab import InputError, Run, train
from vqlab.analysis import interpolate, nearest_training_images, prior_measures, wrong_code_scores
from vqlab.analysis.prior import MAX_NATS, NATS
from vqlab.data import Images
from vqlab.losses import PerceptualLoss
from vqlab.metrics.distances import describe_distances
from vqlab.metrics.pretrained import loss_availability
from vqlab.plots import (
    completions,
    interpolations,
    nearest_neighbours,
    perceptual_tradeoff,
    reconstructions,
    sample_grids,
    save_samples,
    training_curves,
    usage_by_rank,
)
from vqlab.studies import Study, StudyTable, generation_arms, generation_table
from vqlab.studies.generation import COLUMNS, MISSING, REAL_IMAGES
from vqlab.training import load_code_grids

PRIOR = {"prior.width": 16, "prior.layers": 1, "prior.heads": 2, "prior.sample_steps": 2}
ARMS = {
    "VQ-VAE": {},
    **BASELINES,
    "transformer": {"prior.kind": "transformer", **PRIOR},
    "diffusion": {"prior.kind": "diffusion", **PRIOR},
    "broken": {"data.source": "folder:nowhere"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyTable:
    return Study(tiny(), ARMS).run(tmp_path_factory.mktemp("runs"), "cpu")


def test_the_table_has_a_row_for_the_real_images_and_each_model(study: StudyTable) -> None:
    table = generation_table(study)
    assert list(table.index) == [REAL_IMAGES, *ARMS]
    assert list(table.columns) == [*COLUMNS.values(), "note"]
    fd = COLUMNS["sample_fd_classifier"]
    assert "±" in table.loc["gan", fd]
    assert table.loc["VQ-VAE", fd] == MISSING
    assert table.loc["gan", "PSNR (dB)"] == MISSING
    assert table.loc["transformer", "PSNR (dB)"] == table.loc["VQ-VAE", "PSNR (dB)"]
    assert "no such folder" in table.loc["broken", "note"]


def test_the_training_time_of_a_prior_includes_both_stages(study: StudyTable) -> None:
    (prior,) = study.runs("transformer")
    seconds = prior.provenance["wall_seconds"] + prior.codec().provenance["wall_seconds"]
    assert generation_table(study).loc["transformer", "training (s)"] == f"{seconds:,.0f}"


def test_several_seeds_give_confidence_intervals(study: StudyTable) -> None:
    two_seeds = Study(tiny(), {"vae": BASELINES["vae"]}, (0, 1)).run(study.root, "cpu")
    assert "[" in generation_table(two_seeds).loc["vae", "MSE"]


def test_every_arm_is_a_valid_config() -> None:
    for profile in ("quick", "paper", "gpu"):
        assert len(Study(tiny(), generation_arms(profile)).configs()) == 5


def test_the_nearest_training_image_of_a_copy_is_the_original() -> None:
    pixels = torch.randint(0, 256, (600, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    train = Images(pixels, torch.zeros(600).long())
    neighbours = nearest_training_images(torch.cat([pixels[555:557].float() / 255, torch.rand(1, 3, 8, 8)]), train)
    assert neighbours.indices[:2].tolist() == [555, 556]
    assert neighbours.distances[0] < 1e-3 < 0.1 < neighbours.distances[2]


def test_an_interpolation_ends_at_the_reconstructions(study: StudyTable) -> None:
    (run,) = study.runs("VQ-VAE")
    ends = run.data().test.evenly_spaced(2)
    path = interpolate(run, ends, 5)
    with torch.no_grad():
        torch.testing.assert_close(path[[0, -1]], run.model()(ends).reconstruction)
    with pytest.raises(InputError, match="holds a vae"):
        interpolate(study.runs("vae")[0], ends)
    with pytest.raises(InputError, match="steps=1"):
        interpolate(run, ends, 1)


def test_the_measures_of_a_prior_are_those_of_its_logs_and_its_evaluation(study: StudyTable) -> None:
    (prior,) = study.runs("transformer")
    measured = prior_measures(prior)["measured"]
    assert measured[NATS] == prior.last_epoch_metrics()["nats_a_code"]
    assert measured[MAX_NATS] == pytest.approx(np.log(16))
    assert measured["recall"] == prior.evaluation()["sample_recall_classifier"]
    with pytest.raises(InputError, match="holds a vae"):
        prior_measures(study.runs("vae")[0])


def test_wrong_codes_are_decoded_and_no_wrong_code_gives_the_reconstruction(study: StudyTable) -> None:
    (run,) = study.runs("VQ-VAE")
    images = run.data().test.evenly_spaced(4)
    with torch.no_grad():
        mse = (run.model()(images).reconstruction - images).square().mean(dim=(1, 2, 3))
    scores = wrong_code_scores(run, (0, 100), count=4)
    assert scores.index.tolist() == [0, 100]
    assert scores["PSNR (dB)"][0] == pytest.approx(float((-10 * mse.log10()).mean()), abs=1e-3)
    assert scores["PSNR (dB)"][100] != scores["PSNR (dB)"][0]


def test_the_extractor_or_the_reason_of_each_distance_is_described(study: StudyTable) -> None:
    lines = describe_distances(study.runs("gan")[0].evaluation(), "sample_").splitlines()
    assert re.fullmatch(r"FD-classifier: .*32 images, 96 of train", lines[0])
    assert lines[1].startswith("FID: ")


def test_the_figures_of_samples_have_the_right_panels(study: StudyTable) -> None:
    (prior,), (codec,), (gan,) = (study.runs(arm) for arm in ("transformer", "VQ-VAE", "gan"))
    grid = sample_grids({"gan": gan, "prior": prior}, count=4)
    assert [axis.get_ylabel() for axis in grid.axes][1:] == ["gan", "prior"]
    assert grid.axes[1].images[0].get_array().shape == (64, 128, 3)
    assert "RMS" in nearest_neighbours(gan, "gan", compared=30).axes[1].get_xlabel()
    assert len(completions(prior, count=2).axes) == 4
    assert interpolations(codec, pairs=2, steps=3).axes[0].images[0].get_array().shape == (64, 96, 3)


@pytest.mark.parametrize(
    "function", [training_curves, usage_by_rank, reconstructions, completions, load_code_grids, Run.usage]
)
def test_a_run_of_the_wrong_kind_is_refused_in_one_line(study: StudyTable, function: Callable[[Run], object]) -> None:
    with pytest.raises(InputError, match="holds a gan; give the Run of a") as error:
        function(study.runs("gan")[0])
    assert "\n" not in str(error.value)


def test_the_command_writes_the_same_samples_as_the_function(study: StudyTable, tmp_path: Path) -> None:
    (prior,) = study.runs("transformer")
    picture = save_samples(prior, 10, tmp_path / "function.png", temperature=0.5)
    with Image.open(picture) as opened:
        assert opened.size == (256, 64)
    words = ["sample", str(prior.folder), "--device", "cpu", "--count", "10", "--temperature", "0.5", "--output"]
    process = vqlab(*words, str(tmp_path / "command.png"))
    assert process.stdout.strip() == str(tmp_path / "command.png"), process.stderr
    with Image.open(picture) as one, Image.open(tmp_path / "command.png") as other:
        assert np.array_equal(one, other)
    refused = vqlab(*words, str(tmp_path / "x.png"), "--top-k", "99")
    assert refused.returncode == 2
    assert "top_k=99" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    with pytest.raises(InputError, match=r"must end in \.png"):
        save_samples(prior, 1, tmp_path / "x.gif")


@pytest.fixture(scope="module")
def perceptual_run(study: StudyTable) -> Run:
    return train(tiny(**{"loss.classifier": 2.0}), study.root, "cpu")


def test_a_perceptual_term_is_logged_with_its_time(perceptual_run: Run) -> None:
    rows = perceptual_run.metrics()
    rows = rows[rows["kind"] == "train"]
    assert (rows["perceptual_ms"] > 0).all()
    assert (rows["classifier_loss"] > 0).all()
    total = rows["reconstruction_loss"] + rows["vq_loss"] + 2 * rows["classifier_loss"]
    np.testing.assert_allclose(rows["loss"], total, rtol=1e-5)


def test_a_perceptual_training_resumes_to_the_same_weights(perceptual_run: Run, tmp_path: Path) -> None:
    train(perceptual_run.config, tmp_path, "cpu", stop_after_steps=5)
    resumed = train(perceptual_run.config, tmp_path, "cpu").model().state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in perceptual_run.model().state_dict().items())
    assert not any("perceptual" in name or "classifier" in name for name in resumed)


def test_the_perceptual_loss_has_the_weighted_gradient_and_does_not_change_its_network() -> None:
    class Term(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (self.layer(x) - self.layer(y)).square().mean()

    torch.manual_seed(0)
    term, x, y = Term(), torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 3, 4, 4)
    before = {name: value.clone() for name, value in term.state_dict().items()}
    loss = PerceptualLoss({"one": term}, {"one": 0.5, "off": 0.0}).train()
    total, terms = loss(x, y)
    torch.testing.assert_close(total, 0.5 * terms["one"])
    (gradient,) = torch.autograd.grad(total, x)
    (expected,) = torch.autograd.grad(0.5 * term(x, y), x)
    torch.testing.assert_close(gradient, expected)
    assert all(torch.equal(value, before[name]) for name, value in term.state_dict().items())


def test_the_tradeoff_has_one_point_for_each_weight(study: StudyTable) -> None:
    weights = (0.0, 2.0)
    table = Study(tiny(), {f"{w:g}": {"loss.classifier": w} for w in weights}).run(study.root, "cpu")
    figure = perceptual_tradeoff(table, weights, "test")
    assert list(figure.axes[0].lines[-1].get_xdata()) == list(weights)
    assert [text.get_text() for text in figure.axes[2].texts] == ["0", "2"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("term", ["vgg", "lpips"])
def test_a_term_whose_weights_cannot_be_downloaded_is_refused(
    term: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="could not be downloaded"):
        train(tiny(**{f"loss.{term}": 1.0}), tmp_path, "cpu")
    assert "could not be downloaded" in loss_availability()[f"loss.{term}"]
