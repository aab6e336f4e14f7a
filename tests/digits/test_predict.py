"""Reading digits from files, by a model that the command line trained."""

import argparse
import re
import shutil
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MNIST_ROOT, Project
from PIL import Image

from sweep.arguments import study_command
from sweep.digits import data, datasets, handwriting, predict
from sweep.digits.classifier import Classifier, load_classifier
from sweep.errors import SweepError, exit_with_one_line
from sweep.record.tags import CONFIRMS_TAG, GRID_TAG, KIND_TAG, STUDY_TAG
from sweep.results import best

NUM_DIGITS = 200
"""Of the test set, evenly over it."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_record: Path) -> Project:
    """A study of one MLP on MNIST, by the name of mine."""
    if not (MNIST_ROOT / "MNIST").is_dir():
        pytest.skip("needs MNIST: set SWEEP_DATA_ROOT to a folder that has it")
    project = Project(tmp_path_factory.mktemp("predict"))
    shutil.copy(empty_record, project.folder / "mlflow.db")
    job = (f"data.root={MNIST_ROOT}", "epochs=1", "optimizer.lr=0.01", "hydra.sweeper.study_name=mine")
    finished = project.train("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "model.widths=[512,256]", *job)
    assert finished.status == 0, finished.err
    return project


@pytest.fixture(scope="module")
def classifier(trained: Project) -> Classifier:
    return load_classifier(trained.folder / "multirun" / "mine" / "0")


@pytest.fixture(scope="module")
def digits(classifier: Classifier) -> datasets.LabelledImages:
    """Test digits that the model reads as they are, one channel dropped: (N, 28, 28)."""
    config = datasets.MNISTConfig(name="mnist", root=str(MNIST_ROOT), batch_size=1, validation=0, shift=0)
    images, labels = (tensor[:: 10_000 // NUM_DIGITS] for tensor in data.load(config).splits.test)
    with torch.inference_mode():
        is_right = classifier(images.float() / 255).argmax(1) == labels
    assert is_right.float().mean() > 0.9
    return datasets.LabelledImages(images[is_right, 0], labels[is_right])


def on_a_sheet(
    digit: np.ndarray,
    random: np.random.Generator,
    *,
    scale: float = 1,
    sheet: int = 100,
    ink: float = 1,
    ground: float = 0,
    noise: float = 0,
    light: float = 0,
    stored: str = "PNG",
) -> BytesIO:
    """A file of `digit`, scaled, somewhere on a square sheet whose light falls off by the share `light`."""
    side = round(28 * scale)
    scaled = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)) / 255
    picture = np.full((sheet, sheet), float(ground))
    y, x = random.integers(0, sheet - side + 1, 2)
    picture[y : y + side, x : x + side] += (ink - ground) * scaled
    picture *= 1 - light * np.linspace(0, 1, sheet)[:, None] * np.linspace(0.3, 1, sheet)
    picture += random.normal(0, noise, picture.shape) if noise else 0
    file = BytesIO()
    Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)).save(file, stored)
    return file


DARK: dict[str, Any] = {"ink": 0, "ground": 1}


@pytest.mark.parametrize(
    "variant",
    [
        {"sheet": 28},
        {"sheet": 28, **DARK},
        {},
        {**DARK, "stored": "JPEG"},
        {"scale": 0.7, "sheet": 60, **DARK},
        {"scale": 3, "sheet": 200, **DARK},
        {"scale": 10, "sheet": 320, "stored": "JPEG"},
        {"scale": 4, "sheet": 180, "ink": 0.2, "ground": 0.85, "noise": 0.02, "stored": "JPEG"},
        {"scale": 2, "sheet": 150, "ink": 0.3, "ground": 0.9, "noise": 0.03, "light": 0.4},
        {"scale": 6, "sheet": 270, "ink": 0.3, "ground": 0.8, "noise": 0.04, "light": 0.5, "stored": "JPEG"},
        {"scale": 1.5, "sheet": 90, "ink": 0.9, "ground": 0.2, "noise": 0.02, "stored": "JPEG"},
    ],
    ids=lambda variant: " ".join(f"{key}={value}" for key, value in variant.items()) or "off centre",
)
def test_95_of_100_digits_that_are_read_as_they_are_are_read_from_a_picture(
    classifier: Classifier, digits: datasets.LabelledImages, variant: dict[str, Any]
) -> None:
    random = np.random.default_rng(0)
    files = [on_a_sheet(digit.numpy(), random, **variant) for digit in digits.images]
    x = torch.stack([handwriting.prepare(handwriting.open_image(file, "it")) for file in files])
    with torch.inference_mode():
        share = (classifier(x).argmax(1) == digits.labels).float().mean().item()
    assert share >= 0.95


def test_a_digit_of_mnist_s_comes_out_as_it_went_in(digits: datasets.LabelledImages) -> None:
    x = torch.stack([handwriting.prepare(Image.fromarray(digit.numpy())) for digit in digits.images])
    farthest = (x[:, 0] - digits.images / 255).abs().amax((1, 2))
    assert (farthest < 0.1).float().mean() > 0.9


@pytest.fixture
def files(trained: Project, digits: datasets.LabelledImages) -> list[str]:
    """Four files of digits, two of them of the same name, by their paths from the project's folder."""
    names = ["0.png", "1.jpg", "a/digit.png", "b/digit.png"]
    for name, digit in zip(names, digits.images, strict=False):
        path = trained.folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(255 - digit.numpy()).resize((200, 200)).save(path)
    return names


def test_a_line_for_each_file_names_its_digit(
    trained: Project, files: list[str], digits: datasets.LabelledImages
) -> None:
    finished = trained.run("predict", *files)
    assert (finished.status, finished.err) == (0, "")
    reader, *lines = finished.out.splitlines()
    assert re.match(
        r"reading with trial-000 of study mine, trained on mnist, test/accuracy 9\d\.\d\d% \(\w+\)$", reader
    )
    for line, file, digit in zip(lines, files, digits.labels.tolist(), strict=False):
        assert line.startswith(f"{file}: {digit} (")
        assert line.endswith("%)")
    assert len(lines) == len(files)


def test_show_writes_a_picture_of_each_file_also_of_two_of_the_same_name(trained: Project, files: list[str]) -> None:
    for _ in range(2):  # again, they take the place of the first
        finished = trained.run("predict", "--show", "--output", "shown", *files[2:])
        assert finished.status == 0, finished.err
    written = [trained.folder / line.strip() for line in finished.out.splitlines() if line.startswith("    ")]
    assert sorted(written) == sorted((trained.folder / "shown").iterdir())
    assert len(written) == 2
    for path in written:
        with Image.open(path) as picture:
            assert min(picture.size) > 300


def test_one_bad_file_does_not_keep_the_others_from_being_read(trained: Project, files: list[str]) -> None:
    Image.new("L", (90, 90), 255).save(trained.folder / "blank.png")
    (trained.folder / "text.png").write_text("hello")
    finished = trained.run("predict", "blank.png", files[0], "text.png", "nowhere.png", files[1])
    assert finished.status == 1
    assert [line.split(":")[0] for line in finished.out.splitlines()[1:]] == files[:2]
    assert finished.err.splitlines() == [
        "error: blank.png: there is nothing in it; draw one digit, darker or lighter than its ground",
        "error: text.png: it is no PNG or JPEG image; save it as one",
        "error: nowhere.png: there is no such file",
    ]


def test_without_a_model_one_line_says_so(project: Project) -> None:
    for program in ("predict", "draw"):
        for arguments, message in [
            ((), f"no study yet; start one: {study_command()}"),
            (("--run", "abc"), "run=abc: MLflow knows no run with this id; `mlflow ui` lists them"),
        ]:
            finished = project.run(program, *(["x.png"] if program == "predict" else []), *arguments)
            assert finished.status == 1
            assert finished.err.startswith(f"error: {message}")
            assert finished.err.count("\n") == 1


def test_a_run_without_a_model_and_a_model_of_other_things_are_refused(trained: Project, tmp_path: Path) -> None:
    parent = trained.runs("study")[0].info.run_id
    finished = trained.run("predict", "x.png", "--run", parent)
    assert finished.status == 1
    assert finished.err.startswith(f"error: run={parent}: mine is FINISHED, and has no whole model (")
    assert finished.err.count("\n") == 1

    # A config that says so will do: what the pixels were is not what is checked.
    client, (run, *_) = trained.client(), trained.runs("trial")
    text = (trained.folder / "multirun" / "mine" / "0" / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("name: mnist", "name: fashion_mnist"))
    other = client.create_run(run.info.experiment_id).info.run_id
    client.log_artifact(other, str(tmp_path / "config.yaml"))
    client.log_artifact(other, str(trained.folder / "multirun" / "mine" / "0" / "weights.pt"))
    finished = trained.run("predict", "x.png", "--run", other)
    client.delete_run(other)
    assert finished.status == 1
    assert finished.err.startswith(f"error: run={other}: its model tells T-shirt/top, Trouser, ")
    assert finished.err.endswith("apart, not digits; choose another with --study, --experiment, --run or --model\n")


def test_names_that_a_terminal_cannot_print_are_shown_as_escapes_and_the_other_files_are_read(
    trained: Project, files: list[str]
) -> None:
    names = ["seven-\u65e5\u672c.png", "not-\udcff-utf8.png", "bell-\x07\x1b[2J.png", f"~/{files[0]}", files[1]]
    for name in names[:3]:
        shutil.copy(trained.folder / files[0], trained.folder / name)
    (trained.folder / "~").mkdir(exist_ok=True)  # which is not what is meant
    finished = trained.run("predict", *names, "--show", HOME=str(trained.folder))
    assert (finished.status, finished.err) == (0, "")
    shown = [line.rpartition(": ")[0] for line in finished.out.splitlines()[1:] if not line.startswith("    ")]
    assert shown == [names[0], r"not-\udcff-utf8.png", r"bell-\x07\x1b[2J.png", names[3], names[4]]


def test_letters_that_the_terminal_s_encoding_lacks_are_printed_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = TextIOWrapper(written := BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    with exit_with_one_line():
        print("caf\xe9-\u65e5")
    terminal.flush()
    assert written.getvalue() == b"caf\xe9-\\u65e5\n"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("best", "mnist", 0.98, "a"), ("later", "mnist", 0.97, "b"), ("newest", "digits", 0.99, "c")], "best"),
        ([("single", "mnist", 0.99, None), ("trial", "mnist", 0.98, "a")], "single"),
        (
            [("good", "mnist", 0.97, "a"), ("gridded", "mnist", 0.99, "grid"), ("again", "mnist", 0.99, "confirm")],
            "good",
        ),
        ([("small", "digits", 0.95, "a"), ("clothes", "fashion_mnist", 0.99, "b")], "small"),
        ([("champion", "mnist", 0.90, "a"), ("better", "mnist", 0.98, "a")], "champion"),
        ([("champion", "digits", 0.99, "a"), ("other", "mnist", 0.9, "b")], "other"),
        ([("clothes", "fashion_mnist", 0.99, "b"), ("mine", "unknown-here", 0.99, "c")], None),
        ([("gridded", "mnist", 0.99, "grid")], None),
    ],
)
def test_the_best_model_of_mnist_reads_and_never_a_grid_s_or_a_confirmation_s(
    project: Project, runs: list[tuple[str, str, float, str | None]], expected: str | None
) -> None:
    client, parents = project.client(), {}
    for name, trained_on, accuracy, study in runs:
        if study is not None and study not in parents:
            extra = {"grid": {GRID_TAG: "true"}, "confirm": {CONFIRMS_TAG: "a"}}.get(study, {})
            parents[study] = client.create_run("0", tags={KIND_TAG: "study", STUDY_TAG: study} | extra)
        tags = {KIND_TAG: "trial"}
        if study is not None:
            tags |= {STUDY_TAG: study, "mlflow.parentRunId": parents[study].info.run_id}
        run = client.create_run("0", tags=tags, run_name=name)
        client.log_param(run.info.run_id, "data.name", trained_on)
        client.log_metric(run.info.run_id, "test/accuracy", accuracy)
        client.set_terminated(run.info.run_id)
        if name == "champion":
            client.create_registered_model("reader")
            version = client.create_model_version("reader", f"runs:/{run.info.run_id}/model", run.info.run_id)
            client.set_registered_model_alias("reader", "champion", version.version)
    parser = argparse.ArgumentParser()
    best.add_choice(parser)
    options = parser.parse_args([])
    if expected is None:
        with pytest.raises(
            SweepError, match=r"grids and confirmations apart; choose one of those with --study or --run"
        ):
            predict.choose_run(options)
        return
    chosen = predict.choose_run(options)
    told = predict.describe(chosen, options.model)
    assert chosen.name == expected
    assert f"trained on {chosen.params['data.name']}, test/accuracy {chosen.metrics['test/accuracy']:.2%}" in told
    assert told.startswith("reader@champion, champion of study a, " if expected == "champion" else expected)
    assert bool(predict.doubt(chosen)) == (chosen.params["data.name"] != "mnist")
