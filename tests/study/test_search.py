"""A search whose jobs only end in a given way: what fails a trial, what ends the study, what is said meanwhile."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from sweep.errors import RecordError
from sweep.job import Job
from sweep.study.search import Search
from sweep.study.slots import TIMEOUT, Stop
from sweep.study.study import Study
from sweep.study.trials import INTERRUPTED

OWN_DATABASE = OperationalError("SELECT 1", None, Exception("no such table"))


class Ending(Launcher):
    """A launcher whose jobs end as `job` does."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self._job = job

    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Any, initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        result = JobReturn()
        try:
            result.return_value, result.status = self._job(), JobStatus.COMPLETED
        except Exception as error:
            result.return_value, result.status = error, JobStatus.FAILED
        return [result]


def suggest(trial: optuna.Trial) -> list[str]:
    return [f"x={trial.suggest_float('x', 0, 1)}"]


def raising(error: Exception) -> Callable[..., Any]:
    def raise_error(*_: Any) -> Any:
        raise error

    return raise_error


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., tuple[Search, Study]]:
    """Runs a search of three trials, one at a time."""

    def run(
        job: Callable[[], Any] = lambda: 0.5,
        suggest: Callable[[optuna.Trial], list[str]] = suggest,
        stop: Stop | None = None,
    ) -> tuple[Search, Study]:
        shared = Study(str(tmp_path / "optuna.journal"), "tiny", ["maximize"], 3, tmp_path)
        made = Search(
            shared, Job(), ["score"], None, Ending(job).launch, lambda: None, 1, suggest, lambda _: None, 1.0,
            stop or Stop(),
        )  # fmt: skip
        made.run()
        return made, shared

    return run


@pytest.mark.parametrize("error", [OWN_DATABASE, MlflowException("mine"), optuna.TrialPruned("no"), ValueError("no")])
@pytest.mark.parametrize("where", ["job", "suggest"])
def test_an_error_of_the_job_or_the_custom_search_space_fails_its_trial_and_no_more(
    search: Callable[..., tuple[Search, Study]], error: Exception, where: str
) -> None:
    made, shared = search(**{where: raising(error)})
    assert [trial.state for trial in shared.trials()] == [TrialState.FAIL] * 3
    assert not any(INTERRUPTED in trial.user_attrs for trial in shared.trials())
    assert made.failure is None


@pytest.mark.parametrize(
    "error",
    [
        RecordError("MLflow's record cannot be written"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0"),
    ],
)
@pytest.mark.parametrize("where", ["job", "suggest"])
def test_a_lost_record_or_a_full_disk_fails_no_trial_and_ends_the_study(
    search: Callable[..., tuple[Search, Study]], error: Exception, where: str
) -> None:
    made, shared = search(**{where: raising(error)})
    assert isinstance(made.lost_record, RecordError)
    assert "\n" not in str(made.lost_record)
    first = shared.trial(0)
    assert (first.state, first.user_attrs[INTERRUPTED]) == (TrialState.FAIL, True)
    assert shared.num_counted() == 0
    shared.close()
    made, shared = search()
    assert [trial.value for trial in shared.trials() if trial.state == TrialState.COMPLETE] == [0.5] * 3
    assert made.lost_record is None


def test_after_the_timeout_it_is_said_which_trials_are_waited_for(
    search: Callable[..., tuple[Search, Study]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.study.search.SECONDS_TO_TELL", 0.01)
    stop, said = Stop(), ""

    def hang() -> float:
        nonlocal said
        stop.reason = TIMEOUT
        while "waiting for" not in said:
            said += capsys.readouterr().out
        return 0.5

    search(hang, stop=stop)
    assert "the timeout: no more trials are handed out; waiting for trial 0; Ctrl-C twice stops all of them now" in said
