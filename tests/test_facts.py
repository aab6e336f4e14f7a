"""What a job says that is data: recorded, read back as it was, and refused in one line where it is damaged."""

import json
from typing import Any

import pytest

import sweep
from sweep import facts
from sweep.digits.job import DIGITS
from sweep.job import Job

SAID = Job(
    metrics={
        "val/rmse": sweep.Metric(direction="minimize", decimals=2, depends_on=("data.validation",)),
        "val/accuracy": sweep.Metric(direction="maximize", is_share=True),
    },
    seed="seed",
    threads="num_threads",
    free=("device",),
    not_settings=("search",),
    step="epoch",
    num_steps="epochs",
    model_files=("model.json",),
    circumstances={"sweep.device": "the device"},
)


@pytest.mark.parametrize("job", [SAID, Job()])
def test_what_a_job_says_that_is_data_comes_back_as_it_was(job: Job) -> None:
    assert Job.from_facts(job.facts()) == job


def test_what_the_digits_job_says_fits_into_a_tag_and_comes_back_without_its_code() -> None:
    found = Job.from_facts(DIGITS.facts())
    assert found.metrics == DIGITS.metrics
    assert (found.seed, found.threads, found.free, found.step) == ("seed", "num_threads", DIGITS.free, "epoch")
    assert found.verify is None
    assert len(DIGITS.facts()) < facts.MOST_CHARACTERS


def test_a_job_of_very_many_metrics_records_as_many_as_a_tag_can_hold() -> None:
    names = [f"val/metric-{i}" for i in range(1000)]
    text = Job(metrics={name: sweep.Metric(direction="minimize") for name in names}).facts()
    kept = list(Job.from_facts(text).metrics)
    assert 100 < len(kept) < 1000
    assert kept == names[: len(kept)]


def test_what_a_later_version_says_besides_is_left_out() -> None:
    text = json.dumps({"seed": "seed", "colour": "red", "metrics": {"loss": {"unit": "nats", "decimals": 1}}})
    assert Job.from_facts(text) == Job(seed="seed", metrics={"loss": sweep.Metric(decimals=1)})


@pytest.mark.parametrize(
    "given",
    [
        "", "{", "[]", "1", '{"seed": 1}', '{"seed": ""}', '{"seed": "a\\u001b[2J"}', '{"free": "device"}',
        '{"free": [["device"]]}', '{"metrics": []}', '{"metrics": {"a": []}}', '{"metrics": {"a\\n": {}}}',
        '{"metrics": {"a": {"direction": "down"}}}', '{"metrics": {"a": {"direction": {}}}}',
        '{"metrics": {"a": {"is_share": 1}}}', '{"metrics": {"a": {"decimals": -1}}}',
        '{"metrics": {"a": {"decimals": 1e9}}}', '{"metrics": {"a": {"decimals": true}}}',
        '{"metrics": {"a": {"depends_on": 3}}}', '{"circumstances": {"a": 1}}', '{"step": null}',
        "[" * 7000, "x" * 9000, '{"seed": "' + "x" * 300 + '"}',
    ],
)  # fmt: skip
def test_what_a_stranger_s_record_says_of_its_job_is_refused_in_one_line_if_it_is_none(given: Any) -> None:
    with pytest.raises(sweep.SweepError, match="what its job said about itself is damaged") as caught:
        Job.from_facts(given)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
