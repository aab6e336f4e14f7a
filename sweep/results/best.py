"""Find the best model, fetch it, and see that it is as good as its record says.

sweep best                      of the newest study
sweep best --study NAME         of this study
sweep best --experiment NAME    of all runs in this MLflow experiment
sweep best --run ID             this run's
sweep best --model NAME         the champion's of this name in MLflow's registry
sweep best --register NAME      and make it a version of this name there, the champion if it is better

Nothing that a run carries is executed, whoever recorded it: its weights are read as tensors into the model that its
settings describe, and the MLflow model beside them is made from those here. One that MLflow keeps and that is not the
same is refused; --trust takes it as it is, and runs the code that may be in it.
"""

import argparse
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sweep import project, pytorch
from sweep.arguments import Parser, path_given
from sweep.digits import data, exported, loop, train
from sweep.errors import SweepError, told_in_one_line
from sweep.record import registry
from sweep.record.connect import connect
from sweep.record.files import download, download_model
from sweep.record.runs import RunRecord, best_of, find_run, find_study, naming, runs_in, trials_of

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
    parser.add_argument("--trust", action="store_true", help="take the model as MLflow keeps it, and run what is in it")
    options = parser.parse_args(arguments)
    with told_in_one_line():
        connect()
        run = find(options)
        if not re.fullmatch(r"[\w-]+", run.run_id):  # it becomes the name of a folder
            raise SweepError(f"run={run.run_id}: no id that MLflow gives")
        folder = options.output or project.root() / "multirun" / "best" / run.run_id
        settings, doubt = fetch(run, folder, trust=options.trust)
        if doubt and options.register:  # who loads a version runs what is in it
            raise SweepError(f"--register={options.register}: {doubt}; --trust registers it all the same")
        if doubt:
            print(f"note: {doubt}; model/ was made anew from its weights.pt and config.yaml", file=sys.stderr)
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
        return find_run(options.run)
    if options.model:
        return registry.find_champion(options.model)
    if options.experiment:
        where, runs = f"experiment {options.experiment}", runs_in(options.experiment)
        asked = runs[0] if runs else None  # what the newest run was after
    else:
        parent = find_study(options.study)
        where, runs, asked = f"study {parent.name}", trials_of(parent), parent
    # Of several objectives the first decides.
    objective, direction = (asked.objectives[0], asked.directions[0]) if asked else ("test/accuracy", "maximize")
    best = best_of(runs, objective, direction)
    if best is None:
        raise SweepError(f"{where}: none of its {len(runs)} runs has finished with a {objective}")
    print(f"{where}: the best of {len(runs)} runs by {objective} is {best.name} ({best.run_id})")
    return best


def fetch(run: RunRecord, folder: Path, trust: bool = False) -> tuple[data.DataConfig, str]:
    """Download the model of `run` into `folder`, load it in both ways, and score it on the test set.

    Only when both scores are the one recorded does it take the place of what an earlier fetch left in `folder`.
    The data are read from SWEEP_DATA_ROOT, or else from where they lay in training.

    Args:
        run: Anybody's.
        folder: Where to put it; it may hold what an earlier fetch left.
        trust: Whether to take, and so to run, the MLflow model as it was logged.

    Returns:
        The settings of the data that it was scored on, and why the MLflow model as it was logged was better not
        taken, empty if it is the same as the one in `folder`.

    Raises:
        SweepError: There is something in `folder`, the run has no model, it is damaged or would run something, or a
            score is not the one recorded.
    """
    ours = {"model", train.WEIGHTS_FILE, train.CONFIG_FILE}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} in (ours, set())):
        raise SweepError(f"--output={folder}: there is something else in it; choose a new folder")
    folder = folder.resolve()
    above = next(path for path in folder.parents if path.is_dir())
    with tempfile.TemporaryDirectory(dir=above, prefix=".fetch-") as temporary, naming(run):
        part, logged = Path(temporary) / "part", Path(temporary) / "logged"
        part.mkdir()
        download(run, part, (train.CONFIG_FILE, train.WEIGHTS_FILE))
        classifier = train.load_classifier(part)
        settings = data.here(train.load_config(part).data)
        _require_recorded(run, "weights", classifier, settings)
        download_model(registry.logged_model(run), logged)
        doubt = _put_model(classifier, settings, logged, part / "model", trust)
        _require_recorded(run, "MLflow model", pytorch.load_model(part / "model"), settings)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            os.replace(folder, Path(temporary) / "earlier")
        os.replace(part, folder)
    return settings, doubt


def _put_model(classifier: train.Classifier, settings: data.DataConfig, logged: Path, folder: Path, trust: bool) -> str:
    """Make `classifier` an MLflow model in `folder`; returns why `logged` may be another, empty if it is the same."""
    if trust:
        shutil.move(logged, folder)
        return ""
    test = data.ImageBatches(data.load(settings).splits.test)
    pytorch.save_model(classifier, test[torch.arange(2)][0], folder)
    try:
        return exported.compare(logged, folder)
    except SweepError as error:
        raise SweepError(
            f"{error}; not loaded. --trust takes it as it is and runs what is in it; predict.py reads weights.pt alone"
        ) from error


def score(model: Callable[[Tensor], Tensor], settings: data.DataConfig) -> float:
    """Accuracy on the test set of a `model`, in evaluation mode, that takes images in [0, 1]."""
    test = data.load(settings).splits.test
    return loop.evaluate(model, data.evaluation_loader(data.ImageBatches(test))).accuracy


def _require_recorded(run: RunRecord, what: str, model: Callable[[Tensor], Tensor], settings: data.DataConfig) -> None:
    """Score `model`, which is `what` of `run`, and print that it is as good as recorded, or raise a SweepError."""
    accuracy = score(model, settings)
    num_images = len(data.load(settings).splits.test.labels)
    recorded = run.metrics.get("test/accuracy", math.nan)
    if not math.isfinite(recorded):
        raise SweepError("it has no test/accuracy recorded to compare with; do not use it")
    flips = round(abs(accuracy - recorded) * num_images)
    if flips > max(1, FLIPS_PER_IMAGE * num_images):
        raise SweepError(
            f"its {what} scores {accuracy:.4f} on the test set of {settings.name}, "
            f"recorded is {recorded:.4f} ({flips} images apart); do not use it"
        )
    print(f"{what:12}  test/accuracy {accuracy:.2%}, as recorded")


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
    from sweep.digits.train import load_classifier
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
