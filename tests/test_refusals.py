"""Command lines of studies and grids, checked in this process as they are before trial 0: nothing is trained."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

import sweep
from sweep import Metric
from sweep.digits import models
from sweep.digits.job import DIGITS, METRICS
from sweep.errors import explain
from sweep.plugin import sweeper
from sweep.study import samplers

STUDY = ("hydra/sweeper=optuna", "data=digits", "tracking.enabled=false")
GRID = ("data=digits", "tracking.enabled=false", "seed=0,1")

Made = Callable[..., Any]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """The sweeper of a command line, set up as Hydra does it, with its `arguments`."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as train.py does
    sweeper.register_plugin()
    before = Singleton.get_state()
    with initialize_config_dir(str(ROOT / "conf")):

        def make(*overrides: str) -> Any:
            hydra: Any = GlobalHydra.instance().hydra
            words = [f"output_dir={tmp_path / 'multirun'}", *overrides]
            cfg = hydra.compose_config("config", words, RunMode.MULTIRUN, with_log_configuration=False)
            HydraConfig.instance().set_config(cfg)
            context = HydraContext(hydra.config_loader, hydra.config_loader)
            plugin: Any = Plugins.instance().instantiate_sweeper(
                config=cfg, hydra_context=context, task_function=DIGITS(lambda _: None)
            )
            plugin.arguments = OmegaConf.to_container(cfg.hydra.overrides.task)
            return plugin

        yield make
    Singleton.set_state(before)
    sweeper.register_plugin()  # which that state does not hold


def refusal(made: Made, *overrides: str) -> str:
    """The line that a person would see, without what is not the same each time."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- `explain` says below whether it is one for a person
        plugin = made(*overrides)
        plugin.sweep(plugin.arguments)  # which is refused before anything is made
    line = explain(caught.value, overrides)
    assert line is not None, repr(caught.value)
    assert "\n" not in line
    return line


REFUSED: list[tuple[tuple[str, ...], str]] = [
    # Values that broke later than the checks.
    (("model.widths=[99999999999]",), "model=mlp with widths=[99999999999], dropout=0.0"),
    (("hydra.sweeper.n_jobs=1000000", "hydra.sweeper.n_trials=1000000"), "hydra.sweeper.n_jobs=1000000: must be at mo"),
    (("hydra.sweeper.study_name=" + 300 * "x",), f"hydra.sweeper.study_name={60 * 'x'}...: at most 200 bytes make a"),
    (("epochs=abc",), "epochs: Value 'abc' of type 'str' could not be converted to Integer"),
    (("optimizer.lr=interval(0.1,inf)",), "optimizer.lr=inf: must be above 0 and finite"),
    # What is not a group of settings.
    (("hydra.sweeper.sampler=null",), "hydra.sweeper.sampler=null: choose one with hydra/sweeper/sampler=NAME"),
    (("hydra.sweeper.sampler=abc",), "hydra.sweeper.sampler=abc: choose one with hydra/sweeper/sampler=NAME"),
    (("hydra.sweeper.pruner=null",), "hydra.sweeper.pruner=null: choose one with hydra/sweeper/pruner=NAME"),
    (("hydra.sweeper.pruner=[]",), "hydra.sweeper.pruner=[]: it takes keys with their values, not a list"),
    *[((f"hydra.sweeper.params={given}",), f"hydra.sweeper.params={given}: null, or keys") for given in ("abc", "nan")],
    (("hydra.sweeper.params=true",), "hydra.sweeper.params=True: null, or keys with what to search"),
    # Numbers that are none.
    (("hydra.sweeper.timeout=inf",), "hydra.sweeper.timeout=inf: must be a number of seconds above 0, or null"),
    (("hydra.sweeper.timeout=nan",), "hydra.sweeper.timeout=nan: must be a number of seconds above 0, or null"),
    (("hydra.sweeper.max_failure_rate=nan",), "hydra.sweeper.max_failure_rate=nan: must be 0 to 1"),
    (("hydra.sweeper.n_trials=inf",), "hydra.sweeper.n_trials=inf: must be a whole number, 1 or more"),
    (("hydra.sweeper.n_jobs=nan",), "hydra.sweeper.n_jobs=nan: must be a whole number, 1 or more, or auto"),
    (("hydra.sweeper.params={model.dropout:nan}",), "hydra.sweeper.params.model.dropout=nan: must be a finite number"),
    (("hydra.sweeper.starting_points=[{model.dropout:nan}]",), "hydra.sweeper.starting_points.0.model.dropout=nan: m"),
    # Settings of samplers and pruners.
    (
        ("hydra.sweeper.sampler.n_startup_trials=abc",),
        "hydra.sweeper.sampler.n_startup_trials=abc: must be a whole num",
    ),
    (("hydra.sweeper.sampler.n_startup_trials=null",), "hydra.sweeper.sampler.n_startup_trials=null: must be a whole"),
    (("hydra.sweeper.sampler.seed=-1",), "hydra.sweeper.sampler.seed=-1: must be 0 or more and below 4294967296"),
    (("hydra.sweeper.sampler.n_ei_candidates=0",), "hydra.sweeper.sampler.n_ei_candidates=0: so the sampler cannot"),
    *[
        ((f"hydra/sweeper/sampler={name}", f"hydra.sweeper.sampler.{given}"), f"hydra.sweeper.sampler.{given}: {why}")
        for name, given, why in [
            ("cmaes", "sigma0=abc", "must be a number or null"),
            ("cmaes", "x0=5", "must be dict[str, Any] or null"),
            ("cmaes", "x0={foo:1}", "so the sampler cannot make a trial"),
            ("cmaes", "popsize=abc", "must be a whole number or null"),
            ("gp", "n_startup_trials=abc", "must be a whole number"),
            ("grid", "seed=abc", "must be a whole number or null"),
            ("nsgaii", "population_size=abc", "must be a whole number"),
            ("nsgaii", "crossover=abc", "must be BaseCrossover or null"),
            ("nsgaiii", "reference_points=abc", "must be np.ndarray or null"),
            ("qmc", "scramble=abc", "must be true or false"),
            ("random", "seed=1.5", "must be a whole number or null"),
        ]
    ],
    (("hydra/sweeper/sampler=qmc", "hydra.sweeper.sampler.qmc_type=abc"), "hydra.sweeper.sampler: The `qmc_type='abc'"),
    *[
        ((f"hydra/sweeper/pruner={name}", f"hydra.sweeper.pruner.{given}"), f"hydra.sweeper.pruner.{given}: must be a ")
        for name, given in [
            ("median", "n_startup_trials=abc"),
            ("percentile", "percentile=nan"),
            ("threshold", "lower=abc"),
            ("hyperband", "reduction_factor=abc"),
            ("patient", "min_delta=abc"),
        ]
    ],
    (("hydra/sweeper/pruner=patient", "hydra.sweeper.pruner.wrapped_pruner=abc"), "hydra.sweeper.pruner.wrapped_prune"),
    (("objective=[test/accuracy,test/loss]", "hydra/sweeper/sampler=cmaes"), "hydra.sweeper.sampler: so the sampler c"),
    # Settings that are none, or none of a study.
    (("+hydra.sweeper.trials=5",), "hydra.sweeper.trials=5: no such key; there are confirms, custom_search_space,"),
    (("~hydra.sweeper.n_trials",), "hydra.sweeper.n_trials=: it cannot be left out"),
    (("hydra.sweeper.n_trials=null",), "hydra.sweeper.n_trials=None: must be a whole number, 1 or more"),
    (
        ("hydra.sweeper.storage=null", "hydra.sweeper.n_jobs=2"),
        "hydra.sweeper.storage=null: jobs in other processes cannot see a study in the memory of this one, so none wou",
    ),
    # Folders.
    (("output_dir=/dev/null",), "output_dir=/dev/null: no files can be written to /dev/null/digits-mlp-"),
    (("output_dir=null",), "output_dir=null: give a folder"),
    (("output_dir=",), "output_dir=: give a folder"),
    (("hydra.sweep.dir=/dev/null/x",), "hydra.sweep.dir=/dev/null/x: no files can be written to /dev/null/x ("),
    (
        (f"hydra.sweep.dir={ROOT}",),
        f"hydra.sweep.dir={ROOT}: an earlier study has left its files there; choose another",
    ),
    # Directions.
    (("hydra.sweeper.direction=up",), "hydra.sweeper.direction=up: give minimize or maximize for each of objective=te"),
    (("hydra.sweeper.direction=minimize",), "hydra.sweeper.direction=minimize: objective=test/accuracy means maximize"),
    (("hydra.sweeper.direction=[maximize,minimize]",), "hydra.sweeper.direction=maximize,minimize: give minimize or"),
    # What would be without effect, or have another than it seems.
    (
        ("optimizer=choice(adamw,sgd)",),
        "optimizer=choice(adamw,sgd): each brings a search space of its own (optimizer.l",
    ),
    (("optimizer=glob(*)",), "optimizer=choice(adam,adamw,sgd): each brings a search space of its own"),
    (
        ("model=choice(mlp,cnn)",),
        "model=choice(mlp,cnn): each brings a search space of its own (model.widths.length=ran",
    ),
    (("experiment=choice(mlp,cnn)",), "experiment=choice(mlp,cnn): each brings a search space of its own"),
    (("optimizer=glob(x*)",), "optimizer=glob(x*): choose one of adam, adamw, sgd"),
    (("epochs=glob(*)",), "epochs=glob(*): epochs is no config group to choose from"),
    (("epochs=1", "epochs=range(1,3)"), "epochs=1 and epochs=range(1,3): epochs is given more than once; give it once"),
    (("epochs=range(1,3)", "++epochs=1"), "epochs=range(1,3) and ++epochs=1: epochs is given more than once"),
    *[
        ((f"hydra.sweeper.starting_points=[{{{given}}}]",), f"hydra.sweeper.starting_points: {why}")
        for given, why in [
            ("epochs:2", "epochs=2: not searched, so no trial would have it"),
            ("model.dropout:0.2,epochs:2", "epochs=2: not searched, so no trial would have it"),
            ("optimizer:sgd", "optimizer=sgd: not searched, so no trial would have it"),
        ]
    ],
    (
        (
            "model.widths.1=64",
            "model.widths.length=choice(1,2)",
            "hydra.sweeper.starting_points=[{model.widths:[512,128]}]",
        ),
        "hydra.sweeper.starting_points: model.widths=[512,128]: not all of it is searched, a trial would have [512,64]",
    ),
    # Keys below a value, and below a list.
    (
        ("optimizer.lr.log=true",),
        "optimizer.lr.log=true: no such key; optimizer.lr is one value, with no keys below it",
    ),
    (("model.widths.a.b=1",), "model.widths.a.b=1: model.widths is a list, its items are model.widths.0"),
    (("hydra.sweeper.params={model.dropout:interval(0,1)}",), "hydra.sweeper.params.model.dropout: needs quotes there"),
    # A grid by Optuna.
    (
        ("hydra/sweeper/sampler=grid",),
        "hydra/sweeper/sampler=grid: it tries every combination, so each key needs choices or a value; for example "
        "'model.widths=[512,256]' 'model.dropout=choice(0.0,0.15,0.3)' 'optimizer.lr=choice(0.002,0.00775,0.03)'",
    ),
]


@pytest.mark.parametrize(
    ("overrides", "line"), REFUSED, ids=lambda given: " ".join(given)[:60] * isinstance(given, tuple)
)
def test_what_a_study_cannot_do_is_refused_in_one_line_and_leaves_nothing(
    made: Made, tmp_path: Path, overrides: tuple[str, ...], line: str
) -> None:
    assert refusal(made, *STUDY, *overrides).startswith(line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("hydra.sweeper.params=abc",), "hydra.sweeper.params=abc: null, or keys with what to search"),
        (
            ("hydra.sweeper.starting_points=[{seed:3}]",),
            "hydra.sweeper.starting_points=[{'seed': 3}]: a grid tries its own values, and no others; leave it as",
        ),
        (
            ("hydra.sweeper.custom_search_space=a.b",),
            "hydra.sweeper.custom_search_space=a.b: a grid tries its own valu",
        ),
        (("model.widths.length=range(1,3)",), "hydra/sweeper/sampler=grid: it tries every combination, so each key n"),
        (
            ("hydra.sweeper.max_batch_size=abc",),
            "hydra.sweeper.max_batch_size=abc: must be a whole number, 1 or more, o",
        ),
        (
            ("hydra.sweeper.max_batch_size=0",),
            "hydra.sweeper.max_batch_size=0: must be a whole number, 1 or more, or n",
        ),
        (
            ("hydra.sweeper.params={optimizer.lr:nan}",),
            "hydra.sweeper.params.optimizer.lr=nan: must be a finite number",
        ),
        (("optimizer.lr=0.1,nan",), "optimizer.lr=nan: must be above 0 and finite"),
        (("epochs=1", "epochs=1,2"), "epochs=1 and epochs=1,2: epochs is given more than once; give it once"),
        (("optimizer=glob(x*)",), "optimizer=glob(x*): choose one of adam, adamw, sgd"),
        (("hydra.sweeper.direction=minimize",), "hydra.sweeper.direction=minimize: objective=test/accuracy means max"),
        (("output_dir=/dev/null",), "output_dir=/dev/null: no files can be written to /dev/null/digits-grid-"),
        (
            (f"hydra.sweep.dir={ROOT}",),
            f"hydra.sweep.dir={ROOT}: an earlier study has left its files there; choose ano",
        ),
    ],
)
def test_what_a_grid_cannot_do_is_refused_in_one_line_and_leaves_nothing(
    made: Made, tmp_path: Path, overrides: tuple[str, ...], line: str
) -> None:
    assert refusal(made, *GRID, *overrides).startswith(line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=choice(adamw,adam)",),
        ("optimizer=glob(*)", "optimizer.lr=0.1"),
        ("epochs=1", "epochs=2"),
        ("hydra.sweeper.starting_points=[{model.widths:[512,128]},{model.widths.length:3,model.widths.2:64}]",),
        ("hydra.sweeper.direction=maximize",),
        ("objective=[test/accuracy,model/parameters]", "hydra.sweeper.direction=[maximize,minimize]"),
        ("objective=val/accuracy", "data.validation=choice(100,200)", "model.activation=choice(relu,gelu)"),
        ("hydra/sweeper/sampler=grid", "model.widths=[512,256]", "model.dropout=choice(0.0,0.15)", "optimizer.lr=0.01"),
        ("hydra/sweeper/sampler=cmaes",),
        ("hydra/sweeper/sampler=qmc",),
    ],
)
def test_what_a_study_can_do_passes_the_checks(made: Made, overrides: tuple[str, ...]) -> None:
    plugin = made(*STUDY, *overrides)
    plugin.check(plugin.arguments)


@pytest.mark.parametrize(
    ("overrides", "n_trials", "num_slots"),
    [
        ((), 2, "auto"),
        (("hydra.sweeper.max_batch_size=2", "epochs=1,2"), 4, 2),
        (("hydra.sweeper.n_jobs=1", "hydra.sweeper.params={epochs:'1,2,3'}"), 6, 1),
        (("hydra.sweeper.n_trials=1",), 1, "auto"),
        (("hydra.sweeper.n_trials=9", "model=mlp,cnn"), 4, "auto"),
        (("hydra.sweeper.storage=null", "hydra.sweeper.n_jobs=2"), 2, 2),
    ],
)
def test_a_grid_comes_to_all_its_combinations_and_max_batch_size_is_how_many_run_at_a_time(
    made: Made, overrides: tuple[str, ...], n_trials: int, num_slots: int | str
) -> None:
    plugin = made(*GRID, *overrides)
    plugin.check(plugin.arguments)
    assert (plugin.n_trials, plugin.settings.num_slots) == (n_trials, num_slots)


@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_a_grid_of_one_job_is_a_way_to_run_it_with_another_launcher_only(made: Made, launcher: str) -> None:
    command = ("data=digits", "tracking.enabled=false", f"hydra/launcher={launcher}")
    if launcher == "basic":
        assert refusal(made, *command).startswith("-m: no key has several values; give one some")
        return
    plugin = made(*command)
    assert plugin.check(plugin.arguments)[2] == [{}]
    assert (plugin.n_trials, plugin._prepare_slots(plugin.check(plugin.arguments)[0])) == (1, 1)


def test_a_grid_takes_the_choices_of_a_glob(made: Made) -> None:
    plugin = made(*GRID, "optimizer=glob(a*)")
    assert plugin.check(plugin.arguments)[1].values() == {"seed": [0, 1], "optimizer": ["adam", "adamw"]}


@pytest.mark.parametrize("typed", ["1e3", "007", "true", "1.0", "v2.1_a-b"])
def test_a_study_s_name_is_what_was_typed(made: Made, typed: str) -> None:
    assert made(*STUDY, f"hydra.sweeper.study_name={typed}").name == typed


def test_a_study_without_a_name_is_a_fresh_one_with_the_default_name(made: Made, tmp_path: Path) -> None:
    default, null = made(*STUDY), made(*STUDY, "hydra.sweeper.study_name=null")
    assert null.name != default.name
    assert null.name.startswith("digits-mlp-2")
    assert null.folder == tmp_path / "multirun" / null.name
    assert made(*GRID, "hydra.sweeper.study_name=null").name.startswith("digits-grid-2")


@pytest.fixture
def condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MLP whose own check refuses gelu without dropout."""
    check = models.MLPConfig.__post_init__

    def stricter(self: models.MLPConfig) -> None:
        check(self)
        sweep.require(self.activation != "gelu" or self.dropout > 0, "model.dropout", self.dropout, "gelu needs some")

    monkeypatch.setattr(models.MLPConfig, "__post_init__", stricter)


@pytest.mark.usefixtures("condition")
@pytest.mark.parametrize("choices", ["relu,gelu", "gelu,relu"])
def test_whether_a_study_starts_does_not_depend_on_the_order_of_its_choices(made: Made, choices: str) -> None:
    """The trials that meet the combination say so."""
    plugin = made(*STUDY, f"model.activation=choice({choices})", "model.dropout=choice(0.0,0.2)")
    plugin.check(plugin.arguments)
    for values in ("step,relu", "relu,step"):
        line = refusal(made, *STUDY, f"model.activation=choice({values})", "model.dropout=choice(0.0,0.2)")
        assert line == "model.activation=step: one of relu, gelu, silu, tanh"


@pytest.mark.usefixtures("condition")
@pytest.mark.parametrize("dropout", ["interval(0,0.3)", "choice(0.0,0.2)", "choice(0.2,0.0)"])
def test_a_value_that_goes_with_none_of_the_others_is_refused(made: Made, dropout: str) -> None:
    line = refusal(made, *STUDY, "model.activation=gelu", f"model.dropout={dropout}")
    assert line == "model.dropout=0.0: gelu needs some"


def test_the_direction_of_a_metric_of_one_s_own_is_asked_for(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "test/f1", Metric())
    command = (*STUDY, "objective=[test/f1,test/loss]")
    line = refusal(made, *command)
    assert line == (
        "hydra.sweeper.direction=null: whether test/f1 is to be minimized or maximized is not known; "
        "give hydra.sweeper.direction=[minimize,minimize], or maximize"
    )
    for given in (["maximize", "minimize"], ["minimize", "minimize"]):
        plugin = made(*command, f"hydra.sweeper.direction=[{','.join(given)}]")
        assert plugin.check(plugin.arguments)[0].goal.directions == given
    assert refusal(made, *command, "hydra.sweeper.direction=[maximize,maximize]").endswith(
        "means either,minimize; leave it null"
    )


def test_what_a_person_may_do_warns_of_nothing(made: Made) -> None:
    plugin = made(*STUDY, "objective=[test/accuracy,model/parameters]")
    checked, searched, _ = plugin.check(plugin.arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samplers.try_out(plugin.sampler, checked.goal.directions, searched, 3)
