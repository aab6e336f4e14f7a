import math

import pytest
import torch
from torch import nn

from sweep.digits.optimizers import AdamConfig, AdamWConfig, OptimizerConfig, SGDConfig


def adamw(**changes: object) -> AdamWConfig:
    settings = {"name": "adamw", "lr": 0.1, "weight_decay": 0.01, "schedule": "none", "betas": [0.9, 0.99]}
    return AdamWConfig(**(settings | changes))  # type: ignore[arg-type]


ALL = [
    adamw(),
    AdamConfig(name="adam", lr=0.1, weight_decay=0.0, schedule="none", betas=[0.9, 0.99]),
    SGDConfig(name="sgd", lr=0.1, weight_decay=0.0, schedule="none", momentum=0.9, nesterov=True),
]


def learning_rates(config: OptimizerConfig, num_steps: int) -> list[float]:
    optimizer = config.build([nn.Parameter(torch.ones(1))])
    scheduler = config.build_scheduler(optimizer, num_steps)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.name)
def test_every_optimizer_runs_fused_and_finds_the_minimum_of_a_parabola(config: OptimizerConfig) -> None:
    x = nn.Parameter(torch.tensor([3.0]))
    optimizer = config.build([x])
    assert optimizer.defaults["fused"] is True
    for _ in range(300):
        optimizer.zero_grad()
        (x - 1).square().sum().backward()
        optimizer.step()
    assert x.item() == pytest.approx(1, abs=0.05)


def test_one_cycle_goes_up_to_lr_and_down_to_nearly_nothing() -> None:
    rates = learning_rates(adamw(schedule="one_cycle"), 100)
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.1, rel=1e-3)
    assert 25 <= top <= 35
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-5


def test_cosine_follows_half_a_cosine() -> None:
    expected = [0.1 * (1 + math.cos(math.pi * step / 50)) / 2 for step in range(50)]
    assert learning_rates(adamw(schedule="cosine"), 50) == pytest.approx(expected)


def test_no_schedule_keeps_the_learning_rate() -> None:
    assert learning_rates(adamw(schedule="none"), 5) == [0.1] * 5


def test_a_training_of_a_single_step_has_a_schedule_too() -> None:
    for schedule in ("one_cycle", "cosine", "none"):
        assert len(learning_rates(adamw(schedule=schedule), 1)) == 1
