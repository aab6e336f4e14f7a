"""The project that a job belongs to: where its record and its files lie, and the job that it names.

    [tool.sweep]
    job = "train:main"

in a project's pyproject.toml says which function `sweep confirm`, `sweep rerun` and `sweep best` are about, and
`sweeper = "study"` which choice of hydra/sweeper starts a study of it. It is the person's own file that says so, never
a record.
"""

import importlib
import inspect
import os
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from sweep.errors import SweepError, in_one_line, require

ROOT_VARIABLE = "SWEEP_ROOT"
"""Environment variable with the root, by which a job in another process finds it."""


def root() -> Path:
    """Return the project's folder, which holds mlflow.db, mlruns/ and multirun/, and whose repository git tags name."""
    settled = os.environ.get(ROOT_VARIABLE)
    return Path(settled) if settled else _of_folder(Path.cwd()) or Path.cwd()


def settle_root(task: Callable[..., Any] | ModuleType) -> None:
    """Make the root that of the project of `task`, a job's function or program, unless it is settled already."""
    if not os.environ.get(ROOT_VARIABLE):
        os.environ[ROOT_VARIABLE] = str(_of_task(task) or Path.cwd())


def _of_task(task: Callable[..., Any] | ModuleType) -> Path | None:
    with suppress(TypeError, OSError):  # it has no file
        return _of_folder(
            Path(inspect.getfile(task if inspect.ismodule(task) else inspect.unwrap(task))).resolve().parent
        )
    return None


def settle_root_here() -> None:
    """Make the root that of the working directory; outside of any project, that of this package's own checkout."""
    if not os.environ.get(ROOT_VARIABLE):
        own = Path(__file__).resolve().parents[1]
        is_checkout = (own / "pyproject.toml").exists()
        os.environ[ROOT_VARIABLE] = str(_of_folder(Path.cwd()) or (own if is_checkout else Path.cwd()))


def _of_folder(folder: Path) -> Path | None:
    """Return the nearest of `folder` and its parents that has pyproject.toml or .git."""
    above = (folder, *folder.parents)
    return next((one for one in above if (one / "pyproject.toml").exists() or (one / ".git").exists()), None)


def sweeper() -> str:
    """Return the choice of hydra/sweeper that starts a study of the project's job."""
    return _said("sweeper") or "study"


def program() -> Path | None:
    """Return the file of the job that the project names, None if it names none or there is no such file."""
    module = (_said("job") or "").partition(":")[0]
    path = root() / f"{module.replace('.', '/')}.py"
    return path if module and path.is_file() else None


def task() -> Callable[..., Any] | None:
    """Return the function of the job that the project names, without Hydra's decorator; None if it names none.

    Raises:
        SweepError: The function cannot be imported.
    """
    named = _said("job")
    if named is None:
        return None
    module, _, name = named.partition(":")
    if str(root()) not in sys.path:
        sys.path.insert(0, str(root()))
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the job's own modules raise
        raise SweepError(
            f"[tool.sweep] job={named}: cannot be imported ({in_one_line(error)}); give MODULE:NAME"
        ) from error
    return cast(Callable[..., Any], inspect.unwrap(found, stop=_is_described))


def _is_described(function: Any) -> bool:
    """Return whether `function` is what `@sweep.Job` made, not a wrapper around that, which carries its attributes."""
    return hasattr(function, "sweep_job") and not hasattr(function.__wrapped__, "sweep_job")


def _said(key: str) -> str | None:
    """Return the text of `key` under [tool.sweep] in the project's pyproject.toml, None if there is none.

    Raises:
        SweepError: The file cannot be read, or says no text.
    """
    file = root() / "pyproject.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("sweep", {}).get(key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SweepError(f"{file}: cannot be read ({in_one_line(error)})") from error
    require(found is None or isinstance(found, str), f"[tool.sweep] {key}", found, "must be a text, in quotes")
    return found
