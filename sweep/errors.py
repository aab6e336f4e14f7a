"""Errors that a person can mend, told in one line."""

import errno
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

LAUNCHERS = ("joblib", "ray", "submitit")
"""Extras of the project that bring launchers, by the first part of the launchers' names."""


class SweepError(Exception):
    """An error that the person at the command line can mend.

    Its text is one line that names the key, what was given, what is allowed and, where it is not
    obvious, the next step. Passwords in it are masked.
    """

    def __init__(self, line: object) -> None:
        super().__init__(without_password(str(line)))


class RecordError(SweepError):
    """Optuna's or MLflow's record does not answer, or cannot be read or written.

    What the record holds is not known then, so nothing is made anew; no trial is at fault, and none would go better.
    """


class Stopped(Exception):  # noqa: N818 -- not an error
    """A trial was ended before its last step, and not by a fault; the text says why."""


class Pruned(Stopped):
    """The study's pruner ended a trial, because it was not going to be the best."""


class TakenOver(Stopped):
    """Other processes went on with the study without this job, so its trial counts as interrupted."""


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
TORCH_CANNOT_WRITE = re.compile(r"PytorchStreamWriter|unexpected pos \d+ vs")
"""What torch's errors say when a disk is full, broken or read-only."""


def require(condition: bool, key: str, given: Any, allowed: str) -> None:
    """Raise a SweepError that names `key`, what was `given` and what is `allowed`, unless `condition`."""
    if not condition:
        raise SweepError(f"{key}={given}: {allowed}")


def is_number(value: Any) -> bool:
    """Return whether `value` is an int or a float; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_of(names: Iterable[str]) -> str:
    """Return the words for a choice among `names`: "one of a, b"."""
    return "choose one of " + ", ".join(sorted(names))


SECRETS = {
    # In an address the user may be a token. The last @ ends a password, which may hold others.
    r"(://)[^\s/:@]*(?::\S*)?@": r"\1***@",
    # The same in an address that is mistyped; models:/NAME@ALIAS is MLflow's address of a model.
    r"(?<![^\s/'\"=\[(,:@])(?!models:/)[^\s:@/'\"=\[(,]+:(?!//)\S*@": "***@",
    r"(?i)\b([\w.-]*?(?:password|passwd|pwd|token|secret|secret_key|api_?key)=)[^\s&'\",;)\]}]+": r"\1***",
    r"(?i)(authorization\W{1,4}(?:bearer|basic)\s+)\S+": r"\1***",
}
"""Patterns of what may be a password or a token, with what is shown in its place."""


def without_password(text: str) -> str:
    """Return `text` with every user, password and token masked; all that is printed or recorded passes here."""
    for secret, shown in SECRETS.items():
        text = re.sub(secret, shown, text)
    return text


def in_one_line(error: BaseException, most: int = 1000) -> str:
    """Return at most `most` characters of the text of `error`, on one line and masked; its class if it has none."""
    return without_password(" ".join(str(error).split()))[:most] or type(error).__name__


def printable(text: str) -> str:
    """Return `text` with escapes for what no terminal shows, or would obey: invalid UTF-8, control characters."""

    def is_shown(letter: str) -> bool:
        return letter.isprintable() or unicodedata.category(letter) == "Zs"  # a space, as in macOS's screenshots' names

    return "".join(letter if is_shown(letter) else repr(letter)[1:-1] for letter in text)


def print_whatever_comes() -> None:
    """Have letters that the terminal's encoding lacks printed as escapes, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def concerns_record(error: BaseException) -> bool:
    """Return whether `error` comes from the study's record, or from a full or broken disk, not from the trial."""
    if isinstance(error, OSError):
        return error.errno in DISK_ERRORS
    is_torch_writing = isinstance(error, RuntimeError) and TORCH_CANNOT_WRITE.search(str(error))
    return isinstance(error, RecordError) or bool(is_torch_writing)


@contextmanager
def exit_with_one_line(overrides: Sequence[str] = ()) -> Iterator[None]:
    """End the program, in the block, with one line and status 1 for a mendable error, with 130 for Ctrl-C."""
    print_whatever_comes()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        line = explain(error, overrides) or (in_one_line(error) if isinstance(error, OSError) else None)
        if line is None:
            raise
        sys.exit(f"error: {line}")


def explain(error: Exception, overrides: Sequence[str] = ()) -> str | None:
    """Return one line for an error of ours or of Hydra's composition, None for any other; passwords are masked.

    Args:
        error: The exception that was raised.
        overrides: The command line's overrides, to show what was typed for the key at fault.
    """
    line = _line_for(error, overrides)
    return None if line is None else without_password(line)


def _line_for(error: Exception, overrides: Sequence[str]) -> str | None:
    if isinstance(error, SweepError):
        return str(error)
    if isinstance(error, OverrideParseException):
        if "=~" in (error.override or ""):
            return f"{error.override}: this shell leaves ~ as it is; write $HOME in its place"
        return f"{error.override}: cannot be read as key=value in Hydra's override syntax"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        extra = choice.partition("_")[0]
        if (
            group == "hydra/launcher"
            and extra in LAUNCHERS
            and not any(name.startswith(extra) for name in error.options)
        ):
            return f"{group}={choice}: it is not installed; pip install -e '.[{extra}]'"
        return f"{group}={choice}: {one_of(error.options)}"
    if isinstance(error, OmegaConfBaseException):
        return _explain_config_error(error, overrides)
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):  # as in model=null
        typed = next((override for override in overrides if override.endswith(("=null", "="))), "null")
        return f"{typed}: a group needs a choice, by its name; --help lists them"
    if isinstance(error, ValueError) and (not_a_place := re.search(r"invalid literal for int\(\).*'(.*)'", str(error))):
        return _explain_list_key(not_a_place[1], overrides)
    if isinstance(error, TypeError) and (not_a_place := re.search(r"Index '(.*)' \(str\) is not an int", str(error))):
        return _explain_list_key(not_a_place[1], overrides)
    if concerns_record(error):
        reason = in_one_line(error, 300) if isinstance(error, OSError) else "a file cannot be written whole"
        return f"{reason}; see to the disk, then the same command goes on; what has finished is kept"
    if type(error).__module__.partition(".")[0] == "mlflow":
        return f"MLflow's record cannot be read or written ({in_one_line(error, 300)})"
    if isinstance(error, HydraException):
        if isinstance(error.__cause__, OmegaConfBaseException):
            return _explain_config_error(error.__cause__, overrides)
        return in_one_line(error)
    return None


def _explain_list_key(name: str, overrides: Sequence[str]) -> str | None:
    """Explain an override such as model.widths.length=2, which takes a list for a group of keys."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        parent, found, below = key.partition(f".{name}")
        if found and below[:1] in ("", "."):
            hint = f"; to fix it in a study: '{key}=choice({value})'" if name == "length" else ""
            return f"{override}: {parent} is a list, its items are {parent}.0, {parent}.1, ...{hint}"
    return None


def _explain_config_error(error: OmegaConfBaseException, overrides: Sequence[str]) -> str:
    key = (error.full_key or "").replace("[", ".").replace("]", "")
    typed = next((override for override in overrides if override.lstrip("+~").split("=")[0] == key), key)
    parent, _, name = key.rpartition(".")
    if isinstance(error, KeyError | AttributeError) and hasattr(error.parent_node, "keys"):
        keys = sorted(str(sibling) for sibling in error.parent_node if sibling not in ("hydra", name))
        if not keys:
            return f"{typed}: no such key; {parent} is one value, with no keys below it"
        return f"{typed}: no such key; {f'{parent} has' if parent else 'there are'} {', '.join(keys)}"
    if isinstance(error, IndexError):
        return f"{typed}: {parent} has {len(error.parent_node)} items, counted from 0"
    if "incompatible container types" in str(error):
        return f"{typed}: it takes keys with their values, not a list"
    if "Unexpected type annotation" in str(error):  # a sweep's, inside a dict
        return f"{key.removesuffix('.tags')}: needs quotes there; on the command line rather 'KEY=interval(0,1)'"
    if "is not a ListConfig" in str(error):
        return f"{typed}: give a list, as in '{key}=[1,2]'"
    return f"{typed}: {str(error).splitlines()[0]}"
