"""The study with Ray Tune: the training of by_hand.py, one core for each trial, Optuna's search under Tune's.

python benchmarks/alternatives/ray_tune.py --trials 20 --epochs 4

Its results go to ray_results/ in the working directory. MLFLOW_TRACKING_URI says where the record goes; it must be
an absolute address, since Tune runs each trial in a folder of its own.
"""

import os
import secrets
import tempfile
from functools import partial
from pathlib import Path

# Read when Ray is imported or starts.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics leave the machine
if "RAY_AUTH_MODE" not in os.environ:
    # What Ray does by itself, with a token for this study alone, rather than one left in the home directory.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import mlflow
import ray
from by_hand import DROPOUT, EXPERIMENT, LR, Job, build_parser, run_trial
from ray import tune
from ray.tune.search.optuna import OptunaSearch


def train(config: dict[str, float], job: Job) -> None:
    """One trial, in a process of its own."""
    mlflow.set_experiment(EXPERIMENT)  # by name; a fresh process does not know the one that was set
    run_trial(
        job,
        **config,
        report=lambda accuracy: tune.report({"accuracy": accuracy}),
        run_name=tune.get_context().get_trial_id(),
    )


def search(job: Job, num_trials: int) -> tune.Result:
    """The best trial of a study. Ray decides how many run at a time: as many as there are cores."""
    tuner = tune.Tuner(
        tune.with_resources(partial(train, job=job), {"cpu": 1}),
        param_space={"lr": tune.loguniform(*LR), "dropout": tune.uniform(*DROPOUT)},
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", num_samples=num_trials, search_alg=OptunaSearch(seed=job.seed)
        ),
        run_config=tune.RunConfig(name="mnist", storage_path=str(Path("ray_results").absolute()), verbose=0),
    )
    return tuner.fit().get_best_result()


def main() -> None:
    """Search, and print the best trial."""
    options = build_parser(__doc__, num_workers=0).parse_args()  # a trial has one core, and the others are taken
    job = Job(options.epochs, options.seed, str(Path(options.data_root).absolute()), options.num_workers)
    mlflow.set_experiment(EXPERIMENT)  # makes the database and the experiment once, before trials would race to
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # what Ray leaves behind; sockets need a short path
        ray.init(address="local", include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        best = search(job, options.trials)
        assert best.metrics is not None
        print(f"best: test/accuracy {best.metrics['accuracy']:.2%}, {best.config}")
        ray.shutdown()


if __name__ == "__main__":
    main()
