"""Lightning's Trainer with the callback that reports to the trial."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from test_transformers import Pruning
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sweep.errors import Pruned, SweepError
from sweep.goal import Goal
from sweep.job import Job, Metric
from sweep.lightning import ReportToTrial
from sweep.trial import Trial

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning's of itself, beside newer torch
]

GOAL = Goal(["val/loss"], ["minimize"], "tests", is_recorded=False)
X = torch.arange(8.0).unsqueeze(1) / 8
DATA = DataLoader(TensorDataset(X, 2 * X), batch_size=4)


class Line(L.LightningModule):
    """y = a x + b, which logs the losses of both splits, and how many epochs have begun."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = nn.functional.mse_loss(self.linear(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/epoch", float(self.current_epoch), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val/loss", nn.functional.mse_loss(self.linear(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", callbacks=[ReportToTrial()], default_root_dir=folder, enable_model_summary=False,
        enable_progress_bar=False, logger=False, **({"max_epochs": 4} | settings),
    )  # fmt: skip


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, float], int | None]]:
    """What trials are told, in its order."""
    found = []
    report = Trial.report

    def report_too(self: Trial, step: int, metrics: Any, *, of: int | None = None) -> None:
        found.append((step, dict(metrics), of))
        report(self, step, metrics, of=of)

    monkeypatch.setattr(Trial, "report", report_too)
    return found


def test_each_epoch_is_reported_once_with_its_own_metrics_of_both_splits(tmp_path: Path, reported: list[Any]) -> None:
    trial = Trial(Job(), GOAL, tmp_path)
    with trial.current():
        trainer(tmp_path).fit(Line(), DATA, DATA)
    assert [(step, of) for step, _, of in reported] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(metrics.keys() == {"train/loss", "train/epoch", "val/loss"} for _, metrics, _ in reported)
    assert [metrics["train/epoch"] for _, metrics, _ in reported] == [0, 1, 2, 3]
    assert trial.values(None) == [reported[-1][1]["val/loss"]]


def test_of_what_is_logged_the_job_s_own_metrics_are_reported(tmp_path: Path, reported: list[Any]) -> None:
    job = Job(metrics={"val/loss": Metric(direction="minimize")})
    with Trial(job, GOAL, tmp_path).current():
        trainer(tmp_path, max_epochs=1).fit(Line(), DATA, DATA)
    assert [list(metrics) for _, metrics, _ in reported] == [["val/loss"]]


def test_an_epoch_without_validation_is_not_reported_with_the_one_before_s(tmp_path: Path, reported: list[Any]) -> None:
    with Trial(Job(), GOAL, tmp_path).current():
        trainer(tmp_path, check_val_every_n_epoch=2).fit(Line(), DATA, DATA)
    assert [step for step, _, _ in reported] == [2, 4]


def test_without_a_validation_set_each_epoch_is_reported(tmp_path: Path, reported: list[Any]) -> None:
    with Trial(Job(), GOAL, tmp_path).current():
        trainer(tmp_path, max_epochs=2).fit(Line(), DATA)
    assert [step for step, _, _ in reported] == [1, 2]


def test_a_study_that_wants_no_more_stops_the_trainer_in_good_order(tmp_path: Path) -> None:
    trial = Trial(Job(), GOAL, tmp_path, handle=Pruning())
    has_cleaned_up = False
    with trial.current():
        stopped = trainer(tmp_path)
        try:
            stopped.fit(Line(), DATA, DATA)
        finally:
            has_cleaned_up = True
    assert has_cleaned_up
    assert stopped.current_epoch == 2
    assert Path(stopped.checkpoint_callback.best_model_path).is_file()  # type: ignore[union-attr]
    with pytest.raises(Pruned, match="pruned after step 2"):
        trial.values(None)


def test_outside_of_a_job_the_trainer_ends_with_what_to_do(tmp_path: Path) -> None:
    trial = Trial(Job(), GOAL, tmp_path)
    with trial.current():
        pass
    with trial.current(), pytest.raises(SweepError, match="has ended; report before the job returns"):
        trainer(tmp_path).fit(Line(), DATA, DATA)
