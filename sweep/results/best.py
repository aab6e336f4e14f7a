"""Find the best model, fetch it, and see that it is as good as its record says.

sweep best                      of the newest study
sweep best --study NAME         of this study
sweep best --experiment NAME    of all runs in this MLflow experiment
sweep best --run ID             this run's
sweep best --model NAME         the champion's of this name in MLflow's registry
sweep best --register NAME      and make it a version of this name there, the champion if it is better

Nothing that a run carries is executed, whoever recorded it. How good the model is, is checked by the job that the
project names; --trust lets it run what MLflow keeps.
"""

import argparse
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from sweep import project
from sweep.arguments import Parser, path_given
from sweep.description import Description
from sweep.errors import SweepError, exit_with_one_line
from sweep.hooks import Verified
from sweep.record import registry
from sweep.record.connect import connect
from sweep.record.files import download, download_model, files_of
from sweep.record.runs import RunRecord, best_of, find_run, find_study, naming, runs_in, trials_of
from sweep.record.tags import DIRECTION_TAG, STUDY_TAG
from sweep.results.known import KeptRun, job_of

MODEL_FOLDER = "model"
"""Name of the folder with the model that a run has logged, beside its files."""


class Fetched(NamedTuple):
    """A model that `sweep best` has fetched."""

    folder: Path
    names: list[str]
    """Names of the files in the folder."""
    verified: Verified | None
    """The result of the job's check; None if the job has no check of a model."""


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep best`."""
    parser = Parser("best", __doc__)
    add_choice(parser)
    parser.add_argument("--register", metavar="NAME", help="make it a version of NAME in MLflow's registry")
    parser.add_argument("--output", metavar="DIR", type=path_given, help="where to put it (multirun/best/ID)")
    parser.add_argument("--trust", action="store_true", help="take the model as MLflow keeps it, and run what is in it")
    options = parser.parse_args(arguments)
    with exit_with_one_line():
        connect()
        run = chosen_run(options)
        if not re.fullmatch(r"[\w-]+", run.run_id):  # it becomes the name of a folder
            raise SweepError(f"run={run.run_id}: no id that MLflow gives")
        job = job_of(run)
        fetched = fetch_model(
            run, job, options.output or project.root() / "multirun" / "best" / run.run_id, options.trust
        )
        doubt = "its job does not say how a model is checked" if fetched.verified is None else fetched.verified.doubt
        if doubt and options.register and not options.trust:  # who loads a version runs what is in it
            raise SweepError(f"--register={options.register}: {doubt}; --trust registers it all the same")
        if fetched.verified is not None and doubt:
            source = " and ".join(job.model_files) or "the other files"
            print(f"note: {doubt}; {MODEL_FOLDER}/ was made anew from its {source}", file=sys.stderr)
        registered = registry.register_model(run, options.register, job) if options.register else None
    print(f"\n{fetched_in_words(fetched)}")
    if registered is not None:
        print(f"\n{registered_in_words(options.register, registered)}")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the run of a model, see `chosen_run`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--study", metavar="NAME", help="the best trial of this study; by default of the newest")
    which.add_argument("--experiment", metavar="NAME", help="the best run of this MLflow experiment")
    which.add_argument("--run", metavar="ID", help="this run")
    which.add_argument("--model", metavar="NAME", help="the champion of this name in MLflow's registry")


def chosen_run(options: argparse.Namespace) -> RunRecord:
    """Return the run that the command line chose, see `add_choice`.

    Raises:
        SweepError: There is no such run.
    """
    if options.run:
        return find_run(options.run)
    if options.model:
        return registry.find_champion(options.model)
    if options.experiment:
        where, runs = f"experiment {options.experiment}", runs_in(options.experiment)
        if not runs:
            raise SweepError(f"{where}: there are no runs in it yet")
        asked = runs[0]  # what the newest run was after
    else:
        asked = find_study(options.study)
        where, runs = f"study {asked.tags[STUDY_TAG]}", trials_of(asked)
    objective = asked.objectives[0]  # of several the first decides
    direction = asked.directions[0] if DIRECTION_TAG in asked.tags else job_of(asked).metric(objective).direction
    if direction is None:
        raise SweepError(
            f"{where}: {asked.name} does not say whether its {objective} is better low or high; choose one with --run"
        )
    best = best_of(runs, objective, direction)
    if best is None:
        raise SweepError(f"{where}: none of its {len(runs)} runs has finished with a {objective}")
    print(f"{where}: the best of {len(runs)} runs by {objective} is {best.name} ({best.run_id})")
    return best


def fetch_model(run: RunRecord, job: Description, folder: Path, trust: bool = False) -> Fetched:
    """Download the model of `run` into `folder`, and have its `job` check it.

    Only a model that the job finds as good as recorded replaces the result of an earlier fetch in `folder`.

    Args:
        run: A run, recorded by anybody.
        job: Description of the run's job.
        folder: The folder for the model; it may hold the result of an earlier fetch.
        trust: Whether the job may run the MLflow model as it was logged.

    Raises:
        SweepError: There is something else in `folder`, the run has no model, or the job finds a fault in it.
    """
    kept = files_of(run)
    names = sorted(job.model_files or (name for name in kept if is_plain(name)))
    for name in names:
        if not is_plain(name):
            raise SweepError(f"run={run.run_id}: {run.name}: {name!r}: no name of a file")
    model = None if MODEL_FOLDER in names else registry.logged_model(run)
    ours = {*names, *([MODEL_FOLDER] if model else [])}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} in (ours, set())):
        raise SweepError(f"--output={folder}: there is something else in it; choose a new folder")
    if not ours:
        raise SweepError(f"run={run.run_id}: {run.name} is {run.status}, and has kept no files and logged no model")
    folder = folder.resolve()
    above = next(path for path in folder.parents if path.is_dir())
    verified = None
    with tempfile.TemporaryDirectory(dir=above, prefix=".fetch-") as temporary:
        part = Path(temporary) / "part"
        part.mkdir()
        download(run, part, names)
        with naming(run):
            if model:
                download_model(model, part / MODEL_FOLDER)
            if job.verify is not None:
                with KeptRun(run) as shown:
                    verified = job.verify(part, shown, trust)
                how_to_load = verified.how_to_load.replace(str(part), os.path.relpath(folder))
                verified = verified._replace(how_to_load=how_to_load)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            os.replace(folder, Path(temporary) / "earlier")
        os.replace(part, folder)
    return Fetched(folder, sorted(ours), verified)


def is_plain(name: str) -> bool:
    """Return whether a file with a stranger's name stays in the folder that it is put into."""
    return name.isprintable() and name not in ("", ".", "..") and not {"/", "\\"} & {*name}


def fetched_in_words(fetched: Fetched) -> str:
    """Return what was fetched, and how to use it, as text."""
    if fetched.verified is not None:
        return fetched.verified.how_to_load
    shown = os.path.relpath(fetched.folder)
    lines = [
        f"{shown}/ holds {', '.join(fetched.names)}.",
        "They were not checked: the job of this run does not say how a model is scored, see docs/job.md.",
    ]
    if MODEL_FOLDER in fetched.names:
        lines += [
            "",
            "model/ is MLflow's; loading it runs what whoever recorded it has put in:",
            "    import mlflow",
            f'    model = mlflow.pyfunc.load_model("{shown}/{MODEL_FOLDER}")',
        ]
    return "\n".join(lines)


def registered_in_words(name: str, registered: registry.Registered) -> str:
    """Return the result of registering the model, and how to use it from the registry, as text."""
    alias = f"{name}@{registry.ALIAS}"
    is_now = "is" if registered.is_champion else "did not become"
    uri = shlex.quote(f"models:/{alias}")
    return f"""registered as version {registered.version} of {name}; it {is_now} {alias} ({registered.reason})
    mlflow.pyfunc.load_model("models:/{alias}")
    mlflow models serve --model-uri {uri} --env-manager local"""
