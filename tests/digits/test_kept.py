"""A run of the digits job that has ended: its model verified, its settings trained again, its weights compared."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kept_run import KeptRun, kept_digits, require_each_way_to_load_works
from omegaconf import OmegaConf

from sweep import SweepError, Verified, pytorch
from sweep.digits import config, datasets, kept, loop
from sweep.digits.classifier import WEIGHTS_FILE, load_classifier, load_weights
from sweep.digits.config import Config
from sweep.digits.job import DEVICE_TAG, DIGITS, PRECISION_TAG, THREADS_TAG


@pytest.fixture
def job(compose: Callable[..., Config]) -> Config:
    return compose("data=digits", "model.widths=[8]")


@pytest.fixture
def run(tmp_path: Path, job: Config) -> KeptRun:
    return kept_digits(tmp_path / "run", job)


@pytest.fixture
def fetched(run: KeptRun) -> KeptRun:
    """The run with the model that MLflow kept of it."""
    pytorch.save_model(load_classifier(run.folder), torch.rand(2, 1, 28, 28), run.folder / "model")
    return run


def verify(run: KeptRun, trust: bool = False) -> Verified:
    assert DIGITS.verify is not None
    return DIGITS.verify(run.folder, run, trust)


def test_a_model_as_good_as_recorded_is_made_anew_and_told_how_to_load(
    fetched: KeptRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {*DIGITS.model_files} < {path.name for path in fetched.folder.iterdir()}
    verified = verify(fetched)
    assert verified.doubt == ""
    assert capsys.readouterr().out.count(f"test/accuracy {fetched.metrics['test/accuracy']:.2%}, as recorded") == 2
    assert {path.name for path in fetched.folder.iterdir()} == {*DIGITS.model_files, "model", "predictions.npz"}
    require_each_way_to_load_works(verified.how_to_load)


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"test/accuracy": 0.9}, r"^its weights scores 0\.\d{4} on the test set of digits, recorded is 0\.9000 \("),
        ({"test/accuracy": float("nan")}, r"^it has no test/accuracy recorded to compare with; do not use it$"),
        ({}, r"^it has no test/accuracy recorded to compare with; do not use it$"),
    ],
)
def test_a_model_not_as_good_as_recorded_is_refused(fetched: KeptRun, metrics: dict[str, float], told: str) -> None:
    with pytest.raises(SweepError, match=told):
        verify(dataclasses.replace(fetched, metrics=metrics))


def test_a_logged_model_with_other_weights_is_refused_and_with_trust_taken_as_it_is(
    fetched: KeptRun, tmp_path: Path, job: Config
) -> None:
    other = load_classifier(kept_digits(tmp_path / "other", job, seed=1).folder)
    pytorch.save_model(other, torch.rand(2, 1, 28, 28), tmp_path / "strange")
    os.replace(fetched.folder / "model", tmp_path / "intact")
    os.replace(tmp_path / "strange", fetched.folder / "model")
    with pytest.raises(SweepError, match=r"in it is not what its weights\.pt and config\.yaml make; not loaded"):
        verify(fetched)
    with pytest.raises(SweepError, match=r"^its MLflow model scores "):
        verify(fetched, trust=True)


def test_a_run_is_trained_again_as_the_machine_did_it_then(job: Config) -> None:
    tags = {DEVICE_TAG: "cpu", PRECISION_TAG: "bfloat16", THREADS_TAG: "3"}
    settings = OmegaConf.create(config.to_yaml(job))
    again = config.parse(DIGITS.again(settings, tags))  # type: ignore[arg-type]
    assert again == dataclasses.replace(job, device="cpu", precision="bfloat16", num_threads=3)
    assert config.parse(DIGITS.again(settings, {})) == job  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["0", "-1", "many", "", "²"])
def test_threads_that_a_stranger_recorded_as_no_number_are_left_as_they_were_set(job: Config, given: str) -> None:
    settings = OmegaConf.create(config.to_yaml(job))
    assert config.parse(kept.again(settings, {THREADS_TAG: given})).num_threads is None  # type: ignore[arg-type]


def test_a_device_that_is_not_here_is_left_as_it_was_set(job: Config) -> None:
    settings = OmegaConf.create(config.to_yaml(job))
    for given in ("mps", "tpu"):
        assert config.parse(kept.again(settings, {DEVICE_TAG: given})).device == "auto"  # type: ignore[arg-type]


def test_settings_that_would_be_resolved_are_not_trained_again(job: Config) -> None:
    settings = OmegaConf.create(config.to_yaml(job).replace("seed: 0", "seed: ${oc.env:HOME}"))
    with pytest.raises(SweepError, match=r"^seed=\$\{oc\.env:HOME\}: what was recorded is not resolved"):
        kept.again(settings, {})  # type: ignore[arg-type]


def test_a_run_is_trained_again_on_the_data_where_they_lie_now(
    compose: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OmegaConf.create(config.to_yaml(compose("data=mnist", f"data.root={tmp_path / 'gone'}")))
    monkeypatch.setenv(datasets.ROOT_VARIABLE, str(tmp_path / "here"))
    assert config.parse(kept.again(settings, {})).data.root == str(tmp_path / "here")  # type: ignore[arg-type]


def test_weights_are_compared_bit_by_bit() -> None:
    nan = float("nan")
    then = {"zero": torch.tensor([0.0, 1.0]), "nan": torch.tensor(nan), "count": torch.tensor(7)}
    assert kept.differing_weights(then, {name: tensor.clone() for name, tensor in then.items()}) == []
    now = then | {"zero": torch.tensor([-0.0, 1.5])}
    assert kept.differing_weights(then, now) == [("zero", 2, 2, 0.5)]
    (other,) = kept.differing_weights(then, then | {"count": torch.tensor([7])})
    assert other[:3] == ("count", 1, 1)


def test_the_difference_of_two_runs_is_told_in_a_line_and_of_two_without_weights_there_is_none(
    run: KeptRun, tmp_path: Path, job: Config
) -> None:
    assert DIGITS.differences is not None
    same = kept_digits(tmp_path / "same", job)
    assert DIGITS.differences(run, same) == []
    weights = load_weights(same.folder)
    weights["network.0.weight"][3, 5] += 0.25
    torch.save(weights, same.folder / WEIGHTS_FILE)
    (told,) = DIGITS.differences(run, same)
    assert told.startswith("weights: 1 differ, in 1 of 10 tensors, by up to 0.25 (in network.0.weight)")
    empty = KeptRun(tmp_path)
    assert DIGITS.differences(empty, empty) == []
    assert DIGITS.differences(run, empty) == ["weights: none were kept now"]


def test_what_may_explain_a_difference_is_what_the_job_logs() -> None:
    from sweep.digits import train

    logged = train.circumstances(loop.pick_device("cpu"), torch.float32)
    assert logged.keys() == DIGITS.circumstances.keys()
