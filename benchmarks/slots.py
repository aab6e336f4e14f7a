"""How busy the slots of a study are, beside the stock plugin's: trials that only sleep, with lengths tenfold apart.

python benchmarks/slots.py                      4 slots, 24 trials of 1 to 10 s, ours and the plugin's
python benchmarks/slots.py --slots 8 --trials 64
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import hydra
from omegaconf import DictConfig

from sweep.plugin.sweeper import register_plugin

ROOT = Path(__file__).resolve().parents[1]

LENGTHS = "optimizer.lr=tag(log,interval(1,10))"  # a trial sleeps for its learning rate, in seconds
STUDY = (
    "-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.study_name=sleep", "data=digits",
    "tracking.enabled=false", "model=cnn", "model.channels.0=8", "model.channels.1=8", "model.channels.2=8",
    "data.batch_size=64", "model.dropout=0", LENGTHS,
)  # fmt: skip
OURS = ("hydra/sweeper/pruner=none",)
PLUGIN = (
    "hydra.sweeper._target_=hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
    "hydra.sweeper.direction=maximize", "hydra.sweeper.storage=null",
    "~hydra.sweeper.pruner", "~hydra.sweeper.timeout", "~hydra.sweeper.starting_points",
    "hydra/launcher=joblib",
)  # fmt: skip


class Sleep(NamedTuple):
    """One trial, in seconds since the epoch."""

    started: float
    ended: float


register_plugin()


@hydra.main(config_path=str(ROOT / "conf"), config_name="config")
def sleep(cfg: DictConfig) -> float:
    """One trial: sleep, and leave its times in the folder that SWEEP_SLEEPS names."""
    started = time.time()
    time.sleep(cfg.optimizer.lr)
    (Path(os.environ["SWEEP_SLEEPS"]) / f"{started}").write_text(f"{started} {time.time()}")
    return cfg.optimizer.lr


def busy_share(sleeps: list[Sleep], num_slots: int) -> float:
    """The share of `num_slots` slots' time spent in trials, from the first one's start to the last one's."""
    first, last = min(s.started for s in sleeps), max(s.started for s in sleeps)
    return sum(min(s.ended, last) - s.started for s in sleeps) / (num_slots * (last - first))


def run(arguments: tuple[str, ...], num_slots: int, num_trials: int) -> tuple[float, float]:
    """The busy share and the seconds of one study."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, __file__, *STUDY, *arguments, f"output_dir={folder}/multirun",
            f"hydra.sweeper.n_jobs={num_slots}", f"hydra.sweeper.n_trials={num_trials}",
        ]  # fmt: skip
        started = time.time()
        subprocess.run(command, check=True, env=os.environ | {"SWEEP_SLEEPS": folder}, stdout=subprocess.DEVNULL)
        seconds = time.time() - started
        sleeps = [Sleep(*map(float, path.read_text().split())) for path in Path(folder).iterdir() if path.is_file()]
    assert len(sleeps) == num_trials
    return busy_share(sleeps, num_slots), seconds


def main() -> None:
    """Measure ours and the plugin's, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--trials", type=int, default=24)
    options = parser.parse_args()
    plugin = (*PLUGIN, f"hydra.launcher.n_jobs={options.slots}")
    for name, arguments in {"ours": OURS, "the plugin's": plugin}.items():
        share, seconds = run(arguments, options.slots, options.trials)
        print(f"{name:12}  slots busy {share:.0%}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sleep() if "SWEEP_SLEEPS" in os.environ else main()
