"""--help: a line for each setting, from where the setting is written."""

import re
from typing import Any

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sweep.digits import help, loop, models, optimizers

GROUPS = ("model", "optimizer", "data")


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def shown(*overrides: str) -> tuple[Any, str]:
    """The composed config, and its help."""
    with initialize_config_dir(str(ROOT / "conf")):
        config = compose("config", list(overrides), return_hydra_config=True)
    return config, help.text(config)


def entry(key: str, text: str) -> str:
    """What stands beside `key` and below it, in one line."""
    found = re.search(rf"^  '?{re.escape(key)}(=\S*)?(?=\s)(.*(?:\n {{20}}.*)*)", text, re.MULTILINE)
    assert found is not None, key
    return " ".join(found[2].split())


@pytest.mark.parametrize("choice", [f"{group}={choice}" for group in GROUPS for choice in choices(group)])
def test_every_key_of_a_job_has_a_line_that_says_what_it_is(choice: str) -> None:
    config, text = shown(choice)
    for key in config:
        if key not in ("hydra", "search"):
            inner = [f"{key}.{name}" for name in config[key]] if OmegaConf.is_dict(config[key]) else [str(key)]
            assert all(entry(one, text) for one in inner)


@pytest.mark.parametrize("sweeper", choices("hydra/sweeper"))
def test_every_key_of_a_sweeper_has_a_line_that_says_what_it_is(sweeper: str) -> None:
    config, text = shown(f"hydra/sweeper={sweeper}")
    for key in config.hydra.sweeper:
        if key != "_target_":
            assert entry(f"hydra/sweeper/{key}" if key in ("sampler", "pruner") else f"hydra.sweeper.{key}", text), key
    assert entry("hydra.sweeper.max_batch_size", text[text.index("Settings of a grid") :])


def test_every_choice_that_a_setting_has_is_named() -> None:
    _, text = shown()
    allowed = {
        "model.activation": models.ACTIVATIONS,
        "optimizer.schedule": optimizers.SCHEDULES,
        "device": loop.DEVICES,
        "precision": loop.PRECISIONS,
    }
    for key, values in allowed.items():
        assert all(re.search(rf"\b{value}\b", entry(key, text)) for value in values), key


@pytest.mark.parametrize("choice", ["model=mlp", "model=cnn", "hydra/sweeper=optuna"])
def test_the_three_commands_come_first_and_80_columns_are_enough(choice: str) -> None:
    _, text = shown(choice)
    assert [line.split("  ")[1].strip() for line in text.splitlines()[2:5]] == [
        "python sweep/train.py KEY=VALUE ...",
        "python sweep/train.py -m KEY=VALUE,VALUE ...",
        "python sweep/train.py -m hydra/sweeper=optuna",
    ]
    assert max(map(len, text.splitlines())) <= 80


def test_what_was_typed_is_what_is_shown() -> None:
    _, text = shown("hydra/sweeper=optuna", "hydra.sweeper.n_trials=7", "model.dropout=0.5")
    assert "hydra.sweeper.n_trials=7 " in text
    assert "model.dropout=0.5 " in text
