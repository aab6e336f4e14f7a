"""What is printed of a study."""

import pytest
from made import run, table

from sweep.record.runs import RunRecord, best_of
from sweep.results import summary
from sweep.results.table import StudyTable


def trial(number: int, value: float, status: str = "FINISHED", **params: str) -> RunRecord:
    return run(number, value, status, params={key.replace("__", "."): value for key, value in params.items()})


TRIALS = [trial(0, 0.91), trial(1, 0.99, status="FAILED"), trial(2, 0.95), trial(3, 0.95)]


def lines(made: StudyTable) -> list[str]:
    return summary.table_in_words(made).splitlines()


def test_the_table_is_best_first_with_the_first_of_equals_above_and_the_failed_last() -> None:
    by_accuracy, by_loss = table(TRIALS), table(TRIALS, objectives="test/loss", directions="minimize")
    for made in (by_accuracy, by_loss):
        assert [row.split()[0] for row in lines(made)[1:]] == ["2", "3", "0", "1"]
    assert lines(by_accuracy)[-1].split() == ["1", "-", "1.2", "failed"]


def test_the_best_is_the_first_of_the_finished_with_the_best_value() -> None:
    best = best_of(TRIALS, "test/accuracy", "maximize")
    assert best is not None
    assert best.trial_number == 2
    assert best_of([TRIALS[1]], "test/accuracy", "maximize") is None
    assert best_of(TRIALS, "val/accuracy", "maximize") is None


def test_the_columns_are_aligned_and_long_numbers_cut() -> None:
    trials = [trial(0, 0.9, optimizer__lr="0.0123456789"), trial(10, 0.8, optimizer__lr="1e-05")]
    printed = lines(table(trials, ["optimizer.lr"]))
    assert len({len(line) for line in printed}) == 1
    assert "0.01235" in printed[1]
    assert "1e-05" in printed[2]


def test_a_long_study_shows_its_best_and_counts_the_others() -> None:
    printed = lines(table([trial(i, i / 1000) for i in range(120)]))
    assert len(printed) == 1 + summary.MOST_ROWS + 1
    assert printed[1].split()[0] == "119"
    assert printed[-1] == "... and 70 more, all in MLflow"


def test_the_end_of_a_study_names_the_best_and_what_to_type_next() -> None:
    told = summary.summary_in_words(table(TRIALS), ["a remark"], ["look    mlflow ui"]).splitlines()
    assert "study   mine: 4 trials, 1 failed, 3 finished" in told
    assert "best    trial 2: test/accuracy 95.00%" in told
    assert told[told.index("best    trial 2: test/accuracy 95.00%") + 1 :][:2] == [
        "        a remark",
        "look    mlflow ui",
    ]
    assert told[-1] == "fetch   sweep best --study mine"


def test_values_are_written_as_the_job_says_of_each_metric() -> None:
    runs = [run(i, {"test/accuracy": 0.9 + i / 100, "model/size": 1e6 * (i + 1)}) for i in range(2)]
    made = table(runs, objectives="test/accuracy,model/size", directions="maximize,minimize")
    assert lines(made)[1].split()[:4] == ["1", "91.00%", "2,000,000", "*"]
    assert summary.best_lines(made)[1].strip() == "trial 0: test/accuracy 90.00%  model/size 1,000,000"


def wide_trial(number: int, value: float, widths: tuple[int, ...], **params: str) -> RunRecord:
    return trial(number, value, **{f"model__widths__{i}": str(width) for i, width in enumerate(widths)}, **params)


KEYS = ["model.widths.length", "model.widths.0", "model.widths.1", "model.widths.2", "model.dropout", "optimizer.lr",
        "data.batch_size"]  # fmt: skip
OTHERS = ["optimizer", "model.activation", "data.augmentation.random_erasing_probability"]
WIDE = [
    wide_trial(
        number, 0.9 + number / 100, widths, model__dropout="0.0033612", optimizer__lr=f"0.0012345{number}",
        data__batch_size="512", optimizer__name="sgd" if number else "adam", model__activation="gelu" * (number + 1),
        data__augmentation__random_erasing_probability=f"0.1{number}",
    )
    for number, widths in enumerate([(913,), (734, 108, 83), (546, 72)])
]  # fmt: skip


def test_a_list_is_one_column_names_are_short_and_what_all_have_in_common_is_told_once() -> None:
    printed = lines(table(WIDE, KEYS))
    assert printed[0].split() == ["trial", "test/accuracy", "widths", "lr", "seconds", "status"]
    assert [line.split()[2] for line in printed[1:4]] == ["546,72", "734,108,83", "913"]
    assert printed[4:] == ["the same in all: model.dropout=0.003361  data.batch_size=512"]


def test_names_are_as_short_as_they_can_be_told_apart() -> None:
    keys = ["optimizer.lr", "scheduler.lr", "model.dropout", "model.widths.0", "data.length", "job.seconds", "+a.b"]
    assert list(summary.short_names(keys).values()) == [
        "optimizer.lr", "scheduler.lr", "dropout", "widths.0", "data.length", "job.seconds", "b",
    ]  # fmt: skip


def test_a_setting_called_length_is_no_list() -> None:
    assert summary.whole_lists(["text.length", "model.widths.length"], {"model.widths.0"}) == [
        "text.length", "model.widths",
    ]  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 160])
def test_the_table_is_as_wide_as_the_terminal_and_names_what_it_leaves_out(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = lines(table(WIDE, [*KEYS, *OTHERS]))
    assert max(map(len, printed)) <= columns
    text = "\n".join(printed)
    for name in ("lr", "optimizer", "activation", "probability", "seconds"):
        assert name in text
    for value in ("92.00%", "91.00%", "90.00%", "546,72", "finished"):
        assert value in text
    assert ("no room for" in text) == (columns < 100)


def test_the_table_of_the_default_study_loses_no_column_at_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    trials = [one._replace(params=one.params | {"model.dropout": f"0.01234{i}", "data.batch_size": str(256 * 2**i)})
              for i, one in enumerate(WIDE)]  # fmt: skip
    printed = lines(table(trials, KEYS))
    assert max(map(len, printed)) <= 80
    assert [line.split() for line in printed[:2]] == [
        ["test/", "batch_"], ["trial", "accuracy", "widths", "dropout", "lr", "size", "seconds", "status"],
    ]  # fmt: skip


def test_a_long_name_in_a_cell_is_cut_before_a_column_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    trials = [trial(i, 0.9, model__activation=f"{i}_" + "long" * 20) for i in range(2)]
    printed = lines(table(trials, ["model.activation"]))
    assert max(map(len, printed)) <= 60
    assert "0_longlonglong.." in "".join(printed)
    assert "no room" not in "".join(printed)


def test_whole_numbers_keep_all_their_digits() -> None:
    assert [summary.short(value) for value in ("16384", "-5", "0.0123456", "[16384,0.123456]", "relu", "")] == [
        "16384", "-5", "0.01235", "[16384,0.1235]", "relu", "",
    ]  # fmt: skip


def test_remarks_are_wrapped_for_a_terminal_and_left_whole_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    remark = summary.INDENT + "word " * 30
    assert summary.wrapped(remark) == remark
    monkeypatch.setenv("COLUMNS", "80")
    wrapped = summary.wrapped(remark).splitlines()
    assert len(wrapped) == 3
    assert all(line.startswith(summary.INDENT) and len(line) <= 80 for line in wrapped)
