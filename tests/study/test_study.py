"""A study shared by real processes, in the storage that studies use by default."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import PROCESSES
from optuna.trial import TrialState

from sweep.errors import SweepError, TakenOver
from sweep.outcome import Outcome
from sweep.study import storage
from sweep.study.handle import handle_of
from sweep.study.study import Claim, Study
from sweep.study.trials import INTERRUPTED, OUTCOME, RETRY_OF

Work = Callable[[Study], None]


def join(folder: Path, n_trials: int) -> Study:
    return Study(str(folder / "optuna.journal"), "tiny", ["maximize"], n_trials, folder)


def suggest(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def never() -> bool:
    return False


def claim(study: Study) -> Claim:
    """The next trial of a study that has one."""
    claimed = study.claim(suggest, never)
    assert claimed is not None
    return claimed


def in_process(work: Callable[..., None], *arguments: Any) -> int | None:
    """Exit status of `work`, done in a process of its own."""
    process = PROCESSES.Process(target=work, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def claim_and_die(folder: Path, outcome: Sequence[float] | None = None) -> None:
    shared = join(folder, 5)
    trial = claim(shared)
    if outcome is not None:
        handle_of(shared.address, "tiny", trial.number).finish(outcome)
    os.kill(os.getpid(), signal.SIGKILL)


def claim_all(folder: Path, n_trials: int) -> None:
    shared = join(folder, n_trials)
    while trial := shared.claim(suggest, never):
        shared.tell(trial.number, [trial.job])
    shared.close()


def report_all(folder: Path, n_trials: int, epochs: int) -> None:
    shared = join(folder, n_trials)
    while trial := shared.claim(suggest, never):
        handle = handle_of(shared.address, "tiny", trial.number, optuna.pruners.NopPruner())
        for epoch in range(1, epochs + 1):
            handle.report(trial.job, epoch)
            assert handle.reason_to_stop() is None
        handle.finish([trial.job])
        shared.tell(trial.number)
    shared.close()


def test_sixteen_workers_that_report_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [PROCESSES.Process(target=report_all, args=(tmp_path, 48, 5)) for _ in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    trials = join(tmp_path, 48).trials()
    assert Counter(trial.state for trial in trials) == {TrialState.COMPLETE: 48}
    assert all(len(trial.intermediate_values) == 5 for trial in trials)


def test_four_processes_that_ask_at_once_do_not_exceed_the_total(tmp_path: Path) -> None:
    processes = [PROCESSES.Process(target=claim_all, args=(tmp_path, 9)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert [trial.state for trial in join(tmp_path, 9).trials()] == [TrialState.COMPLETE] * 9


def test_what_a_dead_process_ran_is_failed_and_its_settings_are_tried_again(tmp_path: Path) -> None:
    assert in_process(claim_and_die, tmp_path) == -signal.SIGKILL
    shared = join(tmp_path, 5)
    assert not shared.has_other_owners
    (left,) = shared.trials()
    assert left.state == TrialState.RUNNING
    shared.settle_dead()
    assert shared.trial(0).state == TrialState.FAIL
    assert shared.trial(0).user_attrs[INTERRUPTED]
    assert shared.num_counted() == 0
    again = claim(shared)
    assert again.params == left.params
    assert shared.trial(again.number).user_attrs[RETRY_OF] == 0
    shared.settle_dead()
    assert len(shared.trials()) == 2  # queued once only


def test_a_trial_whose_job_was_through_when_its_process_died_is_finished(tmp_path: Path) -> None:
    assert in_process(claim_and_die, tmp_path, [0.75]) == -signal.SIGKILL
    shared = join(tmp_path, 5)
    shared.settle_dead()
    (trial,) = shared.trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.75)


def test_a_living_process_keeps_its_trials(tmp_path: Path) -> None:
    first, second = join(tmp_path, 5), join(tmp_path, 5)
    trial = claim(first)
    assert second.has_other_owners
    second.settle_dead()
    assert second.trial(trial.number).state == TrialState.RUNNING
    first.close()
    assert not second.has_other_owners


def test_an_owner_on_another_machine_is_taken_for_dead_by_the_time_it_was_last_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = join(tmp_path, 5)
    number = claim(first).number
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    second = join(tmp_path, 5)
    second.settle_dead()
    assert second.trial(number).state == TrialState.RUNNING
    monkeypatch.setattr("sweep.study.owner.SECONDS_TO_LIVE", -1)
    second.settle_dead()
    assert second.trial(number).state == TrialState.FAIL


def test_a_job_whose_trial_was_taken_over_is_told_to_stop(tmp_path: Path) -> None:
    shared = join(tmp_path, 5)
    number = claim(shared).number
    handle = handle_of(shared.address, "tiny", number, optuna.pruners.NopPruner())
    handle.report(0.5, 1)
    assert handle.reason_to_stop() is None
    shared.interrupt_own()
    handle.report(0.6, 2)
    with pytest.raises(TakenOver, match=r" after epoch 2$"):
        handle.reason_to_stop(" after epoch 2")
    with pytest.raises(TakenOver):
        handle.finish([0.6])
    assert shared.trial(number).intermediate_values == {1: 0.5}


def test_the_total_is_of_trials_not_of_trials_more(tmp_path: Path) -> None:
    claim_all(tmp_path, 3)
    assert join(tmp_path, 3).claim(suggest, never) is None
    shared = join(tmp_path, 4)
    assert shared.claim(suggest, never) is not None
    assert shared.claim(suggest, never) is None


def test_queued_points_come_first_and_a_trial_with_the_same_settings_has_a_twin(tmp_path: Path) -> None:
    shared = join(tmp_path, 5)
    for x in (0.25, 0.5, 0.25):
        shared.optuna.enqueue_trial({"x": x})
    first, second = (claim(shared) for _ in range(2))
    assert (first.params, second.params) == ({"x": 0.25}, {"x": 0.5})
    third = claim(shared)
    assert shared.twin_of(third) is None  # not yet through
    shared.tell(first.number, [0.9])
    twin = shared.twin_of(third)
    assert twin is not None
    assert twin.number == first.number
    shared.copy(third.number, twin)
    assert shared.trial(third.number).values == [0.9]


def test_a_pruned_trial_s_twin_is_pruned_with_the_same_values(tmp_path: Path) -> None:
    shared = join(tmp_path, 5)
    for _ in range(2):
        shared.optuna.enqueue_trial({"x": 0.25})
    first, second = (claim(shared) for _ in range(2))
    handle = handle_of(shared.address, "tiny", first.number, optuna.pruners.ThresholdPruner(lower=0.5))
    handle.report(0.1, 1)
    assert handle.reason_to_stop(" after epoch 1") == Outcome("pruned", "pruned after epoch 1")
    shared.tell(first.number)
    assert shared.trial(first.number).state == TrialState.PRUNED
    twin = shared.twin_of(second)
    assert twin is not None
    shared.copy(second.number, twin)
    copied = shared.trial(second.number)
    assert (copied.state, copied.intermediate_values) == (TrialState.PRUNED, {1: 0.1})


def test_a_job_that_leaves_no_number_is_refused(tmp_path: Path) -> None:
    shared = join(tmp_path, 5)
    for values in (None, [float("nan")], [1.0, 2.0]):
        number = claim(shared).number
        with pytest.raises(SweepError, match="a study wants a number for each objective"):
            shared.tell(number, values)
        assert shared.trial(number).state == TrialState.RUNNING


def test_a_trial_that_says_it_is_through_has_its_outcome_in_the_storage(tmp_path: Path) -> None:
    shared = join(tmp_path, 5)
    number = claim(shared).number
    handle_of(shared.address, "tiny", number).finish([0.5])
    assert shared.trial(number).user_attrs[OUTCOME] == {"state": "COMPLETE", "values": [0.5]}


def test_two_folders_on_one_machine_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    address = str(tmp_path / "optuna.journal")
    first, second = (Study(address, "tiny", ["maximize"], 5, tmp_path / folder) for folder in ("a", "b"))
    number = claim(first).number
    second.settle_dead()
    assert second.trial(number).state == TrialState.RUNNING


def test_what_died_in_the_middle_of_being_set_up_is_set_up_by_the_next(tmp_path: Path) -> None:
    first = join(tmp_path, 5)
    first.remember({"space": {"x": "float 0 to 1"}})
    first.optuna.enqueue_trial({"x": 0.25})
    first.close()
    second = join(tmp_path, 5)
    assert not second.is_new
    for _ in range(2):
        second.set_up({"space": {"x": "float 0 to 1"}}, [{"x": 0.25}, {"x": 0.5}])
    assert [trial.system_attrs["fixed_params"] for trial in second.trials()] == [{"x": 0.25}, {"x": 0.5}]


def test_what_one_owner_interrupts_another_tries_again_at_once(tmp_path: Path) -> None:
    first, second = join(tmp_path, 1), join(tmp_path, 1)
    params = claim(first).params
    first.interrupt_own()
    assert claim(second).params == params
    assert second.num_counted() == 1


def test_optuna_dashboard_s_own_reader_opens_the_default_storage(tmp_path: Path) -> None:
    claim_all(tmp_path, 2)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    plain = optuna.load_study(study_name="tiny", storage=optuna.storages.JournalStorage(backend))
    assert len(plain.trials) == 2


@pytest.mark.parametrize("address", ["~nobody9/x.journal", "sqlite:///~nobody9/x.db"])
def test_a_storage_in_nobody_s_home_is_refused_in_one_line(address: str) -> None:
    with pytest.raises(SweepError, match=r"~nobody9 is nobody's home folder; give the path in full$"):
        storage.absolute_address(address)
