"""The removal of what a refused run leaves: Hydra makes its folder before the job can look at its settings."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep import interrupts


class RemoveRefused(Callback):
    """A Hydra callback that removes the folder of a run that failed, if it holds nothing but Hydra's files.

    Of a study it removes the folders that are empty. It also refuses a folder called `~`, before it is made.
    """

    def __init__(self) -> None:
        self._made: list[Path] = []  # what was not there before, the innermost first
        self._files: list[Path] = []

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Note which folders are missing, as Hydra is about to make them."""
        folder = self._note(config, "hydra.run.dir")
        try:
            folder.mkdir(parents=True, exist_ok=True)  # what Hydra does next, where the error would be a traceback
        except OSError as error:
            self._remove()
            output_dir = Path(str(config.get("output_dir"))).absolute()
            given = f"output_dir={output_dir}" if output_dir in folder.parents else f"hydra.run.dir={folder}"
            sys.exit(f"error: {given}: no files can be written to {folder} ({error.strerror}); choose another")
        self._files = [
            *(
                folder / str(config.hydra.output_subdir) / name
                for name in ("config.yaml", "hydra.yaml", "overrides.yaml")
            ),
            folder / f"{config.hydra.job.name}.log",
        ]
        interrupts.before_ending(self._remove)

    def on_run_end(self, config: DictConfig, **facts: Any) -> None:  # noqa: ARG002 -- Hydra gives it by name
        """Remove the folders that Hydra made, if the run failed before it left anything in them."""
        if facts["job_return"].status != JobStatus.COMPLETED:
            self._remove()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note which folders are missing, as the study is about to make them."""
        self._note(config, "hydra.sweep.dir")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002 -- Hydra gives it by name
        """Remove the folders that the study made and left empty."""
        self._remove()

    def _note(self, config: DictConfig, key: str) -> Path:
        folder = _folder(config, key)
        with suppress(OSError):  # a name that is too long, say; whoever makes the folder tells it
            self._made = [] if folder.exists() else [folder, *(one for one in folder.parents if not one.exists())]
        return folder

    def _remove(self) -> None:
        if not self._made:
            return
        folder = self._made[0]
        found = [path for path in folder.rglob("*") if not path.is_dir()]
        if all(path in self._files and (path.suffix != ".log" or not path.stat().st_size) for path in found):
            for path in found:
                path.unlink()
            with suppress(OSError):  # somebody else has put something into it
                for path in (*folder.glob("*/"), *self._made):
                    path.rmdir()


def _folder(config: DictConfig, key: str) -> Path:
    """Return the absolute path at `key`; where Hydra cannot tell it yet, an existing one, which is left alone."""
    try:
        given = Path(str(OmegaConf.select(config, key)))
    except OmegaConfBaseException:
        return Path.cwd()
    if given.parts and given.parts[0].startswith("~"):
        sys.exit(f"error: {key}={given}: ~ is a folder of that name here; write the path in full, or $HOME in a shell")
    return given.absolute()
