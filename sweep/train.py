"""Train one model, or search for the best.

python sweep/train.py                                    one run
python sweep/train.py model=cnn epochs=10                one run, changed
python sweep/train.py -m optimizer.lr=1e-4,1e-3,1e-2     a grid
python sweep/train.py -m hydra/sweeper=optuna            a study
"""

from sweep import interrupts

if __name__ == "__main__":
    interrupts.end_quietly()  # before the imports, which take a moment

import atexit
import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sweep import ROOT, environment
from sweep.arguments import check_training
from sweep.errors import SweepError, explain, print_whatever_comes, without_password
from sweep.progress import say_at_once
from sweep.sweeper import build_pruner, register

if TYPE_CHECKING:
    from sweep import trial

register()


# Hydra warns of each callback that a config names, and a whitelist would forbid a person's own custom_search_space.
warnings.filterwarnings("ignore", r"hydra.utils.instantiate\(\) resolved _target_='sweep\.leftovers\.")


@hydra.main(config_path=str(ROOT / "conf"), config_name="config")
def main(cfg: DictConfig) -> float | list[float] | None:
    """Train the job that Hydra composed and return its objective, or several, which is what a sweeper searches for."""
    hydra_config = HydraConfig.get()
    in_study = hydra_config.mode == RunMode.MULTIRUN
    if not in_study:
        say_at_once("checking the settings ...")
    from sweep import config, trial  # torch and MLflow take seconds; a mistyped key should not wait for them

    job = _job_of_study(hydra_config) if in_study else trial.Job(*_origin(hydra_config))
    try:
        checked = config.parse(cfg)
        trial.check(checked)
    except SweepError as error:
        if in_study and cfg.tracking.enabled:
            trial.record_ended(cfg.tracking.experiment, job, error)
        return _fail(error, in_study)
    interrupts.work_begins()
    try:
        values = trial.run(checked, job)
    except SweepError as error:
        return _fail(error, in_study)
    return values[0] if values is not None and len(values) == 1 else values


def _origin(hydra_config: HydraConf) -> tuple[Path, list[str]]:
    return Path(hydra_config.runtime.output_dir), list(hydra_config.overrides.task)


def _job_of_study(hydra_config: HydraConf) -> "trial.Job":
    from sweep import study, trial

    sweeper, number = hydra_config.sweeper, hydra_config.job.num
    handle: study.Handle = study.NoHandle()
    if "storage" in sweeper:  # Optuna's; a grid has none
        _leave_terminal_to_sweeper()
        _mask_passwords(Path(hydra_config.runtime.output_dir) / (hydra_config.output_subdir or ""))
        handle = study.handle_of(sweeper.storage, sweeper.study_name, number, build_pruner(sweeper.pruner))
    return trial.Job(*_origin(hydra_config), study=sweeper.study_name, number=number, handle=handle)


def _mask_passwords(folder: Path) -> None:
    """Mask the storage's password in what Hydra has written of its config."""
    for path in folder.glob("*.yaml"):
        text = path.read_text()
        if (masked := without_password(text)) != text:
            path.write_text(masked)


def _leave_terminal_to_sweeper() -> None:
    """The sweeper has a line for each trial, and decides what Ctrl-C means; what a trial says goes to its train.log."""
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:
            logging.root.removeHandler(handler)
    logging.raiseExceptions = False  # a train.log that cannot be written would be told with a traceback a line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a process of the launcher's, not the sweeper's
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fail(error: SweepError, in_study: bool) -> NoReturn:
    if in_study:
        raise error  # the sweeper counts it as a failed trial and goes on
    sys.exit(f"error: {error}")


def _leave(status: int) -> NoReturn:
    """End the process with what it registered for its end, but without freeing torch's objects one by one: 2 s."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(status))  # Ctrl-C once more is for somebody in a hurry
    threading._shutdown()  # type: ignore[attr-defined]  # before those, as Python does; joblib's wait for it
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    print_whatever_comes()
    environment.settle()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then lets errors through to the lines below
    try:
        check_training(sys.argv[1:])
        main()
    except KeyboardInterrupt:
        _leave(interrupts.STOPPED)  # MLflow has the run as FAILED
    except Exception as error:
        line = explain(error, sys.argv[1:])
        if line is None:
            raise
        sys.exit(f"error: {line}")
    _leave(0)
