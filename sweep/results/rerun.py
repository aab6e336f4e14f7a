"""Train a logged run again from what was recorded, and say whether the result is the same.

sweep rerun RUN_ID    exit status 0 if it is the same bit for bit, 1 if it is not

The new run stands beside the old one in MLflow, as rerun-of-NAME. It belongs to no study.
"""

import contextlib
import dataclasses
import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sweep.arguments import Parser
from sweep.digits import config as configs
from sweep.digits import data, loop, train
from sweep.digits.config import Config
from sweep.digits.job import DIGITS, PARAMETERS
from sweep.errors import Stopped, SweepError, in_one_line, told_in_one_line
from sweep.job import Goal
from sweep.outcome import INTERRUPTED, Outcome
from sweep.record.connect import connect
from sweep.record.files import download, files_of
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, find_run, history_of, naming, trials_of
from sweep.record.tags import (
    COMMIT_TAG,
    COPY_TAG,
    DEVICE_TAG,
    DIRECTION_TAG,
    DIRTY_TAG,
    ERROR_TAG,
    KIND_TAG,
    OBJECTIVE_TAG,
    OVERRIDES_TAG,
    PRECISION_TAG,
    PROCESSOR_TAG,
    RERUN_TAG,
    STOPPED_TAG,
    THREADS_TAG,
    TORCH_TAG,
)
from sweep.running import carry_out
from sweep.study.study import Handle
from sweep.trial import Trial

FINISHED = "finished"


class MetricDifference(NamedTuple):
    """Where the values of a metric are furthest apart."""

    metric: str
    epoch: int
    then: float | None
    """None where there was no value."""
    now: float | None


class WeightsDifference(NamedTuple):
    """How a tensor of the weights differs."""

    name: str
    num_weights: int
    num_differ: int
    """All of them if its shape or type is another."""
    largest: float
    """The largest difference between two weights; not a number if the shape or type is another."""


class Comparison(NamedTuple):
    """What two runs of the same settings came to."""

    ended_then: str
    """FINISHED, or what the run said at its end."""
    ended_now: str
    num_epochs: int
    num_metrics: int
    num_tensors: int
    """0 where there are no weights to compare: of a run that did not finish."""
    metrics: list[MetricDifference]
    """Of the metrics that are not the same in every epoch."""
    weights: list[WeightsDifference]
    """Of the tensors that are not the same bit for bit."""

    @property
    def is_same(self) -> bool:
        """Whether there is no difference at all."""
        return self.ended_then == self.ended_now and not self.metrics and not self.weights


class StopAfter(Handle):
    """Stops a trial after so many epochs, as the one that it repeats was stopped."""

    def __init__(self, num_epochs: int) -> None:
        self._num_left = num_epochs

    def report(self, value: float, epoch: int) -> None: ...

    def reason_to_stop(self, when: str = "") -> Outcome | None:
        self._num_left -= 1  # a job asks once after each epoch
        return None if self._num_left else Outcome("stopped", f"stopped, as the run that it repeats was,{when}")

    def finish(self, values: object) -> None: ...


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser("rerun", __doc__)
    parser.add_argument("run", metavar="RUN_ID", help="the run's id, as MLflow's pages show it")
    options = parser.parse_args(arguments)
    _show_epochs()
    with told_in_one_line():  # after Ctrl-C MLflow has the new run as FAILED, interrupted
        connect()
        run = find_run(options.run)
        require_trained(run)
        with tempfile.TemporaryDirectory(prefix="rerun-") as folder:
            again, compared = rerun(run, Path(folder))
    print(f"\n{tell(compared, why(run, again))}\nrecorded as {again.name} ({again.run_id})")
    sys.exit(0 if compared.is_same else 1)


def _show_epochs() -> None:
    """Print what a trial says, as train.py does, and not what libraries say."""
    logger = logging.getLogger("sweep")
    logger.handlers = [logging.StreamHandler(sys.stdout)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def require_trained(run: RunRecord) -> None:
    """Raise a SweepError unless `run` is one of a training that has ended."""
    at = f"run={run.run_id}: {run.name} is"
    if run.tags.get(KIND_TAG) == "study":
        trials = trials_of(run)
        such = f", such as {trials[0].name}: sweep rerun {trials[0].run_id}" if trials else "; it has none"
        raise SweepError(f"{at} a study; give one of its trials{such}")
    if COPY_TAG in run.tags:
        raise SweepError(f"{at} a copy and was not trained itself; {_instead_of_copy(run)}")
    if run.status == "RUNNING":
        raise SweepError(f"{at} still RUNNING, or its process has died; give a run that has ended")


def _instead_of_copy(run: RunRecord) -> str:
    number = run.whole_number(COPY_TAG, -1)
    siblings = trials_of(find_run(run.tags.get("mlflow.parentRunId", "")))
    twin = next((one for one in siblings if one.trial_number == number), None)
    return f"its twin was: sweep rerun {twin.run_id}" if twin else f"trial {number} was, which is gone"


def rerun(run: RunRecord, folder: Path) -> tuple[RunRecord, Comparison]:
    """Train `run` again, record that beside it, and compare the two.

    A run that was stopped is trained up to the epoch it reached; one that failed, until it fails again.
    What its settings left to the machine is as it was then: threads and precision, and the device if it is here.
    The data are read from SWEEP_DATA_ROOT, or else from where they lay.

    Args:
        run: One that `require_trained` lets pass.
        folder: Empty; for files that are needed only meanwhile.

    Returns:
        The new run, and how it compares.

    Raises:
        SweepError: It was recorded without what is needed to train it again, or cannot be trained here.
    """
    recorded = folder / "recorded"
    recorded.mkdir()
    _download(run, recorded)
    with naming(run):
        config = _as_it_was(run, train.load_config(recorded))
        if run.status == "FINISHED":  # what there is to compare with is read before it takes a training
            train.load_classifier(recorded)
    train.check(config)
    digest = data.load(config.data).digest
    if digest != run.digest:
        raise SweepError(
            f"data.root={config.data.root}: this is another {config.data.name} than the run was trained on "
            f"(digest {digest}, recorded {run.digest or 'none'}); point SWEEP_DATA_ROOT to the one that it was"
        )
    last_epoch = max((epoch for history in history_of(run).values() for epoch in history), default=0)
    handle = None
    if _was_stopped(run):
        if not last_epoch:
            raise SweepError(
                f"run={run.run_id}: {run.name} was stopped before its first epoch ended: nothing to compare"
            )
        handle = StopAfter(last_epoch)
    goal = Goal(config.objective, run.directions, config.tracking.experiment, is_recorded=True)
    again, ended = _train(run, config, Trial(DIGITS, goal, folder / "again", handle=handle))
    return again, compare(run, again, ended, recorded, folder / "again")


def _download(run: RunRecord, folder: Path) -> None:
    if train.CONFIG_FILE not in files_of(run):
        raise SweepError(
            f"run={run.run_id}: {run.name} is {run.status} and has no {train.CONFIG_FILE} to train it from; "
            "give a run that was trained"
        )
    download(run, folder, (train.CONFIG_FILE,))
    if run.status == "FINISHED":
        download(run, folder, (train.WEIGHTS_FILE,))


def _was_stopped(run: RunRecord) -> bool:
    return run.status == "KILLED" or run.tags.get(ERROR_TAG) == INTERRUPTED


def _as_it_was(run: RunRecord, config: Config) -> Config:
    """The settings with what `auto` and null came to in `run`, as far as that was recorded and can be had."""
    device = run.tags.get(DEVICE_TAG, config.device)
    try:
        loop.pick_device(device)
    except SweepError:
        device = config.device  # the result then is another, and the device is named as a reason
    return dataclasses.replace(
        config,
        data=data.here(config.data),
        device=device,
        precision=run.tags.get(PRECISION_TAG, config.precision),
        num_threads=run.whole_number(THREADS_TAG, 0) or config.num_threads,
    )


def _train(run: RunRecord, config: Config, trial: Trial) -> tuple[RunRecord, str]:
    """The new run, and how it ended: FINISHED, or what it said; as `run` where it got as far as that was stopped."""
    tags = {
        KIND_TAG: "rerun",  # not "trial": what looks for the best run must not meet this one twice
        RERUN_TAG: run.run_id,
    }
    kept = (OBJECTIVE_TAG, DIRECTION_TAG, OVERRIDES_TAG)
    tags |= {key: run.tags[key] for key in kept if key in run.tags}
    ended = _ending(run) if _was_stopped(run) else FINISHED
    run_id = ""
    try:
        with (
            contextlib.suppress(Stopped),
            open_run(config.tracking.experiment, f"rerun-of-{run.name}", tags=tags) as record,
        ):
            run_id = record.run_id
            trial.run = record
            carry_out(trial, train.train, cast(DictConfig, OmegaConf.create(configs.to_yaml(config))))
    except Exception as error:
        # That a failure comes again is what is asked for; whatever else goes wrong is for the reader to see.
        if not run_id or not (isinstance(error, SweepError) or run.status == "FAILED"):
            raise
        ended = in_one_line(error)
    return find_run(run_id), ended


def _ending(run: RunRecord) -> str:
    stopped = run.tags.get(STOPPED_TAG, "")
    return FINISHED if run.status == "FINISHED" else run.tags.get(ERROR_TAG, stopped)


def compare(then: RunRecord, now: RunRecord, ended: str, folder_then: Path, folder_now: Path) -> Comparison:
    """Every metric of every epoch and every weight of two runs.

    Args:
        then: A run that has ended.
        now: The run that repeats it.
        ended: How that one ended.
        folder_then: Where the weights of `then` are, if it finished.
        folder_now: Where those of `now` are.
    """
    histories = _measured(then), _measured(now)
    weights: tuple[dict[str, Tensor], ...] = ({}, {})
    if _ending(then) == ended == FINISHED:
        weights = tuple(train.load_weights(folder) for folder in (folder_then, folder_now))
    return Comparison(
        ended_then=_ending(then),
        ended_now=ended,
        num_epochs=len({epoch for history in histories[0].values() for epoch in history}),
        num_metrics=len(histories[0]),
        num_tensors=len(weights[0]),
        metrics=differing_metrics(*histories),
        weights=differing_weights(*weights),
    )


def _measured(run: RunRecord) -> dict[str, dict[int, float]]:
    """The metrics of `run` by epoch, but for the number of parameters, which runs have once, or in every epoch."""
    return {name: values for name, values in history_of(run).items() if name != PARAMETERS}


def differing_metrics(
    then: Mapping[str, Mapping[int, float]], now: Mapping[str, Mapping[int, float]]
) -> list[MetricDifference]:
    """Of each metric that is not the same in every epoch, the epoch in which it differs most."""
    found = []
    for metric in sorted({*then, *now}):
        a, b = then.get(metric, {}), now.get(metric, {})
        differing = [epoch for epoch in sorted({*a, *b}) if a.get(epoch) != b.get(epoch)]
        if differing:
            missing = [epoch for epoch in differing if epoch not in a or epoch not in b]
            worst = missing[0] if missing else max(differing, key=lambda epoch: abs(a[epoch] - b[epoch]))
            found.append(MetricDifference(metric, worst, a.get(worst), b.get(worst)))
    return found


def differing_weights(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[WeightsDifference]:
    """How the tensors differ that are not the same bit for bit, the largest difference first."""
    found = []
    for name in [*then, *(name for name in now if name not in then)]:
        a, b = then.get(name), now.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            size = (b if a is None else a).numel()  # type: ignore[union-attr]
            found.append(WeightsDifference(name, size, size, float("nan")))
        elif num_differ := int((_bytes(a) != _bytes(b)).any(dim=1).sum()):
            largest = (a.double() - b.double()).abs().max().item()
            found.append(WeightsDifference(name, a.numel(), num_differ, largest))
    return sorted(found, key=lambda one: (one.largest == one.largest, -one.largest))


def _bytes(tensor: Tensor) -> Tensor:
    """(N,) or any other shape to (N, bytes of one number): -0 is not 0, and one NaN is the other."""
    return tensor.contiguous().flatten().view(torch.uint8).reshape(tensor.numel(), -1)


def why(then: RunRecord, now: RunRecord) -> list[str]:
    """What may make two runs of the same settings differ, from what is recorded of both."""
    reasons, unknown = [], []
    for key, what in {
        COMMIT_TAG: "the code",
        TORCH_TAG: "torch",
        DEVICE_TAG: "the device",
        PROCESSOR_TAG: "the processor",
        PRECISION_TAG: "the precision",
        THREADS_TAG: "the number of threads",
    }.items():
        a, b = (run.tags.get(key) for run in (then, now))
        if a is None:
            unknown.append(what)
        elif a != b:
            reasons.append(f"{what}: {a} then, {b} now")
    if unknown:
        reasons.append(f"{', '.join(unknown)}: not recorded then")
    for when, run in {"then": then, "now": now}.items():
        if run.tags.get(DIRTY_TAG) == "true":
            reasons.append(f"the code: some files were not as committed {when}, and may have mattered")
    if now.tags.get(THREADS_TAG, "1") != "1":
        reasons.append(f"{now.tags[THREADS_TAG]} threads: they may add in another order each time")
    if now.tags.get(DEVICE_TAG, "cpu") != "cpu":
        reasons.append(f"{now.tags[DEVICE_TAG]}: some of its kernels may add in another order each time")
    return reasons or ["nothing that is recorded: same code, versions and processor, one thread; is the record intact?"]


def tell(compared: Comparison, reasons: list[str]) -> str:
    """What a person reads of a comparison; the `reasons` only where there is a difference."""
    if compared.is_same:
        return f"the same, bit for bit: {_what_is_same(compared)}"
    lines = ["not the same"]
    if compared.ended_then != compared.ended_now:
        lines += [f"  then  {compared.ended_then}", f"  now   {compared.ended_now}"]
    for one in compared.metrics:
        lines.append(f"  {one.metric}: {_number(one.then)} then, {_number(one.now)} now, after epoch {one.epoch}")
    if compared.weights:
        num_differ = sum(one.num_differ for one in compared.weights)
        worst = compared.weights[0]
        by = f"by up to {worst.largest:.2g} (in {worst.name})"
        if worst.largest != worst.largest:
            by = f"{worst.name} in its shape, type or name"
        lines.append(
            f"  weights: {num_differ:,} differ, in {len(compared.weights)} of {compared.num_tensors} tensors, {by}"
        )
    return "\n".join([*lines, "it may be because of", *(f"  {reason}" for reason in reasons)])


def _what_is_same(compared: Comparison) -> str:
    if not compared.num_epochs:
        return f"it ended in its first epoch with {compared.ended_then}"
    told = f"{compared.num_metrics} metrics in {compared.num_epochs} epoch{'s' * (compared.num_epochs != 1)}"
    if compared.num_tensors:
        return f"{told}, {compared.num_tensors} tensors of weights"
    return f"{told}; no weights, since the run did not finish: {compared.ended_then}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"
