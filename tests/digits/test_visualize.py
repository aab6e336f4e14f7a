"""Drawing a data set."""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import Finished, Project
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from sweep.digits import visualize
from sweep.digits.config import Config
from sweep.digits.data import load

Compose = Callable[..., Config]


@pytest.fixture(scope="module")
def two_studies(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A grid on the digits, and a newer study that has no trials yet."""
    project = Project(tmp_path_factory.mktemp("studies"))
    small = ("data=digits", "epochs=1", "num_threads=1", "model.widths=[8]", "optimizer.lr=1e-2,2e-2")
    assert project.train("-m", *small, "hydra.sweeper.study_name=digits").status == 0
    experiment = project.client().get_experiment_by_name("digits")
    assert experiment is not None
    tags = {"sweep.kind": "study", "sweep.study": "empty"}
    project.client().create_run(experiment.experiment_id, run_name="empty", tags=tags)
    return project


def draw(project: Project, *arguments: str) -> Finished:
    """`sweep visualize` with these arguments."""
    return project.run("visualize", *arguments)


def text_of(figure: Figure) -> str:
    """Every word in the picture, on one line."""
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("shift", [0, 2])
def test_the_batch_that_is_trained_on_inverted_is_the_plain_batch(compose: Compose, model: str, shift: int) -> None:
    facts = visualize.gather_facts(compose("data=digits", f"model={model}", f"data.shift={shift}"))
    assert facts.trained_on.shape == ((64, 784) if model == "mlp" else (64, 1, 28, 28))
    assert facts.plain.shape == (64, 1, 28, 28)
    assert facts.largest_difference < 1e-6
    assert facts.trained_on.images.shape == facts.plain.images.shape == (16, 1, 28, 28)
    torch.testing.assert_close(facts.trained_on.images, facts.plain.images, atol=1e-6, rtol=0)


def test_the_plain_batch_is_in_0_to_1_and_the_other_centred_on_0_with_spread_1(compose: Compose) -> None:
    facts = visualize.gather_facts(compose("data=digits", "data.batch_size=1437"))
    assert (facts.plain.low, facts.plain.high) == (0, 1)
    assert facts.trained_on.mean == pytest.approx(0, abs=1e-5)
    assert facts.trained_on.std == pytest.approx(1, abs=1e-5)


def test_what_is_shown_is_labelled_as_it_is_in_the_data_set(compose: Compose) -> None:
    job = compose("data=digits")
    facts = visualize.gather_facts(job)
    images, labels = load(job.data).splits.train
    for shown, label in zip(facts.plain.images, facts.labels, strict=False):
        (found,) = (images == (shown * 255).round().byte()).flatten(1).all(dim=1).nonzero().flatten()
        assert labels[found] == label


def test_classes_are_counted_in_every_split_that_has_images(compose: Compose) -> None:
    job = compose("data=digits", "data.validation=100")
    facts = visualize.gather_facts(job)
    splits = load(job.data).splits
    assert list(facts.counts) == ["train", "val", "test"]
    for split, counts in facts.counts.items():
        labels = getattr(splits, split).labels.numpy()
        assert counts == [int((labels == label).sum()) for label in range(10)]
    assert "val" not in visualize.gather_facts(compose("data=digits")).counts


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model=mlp"], ["shape (64, 784)", "normalisation and flattening inverted", "flattened", "not shifted"]),
        (["model=cnn"], ["shape (64, 1, 28, 28)", "normalisation inverted", "not flattened", "neighbours"]),
        (["data.shift=2"], ["shifted by up to 2 pixels"]),
        (["data.batch_size=2"], ["shape (2, 784)"]),  # fewer images than there are places for
    ],
)
def test_the_picture_and_what_is_printed_tell_shapes_ranges_counts_and_reasons(
    compose: Compose, overrides: list[str], told: list[str]
) -> None:
    facts = visualize.gather_facts(compose("data=digits", *overrides))
    written = text_of(visualize.draw_data(facts))
    printed = visualize.facts_in_words(facts)
    ranges = [visualize.batch_in_words(batch) for batch in (facts.trained_on, facts.plain)]
    assert all(re.search(r"values -?\d\.\d{3} to \d\.\d{3}, mean", one) for one in ranges)
    for expected in [*ranges, *(step.name for step in facts.steps)]:
        assert expected in written
        assert expected in printed
    for expected in [*told, "train 1,437", "test 360", str(facts.counts["train"][7])]:
        assert expected in written
    assert not re.search(r"\bnan\b|\binf\b", written)


def test_the_picture_is_logged_to_the_newest_study_on_the_same_data(two_studies: Project) -> None:
    project = two_studies
    finished = draw(project, "data=digits", "--output", "picture.png", "data.shift=1")
    assert finished.status == 0, finished.err
    assert finished.out.endswith("logged  to study digits, as picture.png among its artifacts\n")
    (study,) = [run for run in project.runs("study") if run.info.run_name == "digits"]
    logged = Path(mlflow.artifacts.download_artifacts(f"runs:/{study.info.run_id}/picture.png"))
    assert logged.read_bytes() == (project.folder / "picture.png").read_bytes()
    assert logged.stat().st_size < 300_000
    pixels = imread(logged)
    assert pixels.shape[0] > 500
    assert np.ptp(pixels) > 0.9


def test_without_a_study_on_the_data_or_a_record_the_picture_is_only_saved(project: Project) -> None:
    for extra, reason in [
        ((), "nowhere: there is no study on digits yet"),
        (("tracking.enabled=false",), "nowhere: tracking.enabled=false"),
    ]:
        finished = draw(project, "data=digits", *extra, "--output", "new/picture.png")
        assert finished.status == 0, finished.err
        assert finished.out.endswith(f"saved   new/picture.png\nlogged  {reason}\n")
        (project.folder / "new" / "picture.png").unlink()
        assert list((project.folder / "new").iterdir()) == []


def test_what_cannot_be_drawn_is_told_in_one_line_and_nothing_is_written(two_studies: Project) -> None:
    before = set(two_studies.folder.glob("*.png"))
    for arguments, message in [
        (("data=imagenet",), "data=imagenet: choose one of digits, fashion_mnist, mnist"),
        (("data.shfit=2",), "data.shfit=2: no such key; data has batch_size, name, root, shift, validation"),
        (("data=digits", "data.shift=99"), "data.shift=99: must be 0 or more and at most 27 pixels"),
        (("data=mnist", "--study", "digits"), "--study=digits: its trials are on digits, the picture is of mnist; "),
        (("data=digits", "--study", "empty"), "--study=empty: its trials are on no data yet, the picture is of dig"),
        (("data=digits", "--study", "none"), "study=none: MLflow knows no study of this name; the newest are empty"),
        (("data=digits", "--output", "a.jpg"), "--output=a.jpg: the picture is a PNG; give the name of a file that"),
    ]:
        finished = draw(two_studies, "--output", "refused.png", *arguments)
        assert finished.status == 1, finished
        assert finished.out == ""
        assert finished.err.startswith(f"error: {message}")
        assert finished.err.count("\n") == 1
    assert set(two_studies.folder.glob("*.png")) == before
