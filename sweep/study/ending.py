"""The result of a study, from Optuna's storage alone: its best trials, and how each trial ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from sweep.description import Description
from sweep.errors import SweepError
from sweep.files import replacing
from sweep.outcome import Ended
from sweep.study.study import Study
from sweep.study.trials import COPY_OF, ERROR, outcome_of

RESULTS_FILE = "optimization_results.yaml"


def best_trials(study: Study) -> list[FrozenTrial]:
    """Return the best trial of a study, or the trials on the Pareto front of several objectives."""
    if len(study.optuna.directions) > 1:
        return study.optuna.best_trials
    try:
        return [study.optuna.best_trial]
    except ValueError:  # none has finished
        return []


def values_in_words(job: Description, objectives: Sequence[str], values: Sequence[float]) -> str:
    """Return the `values` of the objectives as text for a person."""
    return job.in_words(dict(zip(objectives, values, strict=True)))


def none_finished(num_trials: int, reasons: Sequence[str]) -> str:
    """Return one line on a study without a finished trial, with the first of the `reasons`."""
    return f"none of {num_trials} trials finished; the first said: {next(iter(reasons), 'nothing')}"


def tell_best(study: Study, job: Description, objectives: Sequence[str], results: Path) -> str:
    """Return the best trials as text, and where the file with the `results` is."""
    lines = [
        f"best    trial {trial.number}: {values_in_words(job, objectives, trial.values)}  "
        + "  ".join(f"{key}={value}" for key, value in trial.params.items())
        for trial in best_trials(study)
    ]
    return "\n".join([*lines, f"look    {results}"])


def write_results(study: Study, folder: Path) -> Path:
    """Write optimization_results.yaml into `folder`, as the plugin does, and return its path.

    Raises:
        SweepError: No trial has finished.
    """
    best = best_trials(study)
    if not best:
        trials = study.trials()
        reasons = [trial.user_attrs[ERROR] for trial in trials if ERROR in trial.user_attrs]
        raise SweepError(none_finished(len(trials), reasons))
    if len(study.optuna.directions) == 1:
        results: dict[str, Any] = {"best_params": best[0].params, "best_value": best[0].value}
    else:
        results = {"solutions": [{"params": trial.params, "values": trial.values} for trial in best]}
    path = folder / RESULTS_FILE
    with replacing(path) as part:
        OmegaConf.save(OmegaConf.create({"name": "optuna"} | results), part)
    return path


def ended(trial: FrozenTrial, objectives: Sequence[str], step: str) -> Ended:
    """Return how a trial ended, as MLflow should record it.

    Args:
        trial: A trial that neither runs nor waits.
        objectives: Names of the metrics that its study searches for.
        step: The job's word for a step.
    """
    outcome = outcome_of(trial, step)
    metrics = dict(zip(objectives, outcome.values, strict=False))
    if not metrics and trial.last_step is not None:
        metrics = {objectives[0]: trial.intermediate_values[trial.last_step]}
    return Ended(
        outcome,
        params=trial.system_attrs.get("fixed_params", {}) | trial.params,  # it may not have been given all yet
        copy_of=trial.user_attrs.get(COPY_OF),
        metrics=metrics,
        step=trial.last_step or 0,
    )
