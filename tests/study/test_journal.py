"""The journal file of a study, whole, torn and damaged; the addresses of storages; databases that fail."""

import json
import re
import resource
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from conftest import PROCESSES
from sqlalchemy.exc import OperationalError

from sweep.errors import RecordError, SweepError, concerns_record
from sweep.study import storage
from sweep.study.study import Study


def suggest(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def add_trials(folder: Path, number: int) -> Path:
    """The journal of a study, opened anew, with this many finished trials more."""
    storage.open_storage.cache_clear()
    path = folder / "optuna.journal"
    shared = Study(str(path), "tiny", ["maximize"], 1000, folder)
    for _ in range(number):
        trial = shared.claim(suggest, lambda: False)
        assert trial is not None
        shared.tell(trial.number, [trial.job])
    shared.close()
    return path


def values_in(path: Path) -> list[float | None]:
    storage.open_storage.cache_clear()
    found = storage.stored_study(str(path), "tiny")
    assert found is not None
    return [trial.value for trial in found.trials]


@pytest.mark.parametrize("half", [b'{"op_code":5,"worker_id":"a', b'{"op_code":5,"wor\0\0\0\0', b"\0" * 9000])
def test_a_half_last_line_is_cut_off_and_said_before_anything_is_appended(
    tmp_path: Path, half: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = add_trials(tmp_path, 2)
    before = path.read_bytes()
    path.write_bytes(before + half)
    assert len(values_in(path)) == 2
    add_trials(tmp_path, 1)
    assert capfd.readouterr().err.count("its last line was written half only") == 1
    assert path.read_bytes().startswith(before + b'{"op_code":')
    assert len(values_in(path)) == 3


def test_a_last_line_that_lacks_but_its_line_break_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = add_trials(tmp_path, 2)
    before = path.read_bytes()
    path.write_bytes(before.removesuffix(b"\n"))
    add_trials(tmp_path, 1)
    assert path.read_bytes().startswith(before)
    assert capfd.readouterr().err == ""


def test_a_study_goes_on_in_a_process_that_had_the_journal_open_when_another_left_half_a_line(tmp_path: Path) -> None:
    shared = Study(str(tmp_path / "optuna.journal"), "tiny", ["maximize"], 5, tmp_path)
    with (tmp_path / "optuna.journal").open("ab") as file:
        file.write(b'{"op_code":5,')
    trial = shared.claim(suggest, lambda: False)
    assert trial is not None
    shared.tell(trial.number, [0.5])
    shared.close()
    assert values_in(tmp_path / "optuna.journal") == [0.5]


def garbled(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], b"\xff\x00 not a record\n", *lines[3:]]


def with_a_whole_line_after_half_a_one(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], b'{"op_code":6,"wo' + lines[-1]]


@pytest.mark.parametrize("damage", [garbled, with_a_whole_line_after_half_a_one])
def test_damage_in_the_middle_is_told_with_the_command_that_takes_it_out_and_nothing_more(
    tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = add_trials(tmp_path, 2)
    values = values_in(path)
    lines = damage(path.read_bytes().splitlines(keepends=True))
    path.write_bytes(b"".join(lines))
    with pytest.raises(RecordError, match=r"line \d+ cannot be read; to go on with the \d+ that can: ") as caught:
        add_trials(tmp_path, 1)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"".join(lines)
    command = re.search(r"that can: (.*)  \(", str(caught.value))
    assert command is not None
    subprocess.run(command[1], shell=True, check=True)
    assert values_in(path) == values
    assert Path(f"{path}.damaged").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("content", [b"a person's notes", b"SQLite format 3\0" * 9, b'{"a": 1}\n{"b": 2}\n', b"x\ny"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="a file of another kind"):
        add_trials(tmp_path, 1)
    assert path.read_bytes() == content


def fill_up(folder: Path) -> None:
    shared = Study(str(folder / "optuna.journal"), "tiny", ["maximize"], 5, folder)
    trial = shared.claim(suggest, lambda: False)
    assert trial is not None
    before = (folder / "optuna.journal").read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, resource.RLIM_INFINITY))
    with pytest.raises(RecordError, match=r"File too large\); what has finished is kept, and the same command goes on"):
        shared.tell(trial.number, [0.5])
    assert (folder / "optuna.journal").read_bytes() == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    shared.tell(trial.number, [0.5])
    shared.close()


def test_a_journal_that_has_no_room_is_left_whole_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    process = PROCESSES.Process(target=fill_up, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert values_in(tmp_path / "optuna.journal") == [0.5]
    assert all(json.loads(line) for line in (tmp_path / "optuna.journal").read_text().splitlines())


def test_a_database_that_fails_is_the_record_s_fault_a_job_s_own_is_not(tmp_path: Path) -> None:
    shared = Study(f"sqlite:///{tmp_path}/study.db", "tiny", ["maximize"], 5, tmp_path)
    trial = shared.claim(suggest, lambda: False)
    assert trial is not None
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute("DROP TABLE trial_values")
    with pytest.raises(
        RecordError, match=r"study.db: cannot be reached any more \(.*no such table: trial_values"
    ) as caught:
        shared.tell(trial.number, [0.5])
    assert concerns_record(caught.value)
    assert not concerns_record(OperationalError("SELECT 1", None, Exception("no such table: mine")))
    assert not concerns_record(optuna.TrialPruned())
    shared.close()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("study.journal", "{here}/study.journal"),
        ("/tmp/study.journal", "/tmp/study.journal"),
        ("~/study.journal", "{home}/study.journal"),
        ("sqlite:///study.db", "sqlite:///{here}/study.db"),
        ("sqlite+pysqlite:///a/study.db?timeout=3", "sqlite+pysqlite:///{here}/a/study.db?timeout=3"),
        ("sqlite:////tmp/study.db", "sqlite:////tmp/study.db"),
        ("postgresql+psycopg://me:pw@host/db", "postgresql+psycopg://me:pw@host/db"),
        (None, None),
    ],
)
def test_a_relative_address_is_read_from_where_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute_address(given) == (expected and expected.format(here=tmp_path, home=Path.home()))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "give a path or a URL, or null"),
        ("sqlite:study.db", "a URL has // after sqlite:"),
        ("sqlite://", "jobs cannot see it; give a file"),
        ("sqlite:///:memory:", "jobs cannot see it; give a file"),
        ("x" * 300, "File name too long; give a shorter path"),
        ("{folder}", "is a folder; give a file in it"),
        ("/dev/null", "is not a file"),
        ("/proc/study.journal", "cannot be read or written"),
        ("sqlite:////proc/study.db", "unable to open database file"),
        ("oraql://host/db", "no database's URL; one is sqlite:///PATH"),
        ("postgres://host/db", "no database's URL; one is sqlite:///PATH, postgresql+psycopg://"),
        (
            "postgresql+psycopg2://host/db",
            "psycopg2 is not installed; pip install -e '.[postgres]', and write postgresql+psycopg",
        ),
        ("mysql://me:secret@host/db", "MySQLdb is not installed; pip install pymysql, and write mysql+pymysql://"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/db", "Connection refused"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path, address: str, message: str) -> None:
    if "psycopg" in message:
        pytest.importorskip("psycopg")
    with pytest.raises(SweepError, match=re.escape(message)) as caught:
        Study(storage.absolute_address(address.format(folder=tmp_path)), "tiny", ["maximize"], 5, tmp_path)
    told = str(caught.value)
    assert told.startswith("hydra.sweeper.storage=")
    assert "\n" not in told
    assert "secret" not in told


def test_a_server_that_takes_the_call_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setitem(storage.PATIENCE, "psycopg", ("connect_timeout", 2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql+psycopg://me:secret@127.0.0.1:{silent.getsockname()[1]}/db"
        with pytest.raises(RecordError, match=r"^hydra\.sweeper\.storage=postgresql\+psycopg://\*\*\*@.*timeout"):
            storage.open_storage(address)
