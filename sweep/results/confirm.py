"""Train a study's best settings again with fresh seeds, and see which of them is really best.

sweep confirm                                  the best 5 trials of the newest study, 3 seeds each
sweep confirm --study NAME --best 3 --seeds 5
sweep confirm hydra.sweeper.n_jobs=4           with overrides as train.py takes them

It is a study of its own, NAME-confirm-5x3, a grid of settings and seeds: it goes through the same slots and
launchers, and after an interruption the same command goes on with it.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain, count
from typing import NamedTuple

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from sweep import environment, project
from sweep.arguments import Parser, training_command
from sweep.digits import config, data, train
from sweep.errors import SweepError, require, told_in_one_line, without_password
from sweep.files import replacing
from sweep.record.connect import connect
from sweep.record.files import read_text
from sweep.record.run import MLflowRun
from sweep.record.runs import RunRecord, find_study, studies, trials_of
from sweep.record.tags import CONFIRMS_TAG, COPY_TAG, STUDY_TAG
from sweep.results import report, summary, trust
from sweep.results.summary import value_in_words
from sweep.results.uncertainty import Comparison, compare, flattery, interval
from sweep.study.dimensions import SPACE_FILE, from_json

OF_THE_MACHINE = ("seed", "device", "num_threads")
"""Settings that are not part of what is confirmed."""

STOPPED = 130
"""The exit status of a command after Ctrl-C."""


class Candidate(NamedTuple):
    """Settings that were trained again."""

    name: str
    """Of the trial that found them."""
    found: float
    """What the objective was there."""
    values: list[float]
    """What it is with each fresh seed."""
    runs: list[RunRecord]
    """Of each fresh seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.mean(self.values)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds."""
        return statistics.stdev(self.values)


class Verdict(NamedTuple):
    """What fresh seeds say of the candidates."""

    candidates: list[Candidate]
    """The best mean first."""
    comparisons: list[Comparison]
    """Of every pair of them, by their names."""
    num_seeds: int
    """How many seeds each was to be trained with; some may have failed, or not have been trained yet."""

    @property
    def winner(self) -> Candidate:
        """The one with the best mean."""
        return self.candidates[0]

    def differ(self, one: str, other: str) -> bool:
        """Whether these two can be told apart."""
        return any({one, other} == {pair.one, pair.other} and pair.differ for pair in self.comparisons)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser("confirm", __doc__)
    parser.add_argument("--study", metavar="NAME", help="by default the newest")
    parser.add_argument("--best", metavar="K", type=int, default=5, help="how many trials (5)")
    parser.add_argument("--seeds", metavar="M", type=int, default=3, help="how many seeds for each (3)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for train.py")
    options = parser.parse_intermixed_args(arguments)
    with told_in_one_line():
        require(options.best >= 1, "--best", options.best, "must be 1 or more")
        require(options.seeds >= 2, "--seeds", options.seeds, "must be 2 or more, or there is no spread to see")
        connect()
        study = find_study(options.study)
        report.gather(study)  # what cannot be reported is told before it takes a training
        chosen = choose(study, options.best)
        name = _name_for(study, chosen, options.seeds)
        status = _train(command(study, chosen, options.seeds, name, options.overrides))
        if status not in (0, STOPPED):
            sys.exit(status)  # train.py has said why
        try:
            verdict = judge(study, chosen, trials_of(find_study(name)), options.seeds)
        except SweepError:
            if status != STOPPED:
                raise
            print("stopped before there was a verdict; the same command goes on with it")
            sys.exit(status)
        told = in_words(study, verdict)
        print(f"\n{told}\n")
        MLflowRun(study.run_id).log_text(told + "\n", report.CONFIRMATION_FILE)
        print(f"report  {os.path.relpath(report.write(report.gather(study)))}")
    sys.exit(status)


def choose(study: RunRecord, most: int) -> list[RunRecord]:
    """The best finished trials of `study`, at `most` so many, by its first objective; of equal settings the first.

    Raises:
        SweepError: None has finished.
    """
    objective, direction = study.objectives[0], study.directions[0]
    trials = trials_of(study)
    chosen: dict[str, RunRecord] = {}  # by the settings, the seed and what belongs to the machine apart
    for one in summary.ranked(trials, [objective], [direction]):
        if len(chosen) < most and one.status == "FINISHED" and COPY_TAG not in one.tags:
            chosen.setdefault(OmegaConf.to_yaml(_settings(one)), one)
    if not chosen:
        raise SweepError(f"study={study.name}: none of its {len(trials)} trials has finished, so none can be confirmed")
    return list(chosen.values())


def _settings(run: RunRecord) -> DictConfig:
    """What `run` was trained with, as an experiment's file has it, all but the seed and what belongs to the machine."""
    job = train.recorded_config(run)
    if job is None:
        raise SweepError(f"run={run.run_id}: {run.name} has no {train.CONFIG_FILE}, so it cannot be trained again")
    settings = {key: value for key, value in asdict(job).items() if key not in OF_THE_MACHINE}
    settings["data"]["root"] = data.here(job.data).root
    choices = [{f"override /{group}": settings[group]["name"]} for group in config.GROUPS]
    return OmegaConf.create({"defaults": choices} | settings)


def _experiment(run: RunRecord) -> str:
    """What the experiment that trains `run` again is called, whatever its run is by now."""
    return f"trial-{run.trial_number:03d}"


def _name_for(study: RunRecord, chosen: Sequence[RunRecord], num_seeds: int) -> str:
    """The name of the study that confirms these trials: one that has begun to, or one that is not there yet."""
    base = f"{study.tags[STUDY_TAG]}-confirm-{len(chosen)}x{num_seeds}"
    spaces = {
        one.tags[STUDY_TAG]: read_text(one, SPACE_FILE)
        for one in studies()
        if one.tags.get(CONFIRMS_TAG) == study.tags[STUDY_TAG]
    }
    wanted = {_experiment(one) for one in chosen}
    for name in chain([base], (f"{base}-{i}" for i in count(2))):
        if name not in spaces:
            return name
        dimension = from_json(spaces[name] or "{}").get("experiment")
        if wanted == {str(choice) for choice in getattr(dimension, "choices", ())}:
            return name
    raise AssertionError("the names never end")


def command(
    study: RunRecord, chosen: Sequence[RunRecord], num_seeds: int, name: str, overrides: Iterable[str]
) -> list[str]:
    """The command line that trains every one of `chosen` with every fresh seed; writes its experiment files.

    They lie in the study's folder, in confirm/experiment, and are experiments like those in conf/.
    """
    folder = report.folder_of(study)
    objective = study.objectives[0]
    used = {one.params.get("seed") for one in trials_of(study)}
    seeds = [seed for seed in range(num_seeds + len(used)) if str(seed) not in used][:num_seeds]
    experiments = sorted(_experiment(one) for one in chosen)
    for one in chosen:
        value = value_in_words(objective, one.metrics[objective])
        with replacing(folder / "confirm" / "experiment" / f"{_experiment(one)}.yaml") as part:
            told = f"Trial {one.trial_number} of the study {study.tags[STUDY_TAG]}: {objective} {value}"
            told += f" with seed {one.params.get('seed')}."
            # On one line, whatever they hold: a second would be a setting.
            part.write_text(f"# @package _global_\n\n# {' '.join(told.split())}\n\n{OmegaConf.to_yaml(_settings(one))}")
    return [
        sys.executable,
        str(project.root() / "sweep" / "train.py"),
        "-m",
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=grid",
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.params={}",
        f"hydra.sweeper.confirms={_quoted(study.tags[STUDY_TAG])}",
        f"hydra.sweeper.n_trials={len(chosen) * num_seeds}",
        f"hydra.sweeper.study_name={_quoted(name)}",
        f"hydra.sweeper.direction=[{','.join(study.directions)}]",
        # Not as_uri: Hydra takes what follows file:// for the path as it is.
        f"hydra.searchpath=[{_quoted(f'file://{folder}/confirm')}]",
        f"output_dir={_quoted(str(folder.parent))}",
        f"experiment=choice({','.join(experiments)})",
        f"seed=choice({','.join(map(str, seeds))})",
        *overrides,
    ]


def _quoted(text: str) -> str:
    """`text`, a path or a name, as Hydra's override syntax wants it.

    Raises:
        SweepError: Hydra would resolve it.
    """
    require("${" not in text, "study", text, "neither its name nor its folder may hold ${, which Hydra resolves")
    is_plain = re.fullmatch(r"[\w/.:+-]*", text)
    return text if is_plain else QuotedString(text, Quote.single).with_quotes()


def _train(words: list[str]) -> int:
    """Run a command, leave Ctrl-C to it, and return its exit status."""
    print(f"confirming with: {without_password(training_command(*words[2:]))}\n", flush=True)
    before = signal.signal(signal.SIGINT, lambda *_: None)  # a handler, since the command would inherit SIG_IGN
    try:
        return subprocess.run(words, env=os.environ | environment.given, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def judge(study: RunRecord, chosen: Sequence[RunRecord], trials: Sequence[RunRecord], num_seeds: int) -> Verdict:
    """What `trials`, of the study that trained `chosen` again with `num_seeds` seeds, say.

    Raises:
        SweepError: Not every one of them has finished with two seeds or more.
    """
    objective, direction = study.objectives[0], study.directions[0]
    candidates = []
    for one in chosen:
        again = [run for run in trials if run.overrides.get("experiment") == _experiment(one)]
        runs = [run for run in again if run.status == "FINISHED" and objective in run.metrics]
        runs.sort(key=lambda run: int(run.params["seed"]))
        if len(runs) < 2:
            raise SweepError(
                f"study={study.name}: {_experiment(one)} has finished with {len(runs)} fresh seeds, which tells "
                "nothing yet; what was stopped goes on with the same command, what failed says why in MLflow"
            )
        values = [run.metrics[objective] for run in runs]
        candidates.append(Candidate(_experiment(one), one.metrics[objective], values, runs))
    sign = 1 if direction == "minimize" else -1
    candidates.sort(key=lambda candidate: sign * candidate.mean)
    comparisons = compare({candidate.name: candidate.values for candidate in candidates})
    return Verdict(candidates, comparisons, num_seeds)


def in_words(study: RunRecord, verdict: Verdict) -> str:
    """The table of the candidates, which of them can be told apart, the winner and how good it is."""
    objective, winner = study.objectives[0], verdict.winner
    middle = sorted(winner.runs, key=lambda run: run.metrics[objective])[len(winner.runs) // 2]
    lines = _verdict_in_words(study, verdict)
    lines += [f"        {line}" for line in _on_the_test_set(study, verdict)]
    lines.append(f"fetch   sweep best --run {middle.run_id}    (the middle one of its seeds)")
    return "\n".join(lines)


def _verdict_in_words(study: RunRecord, verdict: Verdict) -> list[str]:
    objective, winner = study.objectives[0], verdict.winner
    header = ["", f"mean {objective}", "spread", "as found", "with each seed"]
    rows = [
        [
            one.name,
            value_in_words(objective, one.mean),
            _difference_in_words(objective, one.spread),
            value_in_words(objective, one.found),
            "  ".join(value_in_words(objective, value) for value in one.values),
        ]
        for one in verdict.candidates
    ]
    lines = [*summary.fitted(header, rows, spare=[4]), ""]
    lines.append(f"winner  {winner.name}: {objective} {rows[0][1]}, the mean of {len(winner.values)} fresh seeds")
    lacking = [one for one in verdict.candidates if len(one.values) < verdict.num_seeds]
    if lacking:
        seeds = ", ".join(f"{one.name} with {len(one.values)}" for one in lacking)
        lines.append(f"        of {verdict.num_seeds} seeds not all have finished: {seeds}")
    others = [one.name for one in verdict.candidates[1:]]
    same = [name for name in others if not verdict.differ(winner.name, name)]
    worse = [name for name in others if name not in same]
    if same:
        lines.append(
            f"        cannot be told apart from {', '.join(same)} by so few seeds; take the one that suits you"
        )
    if worse:
        lines.append(f"        better than {', '.join(worse)} (Tukey's test over all pairs, 95%)")
    told_apart = [f"{a.name} from {b}" for a, b in _other_pairs(verdict) if verdict.differ(a.name, b)]
    if told_apart:
        lines.append(f"        besides, {', '.join(told_apart)} can be told apart")
    return lines


def _other_pairs(verdict: Verdict) -> Iterable[tuple[Candidate, str]]:
    others = verdict.candidates[1:]
    return ((one, other.name) for i, one in enumerate(others) for other in others[i + 1 :])


def _on_the_test_set(study: RunRecord, verdict: Verdict) -> list[str]:
    """The winner's accuracy on the test set, and what the choice did to it if it was made by the same images."""
    chose = study.objectives[0] == "test/accuracy"
    rates = [_rates(candidate) for candidate in (verdict.candidates if chose else [verdict.winner])]
    if rates[0] is None:
        return []
    mean, num_images = float(rates[0].mean()), len(rates[0])
    low, high = interval(mean, num_images)
    lines = [f"test/accuracy {mean:.2%}: 95% interval {low:.2%} to {high:.2%}, {num_images:,} images"]
    known = [one for one in rates if one is not None]
    if 1 < len(known) == len(rates):
        points = 100 * flattery(np.stack(known))
        picked = f"picked from {len(known)} means by these same images"
        lines.append(f"{picked}, which is expected to flatter it by {points:.2f} points")
    return lines


def _rates(candidate: Candidate) -> NDArray[np.float64] | None:
    """How often each image of the test set came out right over the seeds, (N,); None where that was not kept."""
    found = [trust.predictions_of(run, "test") for run in candidate.runs]
    known = [one.correct for one in found if one is not None]
    is_whole = len(known) == len(found) and len({len(correct) for correct in known}) == 1
    return np.mean(known, axis=0) if is_whole else None


def _difference_in_words(objective: str, difference: float) -> str:
    return f"{100 * difference:.2f} points" if objective.endswith("/accuracy") else f"{difference:.4f}"
