"""Findings: the sentence follows the numbers, and the provenance is that of the Runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import optuna
import pandas as pd
import pytest
import torch
from test_training import tiny

from vqlab import InputError, Run, train
from vqlab.analysis import probe_medians, transport_identities
from vqlab.analysis.layer_identities import ANGLE_ERROR, FROM_ROTATION
from vqlab.data import ImageData, Images
from vqlab.report import (
    Finding,
    angles_finding,
    generation_finding,
    identities_finding,
    images_finding,
    own_rule_finding,
    perceptual_finding,
    published_finding,
    reconstruction_finding,
    rotations_finding,
    sampling_finding,
    scaling_finding,
    transports_finding,
    tuning_finding,
    usage_finding,
    wrong_codes_finding,
)
from vqlab.report.finding import MIME_TYPE, headline_number, provenance_line
from vqlab.studies import Grid, GridTable, StudyTable


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("findings")


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    trained = train(tiny(), root, "cpu")
    trained.evaluation()
    return trained


@pytest.fixture(scope="module")
def prior(root: Path, run: Run) -> Run:
    small = {"prior.width": 16, "prior.layers": 1, "prior.heads": 2, "prior.epochs": 1}
    trained = train(tiny(**{"prior.kind": "transformer", **small}), root, "cpu")
    trained.evaluation()
    return trained


def measured(run: Run, folder: Path, **values: float) -> Run:
    """Copy a Run, with other values in what was measured of it."""
    copy = folder / run.config.id
    shutil.copytree(run.folder, copy)
    evaluation = copy / "evaluation.json"
    evaluation.write_text(json.dumps({**json.loads(evaluation.read_text()), **values}))
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    changed = [{**row, **{key: values[key] for key in values if key in row}} for row in rows]
    (copy / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in changed))
    return Run.open(copy)


def study(run: Run, **values: dict[str, list[float]]) -> StudyTable:
    """Make a table of a Run's folder, with values by measure, arm and seed."""
    rows = [
        {"arm": arm, "seed": seed, "run": run.config.id, "error": ""}
        | {name: by_arm[arm][seed] for name, by_arm in values.items()}
        for arm, seeds in next(iter(values.values())).items()
        for seed in range(len(seeds))
    ]
    return StudyTable(pd.DataFrame(rows), run.folder.parent)


def psnr_study(run: Run, differences: list[float]) -> StudyTable:
    psnr = {"RRT": [20 + difference for difference in differences], "straight-through": [20.0] * len(differences)}
    used = {arm: [0.5] * len(differences) for arm in psnr}
    return study(run, psnr=psnr, utilisation=used)


def test_a_finding_is_a_block_a_text_and_data_with_the_provenance_of_its_runs(run: Run) -> None:
    finding = Finding("<b> is found.", {"PSNR": (23.61, "dB"), "codes": (16, ""), "FID": (None, "")}, [run, run])
    bundle = finding._repr_mimebundle_()
    content = json.loads(json.dumps(bundle[MIME_TYPE]))
    provenance = content["provenance"]
    assert [number["text"] for number in content["numbers"]] == ["23.6 dB", "16", "not measured"]
    assert headline_number(content) == "PSNR 23.6 dB"
    assert provenance["runs"] == [run.config.id]
    assert provenance["data"] == [{"name": "photos", "fingerprint": run.data().fingerprint}]
    assert provenance["devices"] == ["cpu"]
    assert provenance["versions"]["torch"] == [run.provenance["packages"]["torch"]]
    for shown in ("&lt;b&gt; is found.", "23.6 dB", run.config.id, run.data().fingerprint):
        assert shown in bundle["text/html"]
    assert "PSNR 23.6 dB" in bundle["text/plain"]


def test_a_finding_of_images_alone_names_them_and_the_versions_of_this_machine() -> None:
    images = Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    data = ImageData("mine", images, images, ("a", "b"))
    finding = images_finding(data)
    assert "of classes that the training images have, too" in finding.sentence
    line = provenance_line(finding.content["provenance"])
    assert line.startswith(f"mine {data.fingerprint} · vqlab ")
    assert f"torch {torch.__version__.partition('+')[0]}" in line
    other = Images(images.pixels, torch.tensor([1, 2]))
    unseen = images_finding(ImageData("mine", images, other, ("a", "b", "c")))
    assert "1 of the 2 classes of the test images have no training images" in unseen.sentence
    assert unseen.numbers["classes"] == (3, "")


@pytest.mark.parametrize("count", [2, 6])
def test_too_few_or_too_many_numbers_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"has {count} numbers; give 3 to 5"):
        Finding("It works.", {str(number): (1.0, "") for number in range(count)})


def test_a_collapsed_codebook_is_named(run: Run, tmp_path: Path) -> None:
    healthy = reconstruction_finding(measured(run, tmp_path / "healthy", utilisation=0.9, psnr=23.61))
    assert "PSNR of 23.6 dB; 90 % of the codes are in use." in healthy.sentence
    assert "24,576 bits is kept as 64 codes of 256 bits" in healthy.sentence
    assert healthy.content["numbers"][0]["text"] == "23.6 dB"
    collapsed = reconstruction_finding(measured(run, tmp_path / "collapsed", utilisation=0.1))
    assert "only 10 % of the codes are in use, so the codebook has collapsed" in collapsed.sentence


def test_the_paper_is_exceeded_or_not(run: Run, tmp_path: Path) -> None:
    above = published_finding(measured(run, tmp_path / "above", psnr_pooled=20.96))
    below = published_finding(measured(run, tmp_path / "below", psnr_pooled=10.96))
    assert "21.0 dB, 5.0 dB above that of the paper, Table 2, on photos" in above.sentence
    assert "5.0 dB below that of the paper, Table 2" in below.sentence


@pytest.mark.parametrize(("collapsed", "meaning"), [(30.0, "the more the codebook"), (2.0, "does not make RRT differ")])
def test_the_angles_of_both_codebooks_are_compared(run: Run, collapsed: float, meaning: str) -> None:
    tables = {
        state: {"rotation": pd.DataFrame({
            "angle_codes": [angle], "angle_gradients": [angle], "length_ratio": [1.0], "relative_error": [0.1],
        })}
        for state, angle in (("healthy", 8.0), ("collapsed", collapsed))
    }  # fmt: skip
    finding = angles_finding(probe_medians(tables), run, run)
    assert f"by 8.0° with the healthy codebook and by {collapsed:.1f}° with the collapsed one" in finding.sentence
    assert meaning in finding.sentence


def test_restarts_raise_the_use_of_codes_or_not(run: Run, tmp_path: Path) -> None:
    low = measured(run, tmp_path / "low", utilisation=0.2, psnr=20.0)
    high = measured(run, tmp_path / "high", utilisation=0.8, psnr=21.0)
    assert "Restarts raise the share" in usage_finding(high, low).sentence
    assert "PSNR is 1.00 dB higher" in usage_finding(high, low).sentence
    assert "Restarts do not raise the share" in usage_finding(low, high).sentence
    assert "PSNR is 1.00 dB lower" in usage_finding(low, high).sentence


def test_a_prior_has_learned_something_or_not(prior: Run, run: Run, tmp_path: Path) -> None:
    sentences = []
    for name, nats in (("learned", 2.0), ("nothing", 5.0)):
        copy = measured(prior, tmp_path / name, nats_a_code=nats)
        shutil.copytree(run.folder, tmp_path / name / run.config.id)
        sentences.append(sampling_finding(copy, count=8).sentence)
    assert "The prior has learned 0.77 of ln K = 2.77 nats a code" in sentences[0]
    assert "has learned nothing that holds for test images: 5.00 nats a code" in sentences[1]


def test_samples_are_near_copies_or_not(prior: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    train_images = prior.data().train.evenly_spaced(8)
    assert "no copies of training images" in sampling_finding(prior, count=8).sentence
    monkeypatch.setattr(Run, "samples", lambda *_args, **_settings: iter([train_images]))
    assert "near copies of training images" in sampling_finding(prior, count=8).sentence


@pytest.mark.parametrize(
    ("losses", "slope"),
    [([6.0, 12.0], "the first wrong codes cost most"), ([0.1, 12.0], "each further one costs more")],
)
def test_the_cost_of_wrong_codes_is_compared_by_share(run: Run, losses: list[float], slope: str) -> None:
    psnr = [25.0, *(25.0 - loss for loss in losses)]
    scores = pd.DataFrame({"PSNR (dB)": psnr, "SSIM": [0.8, 0.7, 0.3]}, index=[0, 2, 50])
    finding = wrong_codes_finding(scores, run)
    assert f"With 2 % wrong codes PSNR is {losses[0]:.1f} dB lower, with 50 % it is 12.0 dB lower" in finding.sentence
    assert slope in finding.sentence


@pytest.mark.parametrize(
    ("differences", "found"),
    [
        ([1.0, 1.1], "RRT is better than straight-through (+1.05 dB PSNR [+0.41, +1.69], 2 seeds)"),
        ([-1.0, -1.1], "RRT is worse than straight-through (-1.05 dB"),
        ([1.0, -0.9], "no difference between RRT and straight-through is shown (+0.05 dB"),
        ([1.0], "RRT − straight-through is +1.00 dB PSNR with one seed, which shows no difference"),
    ],
)
def test_a_difference_is_found_only_if_its_interval_excludes_0(run: Run, differences: list[float], found: str) -> None:
    finding = transports_finding(psnr_study(run, differences), psnr_study(run, [3.0, 3.1]))
    assert f"With a healthy codebook {found}" in finding.sentence
    assert "with a collapsed codebook RRT is better" in finding.sentence


@pytest.mark.parametrize(("gain", "effect"), [(1.5, "PSNR rises by 1.50 dB"), (-0.5, "PSNR does not rise (-0.50 dB)")])
def test_more_codes_raise_psnr_or_not(run: Run, gain: float, effect: str) -> None:
    grid = Grid("scaling", tiny(), {"quantizer.num_codes": [16, 64], "quantizer.dim": [8]})
    rows = pd.DataFrame({
        "quantizer.num_codes": [16, 64], "quantizer.dim": 8, "run": run.config.id, "error": "",
        "psnr": [20.0, 20.0 + gain], "entropy_bits": [200.0, 300.0], "utilisation": [1.0, 0.75],
    })  # fmt: skip
    finding = scaling_finding(GridTable(grid, rows, run.folder.parent))
    assert f"From K = 16 to 64 {effect}" in finding.sentence
    assert "cost 300 instead of 200 bits" in finding.sentence
    assert "75 % of the largest codebook is in use" in finding.sentence


def test_tuning_improves_or_not(run: Run, tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        return 20 + trial.suggest_float("quantizer.beta", 0, 1)

    tuned = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    tuned.optimize(objective, n_trials=8)
    low = measured(run, tmp_path / "low", psnr=20.0)
    high = measured(run, tmp_path / "high", psnr=20.5)
    better = tuning_finding(tuned, high, low)
    assert "The best of 8 trials has 0.50 dB more PSNR" in better.sentence
    assert "quantizer.beta explains the largest share of the variance (100 %)" in better.sentence
    assert "None of 8 trials has a higher PSNR" in tuning_finding(tuned, low, high).sentence


def test_the_best_samples_and_the_best_reconstructions_are_of_one_model_or_of_two(
    run: Run, prior: Run, tmp_path: Path
) -> None:
    vae = train(tiny(**{"model.kind": "vae"}), run.folder.parent, "cpu")
    vae.evaluation()
    arms = {"VQ-VAE": run, "VQ-VAE + transformer": prior, "VAE": vae}

    def found(psnr: float, distance: float) -> str:
        folder = tmp_path / str(psnr)
        measured(run, folder, psnr=22.0)
        measured(prior, folder, psnr=22.0, sample_fd_classifier=5.0)
        measured(vae, folder, psnr=psnr, sample_fd_classifier=distance)
        rows = [{"arm": arm, "seed": 0, "run": of_arm.config.id, "error": ""} for arm, of_arm in arms.items()]
        return generation_finding(StudyTable(pd.DataFrame(rows), folder)).sentence

    assert "VQ-VAE + transformer has the best samples (FD-classifier 5), and it also has the best" in found(20.0, 9.0)
    assert "VQ-VAE + transformer has the best samples (FD-classifier 5), and VAE has the best" in found(25.0, 8.0)


def test_a_perceptual_term_helps_or_not(run: Run) -> None:
    psnr = {"weight 0": [22.0], "weight 0.3": [21.5]}
    helps = perceptual_finding(study(run, psnr=psnr, rfd_classifier={"weight 0": [9.0], "weight 0.3": [6.0]}))
    assert "Weight 0.3 brings rFD-classifier from 9 to 6, and PSNR is 0.50 dB lower (1 seed" in helps.sentence
    useless = perceptual_finding(study(run, psnr=psnr, rfd_classifier={"weight 0": [5.0], "weight 0.3": [6.0]}))
    assert "No perceptual term brings rFD-classifier below the 5 of the loss on pixels alone" in useless.sentence


def test_a_rule_of_ones_own_brings_codes_into_use_or_not() -> None:
    table = pd.DataFrame(
        {"utilisation": [0.1, 0.9, 0.3, 0.5], "relative error": 0.02}, index=["none", "cvq", "ibq", "mine"]
    )
    finding = own_rule_finding(table, "mine")
    assert "The rule mine brings codes" in finding.sentence
    assert "50% after training, 10% without a rule, 90% with cvq" in finding.sentence
    assert next(iter(finding.numbers.values())) == (0.5, "")
    table.loc["mine", "utilisation"] = 0.1
    assert "The rule mine does not bring codes" in own_rule_finding(table, "mine").sentence


def test_the_identities_of_the_rotation_hold_or_not() -> None:
    table = transport_identities(count=50)
    sentence = identities_finding(table).sentence
    assert "RRT keeps the angle" in sentence
    assert "are one map, and the reflection is another map" in sentence
    table.loc["rotation", ANGLE_ERROR] = 0.1
    table.loc["rodrigues", FROM_ROTATION] = 0.1
    table.loc["reflection", FROM_ROTATION] = 0.0
    broken = identities_finding(table).sentence
    assert "RRT does not keep the angle" in broken
    assert "are not one map, and the reflection is the same map" in broken


@pytest.mark.parametrize(
    ("error", "milliseconds", "found"),
    [(1e-7, 0.5, "are equal to rounding, and Rodrigues takes less time"), (0.1, 2.0, "differ by more than rounding")],
)
def test_the_forms_of_the_rotation_are_compared(run: Run, error: float, milliseconds: float, found: str) -> None:
    errors = pd.DataFrame({"float32": [1e-7, error, 0.5]}, index=["rotation", "rodrigues", "reflection"])
    costs = pd.DataFrame({"form": ["rotation", "rodrigues"], "N": 8, "D": 4, "ms": [1.0, milliseconds]})
    psnr = {"RRT": [20.0, 20.1], "RRT (Rodrigues)": [20.1, 20.0]}
    finding = rotations_finding(errors, costs, study(run, psnr=psnr))
    assert found in finding.sentence
    assert "no difference between RRT and RRT (Rodrigues) is shown" in finding.sentence
