"""The job of a run that has ended, and the run in the form in which the job's hooks see it."""

import tempfile
from pathlib import Path

from sweep import job as jobs
from sweep import project
from sweep.description import Description, Task
from sweep.errors import SweepError
from sweep.record import files, runs
from sweep.record.runs import RunRecord
from sweep.record.tags import JOB_TAG, OBJECTIVE_TAG, PARENT_TAG


def job_of(run: RunRecord) -> Description:
    """Return what the job of `run`, a study, a trial or a single run, says about itself.

    That is the job that the person's own project names, if it has the metrics that the run searched for; else the
    recorded description, which is data without code; else a job that says nothing.

    Raises:
        SweepError: The project's own job cannot be imported, or what was recorded is damaged.
    """
    task = project.task()
    own = getattr(task, "sweep_job", None)
    if isinstance(own, Description) and measures(own, run):
        return own
    recorded = run.tags.get(JOB_TAG)
    if not recorded and (parent := run.tags.get(PARENT_TAG)):
        recorded = runs.find_run(parent).tags.get(JOB_TAG)
    if not recorded:
        return Description()
    with runs.naming(run):
        return Description.from_facts(recorded)


def own_job(run: RunRecord) -> tuple[Task, Description]:
    """Return the function and the description of the project's own job, by which `run` is trained again.

    Raises:
        SweepError: The project names none, it cannot be imported, or it lacks a metric that the run searched for.
    """
    task = project.task()
    if task is None:
        raise SweepError(
            f'{project.root()}: its pyproject.toml names no job to train again; add [tool.sweep] job = "MODULE:NAME", '
            "the function under @hydra.main"
        )
    job = jobs.of(task)
    if not measures(job, run):
        raise SweepError(
            f"run={run.run_id}: {run.name} was after {', '.join(run.objectives)}, which the job that this project "
            "names does not measure; go to the folder of its own project"
        )
    return task, job


def measures(job: Description, run: RunRecord) -> bool:
    """Return whether `job` can have recorded `run`: it has the metrics that the run searched for."""
    return not job.metrics or OBJECTIVE_TAG not in run.tags or set(run.objectives) <= job.metrics.keys()


class KeptRun:
    """A run that has ended, in the form in which its job's hooks see it; see `sweep.hooks.Kept`.

    Use it as a context manager: the copies of its files are deleted at the end of the block.
    """

    def __init__(self, run: RunRecord) -> None:
        self.run_id, self.name, self.digest = run.run_id, run.name, run.digest
        self.metrics, self.tags = run.metrics, run.tags
        self._run = run
        self._names: set[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="kept-")

    def __enter__(self) -> "KeptRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def file(self, name: str) -> Path | None:
        """Return the path of a local copy of the file `name` that the run kept, None if it kept none.

        Raises:
            RecordError: It cannot be read now.
        """
        if self._names is None:
            self._names = files.files_of(self._run)
        if name not in self._names:
            return None
        path = Path(self._folder.name) / name
        if not path.exists():
            files.fetch_file(self._run, name, Path(self._folder.name))
        return path
