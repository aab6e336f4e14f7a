"""What the benchmarks tell: that their figures are the recorded ones, and mean what they are called."""

import json
from types import ModuleType

import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sweep.digits.models import MLPConfig


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import bench

    return bench


def test_the_tables_of_the_benchmarks_are_those_of_the_recorded_results(bench: ModuleType) -> None:
    results = json.loads(bench.RESULTS.read_text())
    assert bench.tables(results) in bench.README.read_text()


def test_the_operations_of_a_step_are_those_that_torch_counts(bench: ModuleType) -> None:
    config = MLPConfig(name="mlp", widths=[512, 256], dropout=0.0, batch_norm=True, activation="relu")
    network = config.build((1, 28, 28), 10)
    with FlopCounterMode(display=False) as counted:
        F.cross_entropy(network(torch.rand(256, 784)), torch.zeros(256, dtype=torch.int64)).backward()
    assert bench.step.flop_of_step(network, 256) == counted.get_total_flops()


def test_a_stage_s_time_is_not_counted_for_the_stage_that_it_interrupts(bench: ModuleType) -> None:
    moments = iter([0.0, 10.0, 13.0, 15.0, 20.0])
    clock = bench.stages.Clock(now=lambda: next(moments))
    with clock.stage("outer"), clock.stage("inner"):
        pass
    assert clock.trials == [{"outer": 3.0 + 5.0, "inner": 2.0}]
