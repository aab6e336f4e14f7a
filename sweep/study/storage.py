"""Optuna's storages: their addresses, how they are opened, and one-line errors when one fails."""

import functools
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from sqlalchemy import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from sweep.errors import RecordError, SweepError, require, without_password
from sweep.files import absolute_path
from sweep.study.journal import Journal

T = TypeVar("T")

TRIES_TO_MAKE_TABLES = 5
SECONDS_BETWEEN_TRIES = 1.0

PATIENCE = {
    "pysqlite": ("timeout", 60),
    "psycopg": ("connect_timeout", 5),
    "psycopg2": ("connect_timeout", 5),
    "pymysql": ("connect_timeout", 5),
    "mysqldb": ("connect_timeout", 5),
    "mysqlconnector": ("connection_timeout", 5),
}
"""For each driver, the argument with the seconds to wait: for SQLite's lock, or for a server's answer."""
DRIVERS = {
    "postgresql": ("postgresql+psycopg", "-e '.[postgres]'"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mariadb+pymysql", "pymysql"),
}
"""The URL to write for a kind of database, and the package to install for it."""
URLS = "no database's URL; one is sqlite:///PATH, postgresql+psycopg://USER@HOST/NAME or mysql+pymysql://USER@HOST/NAME"
CALLED_BY_CACHE = ("_create_new_trial", "_get_trials", "_set_trial_param", "_get_best_trial_id")
"""Methods, besides the public ones, that Optuna's cache calls of the database that it is before."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def absolute_address(address: str | None) -> str | None:
    """Return `address` with a relative path read from where the command was typed, as jobs elsewhere need it.

    Raises:
        SweepError: It is neither a path nor a database's URL, or other processes cannot see the database.
    """
    if address is None:
        return None
    key = "hydra.sweeper.storage"
    kind = re.match(r"(sqlite|postgres|postgresql|mysql|mariadb|oracle|mssql)(\+\w+)?:(?!//)", address)
    require(kind is None, key, without_password(address), f"a URL has // after {kind and kind[0]}")
    require(bool(address.strip()), key, "", "give a path or a URL, or null to keep no record")
    if "://" not in address:
        return absolute_path(address)
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:
        raise SweepError(f"{key}={without_password(address)}: {URLS}") from error
    if url.get_backend_name() != "sqlite" or url.host:
        return address
    prefix, path = re.fullmatch(r"(file:)?(.*)", url.database or "").groups()  # type: ignore[union-attr]
    require(path not in ("", ":memory:"), key, address, "jobs cannot see it; give a file, as in sqlite:///study.db")
    return url.set(database=f"{prefix or ''}{absolute_path(path)}").render_as_string(hide_password=False)


@functools.cache
def open_storage(address: str | None) -> BaseStorage:
    """Open the storage at `address`: a database's URL, the path of a journal file, or None for memory.

    Raises:
        RecordError: It cannot be opened.
    """
    if address is None:
        return InMemoryStorage()
    try:
        if "://" not in address:
            return JournalStorage(Journal(Path(address).absolute()))
        return _open_database(address)
    except RecordError:
        raise
    except Exception as error:  # whatever the database raises
        told = f"hydra.sweeper.storage={without_password(address)}: cannot be opened"
        raise RecordError(f"{told} ({_reason(error, address)})") from error


def _reason(error: Exception, address: str) -> str:
    if isinstance(error, NoSuchModuleError):
        return URLS
    if not isinstance(error, ImportError):
        return without_password(str(error.__cause__ or error).strip().splitlines()[0])
    missing = getattr(error.__cause__, "name", None) or "its driver"
    backend = address.partition(":")[0].partition("+")[0]
    url, package = DRIVERS.get(backend, ("", missing))
    return f"{missing} is not installed; pip install {package}{f', and write {url}://...' if url else ''}"


def is_server(address: str | None) -> bool:
    """Return whether `address` is of a database that a server keeps."""
    return address is not None and "://" in address and not address.startswith("sqlite")


def _open_database(address: str) -> RDBStorage:
    url = make_url(address)
    name, seconds = PATIENCE.get(url.get_driver_name(), ("", 0))
    settings: dict[str, Any] = {name: seconds} if name and name not in url.query else {}
    storage = _with_tables(address, {"pool_pre_ping": True, "connect_args": settings})
    # Judged by where it is raised and not by its module: a job may have a database of its own.
    for method in (*filter(lambda name: not name.startswith("__"), dir(BaseStorage)), *CALLED_BY_CACHE):
        if callable(made := getattr(storage, method)):
            setattr(storage, method, _failures_told(made, address))
    return storage


def _with_tables(address: str, settings: dict[str, Any]) -> RDBStorage:
    """Open the storage, again if another process made its tables at the same time."""
    for _ in range(TRIES_TO_MAKE_TABLES - 1):
        try:
            return RDBStorage(address, engine_kwargs=settings)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if not re.search("already exists|duplicate key|UNIQUE constraint", str(error)):
                raise
            time.sleep(SECONDS_BETWEEN_TRIES)
    return RDBStorage(address, engine_kwargs=settings)


def _failures_told(method: Callable[..., T], address: str) -> Callable[..., T]:
    @functools.wraps(method)
    def told(*args: Any, **kwargs: Any) -> T:
        try:
            return method(*args, **kwargs)
        except (SQLAlchemyError, StorageInternalError) as error:
            raise RecordError(
                f"hydra.sweeper.storage={without_password(address)}: cannot be reached any more "
                f"({_reason(error, address)}); what has finished is kept, and the same command goes on"
            ) from error

    return told


def stored_study(address: str | None, name: str) -> optuna.Study | None:
    """Return the study called `name` in the storage at `address`, None if there is none yet.

    Raises:
        SweepError: The storage cannot be opened.
    """
    if address is None or ("://" not in address and not os.path.lexists(address)):
        return None  # looking must not make the file
    try:
        return optuna.load_study(study_name=name, storage=open_storage(address), sampler=RandomSampler())
    except KeyError:
        return None


def has_study(address: str | None, name: str) -> bool:
    """Return whether the storage at `address`, or this process's memory, holds a study called `name`.

    Raises:
        RecordError: The storage cannot be opened.
    """
    return name in [study.study_name for study in open_storage(address).get_all_studies()]


def names_in(address: str | None) -> list[str]:
    """Return the names of all studies in the storage at `address`, oldest first.

    Raises:
        RecordError: The storage cannot be opened.
    """
    if address is None or ("://" not in address and not os.path.lexists(address)):
        return []
    return [study.study_name for study in open_storage(address).get_all_studies()]
