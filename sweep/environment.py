"""What MLflow reads from the environment, made to mean the same in every process of a command.

`settle` is called before anything else: the worker processes, and the jobs of other launchers, inherit what it leaves.
"""

import os
import re

from sweep.files import absolute_path

ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
FILES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH")
RUN_ID = "MLFLOW_RUN_ID"
OF_ONE_RUN = (
    RUN_ID,
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_PARENT_RUN_ID",
    "MLFLOW_ACTIVE_MODEL_ID",
    "_MLFLOW_ACTIVE_MODEL_ID",
)
"""Variables by which MLflow would have every run that is opened be, or belong to, one that is there already."""

given: dict[str, str] = {}
"""Those of them that this process was started with, by which only its outermost run may go."""


def settle() -> None:
    """Make relative addresses absolute, and keep what is meant for one run away from all the others.

    Raises:
        SweepError: An address begins with the home folder of a user that there is not.
    """
    for name in ADDRESSES:
        if os.environ.get(name):
            os.environ[name] = absolute(os.environ[name])
    for name in FILES:
        if os.environ.get(name):
            os.environ[name] = absolute_path(os.environ[name])
    for name in OF_ONE_RUN:
        if value := os.environ.pop(name, None):
            given[name] = value


def absolute(address: str) -> str:
    """An `address` of MLflow's that means the same in every folder: a database file's, a folder's or a server's."""
    if path := sqlite_path(address):
        return address.replace(path, absolute_path(path), 1)
    if folder := re.fullmatch(r"file:(?!/)(.+)", address):
        return f"file://{absolute_path(folder[1])}"
    has_scheme = re.match(r"[\w+.-]+:", address) or address in ("databricks", "databricks-uc", "uc")
    return address if has_scheme else absolute_path(address)


def sqlite_path(address: str) -> str | None:
    """The file of the SQLite database at `address`, None of any other address and of one that is only in memory."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///((?!:memory:|file:)[^?]+)(?:\?.*)?", address)
    return found[1] if found else None
