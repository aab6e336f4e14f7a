"""Read handwritten digits from image files, one digit in each.

sweep predict FILE ...             by the champion of MNIST's in MLflow's registry, or the best model of MNIST
sweep predict FILE --study NAME    or --experiment NAME, --run ID, --model NAME, as for sweep best
sweep predict FILE --show          with a picture of what the model saw
"""

import argparse
import contextlib
import hashlib
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sweep import project
from sweep.arguments import Parser, path_given
from sweep.digits import config, handwriting
from sweep.digits.classifier import CONFIG_FILE, WEIGHTS_FILE, Classifier, load_classes, load_classifier
from sweep.digits.datasets import MNISTConfig
from sweep.errors import SweepError, exit_with_one_line, printable
from sweep.files import expanded, replacing
from sweep.record import registry
from sweep.record.connect import connect
from sweep.record.files import download
from sweep.record.runs import RunRecord, best_of, find_study, naming, trained
from sweep.record.tags import STUDY_TAG
from sweep.results import best

LONGEST_STEM = 50
"""Letters of a file's name that go into the name of its picture; file systems take 255 bytes of a name."""

SURE = 0.9
"""The probability below which the runner-up is named as well."""


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep predict`."""
    parser = Parser("predict", __doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="an image of one digit, PNG or JPEG")
    parser.add_argument("--show", action="store_true", help="write a picture of what the model saw of each file")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=path_given,
        default=project.root() / "multirun" / "predict",
        help="where --show writes them (multirun/predict)",
    )
    best.add_choice(parser)
    options = parser.parse_args(arguments)
    with exit_with_one_line():
        connect()
        run = choose_run(options)
        classifier = load_reader(run)
        print(f"reading with {describe(run, options.model)} ({run.run_id})", flush=True)
        if note := doubt(run):
            print(f"note: {note}", file=sys.stderr, flush=True)
    failed = False
    for file in options.files:
        name = printable(file)
        try:
            path = expanded(file)
            image = handwriting.open_image(path, name)
            reading = read_digit(classifier, image, name)
            print(f"{name}: {reading_in_words(reading)}", flush=True)
            if options.show:
                print(f"    {printable(os.path.relpath(_show(path, image, reading, options.output)))}")
        except (SweepError, OSError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
    if failed:
        sys.exit(1)


def choose_run(options: argparse.Namespace) -> RunRecord:
    """Return the run whose model reads: the one that the command line chose, see `best.add_choice`, or a default.

    For MNIST the default is the champion in MLflow's registry, if there is just one, or else the best of the single
    runs and the studies by test/accuracy; only where there is none of MNIST, the same of other data sets of digits. For
    a champion `options.model` is its name afterwards.

    Raises:
        SweepError: There is no run with such a model.
    """
    if any(value is not None for value in (options.study, options.experiment, options.run, options.model)):
        return best.chosen_run(options)
    champions, runs = _champions(), trained()
    for suits in (_is_of_mnist, _is_of_digits):
        suiting = [name for name, run in champions.items() if suits(run)]
        if len(suiting) == 1:
            options.model = suiting[0]
            return champions[options.model]
        if found := best_of([run for run in runs if suits(run)], "test/accuracy", "maximize"):
            return found
    if not runs:
        find_study(None)  # says how to start one where there is none
    others = ", ".join(sorted({run.params.get("data.name", "unknown data") for run in runs}))
    so_far = f"what was trained so far is of {others}, not of digits" if others else "nothing has been trained so far"
    raise SweepError(
        f"{so_far}, grids and confirmations apart; choose one of those with --study or --run, or start a study: "
        "python sweep/train.py -m hydra/sweeper=optuna"
    )


def _champions() -> dict[str, RunRecord]:
    """Return the run of each champion in MLflow's registry, by the champion's name."""
    found = {}
    for name in registry.champions():
        with contextlib.suppress(SweepError):  # its run was deleted
            found[name] = registry.find_champion(name)
    return found


def _is_of_mnist(run: RunRecord) -> bool:
    return run.params.get("data.name") == "mnist"


def _is_of_digits(run: RunRecord) -> bool:
    try:
        settings = config.data_class(run.params.get("data.name", ""))
    except SweepError:  # somebody's own, which is not in this copy of the project
        return False
    return (settings.classes, settings.image_shape) == (MNISTConfig.classes, MNISTConfig.image_shape)


def describe(run: RunRecord, champion_of: str | None) -> str:
    """Return a model's name, its data and its score as text; a champion is called as in MLflow's registry."""
    study = run.tags.get(STUDY_TAG)
    accuracy = run.metrics.get("test/accuracy")
    return (
        f"{f'{champion_of}@{registry.ALIAS}, ' if champion_of else ''}"
        f"{run.name}{f' of study {study}' if study else ''}, trained on {run.params.get('data.name', 'unknown data')}"
        f"{'' if accuracy is None else f', test/accuracy {accuracy:.2%}'}"
    )


def doubt(run: RunRecord) -> str:
    """Return why the model of `run` may read badly, empty if it should not."""
    if _is_of_mnist(run):
        return ""
    return (
        f"{run.name} was trained on {run.params.get('data.name')}, and images are prepared here as MNIST's are; "
        "one trained on mnist reads them better"
    )


def load_reader(run: RunRecord) -> Classifier:
    """Return the trained classifier of `run`, if it reads digits.

    Raises:
        SweepError: The run has no model, or one of other things.
    """
    with tempfile.TemporaryDirectory() as folder:
        download(run, Path(folder), (CONFIG_FILE, WEIGHTS_FILE))
        with naming(run):
            classifier, classes = load_classifier(folder), load_classes(folder)
    if classes != MNISTConfig.classes:
        raise SweepError(
            f"run={run.run_id}: its model tells {', '.join(classes)} apart, not digits; "
            "choose another with --study, --experiment, --run or --model"
        )
    if classifier.transform.image_shape != MNISTConfig.image_shape:
        raise SweepError(
            f"run={run.run_id}: its model takes images of shape {classifier.transform.image_shape}, not "
            f"{MNISTConfig.image_shape}; choose another with --study, --experiment, --run or --model"
        )
    return classifier


class Reading(NamedTuple):
    """The result of a model on one image."""

    seen: Tensor
    """(1, 28, 28) in [0, 1], the image given to the model."""
    probabilities: Tensor
    """(10,), the probability of each digit."""


def read_digit(classifier: Classifier, image: Image.Image, name: str) -> Reading:
    """Return what `classifier` reads in a picture of one digit, which errors call `name`.

    Raises:
        SweepError: There is nothing in it.
    """
    try:
        seen = handwriting.prepare(image)
    except SweepError as error:
        raise SweepError(f"{name}: {error}") from error
    with torch.inference_mode():
        return Reading(seen, classifier(seen.unsqueeze(0)).softmax(dim=1)[0])


def reading_in_words(reading: Reading) -> str:
    """Return the digit and its probability as text; the runner-up's too if that is below SURE."""
    probabilities, digits = reading.probabilities.topk(2)
    first, second = (f"{digit} ({p:.1%})" for digit, p in zip(digits.tolist(), probabilities.tolist(), strict=True))
    return first if probabilities[0] >= SURE else f"{first}, or {second}"


def _show(file: Path, image: Image.Image, reading: Reading, folder: Path) -> Path:
    """Write a picture of the image in `file`, of what the model saw, and of its reading; return its path."""
    # Drawn without pyplot, which would look for a screen; it takes a second that reading alone need not wait.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    given, seen, bars = figure.subplots(1, 3, width_ratios=(1.2, 1, 1.1))
    image = image.copy()
    image.thumbnail((1000, 1000))
    given.imshow(_as_colours(image), interpolation="antialiased")
    given.set_facecolor("0.6")  # sets off what is light as well as what is dark, where an image is transparent
    title = printable(file.name)
    given.set_title(title if len(title) < 32 else f"{title[:30]}…", parse_math=False)
    seen.imshow(reading.seen[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    seen.set_title("what the model saw")
    for axes in (given, seen):
        axes.set(xticks=[], yticks=[])
    digits, percent = range(10), (100 * reading.probabilities).tolist()
    colours = ["tab:blue" if p == max(percent) else "lightgrey" for p in percent]
    bars.bar_label(bars.barh(digits, percent, color=colours), fmt="%.1f%%", padding=4)
    bars.set(title=reading_in_words(reading), yticks=digits, ylim=(9.6, -0.6), xlim=(0, 125), xticks=[])
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    # The same name in another folder is another picture.
    path = file.resolve()
    target = folder / f"{path.stem[:LONGEST_STEM]}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}.png"
    with replacing(target) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # in the name of a file
        figure.savefig(part, dpi=120)
    return target


def _as_colours(image: Image.Image) -> np.ndarray:
    """Return `image` as (H, W, 4), 8 bits each, with 16 bits of grey reduced."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((values / max(1.0, float(values.max())) * 255).astype(np.uint8))
    return np.asarray(image.convert("RGBA"))
