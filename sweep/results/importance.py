"""Which of the searched settings mattered."""

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from sweep.results.table import StudyTable

optuna.logging.set_verbosity(optuna.logging.WARNING)

FEWEST_TRIALS = 5
"""With fewer there is nothing to say."""
BEST_TRIALS = 5
"""At least so many are compared with all, as Optuna advises."""


def importances(table: StudyTable) -> dict[str, float]:
    """The share of each setting in what sets the best trials apart from all, the highest first; they add up to 1.

    PED-ANOVA as Optuna has it, which also weighs settings that only some trials have (Watanabe, Bansal and
    Hutter, 2023, https://arxiv.org/abs/2304.10255). It compares where the best trials lie with where all lie: the
    best tenth, or more where that were fewer than BEST_TRIALS. Only the order of the objective's values counts, so a
    pruned trial's last one will do.

    Returns:
        Empty where there are too few trials, or all are alike.
    """
    if len(table.scored) < FEWEST_TRIALS:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a setting which few trials have is judged by few
        found = get_param_importances(table.scored_in_optuna(), evaluator=evaluator(table))
    return {key: weight for key, weight in sorted(found.items(), key=lambda item: -item[1]) if weight > 0}


def evaluator(table: StudyTable) -> PedAnovaImportanceEvaluator:
    """What weighs the settings of a study with so many trials."""
    return PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, BEST_TRIALS / len(table.scored))))
