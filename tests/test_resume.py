"""Studies that are killed, interrupted, shared and gone on with: real processes, real signals."""

import os
import random
import re
import resource
import shlex
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from conftest import Project, Started
from optuna.trial import FrozenTrial, TrialState

from sweep.record.tags import TRIAL_TAG
from sweep.study import storage
from sweep.study.trials import INTERRUPTED, RETRY_OF, WORKER, counts, was_interrupted

STUDY = (
    "-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=tiny", "data=digits", "epochs=2",
    "model.widths.length=choice(1)", "model.widths.0=range(8,65)",
    "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2",
)  # fmt: skip
MLFLOW = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


def journal(project: Project, name: str = "tiny") -> Path:
    return project.folder / "multirun" / name / "optuna.journal"


def trials_of(project: Project, name: str = "tiny") -> list[FrozenTrial]:
    found = storage.stored_study(str(journal(project, name)), name)
    return [] if found is None else found.get_trials()


def states(project: Project) -> Counter[TrialState]:
    return Counter(trial.state for trial in trials_of(project))


def start(project: Project, *overrides: str) -> Started:
    """The study, with these overrides in place of its own of the same keys."""
    given = {override.partition("=")[0] for override in overrides}
    kept = [word for word in STUDY if word.partition("=")[0] not in given]
    return project.start("train.py", f"output_dir={project.folder / 'multirun'}", *kept, *overrides)


def require_agreement(project: Project, n_trials: int) -> list[FrozenTrial]:
    """That the study has exactly `n_trials`, each as MLflow has it, and that none was lost or done twice."""
    trials = trials_of(project)
    assert not any(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials)
    assert sum(map(counts, trials)) == n_trials
    statuses = {run.data.tags[TRIAL_TAG]: run.info.status for run in project.runs("trial")}
    assert statuses == {str(trial.number): MLFLOW[trial.state] for trial in trials}
    retries = {trial.user_attrs[RETRY_OF]: trial for trial in trials if RETRY_OF in trial.user_attrs}
    for interrupted in filter(was_interrupted, trials):
        again = interrupted
        while was_interrupted(again) and (again.params or again.number in retries):
            again = retries[again.number]  # which may have been interrupted too
        assert interrupted.params.items() <= again.params.items()
    kept = [tuple(trial.params.items()) for trial in trials if counts(trial)]
    assert len(set(kept)) == len(kept)
    (parent,) = project.runs("study")
    assert parent.info.status == "FINISHED"
    return trials


def worker_pids(trials: list[FrozenTrial]) -> set[int]:
    return {int(trial.user_attrs[WORKER].split()[1]) for trial in trials if WORKER in trial.user_attrs}


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("n_jobs", "kills"), [(1, 14), (2, 6)])
def test_a_study_killed_at_any_moment_goes_on_and_ends_with_every_trial_once(
    project: Project, n_jobs: int, kills: int
) -> None:
    seed = int(os.environ.get("SWEEP_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"SWEEP_TEST_SEED={seed}")
    moments = random.Random(seed)
    command = (f"hydra.sweeper.n_jobs={n_jobs}", "hydra.sweeper.n_trials=16")
    finished: dict[int, tuple[TrialState, list[float] | None]] = {}
    for _ in range(kills):
        running = start(project, *command)
        enough = _size(journal(project)) + moments.randrange(0, 2500)  # an ask, a report, an end
        running.wait_for(partial(_is_larger, journal(project), enough), may_end=True)
        running.process.kill()
        running.wait()
        left = trials_of(project)
        for number, end in finished.items():
            assert (left[number].state, left[number].values) == end
        finished = {t.number: (t.state, t.values) for t in left if t.state in (TrialState.COMPLETE, TrialState.PRUNED)}
        while any(map(is_alive, worker_pids(left) - {running.process.pid})):
            pass  # workers end with the process that started them
    last = start(project, *command).wait()
    assert last.status == 0, last.err
    trials = require_agreement(project, 16)
    for number, end in finished.items():
        assert (trials[number].state, trials[number].values) == end


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_larger(path: Path, num_bytes: int) -> bool:
    return _size(path) > num_bytes


def test_a_worker_that_is_killed_costs_its_trial_and_no_more(project: Project) -> None:
    running = start(project, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=6", "epochs=10")
    running.wait_for(lambda: worker_pids(trials_of(project)))
    victim = next(t for t in trials_of(project) if WORKER in t.user_attrs)
    (pid,) = worker_pids([victim])
    os.kill(pid, signal.SIGKILL)
    finished = running.wait()
    assert finished.status == 0, finished.err
    trials = require_agreement(project, 6)
    (failed,) = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert "its worker process died (SIGKILL)" in failed.user_attrs["sweep.error"]
    (run,) = [run for run in project.runs("trial") if run.info.status == "FAILED"]
    assert "its worker process died (SIGKILL)" in run.data.tags["sweep.error"]
    assert len(worker_pids(trials)) == 3  # the slot went on with a new one


def test_ctrl_c_once_lets_running_trials_finish_and_the_study_can_go_on(project: Project) -> None:
    running = start(project, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=20", "epochs=5")
    running.wait_for(lambda: states(project)[TrialState.COMPLETE] >= 1)
    os.kill(running.process.pid, signal.SIGINT)
    finished = running.wait()
    assert finished.status == 130
    assert "those that run will finish" in finished.out
    done = sum(states(project)[state] for state in (TrialState.COMPLETE, TrialState.PRUNED))
    assert 1 <= done < 20
    assert sum(map(counts, trials_of(project))) == done
    assert f"stopped by Ctrl-C after {done} of 20 trials; go on with it: python " in finished.out
    (parent,) = project.runs("study")
    assert (parent.info.status, parent.data.tags["sweep.stopped"]) == ("KILLED", f"Ctrl-C after {done} of 20 trials")
    assert (project.folder / "multirun" / "tiny" / "optimization_results.yaml").exists()

    again = start(project, "hydra.sweeper.n_jobs=2", f"hydra.sweeper.n_trials={done + 2}", "epochs=5").wait()
    assert again.status == 0, again.err
    assert [t.number for t in require_agreement(project, done + 2)] == list(range(done + 2))
    assert "sweep.stopped" not in project.runs("study")[0].data.tags


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_twice_stops_now_and_what_ran_is_tried_again(project: Project, n_jobs: int) -> None:
    overrides = (f"hydra.sweeper.n_jobs={n_jobs}", "hydra.sweeper.n_trials=3")
    running = start(project, *overrides, "epochs=2000")
    running.wait_for(lambda: any(trial.intermediate_values for trial in trials_of(project)))
    os.kill(running.process.pid, signal.SIGINT)
    running.wait_for(lambda: re.search(r"waiting for trial .* Ctrl-C once more stops all of them now", running.out))
    os.kill(running.process.pid, signal.SIGINT)
    finished = running.wait()
    assert finished.status == 130
    trials = trials_of(project)
    assert {trial.state for trial in trials} <= {TrialState.FAIL, TrialState.WAITING}
    assert all(INTERRUPTED in trial.user_attrs for trial in trials if trial.state == TrialState.FAIL)
    assert {run.data.tags["sweep.error"] for run in project.runs("trial")} == {"interrupted"}
    assert {run.info.status for run in project.runs("trial")} == {"FAILED"}
    assert project.runs("study")[0].info.status == "KILLED"
    assert not any(map(is_alive, worker_pids(trials) - {os.getpid()}))


def test_a_full_disk_ends_a_study_in_one_line_fails_no_trial_and_the_same_command_goes_on(project: Project) -> None:
    command = ("hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=2", "model.widths.0=range(1500,1502)")
    running = start(project, *command)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
    full = running.wait()
    assert full.status == 1
    assert full.err.startswith("error: a file cannot be written whole; see to the disk, then the same command goes on")
    assert full.err.count("\n") == 1
    assert {run.data.tags["sweep.error"] for run in project.runs("trial")} == {"interrupted"}
    again = start(project, *command).wait()
    assert again.status == 0, again.err
    require_agreement(project, 2)


def test_two_who_start_the_same_command_at_once_share_the_study(project: Project) -> None:
    command = ("hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=8")
    both = [start(project, *command) for _ in range(2)]
    ends = [running.wait() for running in both]
    assert [end.status for end in ends] == [0, 0], [end.err for end in ends]
    trials = require_agreement(project, 8)
    assert len(worker_pids(trials)) == 2
    assert all("study   tiny: 8 trials" in end.out for end in ends)


def test_a_timeout_ends_a_study_in_order(project: Project) -> None:
    finished = start(project, "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=1000", "hydra.sweeper.timeout=4").wait()
    assert finished.status == 0, finished.err
    counted = sum(map(counts, trials_of(project)))
    assert counted < 1000
    assert f"stopped by the timeout after {counted} of 1000 trials" in finished.out
    assert TrialState.RUNNING not in states(project)
    assert project.runs("study")[0].data.tags["sweep.stopped"].startswith("the timeout")


def test_the_sampler_goes_on_and_does_not_repeat_itself(project: Project) -> None:
    for n_trials in (3, 6):
        overrides = ("hydra.sweeper.n_jobs=1", f"hydra.sweeper.n_trials={n_trials}", "hydra/sweeper/sampler=random")
        assert start(project, *overrides).wait().status == 0
    require_agreement(project, 6)


def test_one_slot_gives_the_same_trials_and_the_same_values_for_a_seed(project: Project) -> None:
    def values(name: str) -> list[tuple[dict[str, object], list[float] | None]]:
        return [(trial.params, trial.values) for trial in trials_of(project, name)]

    overrides = ("hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=12", "num_threads=1")
    assert start(project, *overrides).wait().status == 0
    assert start(project, *overrides, "hydra.sweeper.study_name=again").wait().status == 0
    assert values("again") == values("tiny")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.widths.0=range(8,33)"], "space is another now: model.widths.0 is int 8 to 32, was int 8 to 64;"),
        (["model.dropout=0.1"], "model.dropout is not there, was float 0.0 to 0.3"),
        (["epochs=3"], "the study's job is another now: epochs is 3, was 2;"),
        (["objective=test/loss"], "it has the directions maximize, not minimize;"),
    ],
)
def test_a_study_that_no_longer_fits_is_refused_with_the_difference(
    project: Project, overrides: list[str], message: str
) -> None:
    command = ("hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=1")
    assert start(project, *command).wait().status == 0
    before = journal(project).read_bytes()
    refused = start(project, *command, *overrides).wait()
    assert refused.status == 1
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert journal(project).read_bytes() == before
    assert len(project.runs("study")) == 1


def test_the_command_that_is_printed_continues_the_study(project: Project) -> None:
    first = start(project, "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=1")
    printed = re.search(r"go on with it: python (.*)$", first.wait().out, re.MULTILINE)
    assert printed is not None
    program, *overrides = shlex.split(printed[1])
    assert Path(program).name == "train.py"
    again = project.run("train.py", *overrides)
    assert again.status == 0, again.err
    assert "study   tiny: 1 trials" in again.out
