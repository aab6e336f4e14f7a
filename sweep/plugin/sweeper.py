"""Hydra's sweeper: it runs many trials of a job as one study, with values that Optuna suggests or as a grid.

Everything is checked before the first trial: the settings, every value to be tried, the study to go on with. Heavy
imports wait inside the functions, so that `--help` and a mistyped key answer at once.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from sweep import interrupts
from sweep import job as jobs
from sweep.errors import Stopped, SweepError, explain, require, without_password
from sweep.outcome import Ended
from sweep.plugin import checks, launchers, places, workers
from sweep.plugin.checks import Checked
from sweep.plugin.search_path import StudySearchPath
from sweep.plugin.settings import Settings
from sweep.study.progress import say_at_once
from sweep.study.pruners import build_pruner

if TYPE_CHECKING:
    import optuna

    from sweep.record.run import Run
    from sweep.study.space import Space
    from sweep.study.study import Study

MOST_NAMES = 10
"""Most names of a storage's studies in an error, the newest ones."""


@contextmanager
def _one_line() -> Iterator[None]:
    """End a program with one line for a mendable error in the block, unless the program handles errors itself."""
    try:
        yield
    except Exception as error:
        line = explain(error, sys.argv[1:])
        if line is None or "HYDRA_FULL_ERROR" in os.environ:  # as our own program does, which tells it itself
            raise
        sys.exit(f"error: {line}")


class StudySweeper(Sweeper):
    """Hydra's sweeper for studies: slots that are never idle, pruning, and studies that can be continued.

    Args:
        given: The settings under hydra.sweeper, see `Settings`.
    """

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    @_one_line()
    def __init__(self, **given: Any) -> None:
        from sweep.study import samplers

        self.settings = settings = Settings.read(given)
        samplers.require_types("hydra.sweeper.sampler", settings.sampler)
        self.sampler = samplers.build_sampler(settings.sampler)
        self.extend_space = samplers.build_custom_search_space(settings.custom_search_space)

    @_one_line()
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Set what every job of the study is to know, and make the launcher that Hydra has composed."""
        workers.require_main()
        for logger in ("hydra", "hydra_plugins"):  # whose launchers would tell of each job on their own
            logging.getLogger(logger).setLevel(logging.WARNING)
        if self.settings.num_slots != 1 and launchers.is_default(config):
            workers.start_importing(jobs.of(task_function).preload)
        self.hydra_context, self.config = hydra_context, config
        self.task = jobs.as_job(task_function)
        self.job = jobs.of(self.task)
        names = places.names_of(self.job, config)
        self.name = places.settle_name(config, [*names[:1], "grid"] if self.settings.is_grid else names)
        places.settle_folder(config)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=self.task, config=config
        )
        launchers.prepare_launcher(self.launcher)
        self.storage = places.settle_storage(config)
        self.folder = places.configured_folder(config)

    @_one_line()
    def sweep(self, arguments: list[str]) -> None:
        """Run the study that the command line's `arguments` ask for, or go on with it."""
        say_at_once(f"study {self.name}: checking the search space ...")
        from sweep.record.connect import connect
        from sweep.record.place import require_place
        from sweep.study import samplers, storage, study

        checked, searched, points = self.check(arguments)
        num_slots = self._prepare_slots(checked)
        directions = checked.goal.directions
        shared_settings = {key: value for key, value in checked.settings.items() if not searched.covers(key)}
        facts = {"space": searched.describe(), "job": shared_settings}
        if storage.is_server(self.storage):
            print(f"connecting to {without_password(str(self.storage))}", flush=True)
        found = storage.stored_study(self.storage, self.name)
        if found is None:
            places.require_new_folder(self.name, self.config, self.storage)
            if others := storage.names_in(self.storage):
                print(f"study {self.name} is new; its storage also holds {', '.join(others[-MOST_NAMES:])}", flush=True)
        else:
            checks.require_same_study(found, directions, facts)
        if checked.goal.is_recorded:
            connect()
            require_place(checked.goal.experiment)
        interrupts.work_begins()
        places.make_folder(self.config)
        shared = study.Study(self.storage, self.name, directions, self.n_trials, self.folder)
        try:
            shared.set_up(facts, points)
            checks.require_same_study(shared.optuna, directions, facts)  # another process may have made it meanwhile
            shared.optuna.sampler = samplers.learning_from_pruned(
                samplers.for_study(self.sampler, self.settings.sampler, shared)
            )
            shared.optuna.pruner = self.pruner
            self._search(shared, checked, searched, num_slots)
        except SweepError:
            shared.discard_unused()
            raise
        finally:
            shared.close()

    def check(self, arguments: list[str]) -> tuple[Checked, Space, list[dict[str, Any]]]:
        """Check that the study can be made; return the facts about its jobs, the space and the first points.

        Raises:
            SweepError: The study cannot be made.
        """
        from sweep.study import reading

        settings, loader = self.settings, self.hydra_context.config_loader
        params = settings.params or {}
        if settings.is_grid:
            given = reading.parse_overrides(
                [*(f"{key!s}={value}" for key, value in params.items()), *arguments], loader
            )
            checks.require_values(given, may_be_one=not launchers.is_default(self.config))
        can_be_empty = settings.is_grid or self.extend_space is not None
        searched = reading.read_space(
            params, arguments, loader, self.config, can_be_empty=can_be_empty, in_order=settings.is_grid
        )
        checked = checks.check_jobs(self.job, loader, self.config, searched)
        points = self._prepare_sampler(checked, searched)
        self.pruner = build_pruner(settings.pruner)
        return checked, searched, points

    def _prepare_sampler(self, checked: Checked, searched: Space) -> list[dict[str, Any]]:
        """Set the sampler and the number of trials, and return the values of the first trials."""
        from sweep.study import samplers

        settings = self.settings
        if settings.is_grid:
            checks.require_listed(searched)
            points = searched.combinations()
            self.n_trials = min(settings.n_trials or len(points), len(points))
            return points
        assert settings.n_trials is not None  # as only a grid has it
        if samplers.is_grid(self.sampler):
            checks.require_listed(searched)
            choices = searched.values()
            self.sampler = samplers.GridSampler(choices, **self.sampler.keywords)
            self.n_trials = min(settings.n_trials, math.prod(map(len, choices.values())))
            return []
        self.n_trials = settings.n_trials
        checks.require_sampler(settings.sampler, searched, checked.goal.directions, self.n_trials, self.config)
        return checks.first_points(searched, settings.starting_points, self.hydra_context.config_loader, self.config)

    def _prepare_slots(self, checked: Checked) -> int:
        """Choose the launcher that runs the trials, and return how many run at a time."""
        from optuna.pruners import NopPruner

        num_gpus = self.job.num_gpus(checked.composed)
        num_slots = launchers.num_slots(self.launcher, self.settings, num_gpus, self.n_trials)
        launcher = launchers.with_slots(self.launcher, num_slots, num_gpus)
        is_pruned = not isinstance(self.pruner, NopPruner) and len(checked.goal.directions) == 1
        require(
            self.storage is not None or not is_pruned or launchers.runs_in_process(launcher),
            "hydra.sweeper.storage",
            "null",
            "jobs in other processes cannot see a study in the memory of this one, so none would be pruned; leave the "
            "storage as it is, or take hydra.sweeper.n_jobs=1 or hydra/sweeper/pruner=none",
        )
        if not launchers.runs_in_process(launcher):
            workers.require_sendable(self.task)
        if launcher is not self.launcher:
            self.launcher = launcher
            launcher.setup(hydra_context=self.hydra_context, task_function=self.task, config=self.config)
        return num_slots

    def _search(self, shared: Study, checked: Checked, searched: Space, num_slots: int) -> None:
        from sweep.record import mirror
        from sweep.record.lifecycle import keep_running
        from sweep.results import conclude
        from sweep.results.summary import whole_lists, wrapped
        from sweep.study.ending import tell_best, write_results
        from sweep.study.search import Search
        from sweep.study.slots import Stop

        goal, launcher = checked.goal, self.launcher
        stop = Stop(self.settings.timeout)
        threads = launchers.share_of_cores(launcher, self.job, checked.composed, num_slots)

        def settle(ended: Mapping[int, Ended]) -> None:
            recorded = {
                number: end._replace(params=conclude.as_recorded(end.params, checked.composed))
                for number, end in ended.items()
            }
            mirror.settle_runs(goal, mirror.Parent(self.name, shared.recall("run")), recorded)

        num_steps = OmegaConf.select(checked.composed, self.job.num_steps) if self.job.num_steps else None
        suggest = functools.partial(self._suggest, searched, threads)
        search = Search(
            shared, self.job, goal.objectives, num_steps, launcher.launch, functools.partial(launchers.stop, launcher),
            num_slots, suggest, settle, self.settings.max_failure_rate, stop,
        )  # fmt: skip
        go_on = f"; go on with it: {_command(self.name)}"
        if self.storage is None:
            go_on = ""  # it ends with this process
        elif self.settings.confirms is not None:  # started by a command of ours, not by the words of this one
            go_on = "; the same command goes on with it"
        keys = list(searched.dimensions)
        # Printed, not logged: a job that runs in this process takes the log's handlers for itself.
        what = f"{'trying' if self.settings.is_grid else 'searching'} {', '.join(whole_lists(keys)) or 'one job'}"
        print(wrapped(f"study {self.name}: {what} for the best {', '.join(goal.objectives)}"))
        print(f"{num_slots} trial{'s' * (num_slots > 1)} at a time{go_on}", flush=True)
        table = stopped = ""
        with suppress(Stopped), self._open_record(checked, searched, shared.recall("run") or None) as run:
            shared.remember({"run": run.run_id or ""})
            with suppress(KeyboardInterrupt):  # told below, when the results are written
                search.run()
            if (lost := search.lost_record) is not None:
                raise lost
            if shared.has_finished or not stop.reason:
                results = write_results(shared, self.folder)
                table = conclude.conclude(run, searched.dimensions, self.job, search.failure, [results])
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
            print(f"stopped by {stopped}{go_on}")
        if search.failure is not None:
            raise search.failure
        if stop.is_interrupted and stopped:
            raise KeyboardInterrupt

    def _suggest(self, searched: Space, threads: list[str], trial: optuna.Trial) -> list[str]:
        """Return the overrides of the job of `trial`, with suggested values from Optuna or custom_search_space."""
        searched.suggest(trial)
        for key, value in searched.fixed.items():
            trial.set_user_attr(key, value)
        if self.extend_space is not None:
            self.extend_space(self.config, trial)
            if twice := sorted(trial.params.keys() & searched.fixed.keys()):
                raise SweepError(
                    f"hydra.sweeper.custom_search_space: it suggests {', '.join(twice)}, given one value for all trials"
                )
        return searched.overrides(trial.params) + threads

    def _open_record(self, checked: Checked, searched: Space, run_id: str | None) -> AbstractContextManager[Run]:
        """Open the study's own run, or the existing one again; see `mirror.open_study`."""
        from sweep.record import mirror
        from sweep.results import conclude
        from sweep.study import dimensions
        from sweep.trial import CONFIG_FILE

        return mirror.open_study(
            self.name,
            checked.goal,
            Path(self.config.hydra.sweep.dir),
            list(self.config.hydra.overrides.task),
            run_id,
            confirms=self.settings.confirms,
            is_grid=self.settings.is_grid,
            shown=conclude.shown_params(searched.dimensions, checked.composed),
            dataset=checked.dataset,
            texts={
                CONFIG_FILE: conclude.composed_text(self.config),
                dimensions.SPACE_FILE: dimensions.to_json(searched.dimensions),
            },
        )


def register_plugin() -> None:
    """Register the sweeper and its settings with Hydra, for a package that is not installed."""
    for plugin in (StudySweeper, StudySearchPath):
        Plugins.instance().register(plugin)


def _command(name: str) -> str:
    """Return the command line of this process, with the study's name in it."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("hydra.sweeper.study_name=")]
    program = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else [Path(sys.argv[0]).name]
    return without_password(shlex.join([*program, *given, f"hydra.sweeper.study_name={name}"]))
