"""Find the best model, fetch it, and see that it is as good as its record says.

sweep best                      of the newest study
sweep best --study NAME         of this study
sweep best --experiment NAME    of all runs in this MLflow experiment
sweep best --run ID             this run's
sweep best --model NAME         the champion's of this name in MLflow's registry
sweep best --register NAME      and make it a version of this name there, the champion if it is better
"""

import argparse
import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from sweep import ROOT, config, data, loop, registry, tracking, trial
from sweep.arguments import Parser, path_given
from sweep.errors import SweepError, told_in_one_line
from sweep.tracking import RunRecord

FLIPS_PER_IMAGE = 0.0002
"""How many more or fewer images may come out right than recorded, for each image: two of MNIST's 10,000.

Another processor adds in another order, and an image on the border between two digits can tip over; so one
may in any case.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser("best", __doc__)
    add_choice(parser)
    parser.add_argument("--register", metavar="NAME", help="make it a version of NAME in MLflow's registry")
    parser.add_argument("--output", metavar="DIR", type=path_given, help="where to put it (multirun/best/ID)")
    options = parser.parse_args(arguments)
    with told_in_one_line():
        tracking.connect()
        run = find(options)
        folder = options.output or ROOT / "multirun" / "best" / run.run_id
        settings = fetch(run, folder)
        registered = registry.register(run, options.register) if options.register else None
    print(how_to_load(folder, settings))
    if registered is not None:
        print(f"\n{in_words(options.register, registered)}")


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Let the command line say which run's model is meant, for `find`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--study", metavar="NAME", help="the best trial of this study; by default of the newest")
    which.add_argument("--experiment", metavar="NAME", help="the best run of this MLflow experiment")
    which.add_argument("--run", metavar="ID", help="this run")
    which.add_argument("--model", metavar="NAME", help="the champion of this name in MLflow's registry")


def find(options: argparse.Namespace) -> RunRecord:
    """The run that the command line chose, see `add_choice`.

    Raises:
        SweepError: There is none.
    """
    if options.run:
        return tracking.find_run(options.run)
    if options.model:
        return registry.find_champion(options.model)
    if options.experiment:
        where, runs = f"experiment {options.experiment}", tracking.runs_in(options.experiment)
        asked = runs[0] if runs else None  # what the newest run was after
    else:
        parent = tracking.find_study(options.study)
        where, runs, asked = f"study {parent.name}", tracking.trials_of(parent), parent
    # Of several objectives the first decides.
    objective, direction = (asked.objectives[0], asked.directions[0]) if asked else ("test/accuracy", "maximize")
    best = tracking.best_of(runs, objective, direction)
    if best is None:
        raise SweepError(f"{where}: none of its {len(runs)} runs has finished with a {objective}")
    print(f"{where}: the best of {len(runs)} runs by {objective} is {best.name} ({best.run_id})")
    return best


def fetch(run: RunRecord, folder: Path) -> data.DataConfig:
    """Download the model of `run` into `folder`, load it in both ways, and score it on the test set.

    Only when both scores are the one recorded does it take the place of what an earlier fetch left in `folder`.
    The data are read from SWEEP_DATA_ROOT, or else from where they lay in training.

    Returns:
        The settings of the data that it was scored on.

    Raises:
        SweepError: There is something in `folder`, the run has no model, or a score is not the one recorded.
    """
    ours = {"model", trial.WEIGHTS_FILE, trial.CONFIG_FILE}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} in (ours, set())):
        raise SweepError(f"--output={folder}: there is something else in it; choose a new folder")
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as temporary:
        part = Path(temporary) / "model"
        part.mkdir()
        tracking.download(run, part)
        settings = data.here(config.from_yaml((part / trial.CONFIG_FILE).read_text()).data)
        for what, model in {
            "MLflow model": tracking.load_model(part / "model"),
            "weights": trial.load_classifier(part),
        }.items():
            accuracy = score(model, settings)
            _require_recorded(run, what, accuracy, settings)
            print(f"{what:12}  test/accuracy {accuracy:.2%}, as recorded")
        if folder.exists():
            os.replace(folder, Path(temporary) / "earlier")
        os.replace(part, folder)
    return settings


def score(model: Callable[[Tensor], Tensor], settings: data.DataConfig) -> float:
    """Accuracy on the test set of a `model`, in evaluation mode, that takes images in [0, 1]."""
    test = data.load(settings).splits.test
    return loop.evaluate(model, data.evaluation_loader(data.ImageBatches(test))).accuracy


def _require_recorded(run: RunRecord, what: str, accuracy: float, settings: data.DataConfig) -> None:
    num_images = len(data.load(settings).splits.test.labels)
    recorded = run.metrics["test/accuracy"]
    flips = round(abs(accuracy - recorded) * num_images)
    if flips > max(1, FLIPS_PER_IMAGE * num_images):
        raise SweepError(
            f"run={run.run_id}: its {what} scores {accuracy:.4f} on the test set of {settings.name}, "
            f"recorded is {recorded:.4f} ({flips} images apart); do not use it"
        )


def how_to_load(folder: Path, settings: data.DataConfig) -> str:
    """What to type to use the model in `folder`, which takes images like those of `settings`."""
    shown = os.path.relpath(folder)
    shape = ", ".join(map(str, settings.image_shape))
    return f"""
{shown}/ holds model/ (MLflow's), weights.pt (torch.save) and config.yaml.

with mlflow and torch, this project not needed:
    import mlflow
    model = mlflow.pytorch.load_model("{shown}/model")

with torch alone:
    import torch
    model = torch.export.load("{shown}/model/data/model.pt2").module()

with this project, to train on or to change:
    from sweep.trial import load_classifier
    model = load_classifier("{shown}")

each takes images as float32 (N, {shape}), 0 black to 1 white, and gives a score for each class of {settings.name}
({", ".join(settings.classes)}):
    predicted = model(images).argmax(dim=1)"""


def in_words(name: str, registered: registry.Registered) -> str:
    """What became of the model in the registry, and how to use it from there."""
    alias = f"{name}@{registry.ALIAS}"
    is_now = "is" if registered.is_champion else "did not become"
    uri = shlex.quote(f"models:/{alias}")
    return f"""registered as version {registered.version} of {name}; it {is_now} {alias} ({registered.reason})
    mlflow.pytorch.load_model("models:/{alias}")
    mlflow models serve --model-uri {uri} --env-manager local"""


if __name__ == "__main__":
    main()
