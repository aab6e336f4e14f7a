"""The connection to MLflow's record: its address, whether it answers, and retries while it is busy or away.

Without MLFLOW_TRACKING_URI, runs go to mlflow.db and mlruns/ in the project's root, which is where a bare
`mlflow ui` started there looks.
"""

import contextlib
import functools
import inspect
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
from filelock import FileLock
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from requests.exceptions import RequestException
from sqlalchemy.exc import OperationalError

from sweep import environment, project
from sweep.errors import RecordError, SweepError, in_one_line, require

SECONDS_TO_ANSWER = 5
SECONDS_OF_PATIENCE = 600
"""How long to wait for a database that others have locked, or whose server is away."""
SECONDS_BETWEEN_TRIES = 1.0

NOT_KNOWN = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")
"""MLflow's error codes for a record that it could not look into."""

_ADDRESS: list[str] = []
"""The address of the record that this process connected to last."""
_CONNECTING = threading.Lock()  # slots are threads
_CONNECTED: set[str] = set()
_TELLING = threading.Lock()
_TOLD: list[str] = []


def default_uri() -> str:
    """Return the address of the database in the project's root."""
    return f"sqlite:///{project.root() / 'mlflow.db'}"


def connect() -> None:
    """Connect MLflow to the record, make the project's own database if needed, and check that it answers.

    A database file that another process has locked is waited for.

    Raises:
        RecordError: The record does not answer, or cannot be opened.
        SweepError: The address is none that MLflow takes.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it also raises
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # with the password, once for each run
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 s; then it is said that a server is waited for
    environment.settle()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or default_uri()
    _require_address(uri)
    mlflow.set_tracking_uri(uri)
    _ADDRESS[:] = [uri]
    path = environment.sqlite_path(uri)
    try:
        with _CONNECTING:
            if uri in _CONNECTED:
                return
            # Two processes that make the same database at once break it.
            with FileLock(f"{path}.lock") if path else contextlib.nullcontext(), _answering_soon():
                # The first client opens the database, which may be locked as well.
                look = _patient(lambda: MlflowClient().search_experiments(max_results=1), None if path else 0)
                look()
            _make_store_patient()
            _CONNECTED.add(uri)
    except UnsupportedModelRegistryStoreURIException as error:
        known = ", ".join(sorted(scheme for scheme in error.supported_uri_schemes if scheme not in ("", "file")))
        raise SweepError(f"MLFLOW_TRACKING_URI={uri}: no address that MLflow takes; one begins with {known}") from error
    except Exception as error:  # whatever the store behind the address raises
        reason = _reason(error.__cause__ if isinstance(error, RecordError) and error.__cause__ else error)
        raise RecordError(
            f"MLFLOW_TRACKING_URI={uri}: cannot be reached ({reason}); start the server, "
            "or unset MLFLOW_TRACKING_URI to record in mlflow.db here"
        ) from error


def take_back() -> str | None:
    """Make the record's address MLflow's again; return one that a job has set instead, None if none has."""
    elsewhere = str(mlflow.get_tracking_uri())
    if not _ADDRESS or elsewhere == _ADDRESS[0]:
        return None
    mlflow.set_tracking_uri(_ADDRESS[0])
    return elsewhere


def _require_address(uri: str) -> None:
    """Raise a SweepError if MLflow keeps no record at `uri`, or one that only this process can see."""
    allowed = "give a database, as in sqlite:////FOLDER/mlflow.db, or a server, as in http://HOST:5000"
    is_folder = os.path.isabs(uri) or uri.startswith("file:")
    if is_folder and not MLFLOW_ALLOW_FILE_STORE.get():
        raise SweepError(
            f"MLFLOW_TRACKING_URI={uri}: MLflow keeps no record in a plain folder now; {allowed}; "
            "`mlflow migrate-filestore` moves what is there"
        )
    is_no_file = uri.startswith("sqlite") and environment.sqlite_path(uri) is None
    require(not is_no_file, "MLFLOW_TRACKING_URI", uri, f"it names no database file; {allowed}")


def _patient(call: Callable[..., Any], patience: float | None = None) -> Callable[..., Any]:
    """Return `call` with retries while its database is locked or away, and a message on what it waits for."""

    @functools.wraps(call)
    def patient(*args: Any, **kwargs: Any) -> Any:
        seconds = SECONDS_OF_PATIENCE if patience is None else patience
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = call(*args, **kwargs)
                _tell_once("")
                return answer
            except (MlflowException, OperationalError) as error:
                if _is_held_up(error) and time.monotonic() < deadline:
                    _tell_once(f"waiting up to {seconds / 60:.0f} minutes for MLflow's record: {_reason(error)}")
                elif isinstance(error, OperationalError) or error.error_code in NOT_KNOWN:
                    uri = mlflow.get_tracking_uri()
                    raise RecordError(
                        f"MLFLOW_TRACKING_URI={uri}: does not answer ({_reason(error)}); what has finished is kept, "
                        "and a study goes on with the same command"
                    ) from error
                else:
                    raise
            time.sleep(SECONDS_BETWEEN_TRIES)

    return patient


def _make_store_patient() -> None:
    """Add retries to what MLflow reads and writes by itself, as when it logs a model or system metrics."""
    store = MlflowClient()._tracking_client.store  # the one that every client and mlflow's own functions share
    for name in dir(type(store)):
        if not name.startswith("_") and inspect.isfunction(getattr(type(store), name)):
            setattr(store, name, _patient(getattr(store, name)))


def _is_held_up(error: Exception) -> bool:
    """Return whether a database was locked by another process, or a server away, so that a retry may work."""
    if isinstance(error.__context__, RequestException):
        return True
    cause = error if isinstance(error, OperationalError) else error.__cause__
    if not isinstance(cause, OperationalError):
        return False
    code = getattr(cause.orig, "sqlite_errorcode", None)
    return code is None or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _reason(error: BaseException) -> str:
    cause = error if isinstance(error, OperationalError) else error.__cause__
    return in_one_line(cause.orig if isinstance(cause, OperationalError) and cause.orig else error, 200)


def _tell_once(line: str) -> None:
    """Print what is waited for, once; with an empty `line`, that it is there again if it was waited for."""
    with _TELLING:
        if line and not _TOLD:
            _TOLD.append(line)
            print(f"{line} (process {os.getpid()})", file=sys.stderr, flush=True)
        elif _TOLD and not line:
            _TOLD.clear()
            print("MLflow's record answers again", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _answering_soon() -> Iterator[None]:
    """Have MLflow, in the block, ask once and wait SECONDS_TO_ANSWER, rather than retry for minutes."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS_TO_ANSWER)}
    before = {name: os.environ.get(name) for name in patience}
    os.environ.update(patience)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
