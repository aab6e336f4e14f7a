"""The digits job: where data, model and loop meet, and what a trained model is loaded from."""

import logging
import zipfile
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

import psutil
import torch
from omegaconf import DictConfig
from torch import nn

import sweep
from sweep import pytorch
from sweep.digits import config as configs
from sweep.digits import data, loop, predictions
from sweep.digits.config import Config
from sweep.digits.job import PARAMETERS
from sweep.digits.predictions import PREDICTIONS_FILE, Predictions
from sweep.errors import SweepError, in_one_line
from sweep.files import replacing
from sweep.record.files import read_text
from sweep.record.runs import RunRecord, naming
from sweep.record.tags import PARAMETERS_TAG
from sweep.study.progress import LongEpochs

log = logging.getLogger(__name__)

BYTES_PER_PARAMETER = 4 * 4
"""The weight, its gradient, and the two means that Adam keeps, in float32."""

WEIGHTS_FILE = "weights.pt"
CONFIG_FILE = "config.yaml"


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


def train(cfg: DictConfig) -> None:
    """Train and evaluate the composed job, and report every epoch to its trial.

    Leaves weights.pt (the state_dict of the network and its preprocessing) and predictions.npz (the predictions
    on the held-out images) in the trial's folder, and the model with its record.

    Raises:
        SweepError: The training diverged.
        sweep.Stopped: The study wants no more epochs.
    """
    trial = sweep.trial()
    config = configs.parse(cfg)
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

    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    trial.log(tags=circumstances(device, precision) | {PARAMETERS_TAG: str(num_parameters)})
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
        if PARAMETERS in trial.goal.objectives:  # a tag tells it in any case
            metrics[PARAMETERS] = num_parameters
        trial.report(result.epoch, metrics, of=config.epochs)

    classifier.cpu()  # what is saved then loads where there is no GPU
    with replacing(trial.folder / WEIGHTS_FILE) as part:
        torch.save(classifier.state_dict(), part)
    trial.keep(trial.folder / WEIGHTS_FILE)
    predictions.save(
        {split: Predictions(*(tensor.numpy() for tensor in found[2:])) for split, found in evaluations.items()},
        trial.folder / PREDICTIONS_FILE,
    )
    trial.keep(trial.folder / PREDICTIONS_FILE)
    untouched, _ = data.ImageBatches(splits.test)[torch.arange(2, device=device)]
    pytorch.log_model(trial, classifier, untouched)


def circumstances(device: torch.device, precision: torch.dtype) -> dict[str, str]:
    """What else decides the last bits of a result, as tags of its run; settings may leave it to the machine."""
    is_cuda = device.type == "cuda"
    return {
        "sweep.device": device.type,
        "sweep.processor": torch.cuda.get_device_name() if is_cuda else torch.backends.cpu.get_cpu_capability(),
        "sweep.precision": str(precision).removeprefix("torch."),
        "sweep.num_threads": str(torch.get_num_threads()),
        "sweep.torch": torch.__version__,
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


def recorded_config(run: RunRecord) -> Config | None:
    """The settings that `run` was trained with, None where it kept none.

    Raises:
        SweepError: Their file is damaged, or its values are not allowed.
    """
    text = read_text(run, CONFIG_FILE)
    if text is None:
        return None
    with naming(run):
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
