"""Hugging Face's Trainer with the callback that reports to the trial."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from sweep.goal import Goal
from sweep.job import Job
from sweep.outcome import Outcome
from sweep.study.handle import NoHandle
from sweep.transformers import ReportToTrial
from sweep.trial import Trial

GOAL = Goal(["eval_loss"], ["minimize"], "tests", is_recorded=False)


class Pruning(NoHandle):
    """A study that wants no more after the second report."""

    def __init__(self) -> None:
        self.num_asked = 0

    def reason_to_stop(self, when: str = "") -> Outcome | None:
        self.num_asked += 1
        return Outcome("pruned", "pruned" + when) if self.num_asked == 2 else None


class Line(nn.Module):
    """y = a x + b, as a model of theirs: it gives its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.linear(x)
        return {"loss": nn.functional.mse_loss(y, labels), "logits": y}


def trainer(folder: Path, **settings: Any) -> Trainer:
    """A Trainer of 4 epochs with 2 steps each, evaluated after each of them."""
    data = [{"x": torch.tensor([x / 8]), "labels": torch.tensor([x / 4])} for x in range(8)]
    arguments = TrainingArguments(
        str(folder / "out"), num_train_epochs=4, per_device_train_batch_size=4, eval_strategy="epoch",
        save_strategy="epoch", report_to="none", disable_tqdm=True, use_cpu=True, **settings,
    )  # fmt: skip
    return Trainer(Line(), arguments, train_dataset=data, eval_dataset=data, callbacks=[ReportToTrial()])


def test_each_evaluation_is_reported_with_the_number_of_steps_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(Job(), GOAL, tmp_path)
    seen: list[tuple[int, set[str]]] = []
    report = trial.report

    def noted(step: int, metrics: dict[str, float], of: int | None = None) -> None:
        seen.append((step, set(metrics)))
        report(step, metrics, of=of)

    monkeypatch.setattr(trial, "report", noted)
    with trial.current():
        trainer(tmp_path).train()
    assert [step for step, _ in seen] == [2, 4, 6, 8]
    assert all("eval_loss" in names for _, names in seen)
    (value,) = trial.values(None)
    assert value > 0


def test_a_study_that_wants_no_more_stops_the_trainer_with_its_weights_saved(tmp_path: Path) -> None:
    trial = Trial(Job(), GOAL, tmp_path, handle=Pruning())
    cleaned_up = False
    with trial.current():
        trained = trainer(tmp_path)
        try:
            trained.train()
        finally:
            cleaned_up = True
    assert trained.state.global_step == 4
    assert cleaned_up
    assert (tmp_path / "out" / "checkpoint-4" / "model.safetensors").exists()
