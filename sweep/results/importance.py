"""The importance of each searched setting."""

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from sweep.results.table import StudyTable

optuna.logging.set_verbosity(optuna.logging.WARNING)

FEWEST_TRIALS = 5
"""Number of trials below which importances mean nothing."""
BEST_TRIALS = 5
"""Least number of best trials that are compared with all, as Optuna advises."""


def importances(table: StudyTable) -> dict[str, float]:
    """Return the share of each setting in what sets the best trials apart, highest first, with sum 1.

    It is PED-ANOVA as Optuna has it, which also weighs settings that only some trials have (Watanabe, Bansal and
    Hutter, 2023, https://arxiv.org/abs/2304.10255): it compares where the best trials lie with where all lie. The best
    are a tenth, or more where that were fewer than BEST_TRIALS. Only the order of the objective's values counts, so the
    last value of a pruned trial is used too.

    Returns:
        Shares by key; empty where there are too few trials, or all are alike.
    """
    if len(table.scored) < FEWEST_TRIALS:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a setting which few trials have is judged by few
        found = get_param_importances(table.scored_in_optuna(), evaluator=evaluator(table))
    return {key: weight for key, weight in sorted(found.items(), key=lambda item: -item[1]) if weight > 0}


def evaluator(table: StudyTable) -> PedAnovaImportanceEvaluator:
    """Return Optuna's evaluator of importances for a study with this many trials."""
    return PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, BEST_TRIALS / len(table.scored))))
