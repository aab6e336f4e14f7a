"""Programs that report nothing and log to MLflow by themselves, pruned by the metric that hydra.sweeper.watch names."""

import re

import pytest
from conftest import Project, lend_packages
from optuna.trial import TrialState
from test_public_apps import App

CONF = "rate: 0.1\nepochs: 4\n"

LOOP = """
from pathlib import Path

import hydra
import mlflow

@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    loss = 1.0
    with mlflow.start_run(run_name="own"):
        try:
            for epoch in range(1, cfg.epochs + 1):
                loss *= 1 - cfg.rate
                mlflow.log_metric("val/loss", loss, step=epoch)
        finally:
            Path(f"closed {cfg.rate}").touch()
    return loss

if __name__ == "__main__":
    main()
"""

PARTIAL_FIT = """
from pathlib import Path

import hydra
import mlflow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import SGDRegressor

@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    x, y = load_diabetes(return_X_y=True)
    model = SGDRegressor(learning_rate="constant", eta0=cfg.rate, random_state=0)
    try:
        for epoch in range(cfg.epochs):
            model.partial_fit(x, y / 1000)
            mlflow.log_metrics({"val/loss": 1 - model.score(x, y / 1000)})
    finally:
        Path(f"closed {cfg.rate}").touch()
    return 1 - model.score(x, y / 1000)

if __name__ == "__main__":
    main()
"""

LIGHTNING = """
from pathlib import Path

import hydra
import lightning as L
import mlflow
import torch
from lightning.pytorch.loggers import MLFlowLogger
from torch.utils.data import DataLoader, TensorDataset

class Line(L.LightningModule):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.line = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(self.line.weight)
        torch.nn.init.zeros_(self.line.bias)

    def training_step(self, batch, _):
        return (self.line(batch[0]) ** 2).mean()

    def validation_step(self, batch, _):
        self.log("val/loss", (self.line(batch[0]) ** 2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)

@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    logger = MLFlowLogger("lightning", tracking_uri=mlflow.get_tracking_uri())
    trainer = L.Trainer(
        max_epochs=cfg.epochs, logger=logger, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False
    )
    data = DataLoader(TensorDataset(torch.ones(4, 1)), 4)
    try:
        trainer.fit(Line(cfg.rate), data, data)
    finally:
        Path(f"closed {cfg.rate}").touch()
    return trainer.callback_metrics["val/loss"].item()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    "program", [pytest.param(LOOP, id="log_metric"), pytest.param(PARTIAL_FIT, id="partial_fit"), LIGHTNING]
)
def test_an_unchanged_program_is_stopped_where_it_logs_the_metric_that_is_watched(
    project: Project, installed: dict[str, str], program: str
) -> None:
    app = App(project, lend_packages(installed), program, CONF)
    out = app.search(
        "hydra.sweeper.watch=val/loss", "hydra.sweeper.direction=minimize", "hydra.sweeper.study_name=app",
        "hydra.sweeper.n_jobs=1", "hydra/sweeper/study/sampler=grid", "rate=choice(0.3,1e-9)",
        "hydra/sweeper/study/pruner=threshold", "hydra.sweeper.pruner.lower=0", "hydra.sweeper.pruner.upper=0.95",
    )  # fmt: skip
    trials = {trial.params["rate"]: trial for trial in app.trials()}
    assert {rate: trial.state for rate, trial in trials.items()} == {
        0.3: TrialState.COMPLETE,
        1e-9: TrialState.PRUNED,
    }
    assert len(trials[0.3].intermediate_values) == 4
    assert len(trials[1e-9].intermediate_values) == 1
    assert (app.folder / "closed 1e-09").exists()  # `finally` blocks are run
    assert "pruned after step" in out
    assert "val/loss" in out
    runs = {run.info.run_id: run for run in project.runs("trial")}
    client = project.client()
    everything = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    own = [run for run in everything if "sweep.under" in run.data.tags]
    assert len(own) == 2
    for run in own:
        trial = runs[run.data.tags["mlflow.parentRunId"]]
        assert run.info.status == trial.info.status
        assert run.data.tags["sweep.trial"] == trial.data.tags["sweep.trial"]
        assert run.data.metrics["val/loss"] == trial.data.metrics["val/loss"]  # the report's curves come from there


ELSEWHERE = """
import hydra
import mlflow

@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    mlflow.log_metric("val/error", cfg.rate)
    return cfg.rate

if __name__ == "__main__":
    main()
"""


def test_what_the_study_cannot_see_is_told_once_and_costs_no_trial(project: Project, installed: dict[str, str]) -> None:
    app = App(project, installed, ELSEWHERE, CONF)
    settings = ("hydra.sweeper.direction=minimize", "hydra.sweeper.study_name=app", "hydra.sweeper.n_jobs=1")
    out = app.search(*settings, "hydra.sweeper.watch=val/loss", "rate=choice(0.3,0.5)", "hydra.sweeper.n_trials=2")
    assert [trial.state for trial in app.trials()] == [TrialState.COMPLETE] * 2
    told, of_watch = re.findall(r"^note: (.*)$", out, re.MULTILINE)
    assert of_watch.startswith("hydra.sweeper.watch=val/loss: ")
    assert "the job sets MLflow's address to sqlite:///elsewhere.db" in told
    app = App(project, installed, LOOP, CONF, "second app")
    out = app.search(*settings, "hydra.sweeper.watch=val/los", "rate=choice(0.3,0.5)", "hydra.sweeper.n_trials=2")
    (told,) = re.findall(r"^note: (.*)$", out, re.MULTILINE)
    assert told == (
        "hydra.sweeper.watch=val/los: the job logs no such metric to MLflow, so nothing is pruned; it logged val/loss"
    )
