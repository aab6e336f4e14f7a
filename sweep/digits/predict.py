"""Read handwritten digits from image files, one digit in each.

sweep predict FILE ...             by the best model of the newest study
sweep predict FILE --study NAME    or --experiment NAME, --run ID, --model NAME, as for sweep best
sweep predict FILE --show          with a picture of what the model saw
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sweep import ROOT
from sweep.arguments import Parser, path_given
from sweep.digits import handwriting, train
from sweep.digits.data import MNISTConfig
from sweep.digits.train import Classifier
from sweep.errors import SweepError, told_in_one_line
from sweep.files import replacing
from sweep.record import tracking
from sweep.record.tracking import RunRecord
from sweep.results import best

SURE = 0.9
"""The probability below which the runner-up is named as well."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser("predict", __doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="an image of one digit: PNG, JPEG, ...")
    parser.add_argument("--show", action="store_true", help="write a picture of what the model saw of each file")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=path_given,
        default=ROOT / "multirun" / "predict",
        help="where --show writes them (multirun/predict)",
    )
    best.add_choice(parser)
    options = parser.parse_args(arguments)
    with told_in_one_line():
        tracking.connect()
        classifier = load(best.find(options))
    failed = False
    for name in options.files:
        try:
            image = handwriting.open_image(Path(name), name)
            reading = read(classifier, image, name)
            print(f"{name}: {in_words(reading)}", flush=True)
            if options.show:
                print(f"    {os.path.relpath(_show(name, image, reading, options.output))}")
        except (SweepError, OSError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
    if failed:
        sys.exit(1)


def load(run: RunRecord) -> Classifier:
    """The trained classifier of `run`, which reads digits.

    Raises:
        SweepError: The run has no model, or one of other things.
    """
    with tempfile.TemporaryDirectory() as folder:
        tracking.download(run, Path(folder), (train.CONFIG_FILE, train.WEIGHTS_FILE))
        with tracking.naming(run):
            classifier, classes = train.load_classifier(folder), train.load_classes(folder)
    if classes != MNISTConfig.classes:
        raise SweepError(
            f"run={run.run_id}: its model tells {', '.join(classes)} apart, not digits; "
            "choose another with --study, --experiment, --run or --model"
        )
    if run.params.get("data.name") != "mnist":
        print(
            f"note: {run.name} was trained on {run.params.get('data.name')}, and images are prepared here as MNIST's "
            "are; one trained on mnist reads them better",
            file=sys.stderr,
        )
    return classifier


class Reading(NamedTuple):
    """What a model makes of an image."""

    seen: Tensor
    """(1, 28, 28) in [0, 1], what was given to the model."""
    probabilities: Tensor
    """(10,), by digit."""


def read(classifier: Classifier, image: Image.Image, name: str) -> Reading:
    """What `classifier` reads in a picture of one digit, which an error calls `name`.

    Raises:
        SweepError: There is nothing in it.
    """
    try:
        seen = handwriting.prepare(image)
    except SweepError as error:
        raise SweepError(f"{name}: {error}") from error
    with torch.inference_mode():
        return Reading(seen, classifier(seen.unsqueeze(0)).softmax(dim=1)[0])


def in_words(reading: Reading) -> str:
    """The digit and its probability; the runner-up's too if that is not SURE."""
    probabilities, digits = reading.probabilities.topk(2)
    first, second = (f"{digit} ({p:.1%})" for digit, p in zip(digits.tolist(), probabilities.tolist(), strict=True))
    return first if probabilities[0] >= SURE else f"{first}, or {second}"


def _show(name: str, image: Image.Image, reading: Reading, folder: Path) -> Path:
    """Write a picture of the file `name` beside what was seen of it, and how it was read; returns its path."""
    # Drawn without pyplot, which would look for a screen; it takes a second that reading alone need not wait.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    given, seen, bars = figure.subplots(1, 3, width_ratios=(1.2, 1, 1.1))
    image = image.copy()
    image.thumbnail((1000, 1000))
    given.imshow(_as_colours(image), interpolation="antialiased")
    given.set_facecolor("0.6")  # sets off what is light as well as what is dark, where an image is transparent
    given.set_title(Path(name).name if len(Path(name).name) < 32 else f"{Path(name).name[:30]}…", parse_math=False)
    seen.imshow(reading.seen[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    seen.set_title("what the model saw")
    for axes in (given, seen):
        axes.set(xticks=[], yticks=[])
    digits, percent = range(10), (100 * reading.probabilities).tolist()
    colours = ["tab:blue" if p == max(percent) else "lightgrey" for p in percent]
    bars.bar_label(bars.barh(digits, percent, color=colours), fmt="%.1f%%", padding=4)
    bars.set(title=in_words(reading), yticks=digits, ylim=(9.6, -0.6), xlim=(0, 125), xticks=[])
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    # The same name in another folder is another picture.
    path = Path(name).resolve()
    target = folder / f"{path.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}.png"
    with replacing(target) as part:
        figure.savefig(part, dpi=120)
    return target


def _as_colours(image: Image.Image) -> np.ndarray:
    """`image` as (H, W, 4), 8 bits each, with 16 bits of grey reduced."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((values / max(1.0, float(values.max())) * 255).astype(np.uint8))
    return np.asarray(image.convert("RGBA"))
