"""Named studies: one command trains and prints a table, and ``--so-far`` trains nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from command_processes import vqlab
from test_training import TINY, tiny

from vqlab import Config, InputError
from vqlab.config import PROFILES
from vqlab.quantize import get_rule, rule_names
from vqlab.studies import (
    CODEBOOKS,
    STUDY_NAMES,
    Study,
    StudyTable,
    describe_differences,
    named_study,
    perceptual_weights,
    summary_table,
    to_markdown,
)

SCALE = [f"--set={name}={value}" for name, value in TINY.items()]
COMMAND = ("study", "collapsing", "--seeds", "2", *SCALE, "--set", "optim.epochs=1")


@pytest.mark.parametrize("name", STUDY_NAMES)
def test_every_named_study_has_one_config_for_each_arm_and_seed(name: str) -> None:
    for profile, seeds in (("quick", 2), ("paper", 3)):
        study = named_study(name, profile)
        assert len({config.id for _, _, config in study.configs()}) == len(study.arms) * seeds


def test_tables_2_and_3_have_the_epochs_of_the_paper_and_differ_only_in_the_transport() -> None:
    epochs = {name: named_study(name, "paper").base.optim.epochs for name in ("reconstruction", "transports")}
    assert epochs == {"reconstruction": 3, "transports": 2}
    rrt, other = (config.model_dump() for _, _, config in named_study("reconstruction", "paper", (0,)).configs())
    assert {rrt["quantizer"].pop("transport"), other["quantizer"].pop("transport")} == {"rotation", "straight_through"}
    assert rrt == other


def test_each_arm_of_the_recipe_study_leaves_one_ingredient_out_of_best_or_adds_one_to_paper() -> None:
    study = named_study("recipe", "best", (0,))
    configs = {arm: config for arm, _, config in study.configs()}
    assert configs["paper"] == study.base
    budget = {key: study.base.changes()[key] for key in ("data.validation", "data.train_limit", "optim.epochs")}
    assert configs["best"] == Config.profile("best", **budget)
    best = configs["best"].changes()
    added: list[str] = []
    for arm, config in configs.items():
        if arm.startswith("paper + "):
            fields = {key for key, value in config.changes().items() if study.base.changes().get(key) != value}
            added += sorted(fields)
            assert {key: best[key] for key in fields} == {key: config.changes()[key] for key in fields}
            assert configs[arm.replace("paper +", "best −")].changes() == {
                key: value for key, value in best.items() if key not in fields
            }
    assert sorted(added) == sorted(best.keys() - budget.keys())


def test_codebooks_go_from_one_in_use_to_a_collapsed_one() -> None:
    changes = [dict(change) for change in CODEBOOKS.values()]
    assert changes == [
        {}, {"quantizer.restart_every": 0}, {"quantizer.init": "normal", "quantizer.restart_every": 0}
    ]  # fmt: skip


def test_the_factors_study_changes_the_transport_alone() -> None:
    configs = [config.model_dump() for _, _, config in named_study("factors", "best", (0,)).configs()]
    transports = [
        tuple(config["quantizer"].pop(key) for key in ("transport", "transport_fraction")) for config in configs
    ]
    assert transports == [
        ("straight_through", 1), ("rotation", 1), ("rescale", 1), ("rotation_unscaled", 1), ("rotation", 0.25),
        ("rotation", 0.5),
    ]  # fmt: skip
    assert all(config == configs[0] for config in configs)


def test_the_rotation_study_goes_from_straight_through_to_the_rotation() -> None:
    arms = {arm: config for arm, _, config in named_study("rotation", "best", (0,)).configs()}
    quantizers = [config.quantizer for config in arms.values()]
    assert [(q.transport, q.transport_fraction) for q in quantizers] == [
        ("straight_through", 1), ("rotation", 0.125), ("rotation", 0.25), ("rotation", 0.5), ("rotation", 1),
        ("rotation_unscaled", 1), ("rescale", 1),
    ]  # fmt: skip
    assert arms["straight-through"] == Config.profile("best")


def test_the_error_of_an_unknown_study_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"study='nothing'.*reconstruction"):
        named_study("nothing")


def test_one_command_trains_the_table_and_the_next_one_only_reads_it(tmp_path: Path) -> None:
    page, rows = tmp_path / "table.md", tmp_path / "rows.csv"
    runs = ("--runs", str(tmp_path / "runs"))
    empty = vqlab(*COMMAND, *runs, "--so-far")
    assert empty.returncode == 2
    assert "not finished yet" in empty.stderr
    assert not (tmp_path / "runs").exists()

    trained = vqlab(*COMMAND, *runs, "--table", str(page))
    assert trained.returncode == 0, trained.stderr
    assert "[4/4]" in trained.stdout
    assert page.read_text().strip() in trained.stdout
    assert "over 2 seeds" in trained.stdout
    assert [line.split("|")[1].strip() for line in page.read_text().splitlines()] == [
        "", "---", "RRT", "straight-through",
    ]  # fmt: skip

    read = vqlab(*COMMAND, *runs, "--so-far", "--table", str(rows))
    assert page.read_text().strip() in read.stdout
    assert pd.read_csv(rows)["psnr"].notna().sum() == 4


def test_a_table_file_of_another_type_is_refused_before_training(tmp_path: Path) -> None:
    refused = vqlab(*COMMAND, "--runs", str(tmp_path / "runs"), "--table", str(tmp_path / "table.xls"))
    assert refused.returncode == 2
    assert ".csv or .md" in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_the_perceptual_table_has_the_time_of_the_term(tmp_path: Path) -> None:
    weights = perceptual_weights("quick")[:2]
    study = Study(tiny(), {f"weight {weight:g}": {"loss.classifier": weight} for weight in weights})
    result = study.run(tmp_path, "cpu")
    cost = summary_table("perceptual", result)["perceptual term (ms per step)"]
    assert cost["weight 0"] == "0"
    assert float(cost["weight 0.03"]) > 0
    assert describe_differences(result, ("psnr",))[0].startswith("weight 0 − weight 0.03")


def test_an_arm_is_compared_with_the_arm_that_it_changes() -> None:
    arms = ("best", "best − Muon", "paper", "paper + Muon", "other + Muon")
    rows = [{"arm": arm, "seed": 0, "error": "", "psnr": float(value)} for value, arm in enumerate(arms)]
    starts = [
        sentence.split(":")[0] for sentence in describe_differences(StudyTable(pd.DataFrame(rows), Path()), ("psnr",))
    ]
    assert starts == [
        "best − best − Muon", "best − paper", "paper − paper + Muon", "best − other + Muon"
    ]  # fmt: skip


def test_markdown_escapes_separators_and_rounds_numbers() -> None:
    table = pd.DataFrame({"a|b": ["x|y"], "PSNR (dB)": [23.45678], "K": [1024]}, index=["RRT"])
    assert to_markdown(table).splitlines()[2] == r"| RRT | x\|y | 23.46 | 1024 |"
    assert to_markdown(table, index=False).count("\n") == 2


@pytest.mark.parametrize("profile", PROFILES)
def test_families_have_equal_bits_and_one_recipe(profile: str) -> None:
    configs = {arm: config for arm, _, config in named_study("families", profile, (0,)).configs()}
    assert {config.quantizer.bits for config in configs.values()} == {8.0 if profile == "quick" else 10.0}
    assert {config.quantizer.family for config in configs.values()} == {
        "vq", "product", "residual", "fsq", "lfq", "bsq", "simvq",
    }  # fmt: skip
    rest = [config.model_dump(exclude={"quantizer"}) for config in configs.values()]
    assert all(other == rest[0] for other in rest)


@pytest.mark.parametrize("profile", ["quick", "paper", "best"])
def test_every_codebook_of_the_study_of_health_is_trained_with_both_transports(profile: str) -> None:
    configs = {arm: config for arm, _, config in named_study("health", profile, (0,)).configs()}
    pairs = [(config, configs[f"{arm} + RRT"]) for arm, config in configs.items() if not arm.endswith("RRT")]
    assert len(pairs) == len(configs) / 2 == 9
    for straight_through, rrt in pairs:
        assert straight_through.replace(**{"quantizer.transport": "rotation"}) == rrt
    assert len({config.id for config in configs.values()}) == len(configs)


def test_every_rule_is_compared_under_each_transport_that_it_allows() -> None:
    configs = {arm: config for arm, _, config in named_study("rules", "best", (0,)).configs()}
    for name in set(rule_names()) - {"none"}:
        arms = [config for config in configs.values() if config.quantizer.rule == name]
        needs = get_rule(name).needs
        assert len(arms) == (1 if "transport" in needs else 2)
    assert {config.quantizer.transport for config in configs.values()} == {"straight_through", "rotation"}
