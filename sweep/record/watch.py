"""Watching of the metrics that a job logs to MLflow by itself, so that a job that reports nothing can be pruned.

It wraps two public methods of MLflow's public client, by which `mlflow.log_metric`, autologging and Lightning's logger
all log; MLflow itself has no hook for it. Only `hydra.sweeper.watch` switches it on.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from mlflow.tracking import MlflowClient

Seen = Callable[[str, str, float, int], None]
"""Function called with a run's id and a metric's name, value and step; its exception stops the job where it logs."""


@contextlib.contextmanager
def watching(seen: Seen) -> Iterator[None]:
    """Call `seen`, in the block, after each metric that this process has logged, to whichever run.

    The step is 0 where the job gives none.
    """
    log_metric, log_batch = MlflowClient.log_metric, MlflowClient.log_batch

    @functools.wraps(log_metric)
    def log_one(client: MlflowClient, run_id: str, key: str, value: float, *args: Any, **kwargs: Any) -> Any:
        logged = log_metric(client, run_id, key, value, *args, **kwargs)
        step = kwargs.get("step", args[1] if len(args) > 1 else None)
        seen(run_id, key, float(value), int(step or 0))
        return logged

    @functools.wraps(log_batch)
    def log_several(client: MlflowClient, run_id: str, metrics: Any = (), *args: Any, **kwargs: Any) -> Any:
        logged = log_batch(client, run_id, metrics, *args, **kwargs)
        for one in metrics:
            seen(run_id, one.key, float(one.value), int(one.step or 0))
        return logged

    _put(log_one, log_several)
    try:
        yield
    finally:
        _put(log_metric, log_batch)


def _put(log_metric: Callable[..., Any], log_batch: Callable[..., Any]) -> None:
    for name, method in {"log_metric": log_metric, "log_batch": log_batch}.items():
        setattr(MlflowClient, name, method)
