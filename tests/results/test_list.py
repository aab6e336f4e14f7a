"""The list of studies, and how one is deleted."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import ROOT, Project
from filelock import FileLock
from mlflow.tracking import MlflowClient

from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, find_run, studies
from sweep.record.tags import FOLDER_TAG, JOB_TAG, KIND_TAG, RUN_FILE, STUDY_TAG, TRIAL_TAG, objective_tags
from sweep.results import delete
from sweep.results import list as listing
from sweep.study import activity
from sweep.study.storage import open_storage, stored_study


@pytest.fixture
def record(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunRecord]:
    """Records a study as if it had been searched: its run, its trials', its folder, its journal."""
    monkeypatch.setenv("SWEEP_ROOT", str(project.folder))
    connect()

    def make(name: str, *values: float, objectives: str = "val/score", folder: Path | None = None) -> RunRecord:
        folder = folder or project.folder / "multirun" / name
        (folder / "0").mkdir(parents=True)
        (folder / "report.html").write_bytes(bytes(3_000_000))
        names = objectives.split(",")
        tags = objective_tags(names, ["maximize"] * len(names)) | {STUDY_TAG: name}
        of_study = tags | {
            KIND_TAG: "study",
            FOLDER_TAG: str(folder),
            JOB_TAG: '{"metrics":{"val/score":{"is_share":true}}}',
        }
        with open_run("made", name, tags=of_study) as run:
            parent = find_run(run.run_id)
            for number, value in enumerate(values):
                of_trial = tags | {KIND_TAG: "trial", TRIAL_TAG: str(number)}
                with open_run("made", f"trial-{number}", tags=of_trial, parent=parent) as trial:
                    trial.log_metrics(dict.fromkeys(names, value), step=1)
        (folder / RUN_FILE).write_text(run.run_id)
        optuna.create_study(study_name=name, storage=open_storage(str(folder / "optuna.journal")))
        return find_run(run.run_id)

    return make


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    listing.main([])
    return [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]


def test_studies_are_listed_newest_first_with_their_trials_best_and_size(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    record("first", 0.5, 0.75)
    record("second", 0.9, objectives="val/score,val/other")
    header, second, first = printed(capsys)
    assert header == ["date", "state", "trials", "best", "size", "study"]
    assert first[1:] == ["finished", "2", "75.00%", "3.0 MB", "first"]
    assert second[1:] == ["finished", "1", "front 1", "3.0 MB", "second"]


def test_the_list_of_studies_with_default_names_fits_into_80_columns() -> None:
    row = ["Nov 25", "finished", "1000", "98.66%", "123 MB", "mnist-mlp-2026-11-22-165351-072189"]
    assert max(map(len, listing.studies_in_words([row, row]))) <= 80


def test_a_study_that_has_said_how_it_ended_is_not_asked_for_its_trials(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = record("told", 0.5)
    client = MlflowClient()
    client.set_tag(study.run_id, "sweep.num_trials", "12")
    client.log_metric(study.run_id, "val/score", 0.625)
    monkeypatch.setattr(listing, "table_of", None)
    assert printed(capsys)[1][2:4] == ["12", "62.50%"]


def test_a_study_whose_process_was_killed_is_told_from_one_that_runs(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    study = record("killed", 0.5)
    MlflowClient().update_run(study.run_id, status="RUNNING")
    folder = Path(study.tags[FOLDER_TAG])
    assert printed(capsys)[1][1] == "killed"
    with FileLock(folder / ".sweep.owner.abc.lock"):
        assert printed(capsys)[1][1] == "running"


def test_where_there_is_no_study_the_list_says_so(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    listing.main([])
    assert capsys.readouterr().out == "no study yet\n"


def test_deleting_says_what_goes_and_takes_runs_files_and_trials(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    kept, study = record("kept", 0.5), record("gone", 0.5, 0.75)
    with open_run("elsewhere", "of-the-job", tags={}, parent=None) as below:
        MlflowClient().set_tag(below.run_id, "mlflow.parentRunId", _trials(study)[0])
    delete.main(["gone", "--yes"])
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["study   gone", "runs    4 in MLflow, with their files and models"]
    assert told[2:] == [
        "files   multirun/gone, 3.0 MB",
        f"trials  in Optuna's storage {Path.cwd()}/multirun/gone/optuna.journal",
        "deleted gone",
    ]
    assert not Path("multirun/gone").exists()
    assert [one.run_id for one in studies()] == [kept.run_id]
    assert MlflowClient().get_run(below.run_id).info.lifecycle_stage == "deleted"
    assert MlflowClient().get_run(_trials(kept)[0]).info.lifecycle_stage == "active"
    assert Path("multirun/kept/optuna.journal").exists()


def _trials(study: RunRecord) -> list[str]:
    found = MlflowClient().search_runs([study.experiment_id], f"tags.`mlflow.parentRunId` = '{study.run_id}'")
    return [run.info.run_id for run in found]


def refusal(*arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        delete.main([*arguments])
    line = str(ended.value.code)
    assert re.fullmatch(r"error: [^\n]+", line), line
    return line


class Terminal(io.StringIO):
    """A person's answers."""

    def isatty(self) -> bool:
        return True


def test_it_asks_and_without_somebody_to_ask_or_with_a_no_nothing_goes(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record("mine", 0.5)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert refusal("mine") == "error: nobody is there to be asked; --yes deletes without asking"
    for answer in ("\n", "no\n", ""):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        delete.main(["mine"])
        assert capsys.readouterr().out.endswith("delete all of it? [y/N] nothing was deleted\n")
    assert Path("multirun/mine").is_dir()
    assert len(studies()) == 1
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    delete.main(["mine"])
    assert studies() == []


def test_a_study_that_somebody_works_on_is_refused(record: Callable[..., RunRecord]) -> None:
    folder = Path(record("mine", 0.5).tags[FOLDER_TAG])
    with FileLock(folder / ".sweep.owner.abc.lock"):
        assert "study=mine: somebody works on it; stop that first" in refusal("mine", "--yes")
    assert folder.is_dir()


def test_a_study_that_beats_on_another_machine_is_refused_and_one_that_has_died_there_is_not(
    record: Callable[..., RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(record("mine", 0.5).tags[FOLDER_TAG])
    stored = stored_study(str(folder / "optuna.journal"), "mine")
    assert stored is not None

    def beat(time: float) -> None:
        stored.set_user_attr("sweep.owner.abc", {"host": "node7", "lock": "/x", "time": time})

    beat(1.0)
    looking = activity.beating_hosts
    monkeypatch.setattr(delete, "beating_hosts", lambda study: looking(study, lambda _: beat(2.0)))
    assert "study=mine: node7 works on it" in refusal("mine", "--yes")
    monkeypatch.setattr(delete, "beating_hosts", lambda study: looking(study, lambda _: None))
    delete.main(["mine", "--yes"])
    assert not folder.exists()


def test_a_study_that_runs_by_its_record_and_not_here_is_refused(record: Callable[..., RunRecord]) -> None:
    study = record("mine", 0.5)
    MlflowClient().update_run(study.run_id, status="RUNNING")
    MlflowClient().set_tag(study.run_id, FOLDER_TAG, "/nowhere")
    assert "by its record it runs, and its files are not here" in refusal("mine", "--yes")


def test_a_name_that_is_none_is_told_in_one_line(record: Callable[..., RunRecord]) -> None:
    record("mine", 0.5)
    assert refusal("yours", "--yes").startswith("error: study=yours: MLflow knows no study of this name")


def test_a_folder_that_a_record_names_and_that_is_another_s_is_left_alone(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = record("mine", 0.5)
    private = tmp_path / "private"
    private.mkdir()
    (private / RUN_FILE).write_text("another")
    MlflowClient().set_tag(study.run_id, FOLDER_TAG, str(private))
    delete.main(["mine", "--yes"])
    assert "files   none on this machine that are known to be its own" in capsys.readouterr().out
    assert private.is_dir()


def test_a_folder_that_holds_other_files_too_is_left_to_the_person(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    record("mine", 0.5, folder=home)
    (home / "thesis.tex").write_text("years of work")
    delete.main(["mine", "--yes"])
    assert "files   stay: home also holds thesis.tex; remove by hand what is the study's" in capsys.readouterr().out
    assert (home / "thesis.tex").exists()
    assert studies() == []


def test_a_study_whose_model_is_registered_or_whose_storage_holds_others_is_refused(
    record: Callable[..., RunRecord],
) -> None:
    study = record("mine", 0.5)
    client = MlflowClient()
    client.create_registered_model("digits")
    client.create_model_version("digits", source=f"runs:/{_trials(study)[0]}/model", run_id=_trials(study)[0])
    assert "study=mine: digits version 1 in the registry is of it; delete that first" in refusal("mine", "--yes")
    record("ours", 0.5)
    optuna.create_study(study_name="other", storage=open_storage(str(Path("multirun/ours/optuna.journal").absolute())))
    assert "also holds other" in refusal("ours", "--yes")


def test_a_storage_elsewhere_goes_where_it_is_named(
    record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = Path(record("mine", 0.5).tags[FOLDER_TAG])
    (folder / "optuna.journal").unlink()
    shared = str(tmp_path / "shared.journal")
    assert "holds no study mine" in refusal("mine", "--yes", "--storage", shared)
    for name in ("mine", "other"):
        optuna.create_study(study_name=name, storage=open_storage(shared))
    delete.main(["mine", "--yes", "--storage", shared])
    assert stored_study(shared, "mine") is None
    assert stored_study(shared, "other") is not None


def test_the_command_lists_and_deletes(project: Project) -> None:
    finished = project.run(
        str(ROOT / "tests" / "fake_job.py"), "-m", "hydra/sweeper=study", "x=interval(0,1)", "seconds=0",
        "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=tiny",
        f"hydra.sweep.dir={project.folder}/multirun/tiny",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    listed = project.run("list")
    assert re.search(r"finished +2 +\d\d\.\d\d% +\d\.\d MB  tiny\n", listed.out), listed
    deleted = project.run("delete", "tiny", "--yes")
    assert deleted.out.endswith("deleted tiny\n"), deleted
    assert project.run("list").out == "no study yet\n"
