"""Train one model, or search for the best.

python sweep/train.py                                    one run
python sweep/train.py model.widths=[1024,512] epochs=10  one run, changed
python sweep/train.py -m optimizer.lr=1e-4,1e-3,1e-2     a grid
python sweep/train.py -m hydra/sweeper=optuna            a study
"""

import atexit
import os
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from sweep import ROOT
from sweep.errors import SweepError, explain
from sweep.sweeper import GridSweeper, OptunaSweeper

for plugin in (GridSweeper, OptunaSweeper):
    Plugins.instance().register(plugin)


@hydra.main(config_path=str(ROOT / "conf"), config_name="config")
def main(cfg: DictConfig) -> float:
    """Train the job that Hydra composed and return its objective, which is what a sweeper searches for."""
    from sweep import config, trial  # torch and MLflow take seconds; a mistyped key should not wait for them

    hydra_config = HydraConfig.get()
    in_study = hydra_config.mode == RunMode.MULTIRUN
    job = trial.Job(
        output_dir=Path(hydra_config.runtime.output_dir),
        overrides=list(hydra_config.overrides.task),
        study=hydra_config.sweeper.study_name if in_study else None,
        number=hydra_config.job.num if in_study else None,
    )
    try:
        checked = config.parse(cfg)
        trial.check(checked)
    except SweepError as error:
        if in_study and cfg.tracking.enabled:
            trial.record_refused(cfg.tracking.experiment, job, error)
        return _fail(error, in_study)
    try:
        return trial.run(checked, job)
    except SweepError as error:
        return _fail(error, in_study)


def _fail(error: SweepError, in_study: bool) -> NoReturn:
    if in_study:
        raise error  # the sweeper counts it as a failed trial and goes on
    sys.exit(f"error: {error}")


def _leave() -> NoReturn:
    """End the process with what it registered for its end, but without freeing torch's objects one by one: 2 s."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then lets errors through to the lines below
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # what a shell expects of a program stopped by Ctrl-C; MLflow has the run as FAILED
    except Exception as error:
        line = explain(error, sys.argv[1:])
        if line is None:
            raise
        sys.exit(f"error: {line}")
    _leave()
