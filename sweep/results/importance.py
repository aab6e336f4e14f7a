"""Which of the searched settings mattered."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection

optuna.logging.set_verbosity(optuna.logging.WARNING)

FEWEST_TRIALS = 5
"""With fewer there is nothing to say."""
BEST_TRIALS = 5
"""At least so many are compared with all, as Optuna advises."""


def importances(
    dimensions: Mapping[str, BaseDistribution], trials: Sequence[tuple[Mapping[str, Any], float]], direction: str
) -> dict[str, float]:
    """The share of each setting in what sets the best trials apart from all, the highest first; they add up to 1.

    PED-ANOVA as Optuna has it, which also weighs settings that only some trials have (Watanabe, Bansal and
    Hutter, 2023, https://arxiv.org/abs/2304.10255). It compares where the best trials lie with where all lie: the
    best tenth, or more where that were fewer than BEST_TRIALS.

    Args:
        dimensions: What was searched.
        trials: The settings, one for each of the trial's dimensions, and the value of each trial. Only the
            order of the values counts, so a pruned trial's last one will do.
        direction: Of the values, "maximize" or "minimize".

    Returns:
        Empty where there are too few trials, or all are alike.
    """
    if len(trials) < FEWEST_TRIALS:
        return {}
    study = optuna.create_study(direction=StudyDirection[direction.upper()], sampler=optuna.samplers.RandomSampler())
    for settings, value in trials:
        known = {key: dimensions[key] for key in settings}
        study.add_trial(optuna.create_trial(params=dict(settings), distributions=known, value=value))
    share = min(0.5, max(0.1, BEST_TRIALS / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a setting which few trials have is judged by few
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=share))
    return {key: weight for key, weight in sorted(found.items(), key=lambda item: -item[1]) if weight > 0}
