"""Published comparisons beside paired differences of a study."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from command_processes import TINY, settings, vqlab

from vqlab import Config
from vqlab.studies import Study, StudyTable, claims_beside_measured, named_study
from vqlab.studies.families import double_rate_arms, family_arms
from vqlab.studies.measures import CODE_MEASURES, MEASURES


def study(changes: dict[str, dict[str, list[float]]]) -> StudyTable:
    """Three seeds of each arm; measures that are not named are 1."""
    rows = [
        {
            "arm": arm, "seed": seed, "run": f"{arm}{seed}", "error": "",
            **dict.fromkeys([*MEASURES, *CODE_MEASURES], 1.0), **{name: values[seed] for name, values in new.items()},
        }
        for arm, new in changes.items() for seed in range(3)
    ]  # fmt: skip
    return StudyTable(pd.DataFrame(rows), Path("runs"))


@pytest.mark.parametrize(
    ("fsq", "verdict"),
    [([0.90, 0.91, 0.92], "agrees"), ([0.10, 0.11, 0.12], "disagrees"), ([0.1, 0.5, 0.9], "not shown")],
)
def test_a_claim_is_judged_by_the_interval_of_the_paired_difference(fsq: list[float], verdict: str) -> None:
    table = claims_beside_measured(
        study({"nearest code": {"utilisation": [0.5, 0.5, 0.5]}, "FSQ": {"utilisation": fsq}})
    )
    row = table[table["measure"] == MEASURES["utilisation"]].loc["FSQ"]
    assert (row["published"], row["verdict"]) == ("higher", verdict)


def test_arms_of_claims_are_arms_of_the_study() -> None:
    from vqlab.studies.claims import CLAIMS

    assert {arm for claim in CLAIMS for arm in (claim.one, claim.other)} <= set(family_arms("best"))


def test_twice_the_bits_are_twice_the_bits() -> None:
    for profile in ("quick", "best"):
        once, twice = family_arms(profile), double_rate_arms(profile)
        for arm, changes in twice.items():
            bits = [Config.profile(profile, **arms[arm]).quantizer.bits for arms in (once, twice)]
            assert bits[1] == 2 * bits[0], arm
            assert Config.profile(profile, **changes)


def test_the_command_prints_claims_of_what_is_trained(tmp_path: Path) -> None:
    changes = {**TINY, "optim.epochs": 1}
    full = named_study("families", "quick", (0, 1), **changes)
    Study(full.base, {arm: full.arms[arm] for arm in ("nearest code", "FSQ")}, (0, 1)).run(tmp_path, "cpu")
    shown = vqlab("study", "families", *settings(changes), "--seeds", "2", "--runs", str(tmp_path), "--so-far")
    assert shown.returncode == 0, shown.stderr
    _, claims = shown.stdout.split("Published beside measured:")
    assert claims.count("| FSQ | nearest code |") == 2
