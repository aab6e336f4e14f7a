"""The command line: single runs, and what is refused before anything is recorded."""

import json
import re
import socket
import subprocess
import sys

import mlflow
import numpy as np
import pytest
import torch
from conftest import ROOT, Finished, Project, inputs_of
from torch import Tensor

from sweep.digits import batches, config, data, datasets
from sweep.digits.classifier import load_classifier

DIGITS = ("data=digits", "epochs=2")


def one_line_error(finished: Finished) -> str:
    """The message of a refused command, which is all that it printed."""
    assert finished.status == 1, finished
    assert finished.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", finished.err), finished.err
    return finished.err.removeprefix("error: ").strip()


def test_a_run_leaves_its_record_its_weights_and_a_model_that_scores_what_was_recorded(project: Project) -> None:
    finished = project.train(*DIGITS, "model.widths=[32]", "seed=3", "hydra.run.dir=run")
    assert finished.status == 0, finished.err
    (run,) = project.runs("trial")
    assert run.info.status == "FINISHED"
    assert run.data.params["model.widths.0"] == "32"
    assert run.data.params["seed"] == "3"
    assert json.loads(run.data.tags["sweep.overrides"])[0].startswith("output_dir=")
    assert "mlflow.source.git.commit" in run.data.tags
    assert {
        f"sweep.{what}" for what in ("device", "processor", "precision", "num_threads", "torch", "parameters")
    } <= run.data.tags.keys()
    steps = [m.step for m in project.client().get_metric_history(run.info.run_id, "test/accuracy")]
    assert steps == [1, 2]
    # MLflow's page orders charts by name: a model/parameters, always the same, would be the first.
    assert run.data.metrics.keys() == {"train/loss", "test/loss", "test/accuracy"}
    (dataset,) = inputs_of(run)
    assert (
        dataset.dataset.digest
        == data.load(config.from_yaml((project.folder / "run/config.yaml").read_text()).data).digest
    )
    recorded = run.data.metrics["test/accuracy"]
    assert f"test/accuracy {recorded:.2%}" in finished.out

    job = config.from_yaml((project.folder / "run" / "config.yaml").read_text())
    images, labels = batches.ImageBatches(data.load(job.data).splits.test)[torch.arange(360)]
    models = {
        "torch.save": load_classifier(project.folder / "run"),
        "mlflow.pytorch": mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/model"),
    }
    for name, model in models.items():
        with torch.inference_mode():
            accuracy = (model(images).argmax(1) == labels).double().mean().item()
        assert accuracy == recorded, name
    served = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(images.numpy())
    assert (np.asarray(served).argmax(1) == labels.numpy()).mean() == recorded


def test_the_logged_model_loads_and_answers_without_this_project(project: Project) -> None:
    assert project.train(*DIGITS, "model=cnn", "epochs=1").status == 0
    (run,) = project.runs("trial")
    folder = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model")
    program = f"""
import sys
sys.modules["sweep"] = None  # any import of it fails
import mlflow, torch
for model in mlflow.pytorch.load_model({folder!r}), torch.export.load({folder + "/data/model.pt2"!r}).module():
    assert model(torch.rand(7, 1, 28, 28)).shape == (7, 10)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=project.folder)


def test_same_seed_gives_the_same_weights_on_one_thread_and_another_seed_others(project: Project) -> None:
    weights: list[dict[str, Tensor]] = []
    for seed in (1, 1, 2):
        folder = f"run-{len(weights)}"
        arguments = (f"seed={seed}", "num_threads=1", "tracking.enabled=false", f"hydra.run.dir={folder}")
        finished = project.train(*DIGITS, "model.dropout=0.2", "data.shift=1", *arguments)
        assert finished.status == 0, finished.err
        weights.append(torch.load(project.folder / folder / "weights.pt"))
    first, again, other = weights
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_without_tracking_nothing_is_recorded(project: Project) -> None:
    assert project.train(*DIGITS, "epochs=1", "tracking.enabled=false").status == 0
    assert project.runs("trial") == []


def test_held_out_images_have_metrics_of_their_own(project: Project) -> None:
    finished = project.train(*DIGITS, "data.validation=200", "objective=val/accuracy")
    assert finished.status == 0, finished.err
    (run,) = project.runs("trial")
    assert {"val/accuracy", "val/loss", "test/accuracy"} <= run.data.metrics.keys()
    assert f"val/accuracy {run.data.metrics['val/accuracy']:.2%}" in finished.out.splitlines()[-1]


def test_a_loss_that_stops_being_finite_is_recorded_as_failed_with_its_step(project: Project) -> None:
    finished = project.train(*DIGITS, "optimizer=sgd", "optimizer.lr=1e30", "model.batch_norm=false")
    assert finished.status == 1
    assert re.fullmatch(r"error: train/loss=(nan|inf) at step \d+ \(epoch 1\): [^\n]+\n", finished.err)
    (run,) = project.runs("trial")
    assert run.info.status == "FAILED"
    assert re.match(r"train/loss=(nan|inf) at step \d+", run.data.tags["sweep.error"])


def test_weights_that_break_in_the_last_step_are_no_success(project: Project) -> None:
    one_step = ("data.batch_size=1437", "epochs=1", "optimizer.schedule=none", "label_smoothing=0")
    broken = ("optimizer=sgd", "optimizer.lr=1e30", "model.batch_norm=false")
    finished = project.train("data=digits", *one_step, *broken)
    assert finished.status == 1
    assert re.fullmatch(r"error: test/loss=(nan|inf) at step 1 \(epoch 1\): [^\n]+\n", finished.err)
    assert [run.info.status for run in project.runs("trial")] == ["FAILED"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=3", "model.widht=3: no such key; model has activation, batch_norm, dropout, name, widths"),
        ("typo=3", "typo=3: no such key; there are data, device, epochs, label_smoothing, model"),
        ("model.widths.7=3", "model.widths.7=3: model.widths has 2 items, counted from 0"),
        ("model=null", "model=null: a group needs a choice, by its name"),
        ("output_dir=/dev/null", "output_dir=/dev/null: no files can be written to /dev/null/runs/"),
        ("hydra.run.dir=/dev/null/x", "hydra.run.dir=/dev/null/x: no files can be written to /dev/null/x"),
        ("model=rnn", "model=rnn: choose one of cnn, mlp"),
        ("data=imagenet", "data=imagenet: choose one of digits, fashion_mnist, mnist"),
        ("hydra/sweeper=ax", "hydra/sweeper=ax: it would have no effect on a single run"),
        ("model.widths=[3", "model.widths=[3: cannot be read as key=value"),
        ("model.dropout=1.5", "model.dropout=1.5: must be 0 or more and below 1"),
        ("model.widths=[64,0]", "model.widths=[64, 0]: each must be 1 or more"),
        ("model.widths=[]", "model.widths=[]: give at least one"),
        ("data.batch_size=0", "data.batch_size=0: must be 1 or more"),
        ("epochs=0", "epochs=0: must be 1 or more"),
        ("optimizer.lr=0", "optimizer.lr=0.0: must be above 0"),
        ("objective=test/f1", "objective=test/f1: choose one of model/parameters, test/accuracy, test/loss, train/"),
        ("objective=[]", "objective=[]: choose one of model/parameters, test/accuracy, test/loss, train/loss"),
        ("model.widths.length=2", "model.widths.length=2: model.widths is a list, its items are model.widths.0,"),
        ("data.validation=2000", "data.validation=2000: must be 0 or more and below 1437"),
        ("device=tpu", "device=tpu: one of auto, cpu, cuda, mps"),
        ("precision=int8", "precision=int8: one of auto, float32, bfloat16"),
        pytest.param(
            "device=cuda",
            "device=cuda: there is none here; choose one of auto, cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(project: Project, override: str, message: str) -> None:
    assert message in one_line_error(project.train("data=digits", override))
    assert project.runs("trial") == []
    assert not (project.folder / "multirun").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=3", "model.widht=3: no such key; model has activation, batch_norm, dropout, name, widths"),
        ("model=rnn", "model=rnn: choose one of cnn, mlp"),
        ("model.dropout=1.5", "model.dropout=1.5: must be 0 or more and below 1"),
        ("objective=test/f1", "objective=test/f1: choose one of model/parameters, test/accuracy, test/loss, train/"),
        ("objective=[]", "objective=[]: choose one of model/parameters, test/accuracy, test/loss, train/loss"),
        ("model.widths.length=2", "model.widths.length=2: model.widths is a list, its items are model.widths.0,"),
        ("data.validation=2000", "data.validation=2000: must be 0 or more and below 1437"),
        ("device=tpu", "device=tpu: one of auto, cpu, cuda, mps"),
    ],
)
def test_bad_input_to_a_study_gets_one_line_and_leaves_nothing(project: Project, override: str, message: str) -> None:
    assert message in one_line_error(project.train("-m", "hydra/sweeper=optuna", "data=digits", override))
    assert project.runs("trial") == project.runs("study") == []


def test_a_model_that_the_images_are_too_small_for_is_refused(project: Project) -> None:
    error = one_line_error(project.train("data=digits", "model=cnn", "model.channels=[2,2,2,2,2]"))
    assert error.startswith("model.channels=[2, 2, 2, 2, 2]: at most 4 blocks")


@pytest.mark.parametrize("mode", [(), ("-m", "optimizer.lr=0.1,0.2"), ("-m", "hydra/sweeper=optuna")])
def test_data_that_are_not_there_stop_everything_before_the_first_trial(
    project: Project, mode: tuple[str, ...]
) -> None:
    """FashionMNIST's mirror cannot be reached through a proxy at which nobody listens."""
    finished = project.train(*mode, "data=fashion_mnist", "data.root=empty", http_proxy="http://127.0.0.1:9")
    error = one_line_error(finished)
    root = project.folder / "empty"
    assert error.startswith(f"data.root={root}: no fashion_mnist in {root}/FashionMNIST/raw, and no download from http")
    assert not root.exists()
    assert "data=digits" in error
    assert project.runs("trial") == project.runs("study") == []


def test_a_damaged_file_stops_everything_before_the_first_trial(project: Project) -> None:
    folder = project.folder / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file in datasets.MNISTConfig.checksums:
        (folder / file).write_bytes(b"\0" * 100)
    error = one_line_error(project.train("-m", "hydra/sweeper=optuna", f"data.root={project.folder}"))
    assert "train-images-idx3-ubyte is damaged (100 of 47040016 bytes" in error
    assert project.runs("study") == []


@pytest.mark.parametrize("mode", [(), ("-m", "hydra/sweeper=optuna")])
def test_an_mlflow_server_that_does_not_answer_is_reported_before_training(
    project: Project, mode: tuple[str, ...]
) -> None:
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        finished = project.train(*mode, "data=digits", MLFLOW_TRACKING_URI=uri)
    error = one_line_error(finished)
    assert error.startswith(f"MLFLOW_TRACKING_URI={uri}: cannot be reached")


def test_help_answers_without_torch() -> None:
    program = """
import runpy, sys
sys.modules["torch"] = sys.modules["mlflow"] = None  # any import of them fails
sys.argv = ["train.py", "--help"]
runpy.run_path("sweep/train.py", run_name="__main__")
"""
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "widths" in finished.stdout


def test_the_default_run_reaches_98_3_percent_on_mnist(project: Project, mnist_root: str) -> None:
    finished = project.train(f"data.root={mnist_root}")
    assert finished.status == 0, finished.err
    (run,) = project.runs("trial")
    assert run.data.metrics["test/accuracy"] >= 0.983


def test_bfloat16_is_as_accurate_as_float32_within_noise(project: Project, mnist_root: str) -> None:
    """10,000 test images at 98% have a standard error of 0.14 points; two of them differ by less than four."""
    for precision in ("float32", "bfloat16"):
        short = ("epochs=2", "model.widths=[256]", f"precision={precision}", f"data.root={mnist_root}")
        assert project.train(*short).status == 0
    full, half = (run.data.metrics["test/accuracy"] for run in project.runs("trial"))
    assert min(full, half) > 0.97
    assert abs(full - half) < 4 * 0.0014 * 2**0.5
