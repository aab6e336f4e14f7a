import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from conftest import ROOT
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from sweep import project
from sweep.description import flatten
from sweep.digits import config, train
from sweep.digits.config import Config
from sweep.digits.datasets import DigitsConfig
from sweep.digits.job import DIGITS, METRICS
from sweep.digits.models import MLPConfig
from sweep.digits.optimizers import AdamWConfig
from sweep.errors import SweepError
from sweep.study.pruners import build_pruner

CONF = ROOT / "conf"
Compose = Callable[..., Config]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize("data", choices("data"))
def test_every_model_composes_with_every_data_set_and_is_built(compose: Compose, model: str, data: str) -> None:
    job = compose(f"model={model}", f"data={data}")
    network = job.model.build(job.data.image_shape, len(job.data.classes))
    images = torch.zeros(2, *job.data.image_shape)
    assert network(images.flatten(1) if job.model.flatten else images).shape == (2, 10)


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_optimizer_composes_and_is_built(compose: Compose, optimizer: str) -> None:
    job = compose(f"optimizer={optimizer}")
    built = job.optimizer.build([torch.nn.Parameter(torch.ones(1))])
    assert built.param_groups[0]["lr"] == job.optimizer.lr


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes(compose: Compose, experiment: str) -> None:
    assert compose(f"experiment={experiment}") != compose()


def test_every_model_optimizer_and_data_set_brings_its_search_space() -> None:
    assert choices("search") == choices("model")
    assert choices("search/optimizer") == choices("optimizer")
    assert choices("search/data") == choices("data")


def test_every_yaml_lies_in_a_group_that_is_composed_above() -> None:
    groups = {str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    composed = {"model", "data", "optimizer", "experiment", "search", "search/optimizer", "search/data"}
    assert groups == composed | {".", "hydra/sweeper", "hydra/sweeper/sampler", "hydra/sweeper/pruner"}


def read(path: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def test_every_sampler_s_settings_are_optuna_s_own_defaults() -> None:
    """But for the seed, warnings that the YAML's header answers, and two of TPE's, which its YAML explains."""
    differing = {"seed", "warn_independent_sampling", "warn_asynchronous_seeding", "group", "multivariate"}
    paths = list((ROOT / "sweep" / "conf" / "hydra" / "sweeper" / "study" / "sampler").glob("*.yaml"))
    paths = [path for path in paths if path.stem != "in_order"]  # a grid's, which is ours
    assert sorted(path.stem for path in paths) == choices("hydra/sweeper/sampler")
    for path in paths:
        settings = {k: v for k, v in read(path).items() if not k.startswith("_") and k not in differing}
        name = {"cmaes": "CmaEs", "nsgaii": "NSGAII", "nsgaiii": "NSGAIII"}.get(path.stem, path.stem)
        (sampler,) = [s for key, s in vars(optuna.samplers).items() if key.lower() == f"{name}sampler".lower()]
        defaults = {key: value.default for key, value in inspect.signature(sampler).parameters.items()}
        assert settings == {key: defaults[key] for key in settings}, path.stem


def test_every_pruner_is_built(compose: Compose) -> None:
    for path in (CONF / "hydra" / "sweeper" / "pruner").glob("*.yaml"):
        with initialize_config_dir(str(CONF)):
            overrides = ["hydra/sweeper=optuna", f"hydra/sweeper/pruner={path.stem}"]
            cfg = hydra_compose("config", overrides, return_hydra_config=True)
        assert isinstance(build_pruner(cfg.hydra.sweeper.pruner), optuna.pruners.BasePruner)


def test_overrides_reach_the_typed_job(compose: Compose) -> None:
    job = compose(
        "model.widths=[1024,512]", "model.dropout=0.3", "optimizer=sgd", "optimizer.lr=0.1", "data.batch_size=256",
        "epochs=10", "seed=1",
    )  # fmt: skip
    assert isinstance(job.model, MLPConfig)
    assert job.model.widths == [1024, 512]
    assert (job.model.dropout, job.optimizer.name, job.optimizer.lr) == (0.3, "sgd", 0.1)
    assert (job.data.batch_size, job.epochs, job.seed) == (256, 10, 1)


def test_one_item_of_a_list_can_be_overridden(compose: Compose) -> None:
    job = compose("model.widths.0=448")
    assert isinstance(job.model, MLPConfig)
    assert job.model.widths[0] == 448


def test_a_job_survives_the_way_through_yaml(compose: Compose) -> None:
    job = compose("model=cnn", "optimizer=sgd", "data=digits", "data.validation=100", "objective=val/loss")
    assert config.from_yaml(config.to_yaml(job)) == job


def test_settings_are_recorded_under_the_keys_that_override_them(compose: Compose) -> None:
    settings = flatten(asdict(compose("data=digits")))
    assert settings["model.widths.0"] == 512
    assert settings["optimizer.lr"] == 0.01
    assert settings["data.name"] == "digits"
    assert all(not isinstance(value, dict | list | tuple) for value in settings.values())


def test_a_loss_is_minimised_and_an_accuracy_maximised() -> None:
    assert METRICS["val/loss"].direction == "minimize"
    assert METRICS["test/accuracy"].direction == "maximize"


def test_the_data_root_follows_the_environment_and_else_lies_in_the_project(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWEEP_DATA_ROOT", "/somewhere")
    assert compose().data.root == "/somewhere"
    monkeypatch.delenv("SWEEP_DATA_ROOT")
    monkeypatch.setenv("SWEEP_ROOT", "")
    project.settle_root(DIGITS.check)  # as train.py does with the job's function
    monkeypatch.chdir(tmp_path)
    assert compose().data.root == str(ROOT / "data")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dropout=1.0", "model.dropout=1.0: must be 0 or more and below 1"),
        ("model.dropout=-0.1", "model.dropout=-0.1: must be 0 or more and below 1"),
        ("model.dropout=abc", "model.dropout: Value 'abc' of type 'str' could not be converted to Float"),
        ("model.widths=[0]", "model.widths=[0]: each must be 1 or more"),
        ("model.widths=[]", "model.widths=[]: give at least one, as in 'model.widths=[512,256]'"),
        ("model.widths=[1.5]", "model.widths.0: Value '1.5' of type 'float' could not be converted to Integer"),
        ("model.activation=step", "model.activation=step: one of relu, gelu, silu, tanh"),
        ("model.name=rnn", "model.name=rnn: choose one of cnn, mlp"),
        ("optimizer.lr=0", "optimizer.lr=0.0: must be above 0"),
        ("optimizer.lr=-1e-3", "optimizer.lr=-0.001: must be above 0"),
        ("optimizer.lr=nan", "optimizer.lr=nan: must be above 0"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1.0: must be 0 or more"),
        ("optimizer.schedule=step", "optimizer.schedule=step: one of one_cycle, cosine, none"),
        ("optimizer.betas=[0.9,1]", "optimizer.betas=[0.9, 1.0]: must be two numbers, each 0 or more and below 1"),
        ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: must be two numbers"),
        ("optimizer.lr=inf", "optimizer.lr=inf: must be above 0 and finite"),
        ("seed=99999999999999999999", "seed=99999999999999999999: must be 0 or more and below 4294967296"),
        ("model.widths=512", "model.widths: give a list, as in 'model.widths=[1,2]'"),
        ("tracking.experiment=''", "tracking.experiment='': give it a name"),
        ("data.batch_size=0", "data.batch_size=0: must be 1 or more"),
        ("data.batch_size=1", "data.batch_size=1: must be 2 or more for the batch norm of mlp"),
        ("data.validation=-1", "data.validation=-1: must be 0 or more"),
        ("epochs=0", "epochs=0: must be 1 or more"),
        ("label_smoothing=1", "label_smoothing=1.0: must be 0 or more and below 1"),
        ("num_threads=0", "num_threads=0: must be 1 or more"),
        ("num_threads=1000000", "num_threads=1000000: must be 1 or more and at most 1024, or null"),
        ("tracking.experiment=" + 600 * "x", f"tracking.experiment={60 * 'x'}...: at most 200 bytes make a name"),
        ("tracking.experiment=1e3", "tracking.experiment=1000.0: that is no text to Hydra; in quotes it is"),
        ("label_smoothing=nan", "label_smoothing=nan: must be 0 or more and below 1"),
        ("optimizer.betas=[nan,0.9]", "optimizer.betas=[nan, 0.9]: must be two numbers"),
        ("model.dropout=nan", "model.dropout=nan: must be 0 or more and below 1"),
        (
            "objective=test/f1",
            "objective=test/f1: choose one of model/parameters, test/accuracy, test/loss, train/loss; "
            "val/accuracy and val/loss need data.validation above 0",
        ),
        (
            "objective=val/accuracy",
            "objective=val/accuracy: choose one of model/parameters, test/accuracy, test/loss, train/loss; "
            "val/accuracy and val/loss need data.validation above 0",
        ),
        ("+typo=1", "typo: no such key; there are data, device, epochs"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(compose: Compose, override: str, message: str) -> None:
    with pytest.raises(SweepError) as caught:
        compose(override)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.widths=[99999999999]",),
        ("model.widths=[4000000000,4000000000]",),
        ("model.widths=[10000000000000000000000]",),
        ("model=cnn", "model.channels=[99999999999]"),
    ],
)
def test_a_model_that_no_memory_can_hold_is_refused_with_its_settings(compose: Compose, overrides: list[str]) -> None:
    with pytest.raises(SweepError, match=r"^model=\w+ with (widths|channels)=\[\d+.*\d\].*: .+") as caught:
        train.require_fit(compose(*overrides))
    assert "\n" not in str(caught.value)


def test_a_data_set_of_one_s_own_class_is_found_by_its_name(compose: Compose) -> None:
    assert isinstance(compose("data=digits").data, DigitsConfig)
    assert isinstance(compose().optimizer, AdamWConfig)
