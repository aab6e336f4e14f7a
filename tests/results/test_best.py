"""Fetching the best model."""

from pathlib import Path

import pytest
from conftest import Project, models_of
from kept_run import require_each_way_to_load_works

import sweep
from sweep.arguments import study_command
from sweep.digits.classifier import load_classifier
from sweep.errors import SweepError
from sweep.job import Job
from sweep.record import mirror
from sweep.record.connect import connect
from sweep.results import best

GRID = ("-m", "data=digits", "epochs=1", "model.widths=[32]", "optimizer.lr=1e-4,1e-2")


@pytest.fixture(scope="module")
def two_studies(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A grid, and after it another one that found less; a test that changes them puts them back."""
    project = Project(tmp_path_factory.mktemp("studies"))
    assert project.train(*GRID, "hydra.sweeper.study_name=good").status == 0
    assert project.train(*GRID[:-1], "optimizer.lr=1e-5,1e-4", "hydra.sweeper.study_name=newest").status == 0
    return project


def best_run(project: Project, study: str | None) -> str:
    runs = [run for run in project.runs("trial") if study in (None, run.data.tags["sweep.study"])]
    return max(runs, key=lambda run: run.data.metrics["test/accuracy"]).info.run_id


def test_the_best_is_found_fetched_and_scored_by_study_experiment_and_run(two_studies: Project) -> None:
    project = two_studies
    some_run = project.runs("trial")[0].info.run_id
    for arguments, expected in [
        ((), best_run(project, "newest")),
        (("--study", "good"), best_run(project, "good")),
        (("--experiment", "digits"), best_run(project, None)),
        (("--run", some_run), some_run),
    ]:
        folder = project.folder / "fetched" / expected / str(len(arguments))
        finished = project.best(*arguments, "--output", str(folder))
        assert finished.status == 0, finished.err
        recorded = project.client().get_run(expected).data.metrics["test/accuracy"]
        assert finished.out.count(f"test/accuracy {recorded:.2%}, as recorded") == 2
        assert {path.name for path in folder.iterdir()} == {"model", "weights.pt", "config.yaml"}


def test_the_printed_ways_to_load_the_model_work_as_printed(
    two_studies: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = two_studies
    finished = project.best("--output", "mine")
    monkeypatch.chdir(project.folder)
    require_each_way_to_load_works(finished.out)


def test_fetching_again_takes_the_place_of_the_first_and_other_files_are_left_alone(two_studies: Project) -> None:
    project = two_studies
    for _ in range(2):
        assert project.best("--output", "mine").status == 0
    (project.folder / "notes").mkdir()
    (project.folder / "notes" / "todo.txt").write_text("keep me")
    (project.folder / "notes" / "weights.pt").write_bytes((project.folder / "mine" / "weights.pt").read_bytes())
    finished = project.best("--output", "notes")
    assert finished.status == 1
    assert finished.err == "error: --output=notes: there is something else in it; choose a new folder\n"
    assert (project.folder / "notes" / "todo.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("weights.pt", "on the test set of digits, recorded is"),
        ("model", "model/data/model.pt2: data/weights/weight_0 in it is not what its weights.pt and config.yaml make"),
    ],
)
def test_a_model_that_is_no_longer_what_was_recorded_fails_loudly(
    two_studies: Project, damaged: str, message: str
) -> None:
    project = two_studies
    run_id = best_run(project, "newest")
    other = next(run.info.run_id for run in project.runs("trial") if run.info.run_id == best_run(project, "good"))
    mine, theirs = (_recorded_file(project, which, damaged) for which in (run_id, other))
    intact = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    earlier = project.folder / "earlier"
    earlier.mkdir(exist_ok=True)
    for name in ("model", "weights.pt", "config.yaml"):
        (earlier / name).write_text("an earlier fetch")
    project_finished = project.best("--output", "earlier")
    finished = project.best("--output", "damaged")
    mine.write_bytes(intact)
    assert project_finished.status == 1
    assert (earlier / "weights.pt").read_text() == "an earlier fetch"
    assert finished.status == 1
    assert message in finished.err
    assert not (project.folder / "damaged").exists()


def _recorded_file(project: Project, run_id: str, which: str) -> Path:
    if which == "weights.pt":
        (file,) = project.folder.glob(f"mlruns/*/{run_id}/artifacts/weights.pt")
    else:
        (output,) = models_of(project.client().get_run(run_id))
        (file,) = project.folder.glob(f"mlruns/*/models/{output.model_id}/artifacts/data/model.pt2")
    return file


def test_what_cannot_be_fetched_is_told_in_one_line(project: Project) -> None:
    for arguments, message in [
        ((), f"no study yet; start one: {study_command()}"),
        (("--study", "it's"), "study=it's: MLflow knows no study of this name"),
        (("--experiment", "none"), "experiment=none: MLflow has Default"),
        (("--run", "abc"), "run=abc: MLflow knows no run with this id; `mlflow ui` lists them"),
    ]:
        finished = project.best(*arguments)
        assert finished.status == 1
        assert finished.err.startswith(f"error: {message}")
        assert finished.err.count("\n") == 1


def test_a_run_without_a_model_cannot_be_fetched(project: Project) -> None:
    diverged = ("optimizer=sgd", "optimizer.lr=1e30", "model.batch_norm=false")
    assert project.train("data=digits", "epochs=1", *diverged).status == 1
    (run,) = project.runs("trial")
    finished = project.best("--run", run.info.run_id, "--output", "mine")
    assert finished.status == 1
    assert finished.err.startswith(f"error: run={run.info.run_id}: ")
    assert "is FAILED, and has no whole model" in finished.err
    assert finished.err.count("\n") == 1
    assert not (project.folder / "mine").exists()


def test_a_folder_without_a_model_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"no config\.yaml to load"):
        load_classifier(tmp_path)


def recorded(job: Job, **files: str) -> str:
    """The id of a single run of `job` that has finished and kept `files`."""
    connect()
    with mirror.open_trial(job.goal({}, "tests"), "single", []) as run:
        for name, text in files.items():
            run.log_text(text, f"{name}.txt")
        run.log_metrics({"loss": 1.0}, step=1)
    return str(run.run_id)


LOSS = {"loss": sweep.Metric(direction="minimize")}


def test_a_model_of_a_job_that_nobody_here_knows_is_fetched_and_said_to_be_unchecked(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = recorded(Job(metrics=LOSS), first="1", second="2")
    best.main(["--run", run_id, "--output", "mine"])
    assert {path.name: path.read_text() for path in Path("mine").iterdir()} == {"first.txt": "1", "second.txt": "2"}
    assert capsys.readouterr().out == (
        "\nmine/ holds first.txt, second.txt.\n"
        "They were not checked: the job of this run does not say how a model is scored, see docs/job.md.\n"
    )
    best.main(["--experiment", "tests", "--output", "mine"])
    with pytest.raises(SystemExit, match="--register=x: its job does not say how a model is checked; --trust reg"):
        best.main(["--run", run_id, "--output", "mine", "--register", "x"])


def test_only_the_files_that_the_job_names_are_fetched_and_none_outside_of_the_folder(project: Project) -> None:
    run_id = recorded(Job(metrics=LOSS, model_files=("first.txt",)), first="1", second="2")
    best.main(["--run", run_id, "--output", "mine"])
    assert [path.name for path in Path("mine").iterdir()] == ["first.txt"]
    hostile = recorded(Job(metrics=LOSS, model_files=("../../first.txt",)), first="1")
    with pytest.raises(SystemExit, match=r"^error: run=\w+: single: '../../first.txt': no name of a file$"):
        best.main(["--run", hostile, "--output", "theirs"])
    assert not Path("theirs").exists()


def test_the_best_of_runs_of_which_nobody_knows_the_direction_is_asked_for(project: Project) -> None:
    connect()
    with mirror.open_trial(Job().goal({}, "plain", in_study=False), "single", []):
        pass
    with pytest.raises(SystemExit, match=r"^error: experiment plain: single does not say whether its objective is b"):
        best.main(["--experiment", "plain"])
