"""How far the best value of a study can be trusted, from what its trials took each image for."""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweep.digits import predictions
from sweep.digits.predictions import PREDICTIONS_FILE, MissingPredictionsError, Predictions
from sweep.errors import SweepError
from sweep.record.files import download, files_of
from sweep.record.runs import RunRecord
from sweep.results.summary import value_in_words
from sweep.results.uncertainty import flattery, interval


class Trust(NamedTuple):
    """What is known of an accuracy besides its value."""

    metric: str
    value: float
    low: float
    """The lower end of its 95% interval."""
    high: float
    num_images: int
    num_candidates: int
    """From how many trials it was picked by these images; 0 if they had no part in the choice."""
    flattery: float | None
    """By how much the choice is expected to have flattered it, None if that is not known."""
    num_finished: int
    """How many of the candidates that was estimated from; the others were pruned."""


def shows_test(objectives: Sequence[str], searched: Iterable[str]) -> bool:
    """Whether the best trial's accuracy on the test set may be seen.

    It may not where seeds are compared on other images: what wins there is the mean of several, see sweep confirm.
    """
    return "seed" not in searched or objectives[0].startswith("test/")


def judge(best: RunRecord, candidates: Sequence[RunRecord], with_test: bool = True) -> list[Trust]:
    """The accuracies of `best`, the best of `candidates`: on the images it was chosen by, and on the test set.

    The latter only `with_test`. Empty where it has kept no predictions.
    """
    (objective,) = best.objectives
    chosen_on = objective.partition("/")[0]
    return [
        found
        for split in dict.fromkeys([chosen_on, *["test"] * with_test])
        if (found := _judge(best, split, candidates if split == chosen_on else [], objective)) is not None
    ]


def _judge(best: RunRecord, split: str, candidates: Sequence[RunRecord], objective: str) -> Trust | None:
    own = predictions_of(best, split)
    if own is None:
        return None
    value = float(own.correct.mean())
    finished = [one for one in candidates if one.status == "FINISHED"]
    others = [predictions_of(one, split) for one in finished if one.run_id != best.run_id]
    known = [one for one in [own, *others] if one is not None and np.array_equal(one.labels, own.labels)]
    is_known = len(known) == len(finished) and {one.digest for one in finished} == {best.digest}
    expected = None
    if is_known and objective.endswith("/accuracy"):
        expected = flattery(np.stack([one.correct for one in known]))
    low, high = interval(value, len(own.labels))
    return Trust(
        f"{split}/accuracy", value, low, high, len(own.labels), len(candidates), expected, num_finished=len(finished)
    )


def predictions_of(run: RunRecord, split: str) -> Predictions | None:
    """What the model of `run` took the images of `split` for, None if the run has kept none; damaged ones are told."""
    if PREDICTIONS_FILE not in files_of(run):
        return None
    with tempfile.TemporaryDirectory() as folder:
        download(run, Path(folder), [PREDICTIONS_FILE])
        try:
            return predictions.load(Path(folder) / PREDICTIONS_FILE, split)
        except MissingPredictionsError:
            return None
        except SweepError as error:
            print(f"note: run={run.run_id}: {run.name}: {error}; left out", file=sys.stderr)
            return None


def in_words(judged: Sequence[Trust]) -> list[str]:
    """A line or two for each."""
    lines = []
    for trust in judged:
        value = value_in_words(trust.metric, trust.value)
        lines.append(
            f"{trust.metric} {value}: 95% interval {trust.low:.2%} to {trust.high:.2%}, {trust.num_images:,} images"
        )
        if trust.num_candidates > 1:
            told = "which flatters it by an amount that cannot be told"
            if trust.flattery is not None:
                told = f"which is expected to flatter it by {100 * trust.flattery:.2f} points"
                if trust.num_finished < trust.num_candidates:
                    told += f" (by the {trust.num_finished} that finished)"
            lines.append(f"picked from {trust.num_candidates} trials by these same images, {told}")
        elif trust.num_candidates == 0:
            lines.append("these images had no part in the choice")
    return lines
