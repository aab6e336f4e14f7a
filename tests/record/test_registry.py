"""Registering models: versions, the champion, and that plain mlflow loads and serves it."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import Project, free_port, wait_for_answer

SMALL = ("data=digits", "epochs=1", "model.widths=[16]", "num_threads=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A worse run and a better one."""
    project = Project(tmp_path_factory.mktemp("trained"))
    for lr in ("1e-4", "1e-2"):
        assert project.train(*SMALL, f"optimizer.lr={lr}").status == 0
    return project


def runs(project: Project) -> dict[str, str]:
    worse, better = sorted(project.runs("trial"), key=lambda run: run.data.metrics["test/accuracy"])
    return {"worse": worse.info.run_id, "better": better.info.run_id}


def register(project: Project, run_id: str, name: str) -> str:
    finished = project.best("--run", run_id, "--register", name, "--output", str(project.folder / "fetched"))
    assert finished.status == 0, finished.err
    return finished.out


def champion(project: Project, name: str) -> str:
    return str(project.client().get_model_version_by_alias(name, "champion").run_id)


def test_the_alias_moves_to_a_better_model_only(trained: Project) -> None:
    which = runs(trained)
    assert "registered as version 1 of reader; it is reader@champion (the first" in register(
        trained, which["worse"], "reader"
    )
    assert champion(trained, "reader") == which["worse"]
    assert "version 2 of reader; it is reader@champion" in register(trained, which["better"], "reader")
    assert champion(trained, "reader") == which["better"]
    # Again, and it is found to be version 1 already, and worse.
    assert "version 1 of reader; it did not become reader@champion" in register(trained, which["worse"], "reader")
    assert champion(trained, "reader") == which["better"]
    assert len(trained.client().search_model_versions("name = 'reader'")) == 2


def test_without_a_champion_the_best_version_is_what_is_to_be_beaten(trained: Project) -> None:
    which = runs(trained)
    register(trained, which["better"], "bereft")
    trained.client().delete_registered_model_alias("bereft", "champion")
    assert "it did not become bereft@champion" in register(trained, which["worse"], "bereft")
    assert "it is bereft@champion" in register(trained, which["better"], "bereft")


def test_the_champion_can_be_fetched_by_its_name(trained: Project) -> None:
    register(trained, runs(trained)["better"], "named")
    finished = trained.best("--model", "named", "--output", str(trained.folder / "by-name"))
    assert finished.status == 0, finished.err
    assert (trained.folder / "by-name" / "weights.pt").exists()


def test_a_model_chosen_by_another_objective_does_not_become_the_champion(trained: Project) -> None:
    register(trained, runs(trained)["worse"], "by-accuracy")
    assert trained.train(*SMALL, "objective=test/loss", "seed=5").status == 0
    newest = trained.runs("trial")[-1].info.run_id
    told = register(trained, newest, "by-accuracy")
    assert "did not become by-accuracy@champion (version 1 was chosen by test/accuracy, this one by test/loss)" in told
    trained.client().delete_run(newest)


def test_what_cannot_be_registered_is_told_in_one_line_and_leaves_nothing(trained: Project) -> None:
    better = runs(trained)["better"]
    register(trained, better, "of-digits")
    trained.client().set_model_version_tag("of-digits", "1", "sweep.data", "mnist")
    trained.client().set_model_version_tag("of-digits", "1", "sweep.digest", "0123456789abcdef")
    for name, message in {
        "of-digits": "--register=of-digits: its version 1 is of mnist (0123456789abcdef), this model of digits (",
        "a/b": "--register=a/b: Invalid model name 'a/b'",
    }.items():
        finished = trained.best("--run", better, "--register", name, "--output", str(trained.folder / "fetched"))
        assert finished.status == 1
        assert finished.err.startswith(f"error: {message}")
        assert finished.err.count("\n") == 1
    assert len(trained.client().search_model_versions("name = 'of-digits'")) == 1
    finished = trained.best("--model", "nobody")
    assert finished.err.startswith("error: --model=nobody: MLflow's registry has no nobody@champion; it has ")


def test_plain_mlflow_loads_the_champion_and_serves_it(trained: Project) -> None:
    register(trained, runs(trained)["better"], "served")
    trained.client()
    model = mlflow.pytorch.load_model("models:/served@champion")
    images = torch.rand(2, 1, 28, 28)
    expected = model(images).detach().numpy()
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # mlflow starts uvicorn by its name
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/served@champion",
         "--env-manager", "local", "--port", str(port)],
        cwd=trained.folder, env=os.environ | trained.env | {"PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for_answer(server, f"http://127.0.0.1:{port}/ping")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": images.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert np.allclose(answer["predictions"], expected, atol=1e-5)
    finally:
        os.killpg(server.pid, 15)
        server.wait()
