"""The Config: ids that never change, errors that name a remedy, and a description of every field."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command_processes import vqlab
from typer.main import get_command

from vqlab import Config, InputError
from vqlab.cli import app
from vqlab.config import PROFILES, describe_fields


@pytest.mark.parametrize(("profile", "config_id"), [("paper", "7674a781fc38"), ("gpu", "c84a5f7f61ca")])
def test_the_ids_of_version_0_1_are_kept(profile: str, config_id: str) -> None:
    assert Config.profile(profile).id == config_id


def test_the_id_of_the_profile_quick_of_version_0_1_is_kept_for_its_settings() -> None:
    settings = {
        "model.hidden": 64, "model.residual_hidden": 32, "quantizer.num_codes": 256, "quantizer.dim": 32,
        "optim.batch_size": 32, "data.train_limit": 2560, "data.test_limit": 512, "optim.epochs": 2,
    }  # fmt: skip
    assert Config.profile("paper", **settings).id == "6d280a1b6393"


def test_every_field_is_described_with_its_default_and_what_is_allowed() -> None:
    fields = describe_fields()
    assert all(field.meaning and field.allowed for field in fields)
    for field in fields:
        assert Config().replace(**{field.key: field.default}) == Config()
        for profile, value in field.profiles.items():
            assert Config.profile(profile).replace(**{field.key: value}) == Config.profile(profile)
    listed = {field.key for field in fields}
    assert listed == set(_leaves(Config().model_dump()))


def _leaves(values: dict, prefix: str = "") -> list[str]:
    leaves = []
    for key, value in values.items():
        leaves += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return leaves


def test_what_the_profiles_change_is_listed() -> None:
    for profile in PROFILES:
        listed = {field.key: field.profiles[profile] for field in describe_fields() if profile in field.profiles}
        assert listed == Config.profile(profile).changes()


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("quantizer.decy", "quantizer.decay"),
        ("quantiser.decay", "quantizer.decay"),
        ("decay", "quantizer.decay"),
        ("optim.lr", "optim.learning_rate"),
        ("modle.hidden", "model.hidden"),
        ("seeds", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest_one_and_the_command(key: str, nearest: str) -> None:
    with pytest.raises(InputError) as error:
        Config().replace(**{key: 1})
    assert f"{key}: unknown config key; nearest: " in str(error.value)
    assert nearest in str(error.value).partition("nearest: ")[2]
    assert "`vqlab config`" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer.num_codes": 0}, "quantizer.num_codes=0: must be int, at least 1, at most 1048576"),
        ({"quantizer.init": "none"}, "quantizer.init='none': must be kmeans | data | uniform | normal"),
        ({"data.image_size": 36, "model.downsample": 3}, "data.image_size=36: must be a multiple of"),
        ({"data.image_size": 8}, "data.image_size=8"),
        ({"data.image_size": 12, "data.crop_padding": 12}, "data.crop_padding=12: must be below data.image_size=12"),
        ({"data.image_size": 28, "prior.kind": "diffusion"}, "prior.kind=diffusion: needs a code grid of even height"),
        ({"data": 3}, "data=3: must hold fields by name; `vqlab config data` lists them"),
        ({"model.kind": "gan", "data.image_size": 64}, "data.image_size=64: must be 32"),
    ],
)
def test_an_error_says_what_was_given_and_what_is_allowed(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        Config().replace(**changes)
    assert str(error.value).startswith(message)


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(InputError) as error:
        Config().replace(**{"quantizer.init": "x" * 100_000})
    assert len(str(error.value)) < 200


def test_a_config_shows_what_differs_from_the_defaults() -> None:
    config = Config(seed=3).replace(**{"quantizer.decay": 0.9, "data.source": "folder:/<b>"})
    assert repr(config) == f"Config({config.id}, vqvae, data.source='folder:/<b>', quantizer.decay=0.9, seed=3)"
    html = config._repr_html_()
    assert config.id in html
    assert "0.9" in html
    assert "<b>" not in html


def test_the_command_lists_all_fields_one_section_or_one_field() -> None:
    table = vqlab("config").stdout
    assert all(field.key in table for field in describe_fields())
    decay = next(line for line in table.splitlines() if line.startswith("quantizer.decay "))
    assert "0.99" in decay
    assert "above 0, below 1" in decay
    section = json.loads(vqlab("config", "optim", "--json").stdout)
    assert {row["key"].partition(".")[0] for row in section} == {"optim"}
    (field,) = json.loads(vqlab("config", "quantizer.num_codes", "--json").stdout)
    assert (field["default"], field["profiles"]) == (1024, {"quick": 512})
    unknown = vqlab("config", "quantiser")
    assert unknown.returncode == 2
    assert "nearest: quantizer" in unknown.stderr


@pytest.mark.parametrize(
    ("words", "index", "completion"),
    [
        ("vqlab tr", 1, "train"),
        ("vqlab train --profile ", 3, "paper"),
        ("vqlab train --set quantizer.rest", 3, "quantizer.restart_every="),
        ("vqlab study tr", 2, "transports"),
        ("vqlab grid sc", 2, "scaling"),
        ("vqlab config quant", 2, "quantizer"),
    ],
)
def test_the_shell_completes_commands_and_values(
    words: str, index: int, completion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"_VQLAB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(index)}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert completion in vqlab().stdout.split()


def test_settings_are_completed_without_the_import_of_torch() -> None:
    code = "import sys; from vqlab.cli import _complete_setting as f; print(f('seed'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['seed='] False\n"


def test_every_option_of_every_command_has_a_help_text() -> None:
    commands = get_command(app).commands
    missing = [
        f"{name} {parameter.name}"
        for name, command in commands.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert missing == []
    assert all(command.help for command in commands.values())


OPTIONS_OF_0_1 = {
    "run": {"--profile", "--data", "--seed", "--runs", "--output", "--only", "--figures"},
    "train": {"--profile", "--data", "--seed", "--runs", "--device", "--set"},
    "evaluate": {"--device", "--inception", "--no-inception"},
    "sample": {"--device", "--seed", "--count", "--output", "--label", "--temperature", "--top-k", "--top-p"},
    "study": {"--profile", "--data", "--seed", "--seeds", "--runs", "--device", "--set", "--so-far", "--table"},
    "grid": {
        "--axis", "--profile", "--data", "--seed", "--runs", "--device", "--set", "--storage", "--retry", "--so-far",
        "--table",
    },
    "tune": {"--trials", "--over", "--profile", "--data", "--seed", "--runs", "--device", "--set", "--storage"},
    "doctor": {"--apply", "--device"},
    "explore": {"--output"},
    "lab": {"--folder"},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS_OF_0_1)
def test_commands_keep_the_options_of_version_0_1(name: str) -> None:
    parameters = get_command(app).commands[name].params
    options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    assert options >= OPTIONS_OF_0_1[name]
