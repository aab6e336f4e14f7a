"""The single run that `sweep.trial()` opens in a program that is not in a study and has no `@sweep.Job`."""

import subprocess

import pytest
from conftest import Project

HYDRA = """
import hydra, sweep

@hydra.main(config_path=None)
def main(cfg):
    for step in (1, 2):
        sweep.trial().report(step, {"val/rmse": cfg.x / step})
    sweep.trial().log(tags={"colour": "red"})
    if cfg.x > 2:
        raise ValueError("too high")

main()
"""
SCRIPT = """
import sweep
sweep.trial().report(1, {"val/rmse": 0.5})
assert sweep.trial().folder.samefile(".")
"""


def start(project: Project, env: dict[str, str], name: str, text: str, *words: str) -> "subprocess.Popen[str]":
    (project.folder / name).write_text(text)
    return subprocess.Popen(
        [env["SWEEP_TEST_PYTHON"], name, *words], cwd=project.folder, env=env | project.env,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_it_is_open_from_the_first_call_to_the_end_of_the_job_and_ends_as_that_does(
    project: Project, installed: dict[str, str]
) -> None:
    started = start(project, installed, "learn.py", HYDRA, "-m", "hydra/sweeper=basic", "+x=1,3")
    _, err = started.communicate()
    assert started.returncode == 1
    assert "ValueError: too high" in err
    good, bad = sorted(project.runs("trial"), key=lambda run: run.info.start_time)
    assert (good.info.status, bad.info.status) == ("FINISHED", "FAILED")
    assert bad.data.tags["sweep.error"] == "too high"
    assert (good.data.params, bad.data.params) == ({"x": "1"}, {"x": "3"})
    assert good.data.tags["colour"] == "red"
    assert good.info.end_time <= bad.info.start_time
    curve = project.client().get_metric_history(bad.info.run_id, "val/rmse")
    assert [(point.step, point.value) for point in curve] == [(1, 3.0), (2, 1.5)]
    assert project.client().get_experiment(good.info.experiment_id).name == "learn"


@pytest.mark.parametrize(
    ("ending", "status", "state", "reason"),
    [
        ("", "FINISHED", "finished", None),
        ("raise ValueError('too high')", "FAILED", "failed", "too high"),
        ("raise KeyboardInterrupt", "FAILED", "interrupted", "interrupted"),
    ],
)
def test_in_a_plain_script_it_ends_with_the_program(
    project: Project, installed: dict[str, str], ending: str, status: str, state: str, reason: str | None
) -> None:
    started = start(project, installed, "plain.py", SCRIPT + ending)
    out, err = started.communicate()
    assert (started.returncode == 0) == (ending == ""), out + err
    (run,) = project.runs("trial")
    assert (run.info.status, run.data.tags["sweep.state"]) == (status, state)
    assert run.data.tags.get("sweep.error") == reason
    assert (run.info.run_name, run.data.metrics) == ("plain", {"val/rmse": 0.5})
