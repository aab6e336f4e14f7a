"""The two ways to run many trials, as Hydra plugins: a grid (Hydra's own sweeper) and a study (Optuna's).

Both check every value to be tried before the first trial, open the study's parent run in MLflow, and
close with a table. Heavy imports wait inside the functions, so that `--help` and a mistyped key answer at once.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import re
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper as PluginSweeper
from omegaconf import DictConfig, OmegaConf, read_write

from sweep import arguments, interrupts, project
from sweep import job as jobs
from sweep.errors import Stopped, SweepError, explain, in_one_line, require, without_password
from sweep.job import Dataset, Goal, Job
from sweep.outcome import Ended
from sweep.plugin import launchers, workers
from sweep.plugin.search_path import StudySearchPath
from sweep.study.progress import say_at_once
from sweep.study.pruners import build_pruner
from sweep.study.pruners import explained as _explained
from sweep.study.pruners import require_settings as _require_settings

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from sweep.record.run import Run
    from sweep.study.space import Space
    from sweep.study.study import Study

log = logging.getLogger(__name__)

HYDRAS_FOLDER = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"
"""Where Hydra puts a sweep if nobody says where."""
OF_EACH_JOB = ("objective", "experiment", "record", "watch")
"""Settings that are read from each composed job; see `Job.goal`."""

MOST_NAMES = 10
"""Studies of a storage that are named, the newest."""
LONGEST_NAME = 200
"""Bytes of a study's name: file systems take 255, MLflow 250, and both add something of their own."""

MOST_PER_CORE = 32
"""Jobs at a time on this machine; far more only end in a machine without memory."""


@contextmanager
def _one_line() -> Iterator[None]:
    """Within, what a person can mend ends a program with one line, unless it tells errors itself."""
    try:
        yield
    except Exception as error:
        line = explain(error, sys.argv[1:])
        if line is None or "HYDRA_FULL_ERROR" in os.environ:  # as our own program does, which tells it itself
            raise
        sys.exit(f"error: {line}")


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper: every combination of the values given, in order."""

    def __init__(
        self, study_name: Any, max_batch_size: int | None, params: dict[str, str] | None = None, **_of_each_job: Any
    ) -> None:
        del study_name  # which setup settles
        if max_batch_size is not None:
            _require_whole("max_batch_size", max_batch_size, ", or null")
        _require_settings("params", params)
        super().__init__(max_batch_size, params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        _require_finite("hydra.sweeper", OmegaConf.to_container(config.hydra.sweeper))
        task_function = jobs.as_job(task_function)
        self.job = jobs.of(task_function)
        self.study_name = _settle_study_name(config, [*_names_of(self.job, config)[:1], "grid"])
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        launchers.prepare(self.launcher)

    def sweep(self, arguments: list[str]) -> Any:
        say_at_once(f"study {self.study_name}: checking the values to try ...")
        from sweep.results import conclude
        from sweep.study import space

        assert self.config is not None
        checked, tried = self.check(arguments)
        interrupts.work_begins()
        _make_folder(self.config)
        sweep = functools.partial(super().sweep, arguments)
        record = _open_record(self.study_name, checked, self.config, space.of_choices(tried), None)
        return conclude.grid(record, self.study_name, checked.goal, list(tried), sweep)

    def check(self, arguments: list[str]) -> tuple[_Checked, dict[str, list[str]]]:
        """See that every value can be tried, and return what is known of the jobs, and what differs between them.

        Raises:
            SweepError: One cannot.
        """
        from sweep.study import space

        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        values: dict[str, list[str]] = {}
        given = space.parse(self._parse_config() + arguments, loader)
        if _runs_here(self.config) and not any(override.is_sweep_override() for override in given):
            raise SweepError(
                "-m: no key has several values; give one some, as in optimizer.lr=1e-3,1e-2, add hydra/sweeper=optuna "
                "for a study, or leave -m out for one run"
            )
        for override in given:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise SweepError(
                    f"{override.input_line}: a grid needs a list of values; for an interval add hydra/sweeper=optuna"
                )
            key = override.get_key_element()
            if override.is_sweep_override():
                values[key] = [str(value) for value in override.sweep_string_iterator()]
            else:
                values[key] = [override.get_value_element_as_str()]
        checked = _check(
            self.job, loader, self.config, values, lambda corner: [f"{key}={value}" for key, value in corner.items()]
        )
        _require_new_folder(self.study_name, self.config)
        return checked, {key: choices for key, choices in values.items() if len(choices) > 1}


class OptunaSweeper(PluginSweeper):
    """The hydra-optuna-sweeper plugin with slots that are never idle, pruning, and studies that can be taken up again.

    Args:
        study_name: A study of this name that exists is gone on with; None for a new one.
        n_trials: How many trials the study comes to in all.
        n_jobs: How many run at a time; "auto" for as many as there are cores, or GPUs when training on them.
        pruner: Which of `optuna.pruners`, built as the sampler is.
        timeout: Seconds after which no more trials are handed out, None for no end.
        starting_points: Changes to the job as composed, by key, to be tried after it and before the search.
        confirms: The study whose best trials this one trains again; it is then not looked for as the newest.
        settings: The plugin's own.
    """

    @_one_line()
    def __init__(
        self,
        study_name: Any,
        n_trials: int,
        n_jobs: int | str,
        pruner: DictConfig,
        timeout: float | None,
        starting_points: Sequence[dict[str, Any]],
        confirms: str | None,
        **settings: Any,
    ) -> None:
        from sweep.study import samplers

        for key in OF_EACH_JOB:
            settings.pop(key, None)
        _require_whole("n_trials", n_trials)
        if n_jobs != "auto":
            _require_whole("n_jobs", n_jobs, ", or auto")
        rate = settings["max_failure_rate"]
        require(_is_number(rate) and 0 <= rate <= 1, "hydra.sweeper.max_failure_rate", rate, "must be 0 to 1")
        seconds = "must be a number of seconds above 0, or null"
        is_end = timeout is None or (_is_number(timeout) and 0 < timeout < math.inf)
        require(is_end, "hydra.sweeper.timeout", timeout, seconds)
        points = OmegaConf.to_container(starting_points) if OmegaConf.is_config(starting_points) else starting_points
        require(
            isinstance(points, list) and all(isinstance(point, dict) for point in points),
            "hydra.sweeper.starting_points",
            starting_points,
            "must be a list of settings, as in [{optimizer.lr: 0.01}]",
        )
        require(
            confirms is None or isinstance(confirms, str), "hydra.sweeper.confirms", confirms, "a study's name, or null"
        )
        self.confirms = confirms
        _require_settings("params", settings["params"])
        storage = settings["storage"]
        require(
            storage is None or isinstance(storage, str), "hydra.sweeper.storage", storage, "a path or a URL, or null"
        )
        is_mistyped = storage is not None and "://" not in storage and _is_like_address(storage)
        require(not is_mistyped, "hydra.sweeper.storage", storage, "a path, or a URL, as in postgresql://HOST/NAME")
        self.n_jobs, self.timeout = n_jobs, timeout
        self.starting_points: Any = points
        self.pruner_settings = pruner
        self.plugin_settings = settings | {"study_name": study_name, "n_trials": n_trials, "n_jobs": 1}
        _require_settings("sampler", settings["sampler"], "sampler/tpe is the default")
        samplers.require_types("hydra.sweeper.sampler", settings["sampler"])
        with _explained("sampler"):
            super().__init__(**self.plugin_settings | {"custom_search_space": None})
        with _explained("custom_search_space"):
            super().__init__(**self.plugin_settings)

    @_one_line()
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        workers.require_main()
        _require_finite("hydra.sweeper", OmegaConf.to_container(config.hydra.sweeper))
        for logger in ("hydra", "hydra_plugins"):  # whose launchers would tell of each job on their own
            logging.getLogger(logger).setLevel(logging.WARNING)
        if self.n_jobs != 1 and _runs_here(config):
            workers.start_importing(jobs.of(task_function).preload)
        task_function = jobs.as_job(task_function)
        self.job = jobs.of(task_function)
        self.name = _settle_study_name(config, _names_of(self.job, config))
        _settle_folder(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        launchers.prepare(self.sweeper.launcher)
        self.sweeper.storage = _settle_storage(config)
        self.context, self.task = hydra_context, task_function
        self.config: DictConfig = config
        self.folder = _folder(config)

    @_one_line()
    def sweep(self, arguments: list[str]) -> None:
        say_at_once(f"study {self.name}: checking the search space ...")
        from sweep.record.connect import connect
        from sweep.record.place import require_place
        from sweep.study import samplers, study

        impl = self.sweeper
        checked, searched, points = self.check(arguments)
        directions = checked.goal.directions
        launcher, num_slots = self._launcher(checked)
        shared_settings = {key: value for key, value in checked.settings.items() if not searched.covers(key)}
        facts = {"space": searched.describe(), "job": shared_settings}
        if study.is_server(impl.storage):
            print(f"connecting to {without_password(str(impl.storage))}", flush=True)
        found = study.find(impl.storage, self.name)
        if found is None:
            _require_new_folder(self.name, self.config, impl.storage)
            if others := study.names_in(impl.storage):
                print(f"study {self.name} is new; its storage also holds {', '.join(others[-MOST_NAMES:])}", flush=True)
        else:
            _require_same(found, directions, facts)
        if checked.goal.is_recorded:
            connect()
            require_place(checked.goal.experiment)
        interrupts.work_begins()
        _make_folder(self.config)
        shared = study.Study(impl.storage, self.name, directions, impl.n_trials, self.folder)
        try:
            shared.set_up(facts, points)
            _require_same(shared.optuna, directions, facts)  # another process may have made it meanwhile
            shared.optuna.sampler = samplers.learning_from_pruned(self._sampler(shared))
            shared.optuna.pruner = self.pruner
            self._search(shared, checked, searched, launcher, num_slots)
        except SweepError:
            shared.discard_unused()
            raise
        finally:
            shared.close()

    def check(self, arguments: list[str]) -> tuple[_Checked, Space, list[dict[str, Any]]]:
        """See that the study can be made, and return what is known of its jobs, what is searched and the first points.

        Raises:
            SweepError: It cannot.
        """
        from sweep.study import space

        impl, loader = self.sweeper, self.context.config_loader
        searched = space.read(
            impl.params or {},
            arguments,
            loader,
            self.config,
            can_be_empty=impl.custom_search_space_extender is not None,
        )
        checked = _check(self.job, loader, self.config, searched.extremes(), searched.overrides, searched.shortest())
        if _is_grid(impl.sampler):
            self._make_grid(searched)
        else:
            self._try_sampler(searched, checked.goal.directions)
        self.pruner = build_pruner(self.pruner_settings)
        return checked, searched, self._points(searched)

    def _search(self, shared: Study, checked: _Checked, searched: Space, launcher: Launcher, num_slots: int) -> None:
        from sweep.record import mirror
        from sweep.record.lifecycle import keep_running
        from sweep.results import conclude
        from sweep.results.summary import whole_lists, wrapped
        from sweep.study.search import Search, tell_best, write_results
        from sweep.study.slots import Stop

        goal = checked.goal
        stop = Stop(self.timeout)
        suggest = functools.partial(self._suggest, searched, _threads_of(self.job, checked, launcher, num_slots))

        def settle(ended: Mapping[int, Ended]) -> None:
            recorded = {
                number: end._replace(params=conclude.as_recorded(end.params, checked.composed))
                for number, end in ended.items()
            }
            mirror.settle(goal, mirror.Parent(self.name, shared.recall("run")), recorded)

        num_steps = OmegaConf.select(checked.composed, self.job.num_steps) if self.job.num_steps else None
        search = Search(
            shared, self.job, goal.objectives, num_steps, launcher.launch, functools.partial(launchers.stop, launcher),
            num_slots, suggest, settle, self.sweeper.max_failure_rate, stop,
        )  # fmt: skip
        go_on = f"go on with it: {_command(self.name)}"
        keys = list(searched.dimensions)
        # Printed, not logged: a job that runs in this process takes the log's handlers for itself.
        what = ", ".join(whole_lists(keys))
        print(wrapped(f"study {self.name}: searching {what} for the best {', '.join(goal.objectives)}"))
        print(f"{num_slots} trial{'s' * (num_slots > 1)} at a time; {go_on}", flush=True)
        table = stopped = ""
        dimensions, run_id = searched.dimensions, shared.recall("run") or None
        with suppress(Stopped), _open_record(self.name, checked, self.config, dimensions, run_id) as run:
            shared.remember({"run": run.run_id or ""})
            with suppress(KeyboardInterrupt):  # told below, when the results are written
                search.run()
            if (lost := search.lost_record) is not None:
                raise lost
            if shared.has_finished or not stop.reason:
                results = write_results(shared, self.folder)
                table = conclude.conclude(run, dimensions, self.job, search.failure, [results])
                table = table or tell_best(shared, self.job, goal.objectives, results)
            if stop.reason and not shared.is_complete:
                stopped = f"{stop.reason} after {shared.num_counted()} of {shared.n_trials} trials"
                raise Stopped(stopped)
        shared.close()
        if run.run_id is not None and shared.has_other_owners and not shared.is_complete:
            keep_running(run.run_id)
        if table:
            print(f"\n{table}")
        if stopped:
            print(f"stopped by {stopped}; {go_on}")
        if search.failure is not None:
            raise search.failure
        if stop.is_interrupted and stopped:
            raise KeyboardInterrupt

    def _suggest(self, searched: Space, threads: list[str], trial: optuna.Trial) -> list[str]:
        active = searched.active(searched.suggested_lengths(trial))
        (overrides,) = self.sweeper._configure_trials([trial], active, searched.fixed, [])
        return searched.overrides(dict(override.split("=", 1) for override in overrides)) + threads

    def _make_grid(self, searched: Space) -> None:
        from sweep.study import study

        if instead := searched.as_choices():
            raise SweepError(
                "hydra/sweeper/sampler=grid: it tries every combination, so each key needs choices or a value; "
                f"for example {' '.join(map(shlex.quote, instead))}"
            )
        choices = {key: list(self.sweeper._to_grid_sampler_choices(one)) for key, one in searched.dimensions.items()}
        self.sweeper.sampler = study.GridSampler(choices, **self.sweeper.sampler.keywords)
        self.sweeper.n_trials = min(self.sweeper.n_trials, math.prod(map(len, choices.values())))

    def _sampler(self, shared: Study) -> Any:
        """The study's sampler, seeded anew where the study goes on, so that it does not draw the same again."""
        import numpy as np
        from optuna.samplers import GridSampler, QMCSampler

        settings = self.plugin_settings["sampler"]
        if shared.is_new or settings.get("seed") is None or isinstance(self.sweeper.sampler, GridSampler | QMCSampler):
            return self.sweeper.sampler  # those two find in the study where they were
        drawn = [settings.seed, len(shared.trials())]
        if shared.has_other_owners:  # who may be drawing from the same seed now
            drawn.append(int.from_bytes(os.urandom(4)))
        seed = int(np.random.SeedSequence(drawn).generate_state(1)[0])
        with _explained("sampler"):
            return self._build_sampler({"seed": seed})

    def _try_sampler(self, searched: Space, directions: list[str]) -> None:
        from sweep.study import samplers

        typed = [one for one in self.config.hydra.overrides.hydra if one.startswith("hydra.sweeper.sampler.")]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                samplers.try_out(self._build_sampler({}), directions, searched, self.sweeper.n_trials)
        except Exception as error:  # whatever it raises
            shown = " ".join(typed) or "hydra.sweeper.sampler"
            raise SweepError(f"{shown}: so the sampler cannot make a trial ({in_one_line(error, 200)})") from error

    def _build_sampler(self, changes: dict[str, Any]) -> Any:
        sampler = OmegaConf.merge(self.plugin_settings["sampler"], changes)
        again = PluginSweeper(**self.plugin_settings | {"sampler": sampler, "custom_search_space": None})
        return again.sweeper.sampler

    def _points(self, searched: Space) -> list[dict[str, Any]]:
        """The values that the study starts from: those of the job as composed, then the starting points listed."""
        from sweep.study import space

        if _is_grid(self.sweeper.sampler):
            return []
        loader, common = self.context.config_loader, searched.common
        points = []
        for i, changes in enumerate([{}, *self.starting_points]):
            try:
                overrides = [*common, *searched.changed(changes)]
                wanted = loader.load_sweep_config(self.config, overrides)
                searched.require_searched(changes, wanted)
                points.append(searched.point_of(wanted))
                if changes:
                    made = loader.load_sweep_config(self.config, searched.overrides(points[-1]))
                    space.require_same(changes, wanted, made)
            except Exception as error:  # ours, or whatever Hydra raises of a key or a value
                reason = explain(error, [f"{key}={value}" for key, value in changes.items()]) or str(error)
                if i > 0:
                    raise SweepError(f"hydra.sweeper.starting_points: {reason}") from error
                log.info("the job as composed is not tried first: %s", reason)
        return points

    def _launcher(self, checked: _Checked) -> tuple[Launcher, int]:
        """What runs the trials, and how many at a time."""
        launcher: Any = self.sweeper.launcher
        kind = type(launcher).__name__
        num_gpus = self.job.num_gpus(checked.composed)
        num_slots: Any = self.n_jobs
        if kind == "RayLauncher":
            num_cpus = launchers.connect_ray(launcher)
            num_slots = num_cpus if num_slots == "auto" else num_slots
        elif kind == "JoblibLauncher" and num_slots == "auto" and num_gpus > 1:
            raise SweepError(
                "hydra/launcher=joblib: its processes would all train on the first GPU; without hydra/launcher each "
                "worker process has a GPU of its own"
            )
        elif kind in ("BasicLauncher", "JoblibLauncher"):
            num_slots = (num_gpus or num_cores()) if num_slots == "auto" else num_slots
        require(
            num_slots != "auto",
            "hydra.sweeper.n_jobs",
            "auto",
            "only this machine and a Ray cluster can be counted; say how many jobs to run at a time",
        )
        num_slots = min(num_slots, self.sweeper.n_trials)
        most = MOST_PER_CORE * num_cores()
        require(
            kind not in ("BasicLauncher", "JoblibLauncher") or num_slots <= most,
            "hydra.sweeper.n_jobs",
            self.n_jobs,
            f"must be at most {most} on this machine, {MOST_PER_CORE} for each core",
        )
        if kind == "JoblibLauncher":
            launcher.joblib["n_jobs"] = num_slots  # its processes, which all slots share
        if kind == "BasicLauncher" and num_slots > 1:
            launcher = workers.WorkerLauncher(num_slots, num_gpus)
            launcher.setup(hydra_context=self.context, task_function=self.task, config=self.config)
        return launcher, num_slots


def register() -> None:
    """Make both sweepers and their settings known to Hydra, where this package is not installed."""
    for plugin in (GridSweeper, OptunaSweeper, StudySearchPath):
        Plugins.instance().register(plugin)


def num_cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _runs_here(config: DictConfig) -> bool:
    """Whether no launcher has been chosen; with another, a grid of one job is a way to run it elsewhere."""
    return "BasicLauncher" in config.hydra.launcher._target_


def _is_grid(sampler: Any) -> bool:
    from optuna.samplers import GridSampler

    return isinstance(sampler, GridSampler) or getattr(sampler, "func", None) is GridSampler


def _threads_of(job: Job, checked: _Checked, launcher: Launcher, num_slots: int) -> list[str]:
    """The override that keeps the workers of one machine from fighting over its cores."""
    if (
        num_slots == 1
        or job.threads is None
        or OmegaConf.select(checked.composed, job.threads) is not None
        or type(launcher).__name__ not in ("WorkerLauncher", "JoblibLauncher", "LocalLauncher")
    ):
        return []
    return [f"{job.threads}={max(1, num_cores() // num_slots)}"]


def _require_same(found: optuna.Study, directions: list[str], facts: dict[str, dict[str, str]]) -> None:
    """Raise a SweepError unless the study `found` has these directions, this space and these jobs."""
    name = f"hydra.sweeper.study_name={found.study_name}"
    another = "go on as it was, or choose another name"
    had = [direction.name.lower() for direction in found.directions]
    if had != directions:
        raise SweepError(f"{name}: it has the directions {', '.join(had)}, not {', '.join(directions)}; {another}")
    for what, now in facts.items():
        then = found.user_attrs.get(f"sweep.{what}", now)
        changes = [
            f"{key} is {now.get(key, 'not there')}, was {then.get(key, 'not there')}"
            for key in sorted({*then, *now})
            if now.get(key) != then.get(key)
        ]
        if changes:
            raise SweepError(f"{name}: the study's {what} is another now: {'; '.join(changes)}; {another}")


def _folder(config: DictConfig) -> Path:
    """Where the files of the study go.

    Raises:
        SweepError: That is not said.
    """
    for key in (*(["output_dir"] if "output_dir" in config else []), "hydra.sweep.dir"):
        given = OmegaConf.select(config, key)
        require(
            isinstance(given, str) and bool(given.strip()), key, "null" if given is None else given, "give a folder"
        )
    return Path(config.hydra.sweep.dir)


def _key_of(folder: Path, config: DictConfig) -> str:
    """The setting that has put the study's files into `folder`, with its value."""
    is_usual = folder == Path(config.get("output_dir", "")) / config.hydra.sweeper.study_name
    return f"output_dir={config.output_dir}" if is_usual else f"hydra.sweep.dir={folder}"


def _make_folder(config: DictConfig) -> None:
    """Make the study's folder and see that it can be written to."""
    folder = _folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        key = _key_of(folder, config)
        raise SweepError(f"{key}: no files can be written to {folder} ({error.strerror}); choose another") from error


def _require_new_folder(name: str, config: DictConfig, storage: str | None = None) -> None:
    """Raise a SweepError if there is more in the folder than a study that was just being made leaves."""
    folder = _folder(config)
    if folder.is_dir() and any(not path.name.startswith(("optuna.journal", ".sweep")) for path in folder.iterdir()):
        key = _key_of(folder, config)
        if key.startswith("output_dir"):
            told = f"hydra.sweeper.study_name={name}: an earlier study has left its files in {folder}"
            if storage is not None:
                told += f", and {without_password(storage)} holds none of this name; give the storage that it had, or"
            raise SweepError(f"{told}{';' * (storage is None)} choose another name")
        raise SweepError(
            f"{key}: an earlier study has left its files there; choose another folder, leave hydra.sweep.dir as it is, "
            "which gives each study its own, or go on with that study by its hydra.sweeper.study_name"
        )


def _names_of(job: Job, config: DictConfig) -> list[str]:
    """What the name of a study begins with that is given none."""
    found = [str(OmegaConf.select(config, key)) for key in job.named_by] or [config.hydra.job.name]
    return [re.sub(r"[^\w.-]", "-", one) for one in found]


def _settle_study_name(config: DictConfig, default: Sequence[str]) -> str:
    """The study's name, from now on the same in every job composed from `config`; of the `default` names and the time.

    By itself a job would put its own model and data set into it, and the time when it is first looked at.
    """
    sweeper, overrides = config.hydra.sweeper, config.hydra.overrides.hydra
    name = _as_typed(config, "hydra.sweeper.study_name")
    if name is None:
        name = "-".join([*default, f"{datetime.now():%Y-%m-%d-%H%M%S-%f}"])
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    if not re.fullmatch(r"\w[\w.-]*", name) or name in ("runs", "best", "visualize", "predict"):
        raise SweepError(
            f"hydra.sweeper.study_name={shown}: letters, digits, _, - and . make a name; "
            "runs, best, visualize and predict are taken"
        )
    require(
        len(name.encode()) <= LONGEST_NAME,
        "hydra.sweeper.study_name",
        shown,
        f"at most {LONGEST_NAME} bytes make a name",
    )
    with read_write(sweeper), read_write(overrides):
        sweeper.study_name = name  # Hydra wants it to be the same here and in the jobs
        overrides.append(f"hydra.sweeper.study_name={QuotedString(name, Quote.single).with_quotes()}")
    return name


def _settle_storage(config: DictConfig) -> str | None:
    """The address of the study's storage, a relative path made absolute, the same in every job composed from `config`.

    Raises:
        SweepError: It is none.
    """
    from sweep.study import study

    sweeper, overrides = config.hydra.sweeper, config.hydra.overrides.hydra
    address = study.absolute(sweeper.storage)
    if address is not None and address != sweeper.storage:
        with read_write(sweeper), read_write(overrides):
            sweeper.storage = address
            overrides.append(f"hydra.sweeper.storage={QuotedString(address, Quote.single).with_quotes()}")
    return address


def _as_typed(config: DictConfig, key: str) -> str | None:
    """The name that `key` gives, None for null; 007 and 1e3 are text, though Hydra takes them for numbers."""
    value = OmegaConf.select(config, key)
    if value is None or isinstance(value, str):
        return value
    pairs = [override.lstrip("+").partition("=") for override in config.hydra.overrides.hydra]
    typed = [text for name, _, text in pairs if name == key]
    return typed[-1] if typed else str(value)


def _settle_folder(config: DictConfig) -> None:
    """Where the program says nothing, a study's files go to multirun/ in its project, in a folder of their own.

    Hydra's own folder has the time in it, by which a study would not be found again.
    """
    if cast(dict[str, Any], OmegaConf.to_container(config.hydra.sweep, resolve=False))["dir"] != HYDRAS_FOLDER:
        return
    folder = str(project.root() / "multirun" / config.hydra.sweeper.study_name)
    sweep, overrides = config.hydra.sweep, config.hydra.overrides.hydra
    with read_write(sweep), read_write(overrides):
        sweep.dir = folder
        overrides.append(f"hydra.sweep.dir={QuotedString(folder, Quote.single).with_quotes()}")


class _Checked(NamedTuple):
    """What is known of a study's jobs once they have been checked."""

    composed: DictConfig
    """One of them."""
    settings: dict[str, str]
    """Those of that one which trials must share, unless they are searched."""
    goal: Goal
    dataset: Dataset | None
    """The data of all of them; None if they differ, or the job does not say."""


def _check(
    job: Job,
    loader: ConfigLoader,
    config: DictConfig,
    values: Mapping[str, Sequence[str]],
    overrides_of: Callable[[dict[str, str]], list[str]],
    shortest: dict[str, str] | None = None,
) -> _Checked:
    """See that a job can be trained with each of the `values` of a space, and with the `shortest` lists.

    Raises:
        SweepError: With one of them none can.
    """
    from sweep.study import space

    composed: list[DictConfig] = []
    settings: list[dict[str, str]] = []

    def attempt(combination: dict[str, str]) -> None:
        cfg = loader.load_sweep_config(config, overrides_of(combination))
        settings.append(job.shared(cfg))
        composed.append(cfg)

    taken = space.require_each_goes(values, attempt)
    if shortest:
        space.require_each_goes({key: [value] for key, value in (taken[0] | shortest).items()}, attempt)
    goals = [job.goal(cfg.hydra.sweeper, config.hydra.job.name) for cfg in composed]
    datasets = {job.dataset(job.config(cfg)) for cfg in composed}
    objectives = {",".join(goal.objectives) for goal in goals}
    if len(objectives) > 1:
        raise SweepError(f"hydra.sweeper.objective={','.join(sorted(objectives))}: a study has one; choose it")
    return _Checked(job.config(composed[0]), settings[0], goals[0], datasets.pop() if len(datasets) == 1 else None)


def _open_record(
    name: str, checked: _Checked, config: DictConfig, dimensions: Mapping[str, BaseDistribution], run_id: str | None
) -> AbstractContextManager[Run]:
    """The parent run of a study; see `mirror.open_study`."""
    from sweep.record import mirror
    from sweep.results import conclude
    from sweep.study import space
    from sweep.trial import CONFIG_FILE

    return mirror.open_study(
        name,
        checked.goal,
        Path(config.hydra.sweep.dir),
        list(config.hydra.overrides.task),
        run_id,
        confirms=config.hydra.sweeper.get("confirms"),
        is_grid="storage" not in config.hydra.sweeper,  # of Optuna's
        shown=conclude.shown_params(dimensions, checked.composed),
        dataset=checked.dataset,
        texts={CONFIG_FILE: conclude.composed_text(config), space.SPACE_FILE: space.to_json(dimensions)},
    )


def _command(name: str) -> str:
    """The command line that goes on with this study: that of this process, with the study's name in it."""
    if arguments.typed is not None:
        return arguments.typed
    given = [argument for argument in sys.argv[1:] if not argument.startswith("hydra.sweeper.study_name=")]
    return without_password(shlex.join(["python", sys.argv[0], *given, f"hydra.sweeper.study_name={name}"]))


def _require_whole(key: str, given: Any, allowed: str = "") -> None:
    is_whole = isinstance(given, int) and not isinstance(given, bool) and given >= 1
    require(is_whole, f"hydra.sweeper.{key}", given, f"must be a whole number, 1 or more{allowed}")


def _require_finite(key: str, given: Any) -> None:
    """Raise a SweepError if nan or inf stands anywhere in `given`."""
    if isinstance(given, dict | list):
        for name, value in given.items() if isinstance(given, dict) else enumerate(given):
            _require_finite(f"{key}.{name}", value)
    require(not isinstance(given, float) or math.isfinite(given), key, given, "must be a finite number")


def _is_like_address(path: str) -> bool:
    """Whether `path` begins as an address does, or holds what may be a password, which must not become a folder's."""
    return re.match(r"[\w+.-]{2,}:", path) is not None or without_password(path) != path


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
