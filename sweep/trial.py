"""One trial, from its config to its number: where data, model, loop and tracking meet."""

import contextlib
import logging
import time
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn

from sweep import config as configs
from sweep import data, loop, predictions, tracking
from sweep.config import Config
from sweep.errors import Stopped, SweepError, in_one_line
from sweep.files import replacing
from sweep.predictions import PREDICTIONS_FILE, Predictions
from sweep.progress import LongEpochs
from sweep.study import Handle, NoHandle
from sweep.summary import in_words

log = logging.getLogger(__name__)

BYTES_PER_PARAMETER = 4 * 4
"""The weight, its gradient, and the two means that Adam keeps, in float32."""

WEIGHTS_FILE = "weights.pt"
CONFIG_FILE = "config.yaml"


class Job(NamedTuple):
    """Where a trial comes from and where its files go."""

    output_dir: Path
    overrides: list[str]
    """What the command line or the sweeper changed."""
    study: str | None = None
    """The study it belongs to, None for a single run."""
    number: int | None = None
    """Its number in the study, from 0."""
    handle: Handle = NoHandle()
    """By which the study watches it."""

    @property
    def name(self) -> str:
        """What MLflow's pages call it."""
        return self.output_dir.name if self.number is None else f"trial-{self.number:03d}"


def check(config: Config) -> None:
    """See that a job can be trained here, before anything is recorded.

    Raises:
        SweepError: As `require_fit` does, or the data are missing.
    """
    require_fit(config)
    data.load(config.data)


def require_fit(config: Config) -> None:
    """See that the settings of a job go together, and with this machine.

    Raises:
        SweepError: There is no such device, the model does not fit the images, or is too large.
    """
    loop.pick_precision(config.precision, loop.pick_device(config.device))
    sizes = {key: value for key, value in asdict(config.model).items() if key != "name"}
    named = f"model={config.model.name} with {', '.join(f'{key}={value}' for key, value in sizes.items())}"
    try:
        with torch.device("meta"):  # shapes only, no memory
            network = config.model.build(config.data.image_shape, len(config.data.classes))
    except (RuntimeError, TypeError, OverflowError) as error:  # torch's, of a size beyond its numbers
        raise SweepError(f"{named}: cannot be built ({in_one_line(error, 100)})") from error
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    needed, there = BYTES_PER_PARAMETER * num_parameters / 2**30, psutil.virtual_memory().total / 2**30
    if needed > there:
        raise SweepError(
            f"{named}: {num_parameters:,} parameters take {needed:,.0f} GB to train, and this machine has "
            f"{there:,.0f} GB; make it smaller"
        )


def run(config: Config, job: Job) -> list[float] | None:
    """Train and evaluate the job of `config`, which has passed `check`, and record it.

    Leaves config.yaml, weights.pt (the state_dict of the network and its preprocessing) and predictions.npz
    (what it took each held-out image for) in `job.output_dir`, and everything in MLflow.

    Returns:
        The value of each objective, None if the study stopped the trial.

    Raises:
        SweepError: Something that a person can mend; the run, if open by then, is recorded as FAILED.
    """
    try:
        if not config.tracking.enabled:
            return train(config, job, tracking.NoRun())
        tracking.connect()
        directions = [way for way in map(configs.direction, config.objective) if way is not None]
        tags = tracking.objective_tags(config.objective, directions)
        if len(directions) < len(config.objective):
            del tags[tracking.DIRECTION_TAG]  # a study knows it
        with _open_run(config.tracking.experiment, job, tags) as record:
            return train(config, job, record)
    except Stopped as stopped:
        log.info("%s: %s", job.name, stopped)
        return None


def record_ended(
    experiment: str,
    job: Job,
    error: SweepError | Stopped,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    epoch: int = 0,
) -> None:
    """Record a study's trial that was not trained to its end, so that MLflow lacks none that Optuna has.

    Args:
        experiment: MLflow's.
        job: The trial's.
        error: Why it ended.
        params: Its values for what was searched, as far as they are known.
        metrics: What it had reported after `epoch`.
        epoch: The last one that it reported.
    """
    tracking.connect()
    with contextlib.suppress(SweepError, Stopped), _open_run(experiment, job, {}) as record:
        record.log_params(params or {})
        record.log_metrics(metrics or {}, step=epoch)
        raise error


def record_values(experiment: str, job: Job, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Record a study's finished trial of which no more is known than its `params` and `metrics`."""
    with _open_run(experiment, job, {}) as record:
        record.log_params(params)
        record.log_metrics(metrics, step=0)


def record_copy(experiment: str, job: Job, twin: tracking.RunRecord) -> None:
    """Record a study's trial that has the settings of its trial `twin`, and so the same outcome."""
    tags = {key: twin.tags[key] for key in (tracking.OBJECTIVE_TAG, tracking.DIRECTION_TAG) if key in twin.tags}
    tags[tracking.COPY_TAG] = str(twin.trial_number)
    with contextlib.suppress(Stopped), _open_run(experiment, job, tags) as record:
        record.log_params(twin.params)
        record.log_metrics(twin.metrics, step=0)
        if twin.status == "KILLED":
            raise Stopped(twin.tags[tracking.STOPPED_TAG])


def _open_run(experiment: str, job: Job, tags: dict[str, str]) -> AbstractContextManager[tracking.Run]:
    tags = tags | {tracking.KIND_TAG: "trial", tracking.OVERRIDES_TAG: " ".join(job.overrides)}
    parent = None
    if job.study is not None:
        parent = tracking.find_study(job.study)
        tags |= {tracking.STUDY_TAG: job.study, tracking.TRIAL_TAG: str(job.number)}
        shared = (tracking.OBJECTIVE_TAG, tracking.DIRECTION_TAG)
        tags |= {key: parent.tags[key] for key in shared if key in parent.tags}
    return tracking.open_run(experiment, job.name, tags=tags, parent=parent)


def train(config: Config, job: Job, record: tracking.Run) -> list[float]:
    """What `run` does, with a `record` that is open already.

    Raises:
        SweepError: As `run` does.
        Stopped: The study, or whoever gave `job.handle`, wants no more epochs.
    """
    started = time.perf_counter()
    device = loop.pick_device(config.device)
    precision = loop.pick_precision(config.precision, device)
    loop.make_deterministic(config.seed, config.num_threads)

    dataset = data.load(config.data)
    splits = data.Splits(*(data.to_device(split, device) for split in dataset.splits))
    classifier = build_classifier(config, dataset.mean, dataset.std).to(device)
    transform, network = classifier.transform, classifier.network
    train_loader, evaluation_loaders = _loaders(config, splits, transform)
    optimizer = config.optimizer.build(network.parameters())
    scheduler = config.optimizer.build_scheduler(optimizer, config.epochs * len(train_loader))

    with replacing(job.output_dir / CONFIG_FILE) as part:
        part.write_text(configs.to_yaml(config))
    record.log_params(configs.flatten(config))
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    record.log_tags(circumstances(device, precision) | {tracking.PARAMETERS_TAG: str(num_parameters)})
    record.log_dataset(config.data.name, dataset.digest, config.data.origin)
    record.log_file(job.output_dir / CONFIG_FILE)
    log.info(
        "%s on %s: %s parameters, %s images, %s, %s, %d threads",
        config.model.name,
        config.data.name,
        f"{num_parameters:,}",
        f"{len(splits.train.labels):,}",
        device,
        str(precision).removeprefix("torch."),
        torch.get_num_threads(),
    )

    metrics: dict[str, float] = {}
    evaluations: dict[str, loop.Evaluation] = {}
    for result in loop.fit(
        network,
        LongEpochs(train_loader, config.epochs),
        optimizer,
        scheduler,
        epochs=config.epochs,
        precision=precision,
        label_smoothing=config.label_smoothing,
    ):
        metrics = {"train/loss": result.loss}
        for split, loader in evaluation_loaders.items():
            evaluations[split] = evaluation = loop.evaluate(network.eval(), loader)
            loop.require_finite(f"{split}/loss", evaluation.loss, result.epoch, result.epoch * len(train_loader))
            metrics |= {f"{split}/loss": evaluation.loss, f"{split}/accuracy": evaluation.accuracy}
        if configs.PARAMETERS in config.objective:
            metrics[configs.PARAMETERS] = num_parameters
        # MLflow's pages list metrics as they come, and compare runs by the first.
        metrics = dict(sorted(metrics.items(), key=lambda metric: metric[0] not in config.objective))
        # Its pages order charts by name, so that what never changes would be the first curve: a tag tells it, and
        # one point where it is an objective.
        told_before = {configs.PARAMETERS} if result.epoch > 1 else set()
        record.log_metrics({key: metrics[key] for key in metrics if key not in told_before}, step=result.epoch)
        log.info("epoch %d/%d  %s", result.epoch, config.epochs, in_words(metrics))
        job.handle.report(metrics[config.objective[0]], result.epoch)
        if result.epoch < config.epochs and (reason := job.handle.reason_to_stop()):
            raise Stopped(f"{reason} after epoch {result.epoch} of {config.epochs}")

    classifier.cpu()  # what is saved then loads where there is no GPU
    with replacing(job.output_dir / WEIGHTS_FILE) as part:
        torch.save(classifier.state_dict(), part)
    record.log_file(job.output_dir / WEIGHTS_FILE)
    predictions.save(
        {split: Predictions(*(tensor.numpy() for tensor in found[2:])) for split, found in evaluations.items()},
        job.output_dir / PREDICTIONS_FILE,
    )
    record.log_file(job.output_dir / PREDICTIONS_FILE)
    untouched, _ = data.ImageBatches(splits.test)[torch.arange(2, device=device)]
    record.log_model(classifier, untouched)
    values = [metrics[objective] for objective in config.objective]
    job.handle.finish(values)
    log.info(
        "%s  %s  %.1f s",
        job.name if job.study else "done:",
        in_words({objective: metrics[objective] for objective in config.objective}),
        time.perf_counter() - started,
    )
    return values


def circumstances(device: torch.device, precision: torch.dtype) -> dict[str, str]:
    """What else decides the last bits of a result, as tags of its run; settings may leave it to the machine."""
    is_cuda = device.type == "cuda"
    return {
        tracking.DEVICE_TAG: device.type,
        tracking.PROCESSOR_TAG: torch.cuda.get_device_name() if is_cuda else torch.backends.cpu.get_cpu_capability(),
        tracking.PRECISION_TAG: str(precision).removeprefix("torch."),
        tracking.THREADS_TAG: str(torch.get_num_threads()),
        tracking.TORCH_TAG: torch.__version__,
    }


def _loaders(
    config: Config, splits: data.Splits, transform: data.ImageTransform
) -> tuple[loop.Batches, dict[str, loop.Batches]]:
    """What to train on, and what to evaluate on by the name of its metrics."""
    train = data.ImageBatches(splits.train, transform, config.data.shift)
    held_out = {"val": splits.val} if config.data.validation else {}
    return data.training_loader(train, config.data.batch_size, config.seed), {
        name: data.evaluation_loader(data.ImageBatches(images, transform))
        for name, images in (held_out | {"test": splits.test}).items()
    }


class Classifier(nn.Sequential):
    """The network with its preprocessing before it: takes images (B, C, H, W) in [0, 1], gives logits."""

    transform: data.ImageTransform
    network: nn.Module

    def __init__(self, transform: data.ImageTransform, network: nn.Module) -> None:
        super().__init__(OrderedDict(transform=transform, network=network))


def build_classifier(config: Config, mean: float = 0.0, std: float = 1.0) -> Classifier:
    """The untrained classifier of `config`, which normalises by `mean` and `std`."""
    transform = data.ImageTransform(mean, std, config.data.image_shape, config.model.flatten)
    return Classifier(transform, config.model.build(config.data.image_shape, len(config.data.classes)))


def load_classifier(folder: str | Path) -> Classifier:
    """The trained classifier in `folder`, from the config.yaml and weights.pt that a trial left there.

    Nothing in the files is run: the settings are plain values, and the weights tensors.

    Returns:
        In evaluation mode, on the CPU; it takes images (B, C, H, W) in [0, 1], as torchvision's ToTensor
        makes them, and gives logits (B, num_classes).

    Raises:
        SweepError: The files are not there, are damaged, or do not belong together.
    """
    config, weights = load_config(folder), load_weights(folder)
    with torch.device("meta"):  # shapes only: what takes memory is no more than what the file holds
        classifier = build_classifier(config)
    expected = classifier.state_dict()
    for name in sorted({*expected, *weights}):
        theirs, ours = (_described(tensors.get(name)) for tensors in (weights, expected))
        if theirs != ours:
            raise SweepError(
                f"{WEIGHTS_FILE}: it is another model's than {CONFIG_FILE} says: its {name[:100]!r} is {theirs}, "
                f"not {ours}"
            )
    classifier.load_state_dict(weights, assign=True)
    return classifier.eval()


def _described(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def recorded_config(run: tracking.RunRecord) -> Config | None:
    """The settings that `run` was trained with, None where it kept none.

    Raises:
        SweepError: Their file is damaged, or its values are not allowed.
    """
    text = tracking.read_text(run, CONFIG_FILE)
    if text is None:
        return None
    with tracking.naming(run):
        return _config_in(text)


def load_config(folder: str | Path) -> Config:
    """The settings in the config.yaml in `folder`.

    Raises:
        SweepError: It is not there, is damaged, or its values are not allowed.
    """
    try:
        return _config_in((Path(folder) / CONFIG_FILE).read_bytes())
    except OSError as error:
        raise SweepError(f"{folder}: no {CONFIG_FILE} to load ({error.strerror})") from error


def _config_in(text: str | bytes) -> Config:
    try:
        return configs.from_yaml(text)
    except SweepError as error:
        raise SweepError(f"{CONFIG_FILE}: {in_one_line(error, 300)}") from error


def load_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """The tensors in the weights.pt in `folder`, by name.

    Raises:
        SweepError: It is not there, is damaged, or holds something else.
    """
    path = Path(folder) / WEIGHTS_FILE
    try:
        with zipfile.ZipFile(path) as archive:  # stored as they are, or a small file could fill the memory
            if any(member.file_size != member.compress_size for member in archive.infolist()):
                raise ValueError("it is compressed")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SweepError(f"{folder}: no {WEIGHTS_FILE} to load ({error.strerror})") from error
    except Exception as error:  # whatever zip, pickle and torch raise of what they cannot read
        raise SweepError(
            f"{WEIGHTS_FILE}: it is damaged, or holds something other than tensors, which is not loaded "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(found, dict) or not all(map(_is_dense, found.values())) or not all(map(_is_text, found)):
        raise SweepError(f"{WEIGHTS_FILE}: it does not hold tensors by their names")
    size = sum(tensor.numel() * tensor.itemsize for tensor in found.values())
    if size > path.stat().st_size:
        raise SweepError(f"{WEIGHTS_FILE}: it is damaged: {path.stat().st_size:,} bytes, for tensors of {size:,}")
    return found


def _is_dense(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def load_classes(folder: str | Path) -> tuple[str, ...]:
    """The names of what the classifier in `folder` tells apart, in the order of its logits."""
    return load_config(folder).data.classes
