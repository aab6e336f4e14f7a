"""The digits job: data, model and training loop."""

import logging
from dataclasses import asdict

import psutil
import torch
from omegaconf import DictConfig

import sweep
from sweep import SweepError, in_one_line, pytorch, replacing
from sweep.digits import batches, data, loop, predictions
from sweep.digits import config as configs
from sweep.digits.classifier import WEIGHTS_FILE, build_classifier
from sweep.digits.config import Config
from sweep.digits.job import (
    DEVICE_TAG,
    PARAMETERS,
    PARAMETERS_TAG,
    PRECISION_TAG,
    PROCESSOR_TAG,
    THREADS_TAG,
    TORCH_TAG,
)
from sweep.digits.predictions import PREDICTIONS_FILE, Predictions

log = logging.getLogger(__name__)

BYTES_PER_PARAMETER = 4 * 4
"""The weight, its gradient, and the two means that Adam keeps, in float32."""


def check(config: Config) -> None:
    """Check that a job can be trained here, before anything is recorded.

    Raises:
        SweepError: As in `require_fit`, or the data are missing.
    """
    require_fit(config)
    data.load(config.data)


def require_fit(config: Config) -> None:
    """Check that the settings of a job go together, and with this machine.

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
    splits = data.Splits(*(batches.to_device(split, device) for split in dataset.splits))
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
        pytorch.LongEpochs(train_loader, config.epochs),
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
    predictions.save_predictions(
        {split: Predictions(*(tensor.numpy() for tensor in found[2:])) for split, found in evaluations.items()},
        trial.folder / PREDICTIONS_FILE,
    )
    trial.keep(trial.folder / PREDICTIONS_FILE)
    untouched, _ = batches.ImageBatches(splits.test)[torch.arange(2, device=device)]
    pytorch.log_model(trial, classifier, untouched)


def circumstances(device: torch.device, precision: torch.dtype) -> dict[str, str]:
    """Return tags with what else decides the last bits of a result, and settings may leave to the machine."""
    is_cuda = device.type == "cuda"
    return {
        DEVICE_TAG: device.type,
        PROCESSOR_TAG: torch.cuda.get_device_name() if is_cuda else torch.backends.cpu.get_cpu_capability(),
        PRECISION_TAG: str(precision).removeprefix("torch."),
        THREADS_TAG: str(torch.get_num_threads()),
        TORCH_TAG: torch.__version__,
    }


def _loaders(
    config: Config, splits: data.Splits, transform: batches.ImageTransform
) -> tuple[loop.Batches, dict[str, loop.Batches]]:
    """Return the training batches, and the evaluation batches by the split that their metrics are named after."""
    train = batches.ImageBatches(splits.train, transform, config.data.shift)
    held_out = {"val": splits.val} if config.data.validation else {}
    return batches.training_loader(train, config.data.batch_size, config.seed), {
        name: batches.evaluation_loader(batches.ImageBatches(images, transform))
        for name, images in (held_out | {"test": splits.test}).items()
    }
