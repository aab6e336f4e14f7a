"""The environment variables that MLflow reads, made to mean the same in every process of a command.

`settle` is called before anything else: worker processes, and the jobs of other launchers, inherit its result.
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
"""Variables with which MLflow would make every run that is opened continue, or belong to, an existing one."""

given: dict[str, str] = {}
"""Those of the variables in OF_ONE_RUN that this process was started with; only its outermost run may obey them."""


def settle() -> None:
    """Make relative addresses absolute, and take the variables for one run out of the environment.

    Raises:
        SweepError: An address begins with the home folder of a user that there is not.
    """
    for name in ADDRESSES:
        if os.environ.get(name):
            os.environ[name] = absolute_uri(os.environ[name])
    for name in FILES:
        if os.environ.get(name):
            os.environ[name] = absolute_path(os.environ[name])
    for name in OF_ONE_RUN:
        if value := os.environ.pop(name, None):
            given[name] = value


def absolute_uri(address: str) -> str:
    """Return `address`, of a database file, a folder or a server, so that it means the same in every folder."""
    if path := sqlite_path(address):
        return address.replace(path, absolute_path(path), 1)
    if folder := re.fullmatch(r"file:(?!/)(.+)", address):
        return f"file://{absolute_path(folder[1])}"
    has_scheme = re.match(r"[\w+.-]+:", address) or address in ("databricks", "databricks-uc", "uc")
    return address if has_scheme else absolute_path(address)


def sqlite_path(address: str) -> str | None:
    """Return the file of the SQLite database at `address`, None for other addresses and in-memory ones."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///((?!:memory:|file:)[^?]+)(?:\?.*)?", address)
    return found[1] if found else None
