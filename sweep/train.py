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
import os
import signal
import sys
import threading
import warnings
from typing import NoReturn

import hydra
from omegaconf import DictConfig

from sweep import environment
from sweep.arguments import check_training
from sweep.digits import CONF
from sweep.digits.job import DIGITS
from sweep.errors import explain, print_whatever_comes
from sweep.plugin.sweeper import register_plugin

register_plugin()


# Hydra warns of each callback that a config names, and a whitelist would forbid a person's own custom_search_space.
warnings.filterwarnings("ignore", r"hydra.utils.instantiate\(\) resolved _target_='sweep\.plugin\.leftovers\.")


@hydra.main(config_path=str(CONF), config_name="config")
@DIGITS
def main(cfg: DictConfig) -> None:
    """Train the job that Hydra composed."""
    from sweep.digits import train  # torch takes seconds; a mistyped key should not wait for it

    train.train(cfg)


def _leave(status: int) -> NoReturn:
    """End the process after its exit handlers, without freeing torch's objects one by one, which takes 2 s."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(status))  # Ctrl-C once more is for somebody in a hurry
    threading._shutdown()  # type: ignore[attr-defined]  # before those, as Python does; joblib's wait for it
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    print_whatever_comes()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then lets errors through to the lines below
    try:
        environment.settle()
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
