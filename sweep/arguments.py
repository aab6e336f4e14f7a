"""Command lines, and the checks of them that come before anything else. Imports nothing that takes time."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from sweep import project
from sweep.errors import SweepError
from sweep.files import expanded

OF_MANY_RUNS = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper", "hydra.launcher", "hydra.sweep")
"""Groups and keys that have an effect only where there are many runs."""

NO_CHANGE = ("hydra/sweeper=basic", "hydra/launcher=basic")
"""Choices that are the default, and so change nothing."""


class Parser(argparse.ArgumentParser):
    """Parser of the words after `sweep VERB`, which ends the program with one line and status 1 on an error."""

    def __init__(self, verb: str, description: str | None) -> None:
        super().__init__(
            prog=f"sweep {verb}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.register("type", None, text_given)  # what argparse does with an option that names no type

    def error(self, message: str) -> NoReturn:
        """End the program with `message` in one line."""
        sys.exit(f"error: {message.removeprefix('argument ')}; {self.prog} --help says what there is")


def text_given(given: str) -> str:
    """Return the text that was given as an argument, and refuse an empty one, as `--run "$ID"` may give."""
    if not given.strip():
        raise argparse.ArgumentTypeError("nothing is given; give a value, or leave it out")
    return given


def path_given(given: str) -> Path:
    """Return the path that was given, with `~` expanded, which not every shell does after `=`."""
    try:
        return expanded(text_given(given))
    except SweepError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def training_command(*words: str) -> str:
    """Return the command line that runs the project's job with these `words` from the working directory."""
    program = project.program()
    shown = "PROGRAM.py" if program is None else min(os.path.relpath(program), str(program), key=len)
    return shlex.join(["python", shown, *words])


def study_command() -> str:
    """Return the command line that starts a study of the project's job."""
    return training_command("-m", f"hydra/sweeper={project.sweeper()}")


def check_training(words: Sequence[str]) -> None:
    """Check that the command line of train.py asks for one thing, and for nothing that has no effect.

    Raises:
        SweepError: It asks for several things, or for one without effect; Hydra would answer with a traceback, or do
            something else than what was meant.
    """
    from hydra._internal.utils import get_args_parser

    parser: Any = get_args_parser()
    parser.error = _refuse  # argparse's own prints a screen of options first
    options = parser.parse_intermixed_args(list(words))
    if options.help or options.hydra_help:
        return
    asked = [f"--{name}" for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(options, name)]
    if len(asked) > 1:
        raise SweepError(f"{' '.join(asked).replace('_', '-')}: these exclude each other; give one of them")
    if options.cfg is None:
        for name in ("resolve", "package"):
            if getattr(options, name):
                raise SweepError(f"--{name}: it says how to show the config; add --cfg job, --cfg hydra or --cfg all")
    elif options.cfg == "hydra" and options.resolve:
        raise SweepError("--cfg hydra --resolve: Hydra's part refers to the job's; --cfg all --resolve shows both")
    if options.experimental_rerun is not None:
        if options.multirun or options.config_name:
            raise SweepError("--experimental-rerun: it excludes --multirun and --config-name")
        if not (Path(options.experimental_rerun) / ".hydra" / "hydra.yaml").is_file():
            raise SweepError(f"--experimental-rerun={options.experimental_rerun}: there is no .hydra/hydra.yaml in it")
    if options.shell_completion and len(options.overrides) != 1:
        raise SweepError("--shell-completion: add install=SHELL or uninstall=SHELL, such as install=bash")
    _check_overrides(options.overrides, of_many=options.multirun, is_shown=len(asked) == 1 and not options.run)


def _refuse(message: str) -> NoReturn:
    raise SweepError(f"{message.removeprefix('argument ')}; --help says what there is")


def _check_overrides(overrides: Sequence[str], *, of_many: bool, is_shown: bool) -> None:
    for override in overrides:
        if not override.strip():
            raise SweepError("an override is empty; give KEY=VALUE, or leave it out")
    if not (is_shown or of_many or "hydra.mode=MULTIRUN" in overrides):
        for override in overrides:
            if _is_of_many_runs(override) and override not in NO_CHANGE:
                raise SweepError(f"{override}: it would have no effect on a single run; add -m for a study or a grid")


def _is_of_many_runs(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return any(key == one or key.startswith((f"{one}/", f"{one}.")) for one in OF_MANY_RUNS)
