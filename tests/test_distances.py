"""Distances between sets of images: equal to pytorch-fid, numpy and brute force, and increasing with noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance
from sklearn.datasets import load_digits
from test_training import tiny

from vqlab import InputError, Run, train
from vqlab.config import DataConfig
from vqlab.data import ImageData, Images, load_data
from vqlab.metrics import (
    Moments,
    frechet_distance,
    frechet_error,
    kernel_distance,
    precision_recall,
    real_image_distances,
)
from vqlab.metrics.distances import noise_distances
from vqlab.metrics.features import Extractor, reference_statistics


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQLAB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def correlated(count: int, dim: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    scales = torch.logspace(0, -3, dim, dtype=torch.float64) * scale
    return torch.randn(count, dim, generator=generator, dtype=torch.float64) @ mix * scales + seed


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize(("count", "dim"), [(500, 16), (3000, 128)])
def test_the_frechet_distance_equals_that_of_pytorch_fid(count: int, dim: int) -> None:
    one, other = (Moments.from_features(correlated(count, dim, seed)) for seed in (1, 2))
    expected = calculate_frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_allows_fewer_images_than_dimensions() -> None:
    features = correlated(20, 300, 1)
    one = Moments.from_features(features)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6 * np.trace(one.covariance))
    assert frechet_distance(one, Moments.from_features(features + 2)) == pytest.approx(4 * 300, rel=1e-6)


def test_the_jackknife_error_is_the_spread_over_new_images() -> None:
    reference = Moments.from_features(correlated(5000, 8, 1))
    mix = torch.randn(8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    draws = [
        torch.randn(400, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) @ mix
        for seed in range(100)
    ]
    spread = np.std([frechet_distance(Moments.from_features(draw), reference) for draw in draws])
    estimate = np.mean([frechet_error(draw, reference) for draw in draws[:30]])
    assert estimate == pytest.approx(spread, rel=0.3)


def test_the_kernel_distance_is_the_unbiased_cubic_mmd() -> None:
    one, other = correlated(60, 8, 1).numpy(), correlated(60, 8, 2).numpy()

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / 8 + 1) ** 3

    within = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (60 * 59) for x in (one, other))
    expected = within - 2 * kernel(one, other).mean()
    state = torch.get_rng_state()
    value, error = kernel_distance(torch.from_numpy(one), torch.from_numpy(other))
    assert value == pytest.approx(expected)
    assert np.isnan(error)
    assert torch.equal(state, torch.get_rng_state())
    assert kernel_distance(torch.from_numpy(one), torch.from_numpy(other), subset_size=40)[1] > 0


def test_precision_and_recall_equal_brute_force() -> None:
    real, fake = correlated(70, 5, 1), correlated(50, 5, 1, scale=0.3) + 0.1

    def share_inside(points: np.ndarray, manifold: np.ndarray) -> float:
        distances = np.linalg.norm(manifold[:, None] - manifold[None], axis=2)
        radii = np.sort(distances, axis=1)[:, 3]
        return float((np.linalg.norm(points[:, None] - manifold[None], axis=2) <= radii).any(1).mean())

    expected = share_inside(fake.numpy(), real.numpy()), share_inside(real.numpy(), fake.numpy())
    assert precision_recall(real, fake, 3) == pytest.approx(expected)
    assert expected[0] > expected[1] > 0


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: Moments.from_features(torch.zeros(1, 4)), "at least 2"),
        (lambda: kernel_distance(torch.zeros(1, 4), torch.zeros(9, 4)), "at least 2"),
        (lambda: precision_recall(torch.zeros(9, 4), torch.zeros(3, 4), 3), "more than 3"),
        (
            lambda: frechet_distance(Moments.from_features(torch.eye(3)), Moments.from_features(torch.eye(4))),
            "same extractor",
        ),
    ],
)
def test_invalid_features_are_refused(measure: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure()  # type: ignore[operator]


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten digits at 32 px in a seeded split: training and test images of one distribution, with labels."""
    dataset, root = load_digits(), tmp_path_factory.mktemp("digits")
    order = np.random.default_rng(0).permutation(len(dataset.images))
    for position, index in enumerate(order):
        folder = root / ("train" if position < 1300 else "test") / str(dataset.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((dataset.images[index] / 16 * 255).astype(np.uint8))
        image.resize((32, 32), Image.Resampling.NEAREST).convert("RGB").save(folder / f"{position:05d}.png")
    return root


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> ImageData:
    return load_data(DataConfig(source=f"folder:{digits_folder}"))


def test_distances_of_real_test_images_increase_with_noise(digits: ImageData) -> None:
    distances = noise_distances(digits, (0.0, 0.1, 0.2, 0.4))
    fd = [row["sample_fd_classifier"] for row in distances]
    assert fd == sorted(fd)
    assert fd[1] > 1.5 * fd[0]
    assert real_image_distances(digits)["sample_fd_classifier"] == fd[0]
    kd = [row["sample_kd_classifier"] for row in distances]
    assert kd == sorted(kd)
    assert distances[0]["sample_precision_classifier"] > 0.8 > distances[3]["sample_precision_classifier"]
    assert "test accuracy" in distances[0]["sample_fd_classifier_by"]


def test_reference_statistics_are_cached_by_data_and_extractor(digits: ImageData) -> None:
    counts = []

    def extract(images: torch.Tensor) -> torch.Tensor:
        counts.append(len(images))
        return images.flatten(1)[:, ::100]

    first = reference_statistics(Extractor("every-hundredth", "pixels", extract), digits, "test")
    again = reference_statistics(Extractor("every-hundredth", "pixels", extract), digits, "test")
    assert sum(counts) == len(digits.test)
    assert np.array_equal(first.moments.covariance, again.moments.covariance)
    reference_statistics(Extractor("another", "pixels", extract), digits, "test")
    reference_statistics(Extractor("another", "pixels", extract), digits.subset(None, 50), "test")
    assert sum(counts) == 2 * len(digits.test) + 50


@pytest.mark.slow  # trains two models and a classifier, 40 seconds
def test_distances_of_real_test_images_are_far_below_those_of_models(
    digits: ImageData, digits_folder: Path, tmp_path: Path
) -> None:
    kinds = ({"model.kind": "vae"}, {"model.kind": "gan", "gan.width": 8})
    common = {"data.source": f"folder:{digits_folder}", "data.train_limit": None, "data.test_limit": None}
    rows = [train(tiny(**common, **kind), tmp_path, "cpu").evaluation("cpu") for kind in kinds]
    floor = real_image_distances(digits)["sample_fd_classifier"]
    for row in rows:
        assert row["sample_fd_classifier"] > 5 * floor
    assert rows[0]["rfd_classifier"] > 5 * floor


def test_an_evaluation_without_these_columns_is_completed(tmp_path: Path) -> None:
    run = train(tiny(), tmp_path, "cpu")
    path = run.folder / "evaluation.json"
    path.write_text(json.dumps({"data": "photos", "mse": 1.0, "psnr": 2.0, "ssim": 0.5, "perplexity": 3.0}))
    measured = Run.open(run.folder).evaluation("cpu")
    assert measured["rfd_classifier"] > 0
    assert measured["psnr"] != 2.0
    written = path.stat().st_mtime_ns
    assert run.evaluation("cpu") == measured
    assert path.stat().st_mtime_ns == written


def test_an_evaluation_without_these_columns_is_returned_if_the_images_are_missing(
    digits_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(digits_folder, tmp_path / "digits")
    run = train(tiny(**{"data.source": f"folder:{tmp_path / 'digits'}"}), tmp_path, "cpu")
    shutil.rmtree(tmp_path / "digits")
    with pytest.raises(InputError, match="no such folder"):
        run.evaluation("cpu")
    (run.folder / "evaluation.json").write_text(json.dumps({"mse": 1.0}))
    assert run.evaluation("cpu") == {"mse": 1.0, "psnr_pooled": 0.0}


@pytest.mark.usefixtures("no_network")
def test_inception_is_downloaded_only_on_request_and_the_failure_is_stored(tmp_path: Path) -> None:
    run = train(tiny(), tmp_path, "cpu")
    assert "not asked for" in run.evaluation("cpu")["rfid_reason"]
    assert "could not be downloaded" in run.evaluation("cpu", inception=True)["rfid_reason"]
    assert "could not be downloaded" in run.evaluation("cpu")["rfid_reason"]


def test_the_reason_is_given_for_data_of_one_class(digits: ImageData) -> None:
    one_class = ImageData("one", Images(digits.train.pixels[:20], torch.zeros(20).long()), digits.test, ("a",))
    row = real_image_distances(one_class)
    assert row["sample_fd_classifier"] is None
    assert "one class" in row["sample_fd_classifier_reason"]
