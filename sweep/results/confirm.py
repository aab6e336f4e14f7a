"""Train a study's best settings again with fresh seeds, and see which of them is really best.

sweep confirm                                  the best 5 trials of the newest study, 3 seeds each
sweep confirm --study NAME --best 3 --seeds 5
sweep confirm hydra.sweeper.n_jobs=4           with overrides as the job's own program takes them

It is a study of its own, NAME-confirm-5x3, a grid of settings and seeds: it goes through the same slots and
launchers, and after an interruption the same command goes on with it. Its trials are trained by the job that the
project names in its pyproject.toml.
"""

import os
import sys
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import hydra
from omegaconf import DictConfig, OmegaConf

from sweep import interrupts
from sweep.arguments import Parser
from sweep.description import Description, Task
from sweep.errors import SweepError, exit_with_one_line, require
from sweep.files import replacing
from sweep.record.connect import connect
from sweep.record.files import read_text
from sweep.record.run import MLflowRun
from sweep.record.runs import experiment_of, find_study, studies, trials_of
from sweep.record.tags import CONFIRMS_TAG, STUDY_TAG
from sweep.results import gather, report, verdict
from sweep.results.folder import folder_of
from sweep.results.known import own_job
from sweep.results.settings import flat, settings_again
from sweep.results.table import StudyTable, TrialRow, table_of
from sweep.results.verdict import SETTINGS, name_of
from sweep.study.dimensions import SPACE_FILE, from_json

MESSAGE_ONLY = {"formatters": {"simple": {"format": "%(message)s"}}}
"""Logging format of the job's own program, which prints messages only."""


class Chosen(NamedTuple):
    """A trial whose settings are to be trained again."""

    row: TrialRow
    settings: DictConfig


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep confirm`."""
    parser = Parser("confirm", __doc__)
    parser.add_argument("--study", metavar="NAME", help="by default the newest")
    parser.add_argument("--best", metavar="K", type=int, default=5, help="how many trials (5)")
    parser.add_argument("--seeds", metavar="M", type=int, default=3, help="how many seeds for each (3)")
    parser.add_argument(
        "--trust", action="store_true", help="take recorded settings that name code (_target_), and have the job run it"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to every job, or to hydra.sweeper")
    options = parser.parse_intermixed_args(arguments)
    is_stopped = False
    with exit_with_one_line(options.overrides):
        require(options.best >= 1, "--best", options.best, "must be 1 or more")
        require(options.seeds >= 2, "--seeds", options.seeds, "must be 2 or more, or there is no spread to see")
        connect()
        study = find_study(options.study)
        task, job = own_job(study)
        if job.seed is None:
            raise SweepError(
                f"study={study.name}: the job that this project names does not say which setting is its seed; "
                "say sweep.Job(seed=KEY)"
            )
        table = table_of(study, job)
        gather.gather_for(table)  # what cannot be reported is told before it takes a training
        chosen = choose_trials(table, options.best, trust=options.trust)
        rows = [one.row for one in chosen]
        name = name_for(table, rows, options.seeds)
        folder = write_config(table, chosen, options.seeds, name)
        seeds = fresh_seeds(table, options.seeds)
        try:
            train_again(task, folder, job, rows, seeds, options.overrides)
        except KeyboardInterrupt:
            is_stopped = True
        try:
            found = verdict.judge_candidates(table, rows, trials_of(find_study(name)), options.seeds)
        except SweepError:
            if not is_stopped:
                raise
            print("stopped before there was a verdict; the same command goes on with it")
            sys.exit(interrupts.STOPPED)
        told = verdict.verdict_in_words(table, found)
        print(f"\n{told}\n")
        MLflowRun(study.run_id).log_text(told + "\n", gather.CONFIRMATION_FILE)
        print(f"report  {os.path.relpath(report.write(gather.gather(study)))}")
    if is_stopped:
        sys.exit(interrupts.STOPPED)


def choose_trials(table: StudyTable, most: int, trust: bool = False) -> list[Chosen]:
    """Return at `most` so many of the study's best finished trials, of equal settings the first.

    Settings are equal if they differ only in the seed and in what belongs to the machine.

    Raises:
        SweepError: No trial has finished, or the settings of one are not known.
    """
    chosen: dict[str, Chosen] = {}
    for row in table.ranked:
        if len(chosen) < most and row.is_candidate:
            settings = settings_again(row.run, table.job, trust, {})
            chosen.setdefault(_compared(settings, table.job), Chosen(row, settings))
    if not chosen:
        raise SweepError(
            f"study={table.study.name}: none of its {len(table.rows)} trials has finished, so none can be confirmed"
        )
    return list(chosen.values())


def _compared(settings: DictConfig, job: Description) -> str:
    apart = tuple(key for key in (job.seed, job.threads, *job.free) if key)
    return repr({key: value for key, value in flat(settings).items() if not key.startswith(apart)})


def name_for(table: StudyTable, chosen: Sequence[TrialRow], num_seeds: int) -> str:
    """Return the name of the study that confirms these trials: one that has begun, or a new one."""
    base = f"{table.name}-confirm-{len(chosen)}x{num_seeds}"
    spaces = {
        one.tags[STUDY_TAG]: read_text(one, SPACE_FILE) for one in studies() if one.tags.get(CONFIRMS_TAG) == table.name
    }
    wanted = {name_of(row) for row in chosen}
    for name in chain([base], (f"{base}-{i}" for i in count(2))):
        if name not in spaces:
            return name
        dimension = from_json(spaces[name] or "{}").get(SETTINGS)
        if wanted == {str(choice) for choice in getattr(dimension, "choices", ())}:
            return name
    raise AssertionError("the names never end")


def fresh_seeds(table: StudyTable, num_seeds: int) -> list[int]:
    """Return the `num_seeds` lowest seeds that no trial of the study has used."""
    used = {row.params.get(table.job.seed or "") for row in table.rows}
    return [seed for seed in range(num_seeds + len(used)) if str(seed) not in used][:num_seeds]


def write_config(table: StudyTable, chosen: Sequence[Chosen], num_seeds: int, name: str) -> Path:
    """Write the configs of the study called `name`, which trains those `chosen` again.

    Returns:
        The folder: config.yaml says how it is searched, settings/ holds what each trial was trained with.

    Raises:
        SweepError: Hydra would resolve something in them.
    """
    folder = folder_of(table.study) / "confirm"
    job, names = table.job, sorted(name_of(one.row) for one in chosen)
    composed = OmegaConf.create(
        {
            "hydra": {
                "sweeper": {
                    "study_name": name,
                    "confirms": table.name,
                    "n_trials": len(chosen) * num_seeds,
                    "objective": list(table.objectives),
                    "direction": list(table.directions),
                    "experiment": experiment_of(table.study),
                    "params": {},
                },
                "sweep": {"dir": str(folder.parent.parent / name)},
                "job_logging": MESSAGE_ONLY,
                "hydra_logging": MESSAGE_ONLY,
            }
        }
    )
    for key, value in flat(composed).items():  # what a stranger named; the settings have been looked through
        if "${" in f"{key}{value}":
            raise SweepError(
                f"study={table.name}: {key}={value}: it holds ${{, which Hydra would resolve; it cannot be confirmed"
            )
    for row, settings in chosen:
        if job.threads is not None:
            OmegaConf.update(settings, job.threads, None, force_add=True)
        found = job.in_words({table.objective: row.values[table.objective]})
        told = (
            f"Trial {row.number} of the study {table.name}: {found} with {job.seed}={row.params.get(job.seed or '')}."
        )
        # On one line, whatever they hold: a second would be a setting.
        text = f"# @package _global_\n\n# {' '.join(told.split())}\n\n{OmegaConf.to_yaml(settings)}"
        _write(folder / SETTINGS / f"{name_of(row)}.yaml", text)
    defaults = {
        "defaults": [
            "_self_",
            {SETTINGS: names[0]},
            {"override hydra/sweeper": "study"},
            {"override hydra/sweeper/study/sampler": "grid"},
            {"override hydra/sweeper/study/pruner": "none"},
        ]
    }
    _write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(defaults)) + OmegaConf.to_yaml(composed))
    return folder


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def train_again(
    task: Task,
    folder: Path,
    job: Description,
    chosen: Sequence[TrialRow],
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> None:
    """Run the study whose configs lie in `folder`, as the job's own program would, in this process.

    Raises:
        KeyboardInterrupt: The study was stopped; the same command goes on with it.
    """
    names = ",".join(sorted(map(name_of, chosen)))
    print(f"confirming {len(chosen)} trials with {len(seeds)} seeds each\n", flush=True)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors through
    given = sys.argv
    sys.argv = [
        given[0], "-m", f"{SETTINGS}=choice({names})", f"{job.seed}=choice({','.join(map(str, seeds))})", *overrides,
    ]  # fmt: skip
    try:
        hydra.main(config_path=str(folder), config_name="config")(task)()
    finally:
        sys.argv = given
