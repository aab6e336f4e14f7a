"""How long the report of a long study takes, and what it asks MLflow, which beyond 300 trials grows no more.

python benchmarks/report.py                       studies of 100, 300 and 1,000 trials
python benchmarks/report.py --trials 3000
"""

import argparse
import functools
import inspect
import io
import math
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric as MetricPoint
from mlflow.entities import Param, RunTag
from mlflow.tracking import MlflowClient
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.description import Metric
from sweep.hooks import Kept, PerExample
from sweep.job import Job
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, find_run
from sweep.record.tags import (
    JOB_TAG,
    KIND_TAG,
    STATE_TAG,
    STUDY_TAG,
    TRIAL_TAG,
    objective_tags,
)
from sweep.results.gather import gather_for
from sweep.results.report import write
from sweep.results.table import table_of
from sweep.study.dimensions import SPACE_FILE, to_json

SCORES_FILE = "scores.npy"
SPACE = {
    "x": FloatDistribution(1e-4, 1.0, log=True),
    "width": IntDistribution(1, 512, log=True),
    "act": CategoricalDistribution(("relu", "tanh", "gelu")),
    "dropout": FloatDistribution(0.0, 0.5),
}
STEPS = 5
SHARE_PRUNED = 0.5


def _scores_of(kept: Kept, _metric: str) -> PerExample | None:
    path = kept.file(SCORES_FILE)
    return None if path is None else PerExample(np.load(path), "the same")


JOB = Job(metrics={"val/score": Metric(direction="maximize", is_share=True)}, per_example=_scores_of)


def record_study(name: str, num_trials: int, num_examples: int = 10_000) -> RunRecord:
    """A study in MLflow as if it had been searched, without training; half of its trials are pruned."""
    client, drawn = MlflowClient(), random.Random(0)
    tags = objective_tags(["val/score"], ["maximize"]) | {STUDY_TAG: name}
    with open_run("report", name, tags=tags | {KIND_TAG: "study", JOB_TAG: JOB.facts()}) as run:
        run.log_text(to_json(SPACE), SPACE_FILE)
        study = find_run(run.run_id)
    for number in range(num_trials):
        is_pruned = number > 0 and drawn.random() < SHARE_PRUNED
        settings: dict[str, Any] = {
            "x": 10 ** drawn.uniform(-4, 0),
            "width": drawn.randint(1, 512),
            "act": drawn.choice(["relu", "tanh", "gelu"]),
            "dropout": drawn.uniform(0, 0.5),
        }
        scores = np.random.default_rng(number).random(num_examples) < 0.9 - 0.02 * (math.log10(settings["x"]) + 2) ** 2
        of_trial = tags | {
            KIND_TAG: "trial",
            TRIAL_TAG: str(number),
            STATE_TAG: "pruned" if is_pruned else "finished",
            "mlflow.parentRunId": study.run_id,
        }
        made = client.create_run(study.experiment_id, run_name=f"trial-{number:03d}", tags=of_trial)
        now = int(time.time() * 1000)
        last = 1 if is_pruned else STEPS
        client.log_batch(
            made.info.run_id,
            metrics=[
                MetricPoint("val/score", float(scores.mean()) * (1 - 0.5**step) / (1 - 0.5**STEPS), now, step)
                for step in range(1, last + 1)
            ],
            params=[Param(key, str(value)) for key, value in settings.items()],
            tags=[RunTag("sweep.made", "without training")],
        )
        if not is_pruned:
            _keep(client, made.info.run_id, scores)
        client.set_terminated(made.info.run_id, "KILLED" if is_pruned else "FINISHED")
    return study


def _keep(client: MlflowClient, run_id: str, scores: Any) -> None:
    content = io.BytesIO()
    np.save(content, scores)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SCORES_FILE
        path.write_bytes(content.getvalue())
        client.log_artifact(run_id, str(path))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Within, count what MLflow's store is asked, by the names of its methods, but for what these ask each other."""
    store = MlflowClient()._tracking_client.store
    asked: Counter[str] = Counter()
    depth = 0

    def counting(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            asked[name] += depth == 0
            depth += 1
            try:
                return method(*args, **kwargs)
            finally:
                depth -= 1

        return call

    names = [
        one for one in dir(type(store)) if not one.startswith("_") and inspect.isfunction(getattr(type(store), one))
    ]
    before = {name: getattr(store, name) for name in names}
    for name, method in before.items():
        setattr(store, name, counting(name, method))
    try:
        yield asked
    finally:
        for name, method in before.items():
            setattr(store, name, method)


def main() -> None:
    """Make the studies and their reports, and print what those took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["SWEEP_ROOT"] = folder
        connect()
        for num_trials in options.trials:
            study = record_study(f"of-{num_trials}", num_trials)
            started = time.perf_counter()
            with counted() as asked:
                page = write(gather_for(table_of(study, JOB)))
            seconds = time.perf_counter() - started
            told = ", ".join(f"{count} {name}" for name, count in asked.most_common(5))
            print(
                f"{num_trials:5} trials: {seconds:5.1f} s, {asked.total()} questions ({told}); "
                f"page of {page.stat().st_size / 1e6:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
