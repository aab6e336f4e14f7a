"""The two ways to run many trials, as Hydra plugins: a grid (Hydra's own sweeper) and a study (Optuna's).

Both check every value to be tried before the first trial, open the study's parent run in MLflow, and
close with a table. Heavy imports wait inside the functions, so that `--help` and a mistyped key answer at once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper as PluginSweeper
from omegaconf import DictConfig, OmegaConf, read_write

from sweep.errors import SweepError, explain, without_password

if TYPE_CHECKING:
    from sweep.config import Config
    from sweep.tracking import Run, RunRecord

log = logging.getLogger(__name__)

RESULTS_FILE = "optimization_results.yaml"


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper: every combination of the values given, in order."""

    def __init__(self, study_name: str, max_batch_size: int | None, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size, params)
        self.study_name = study_name

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.study_name = _settle_study_name(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config is not None
        assert self.hydra_context is not None
        values: dict[str, list[str]] = {}
        for override in OverridesParser.create().parse_overrides(self._parse_config() + arguments):
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise SweepError(
                    f"{override.input_line}: a grid needs a list of values; for an interval add hydra/sweeper=optuna"
                )
            key = override.get_key_element()
            if override.is_sweep_override():
                values[key] = [str(value) for value in override.sweep_string_iterator()]
            else:
                values[key] = [override.get_value_element_as_str()]
        tried = [key for key, choices in values.items() if len(choices) > 1]
        job = _check(self.hydra_context.config_loader, self.config, values)
        sweep = functools.partial(super().sweep, arguments)
        return _record_study(self.study_name, self.config, job, tried, sweep)


class OptunaSweeper(PluginSweeper):
    """The hydra-optuna-sweeper plugin, with the search space checked beforehand and the study recorded.

    Args:
        direction: None; it follows the job's `objective`.
        settings: The plugin's own.
    """

    def __init__(self, study_name: str, direction: None = None, **settings: Any) -> None:
        if direction is not None:
            raise SweepError(f"hydra.sweeper.direction={direction}: leave it null, it follows the objective")
        for key in ("n_trials", "n_jobs"):
            number = settings[key]
            if not isinstance(number, int) or number < 1:
                raise SweepError(f"hydra.sweeper.{key}={number}: must be a whole number, 1 or more")
        rate = settings["max_failure_rate"]
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise SweepError(f"hydra.sweeper.max_failure_rate={rate}: must be 0 to 1")
        super().__init__(study_name=study_name, direction=direction, **settings)
        self.study_name = study_name

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.study_name = self.sweeper.study_name = _settle_study_name(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.loader = hydra_context.config_loader
        self.config: DictConfig = config

    def sweep(self, arguments: list[str]) -> None:
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

        from sweep.config import direction

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # A key given on the command line replaces its dimension and those below it: model.widths=[512]
        # ends the search for model.widths.0.
        keys = (override.get_key_element() for override in OverridesParser.create().parse_overrides(arguments))
        given = [key.lstrip("+") for key in keys if not self.loader.get_group_options(key)]
        dimensions = {
            key: value
            for key, value in (self.sweeper.params or {}).items()
            if not any(f"{key!s}.".startswith(f"{parent}.") for parent in given)
        }
        self.sweeper.params = OmegaConf.create(dimensions)
        try:
            space, fixed, others = create_params_from_overrides(self.sweeper._parse_sweeper_params_config() + arguments)
        except ValueError as error:
            raise SweepError(f"the search space cannot be read: {error}") from error
        values = {key: _extremes(distribution) for key, distribution in space.items() if key not in fixed}
        if not values:
            raise SweepError(
                "the search space is empty: give a dimension, as in 'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
            )
        _require_discrete_for_grid(self.sweeper, {key: space[key] for key in values})
        all_values = values | {key: [str(value)] for key, value in fixed.items()}
        job = _check(self.loader, self.config, all_values, others)
        self.sweeper.direction = direction(job.objective)
        self._require_new_name_in_storage()
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        sweep = functools.partial(super().sweep, arguments)
        _record_study(self.study_name, self.config, job, list(values), sweep)

    def _require_new_name_in_storage(self) -> None:
        import optuna

        if self.sweeper.storage is None:
            return
        storage = without_password(str(self.sweeper.storage))
        Path(self.config.output_dir).mkdir(parents=True, exist_ok=True)
        try:
            names = optuna.get_all_study_names(self.sweeper.storage)
        except Exception as error:  # whatever the database raises
            reason = without_password(str(error).splitlines()[0])
            raise SweepError(f"hydra.sweeper.storage={storage}: cannot be opened ({reason})") from error
        if self.study_name in names:
            raise SweepError(
                f"hydra.sweeper.study_name={self.study_name}: {storage} has a study of this name; choose another"
            )


def _require_discrete_for_grid(sweeper: Any, space: Mapping[str, Any]) -> None:
    import optuna

    if getattr(sweeper.sampler, "func", None) is not optuna.samplers.GridSampler:
        return
    for key, distribution in space.items():
        try:
            sweeper._to_grid_sampler_choices(distribution)
        except ValueError as error:
            raise SweepError(
                f"hydra/sweeper/sampler=grid: {key} is an interval; give choices, as in '{key}=choice(1,2)', or a value"
            ) from error


def _settle_study_name(config: DictConfig) -> str:
    """The study's name, from now on the same in every job composed from `config`.

    By itself a job would put its own model and data set into it, and the time when it is first looked at.
    """
    name = str(config.hydra.sweeper.study_name)
    sweeper, overrides = config.hydra.sweeper, config.hydra.overrides.hydra
    with read_write(sweeper), read_write(overrides):
        sweeper.study_name = name  # Hydra wants it to be the same here and in the jobs
        overrides.append(f"hydra.sweeper.study_name={QuotedString(name, Quote.single).with_quotes()}")
    return name


def _extremes(distribution: Any) -> list[str]:
    """The values at the edge of an Optuna distribution: all choices, or the lowest and the highest."""
    choices = getattr(distribution, "choices", None)
    return [str(value) for value in choices or (distribution.low, distribution.high)]


def _check(
    loader: ConfigLoader, config: DictConfig, values: Mapping[str, list[str]], others: Sequence[str] = ()
) -> Config:
    """Compose jobs that together hold every one of `values` at least once, see that each can be trained, return one.

    Raises:
        SweepError: One cannot, or an earlier study's files are in the way.
    """
    from sweep import trial
    from sweep.config import parse

    jobs = []
    for i in range(max(map(len, values.values()), default=1)):
        overrides = [f"{key}={choices[min(i, len(choices) - 1)]}" for key, choices in values.items()]
        jobs.append(parse(loader.load_sweep_config(config, [*overrides, *others])))
        trial.check(jobs[-1])
    objectives = {job.objective for job in jobs}
    if len(objectives) > 1:
        raise SweepError(f"objective={','.join(sorted(objectives))}: a study has one; choose it")
    folder = Path(config.hydra.sweep.dir)
    if folder.is_dir() and any(folder.iterdir()):
        raise SweepError(
            f"hydra.sweeper.study_name={config.hydra.sweeper.study_name}: an earlier study has left its files in "
            f"{folder}; choose another name"
        )
    return jobs[0]


def _record_study(name: str, config: DictConfig, job: Config, searched: list[str], sweep: Callable[[], Any]) -> Any:
    """Run `sweep` under the study's parent run, put the best trial's record there too, and print the table.

    Args:
        name: The study's.
        config: Hydra's, of the whole sweep.
        job: Any one of the study's jobs.
        searched: The keys whose values differ between trials.
        sweep: Runs all trials.
    """
    from sweep import summary, tracking
    from sweep.config import direction

    if not job.tracking.enabled:
        return sweep()
    tracking.connect()
    tags = {
        tracking.KIND_TAG: "study",
        tracking.STUDY_TAG: name,
        tracking.OBJECTIVE_TAG: job.objective,
        tracking.DIRECTION_TAG: direction(job.objective),
        "sweep.overrides": " ".join(config.hydra.overrides.task),
    }
    with tracking.open_run(job.tracking.experiment, name, tags=tags) as record:
        log.info("study %s: searching %s for the best %s", name, ", ".join(searched), job.objective)
        failure: Exception | None = None
        result = None
        try:
            result = sweep()
        except Exception as error:  # a trial's; what the others found is still worth the table
            failure = error
        study = tracking.find_study(name)
        trials = tracking.trials_of(study)
        best = tracking.best_of(trials, job.objective, direction(job.objective))
        if best is None:
            raise failure if isinstance(failure, SweepError) else _no_trial_finished(trials, failure)
        _record_best(record, best, searched, Path(config.hydra.sweep.dir))
    log.info("\n%s", summary.tell(study, trials, best, searched, tracking.where_to_look()))
    if failure is not None:
        raise failure
    return result


def _record_best(record: Run, best: RunRecord, searched: list[str], folder: Path) -> None:
    record.log_params({key: best.setting(key) for key in searched})
    record.log_metrics(best.metrics, step=0)
    record.log_text(OmegaConf.to_yaml({"best_trial": best.trial_number, "run_id": best.run_id}), "best_trial.yaml")
    if (folder / RESULTS_FILE).exists():
        record.log_file(folder / RESULTS_FILE)


def _no_trial_finished(trials: list[RunRecord], failure: Exception | None) -> SweepError:
    from sweep.tracking import ERROR_TAG

    if not trials:
        return SweepError(f"no trial could be started: {failure and (explain(failure) or repr(failure))}")
    reasons = [trial.tags[ERROR_TAG] for trial in trials if ERROR_TAG in trial.tags]
    return SweepError(f"none of {len(trials)} trials finished; the first said: {next(iter(reasons), 'nothing')}")
