from sweep import summary
from sweep.tracking import DIRECTION_TAG, OBJECTIVE_TAG, STUDY_TAG, RunRecord, best_of


def trial(number: int, value: float, status: str = "FINISHED", **params: str) -> RunRecord:
    return RunRecord(
        run_id=f"id{number}",
        experiment_id="1",
        name=f"trial-{number:03d}",
        status=status,
        params={key.replace("__", "."): value for key, value in params.items()},
        metrics={"test/accuracy": value, "test/loss": 1 - value},
        tags={"sweep.trial": str(number)},
        seconds=1.25,
    )


TRIALS = [trial(0, 0.91), trial(1, 0.99, status="FAILED"), trial(2, 0.95), trial(3, 0.95)]


def numbers(direction: str, objective: str) -> list[str]:
    return [row.split()[0] for row in summary.table(TRIALS, [objective], [direction], []).splitlines()[1:]]


def test_the_table_is_best_first_with_the_first_of_equals_above_and_the_failed_last() -> None:
    assert numbers("maximize", "test/accuracy") == ["2", "3", "0", "1"]
    assert numbers("minimize", "test/loss") == ["2", "3", "0", "1"]
    assert summary.table(TRIALS, ["test/accuracy"], ["maximize"], []).splitlines()[-1].split() == [
        "1",
        "-",
        "1.2",
        "failed",
    ]


def test_the_best_is_the_first_of_the_finished_with_the_best_value() -> None:
    best = best_of(TRIALS, "test/accuracy", "maximize")
    assert best is not None
    assert best.trial_number == 2
    assert best_of([TRIALS[1]], "test/accuracy", "maximize") is None
    assert best_of(TRIALS, "val/accuracy", "maximize") is None


def test_the_columns_are_aligned_and_long_numbers_cut() -> None:
    trials = [trial(0, 0.9, optimizer__lr="0.0123456789"), trial(10, 0.8, optimizer__lr="1e-05")]
    lines = summary.table(trials, ["test/accuracy"], ["maximize"], ["optimizer.lr"]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.01235" in lines[1]
    assert "1e-05" in lines[2]


def test_a_long_study_shows_its_best_and_counts_the_others() -> None:
    lines = summary.table([trial(i, i / 1000) for i in range(120)], ["test/accuracy"], ["maximize"], []).splitlines()
    assert len(lines) == 1 + summary.MOST_ROWS + 1
    assert lines[1].split()[0] == "119"
    assert lines[-1] == "... and 70 more, all in MLflow"


def test_the_end_of_a_study_names_the_best_and_what_to_type_next() -> None:
    study = trial(-1, 0.95)._replace(
        tags={STUDY_TAG: "mine", OBJECTIVE_TAG: "test/accuracy", DIRECTION_TAG: "maximize"}
    )
    told = summary.tell(study, TRIALS, [TRIALS[2]], [], ["a remark"], ["look    mlflow ui"]).splitlines()
    assert "study   mine: 4 trials, 1 failed, 3 finished" in told
    assert "best    trial 2: test/accuracy 95.00%" in told
    assert told[told.index("best    trial 2: test/accuracy 95.00%") + 1 :][:2] == [
        "        a remark",
        "look    mlflow ui",
    ]
    assert told[-1] == "fetch   sweep best --study mine"
