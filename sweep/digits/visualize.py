"""Draw a data set as a network is trained on it, and what becomes of an image on the way.

sweep visualize data=mnist                              into multirun/visualize/mnist.png
sweep visualize data=mnist model=cnn data.shift=2       with settings as in train.py
sweep visualize data=mnist --output FILE --study NAME

The picture is also logged to the study NAME, or else to the newest study on the same data.
"""

import textwrap
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from sweep import project
from sweep.arguments import Parser, path_given
from sweep.digits import batches, config, data, datasets
from sweep.digits.config import Config
from sweep.errors import SweepError, exit_with_one_line
from sweep.files import replacing
from sweep.record import runs
from sweep.record.connect import connect
from sweep.record.run import MLflowRun
from sweep.record.runs import RunRecord, studies, trials_of

NUM_SHOWN = 16
COLUMNS = 4
LETTERS_PER_LINE = 74
COLOURS = {"train": "#31688e", "val": "#6f9fbf", "test": "#e08a3c"}
GREY = "#555555"


class Batch(NamedTuple):
    """The first batch of a loader."""

    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    std: float
    images: Tensor
    """The first of the images, (N, C, H, W) in [0, 1]; N is NUM_SHOWN, or the batch's size if that is less."""


class Step(NamedTuple):
    """One step of the preprocessing from the file to the network."""

    name: str
    reason: str


class Facts(NamedTuple):
    """The facts that the picture shows."""

    name: str
    """Name of the data set."""
    model: str
    classes: tuple[str, ...]
    trained_on: Batch
    """Batch of the training loader, with the transform of its images inverted."""
    plain: Batch
    """Batch of a second loader, with the same images without the transform."""
    labels: list[int]
    """Labels of the images in both batches."""
    largest_difference: float
    """Largest difference between pixels of the two whole batches, one of them inverted."""
    counts: dict[str, list[int]]
    """How many images there are of each class, by split; splits without images are left out."""
    steps: list[Step]


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep visualize`."""
    parser = Parser("visualize", __doc__)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as train.py takes them")
    parser.add_argument("--output", metavar="FILE", type=path_given, help="file to write (multirun/visualize/DATA.png)")
    parser.add_argument("--study", metavar="NAME", help="where to log it; by default to the newest on the same data")
    options = parser.parse_intermixed_args(arguments)
    with exit_with_one_line(options.overrides):
        job = config.compose(options.overrides)
        path = options.output or project.root() / "multirun" / "visualize" / f"{job.data.name}.png"
        if path.suffix != ".png" or path.is_dir():
            raise SweepError(f"--output={path}: the picture is a PNG; give the name of a file that ends in .png")
        study = study_on_data(job, options.study)  # before the work, so that a name that is wrong costs none
        facts = gather_facts(job)
        print(facts_in_words(facts))
        with replacing(path) as part:
            draw_data(facts).savefig(part, bbox_inches="tight", pad_inches=0.2)
        print(f"saved   {path}")
        print(f"logged  {log_to(study, path) if study else why_not_logged(job)}")


def gather_facts(job: Config) -> Facts:
    """Return the facts about the data of `job`, prepared for its model.

    Raises:
        SweepError: See `data.load`.
    """
    dataset = data.load(job.data)
    transform = batches.ImageTransform(dataset.mean, dataset.std, job.data.image_shape, job.model.flatten)
    x, labels = _first_batch(job, dataset.splits.train, transform)
    plain, _ = _first_batch(job, dataset.splits.train, None)
    inverted = transform.inverse(x)
    num_classes = len(job.data.classes)
    return Facts(
        name=job.data.name,
        model=job.model.name,
        classes=job.data.classes,
        trained_on=_describe(x, inverted),
        plain=_describe(plain, plain),
        labels=labels.tolist(),
        largest_difference=(inverted - plain).abs().max().item(),
        counts={
            split: torch.bincount(images.labels, minlength=num_classes).tolist()
            for split, images in dataset.splits._asdict().items()
            if len(images.labels)
        },
        steps=steps(job, dataset.mean, dataset.std),
    )


def _first_batch(
    job: Config, images: datasets.LabelledImages, transform: batches.ImageTransform | None
) -> tuple[Tensor, Tensor]:
    """Return the same images each time, shifted in the same way."""
    torch.manual_seed(job.seed)  # from which the shifts are drawn
    shuffled = batches.ImageBatches(images, transform, job.data.shift)
    x, labels = next(iter(batches.training_loader(shuffled, job.data.batch_size, job.seed)))
    return x, labels


def _describe(x: Tensor, images: Tensor) -> Batch:
    low, high, mean, std = (value.item() for value in (x.min(), x.max(), x.mean(), x.std(correction=0)))
    return Batch(tuple(x.shape), low, high, mean, std, images[:NUM_SHOWN])


def steps(job: Config, mean: float, std: float) -> list[Step]:
    """Return the steps from an image of `job` to its network, with their reasons.

    Args:
        job: The job with the data and the model.
        mean: Mean of the training images' pixels, in [0, 1].
        std: Standard deviation of the same pixels.
    """
    return [
        Step(
            "to a tensor in [0, 1]",
            "pixels are bytes, 0 to 255; networks and optimizers are tuned for numbers around 1.",
        ),
        Step(
            f"normalised: (x - {mean:.4f}) / {std:.4f}",
            "the training set's own mean and standard deviation. Inputs centred on 0 with spread 1 let the first layer "
            "start, and learn, at the same scale as the others.",
        ),
        Step("flattened", f"the linear layers of the {job.model.name} take a vector.")
        if job.model.flatten
        else Step("not flattened", f"the {job.model.name} needs to know which pixels are neighbours."),
        Step(
            f"shifted by up to {job.data.shift} pixel{'s' * (job.data.shift > 1)}",
            "training images only, each time anew: one pixel further left it shows the same thing.",
        )
        if job.data.shift
        else Step("not shifted", "data.shift=0; moving training images at random helps in longer training."),
    ]


def facts_in_words(facts: Facts) -> str:
    """Return the facts as text."""
    name_width = max(map(len, facts.classes))
    return "\n".join(
        [
            f"{facts.name}, as the {facts.model} is trained on it",
            f"training loader    {batch_in_words(facts.trained_on)}",
            f"without transform  {batch_in_words(facts.plain)}",
            f"inverted, the first is the second to within {facts.largest_difference:.1e}",
            "",
            "images of each class",
            f"{'':{name_width}}  {'  '.join(f'{split:>6}' for split in facts.counts)}",
            *(
                f"{name:{name_width}}  {'  '.join(f'{counts[i]:6,}' for counts in facts.counts.values())}"
                for i, name in enumerate(facts.classes)
            ),
            f"{'all':{name_width}}  {'  '.join(f'{sum(counts):6,}' for counts in facts.counts.values())}",
            "",
            *(f"{step.name}: {step.reason}" for step in facts.steps),
            "",
        ]
    )


def batch_in_words(batch: Batch) -> str:
    """Return a batch's shape, and the range, mean and standard deviation of its values, as text."""
    return (
        f"shape {batch.shape}, values {batch.low:.3f} to {batch.high:.3f}, mean {batch.mean:.3f}, std {batch.std:.3f}"
    )


def draw_data(facts: Facts) -> Figure:
    """Draw the picture of `facts`: both batches side by side, below them the classes and the steps."""
    figure = Figure(figsize=(11, 9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{facts.name}, as the {facts.model} is trained on it", fontsize=15, fontweight="bold")
    grid = figure.add_gridspec(2, 2, height_ratios=[5, 3.4])
    is_flat = len(facts.trained_on.shape) == 2
    undone = "normalisation and flattening inverted" if is_flat else "normalisation inverted"
    without = "without them" if is_flat else "without it"
    _draw_images(figure.add_subfigure(grid[0, 0]), facts, facts.trained_on, f"From the training loader, {undone}")
    _draw_images(figure.add_subfigure(grid[0, 1]), facts, facts.plain, f"From a second loader, {without}")
    _draw_counts(figure.add_subfigure(grid[1, 0]).subplots(), facts)
    _write_steps(figure.add_subfigure(grid[1, 1]).subplots(), facts)
    return figure


def _draw_images(panel: SubFigure, facts: Facts, batch: Batch, title: str) -> None:
    panel.suptitle(f"{title}\n{batch_in_words(batch)}", fontsize=10.5, linespacing=1.4)
    grid = panel.subplots(NUM_SHOWN // COLUMNS, COLUMNS)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label in zip(grid.flat, batch.images, facts.labels, strict=False):
        pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, C)
        axes.imshow(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
        axes.set_title(facts.classes[label], fontsize=9, pad=3, color=GREY)


def _draw_counts(axes: Axes, facts: Facts) -> None:
    places = range(len(facts.classes))
    left = [0] * len(facts.classes)
    most = max(sum(counts) for counts in zip(*facts.counts.values(), strict=True))
    for split, counts in facts.counts.items():
        bars = axes.barh(places, counts, left=left, color=COLOURS[split], label=f"{split} {sum(counts):,}")
        fitting = [f"{count:,}" if count > 0.06 * most else "" for count in counts]
        axes.bar_label(bars, fitting, label_type="center", fontsize=8, color="white")
        left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.set_yticks(places, facts.classes, fontsize=9)
    axes.set_ylim(len(facts.classes) - 0.5, -0.5)  # the first class at the top
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(facts.counts), fontsize=9, frameon=False)
    axes.set_title("Images of each class", fontsize=10.5, pad=24)


def _write_steps(axes: Axes, facts: Facts) -> None:
    axes.set_axis_off()
    axes.set_title("What happens to an image, and why", fontsize=10.5, pad=24)
    written = [(step.name, textwrap.wrap(step.reason, LETTERS_PER_LINE)) for step in facts.steps]
    alike = f"both batches are the same images, to within {facts.largest_difference:.0e}."
    written.append(("inverted", textwrap.wrap(alike, LETTERS_PER_LINE)))
    height = 1 / sum(len(lines) + 1.5 for _, lines in written)  # of a line; half a line between steps
    y = 1.0
    for name, lines in written:
        axes.text(0, y, name, fontsize=9, fontweight="bold", va="top", transform=axes.transAxes)
        axes.text(0, y - height, "\n".join(lines), fontsize=9, va="top", color=GREY, transform=axes.transAxes)
        y -= (len(lines) + 1.5) * height


def study_on_data(job: Config, name: str | None) -> RunRecord | None:
    """Return the study to log to: the one called `name`, or the newest on the data of `job`, if any.

    Raises:
        SweepError: There is no study called `name`, it is on other data, or the record cannot be reached.
    """
    if not job.tracking.enabled:
        return None
    connect()
    if name is None:
        return next((study for study in studies() if job.data.name in _data_of(study)), None)
    study = runs.find_study(name)
    others = _data_of(study)
    if job.data.name not in others:
        on = ", ".join(sorted(others)) or "no data yet"
        raise SweepError(f"--study={name}: its trials are on {on}, the picture is of {job.data.name}; choose another")
    return study


def _data_of(study: RunRecord) -> set[str]:
    """Return the names of the data sets that the study's trials were trained on."""
    return {trial.params["data.name"] for trial in trials_of(study) if "data.name" in trial.params}


def log_to(study: RunRecord, path: Path) -> str:
    """Log the picture at `path` to `study`, and return a line that says so."""
    MLflowRun(study.run_id).log_file(path)
    return f"to study {study.name}, as {path.name} among its artifacts"


def why_not_logged(job: Config) -> str:
    """Return a line on why there is no study to log to."""
    if not job.tracking.enabled:
        return "nowhere: tracking.enabled=false"
    return f"nowhere: there is no study on {job.data.name} yet"
