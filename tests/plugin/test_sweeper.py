"""Studies and grids, end to end on the embedded data."""

import re
from pathlib import Path

import mlflow
import optuna
import pytest
from conftest import Project, models_of
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution

from sweep.plugin.launchers import num_cores
from sweep.record.runs import find_study, trained
from sweep.record.tags import DIRECTION_TAG, OBJECTIVE_TAG, STUDY_TAG, TRIAL_TAG
from sweep.study import storage

STUDY = (
    "-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=tiny", "data=digits", "epochs=2", "hydra.sweeper.n_jobs=1"
)  # fmt: skip


def study_folder(project: Project, name: str = "tiny") -> Path:
    return project.folder / "multirun" / name


def study_of(project: Project, name: str = "tiny") -> optuna.Study:
    found = storage.stored_study(str(study_folder(project, name) / "optuna.journal"), name)
    assert found is not None
    return found


def test_a_study_s_table_its_yaml_optuna_and_mlflow_agree(project: Project) -> None:
    finished = project.train(*STUDY, "hydra.sweeper.n_trials=4", "model.widths=[48]", "hydra/sweeper/pruner=none")
    assert finished.status == 0, finished.err

    (parent,) = project.runs("study")
    trials = project.runs("trial")
    assert parent.info.status == "FINISHED"
    assert [t.data.tags["mlflow.parentRunId"] for t in trials] == [parent.info.run_id] * 4
    assert [t.info.run_name for t in trials] == ["trial-000", "trial-001", "trial-002", "trial-003"]
    assert all(t.data.tags[STUDY_TAG] == "tiny" for t in trials)
    assert all(models_of(t) for t in trials)

    made = study_of(project)
    assert made.direction == optuna.study.StudyDirection.MAXIMIZE
    for trial, run in zip(made.trials, trials, strict=True):
        assert run.data.tags[TRIAL_TAG] == str(trial.number)
        assert run.data.metrics["test/accuracy"] == trial.value
        assert {key: run.data.params[key] for key in trial.params} == {k: str(v) for k, v in trial.params.items()}
        assert "model.widths.0" not in trial.params  # model.widths=[48] ended the search for it
        assert run.data.params["model.widths.0"] == "48"

    results = OmegaConf.to_container(OmegaConf.load(study_folder(project) / "optimization_results.yaml"))
    assert results == {"name": "optuna", "best_params": made.best_params, "best_value": made.best_value}
    assert parent.data.metrics["test/accuracy"] == made.best_value
    assert {k: parent.data.params[k] for k in made.best_params} == {k: str(v) for k, v in made.best_params.items()}
    artifacts = {file.path for file in project.client().list_artifacts(parent.info.run_id)}
    assert "optimization_results.yaml" in artifacts

    table = finished.out[finished.out.index("trial  test/accuracy") :].splitlines()
    assert len(table[1:5]) == 4
    assert table[1].split()[:2] == [str(made.best_trial.number), f"{made.best_value:.2%}"]
    assert f"best    trial {made.best_trial.number}: test/accuracy {made.best_value:.2%}" in table
    assert "fetch   sweep best --study tiny" in table


def test_every_trial_leaves_its_files_in_the_study_s_folder(project: Project) -> None:
    assert project.train(*STUDY, "hydra.sweeper.n_trials=2", "epochs=1").status == 0
    for number in ("0", "1"):
        files = {path.name for path in (study_folder(project) / number).iterdir()}
        assert {"config.yaml", "weights.pt", "train.log", ".hydra"} <= files


def test_a_study_for_a_loss_minimises_it(project: Project) -> None:
    finished = project.train(
        *STUDY, "objective=val/loss", "data.validation=200", "hydra.sweeper.n_trials=3", "epochs=1"
    )
    assert finished.status == 0, finished.err
    made = study_of(project)
    assert made.best_value == min(trial.value for trial in made.trials if trial.value is not None)
    (parent,) = project.runs("study")
    assert (parent.data.tags[OBJECTIVE_TAG], parent.data.tags[DIRECTION_TAG]) == ("val/loss", "minimize")
    assert f"best    trial {made.best_trial.number}: val/loss {made.best_value:.4f}" in finished.out


def test_the_search_space_follows_the_model_and_the_optimizer(project: Project) -> None:
    finished = project.train(*STUDY, "model=cnn", "optimizer=sgd", "hydra.sweeper.n_trials=1", "epochs=1")
    assert finished.status == 0, finished.err
    (trial,) = study_of(project).trials
    assert {"model.channels.0", "model.channels.1", "model.channels.2", "model.dropout"} < trial.params.keys()
    assert not any(key.startswith("model.widths") for key in trial.params)
    lr = trial.distributions["optimizer.lr"]
    assert isinstance(lr, FloatDistribution)
    assert lr.high == 0.5


def test_a_dimension_can_be_changed_on_the_command_line(project: Project) -> None:
    finished = project.train(
        *STUDY, "model.dropout=interval(0.1,0.2)", "optimizer.lr=0.02", "hydra.sweeper.n_trials=2", "epochs=1"
    )
    assert finished.status == 0, finished.err
    for trial in study_of(project).trials:
        assert 0.1 <= trial.params["model.dropout"] <= 0.2
        assert "optimizer.lr" not in trial.params
    assert [run.data.params["optimizer.lr"] for run in project.runs("trial")] == ["0.02", "0.02"]


def test_a_study_goes_on_after_a_trial_that_diverged(project: Project) -> None:
    finished = project.train(
        *STUDY, "optimizer=sgd", "model.batch_norm=false", "optimizer.lr=choice(1e30,0.05,0.04)",
        "model.widths=[16]", "model.dropout=0", "data.batch_size=64",
        "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=none",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    trials = project.runs("trial")
    diverged = [run.data.params["optimizer.lr"] == "1e+30" for run in trials]
    assert sum(diverged) == 1
    assert [run.info.status == "FAILED" for run in trials] == diverged
    for run in trials:
        if run.info.status == "FAILED":
            assert re.match(r"train/loss=(nan|inf) at step \d+ \(epoch \d\)", run.data.tags["sweep.error"])
    made = study_of(project)
    assert [trial.state == optuna.trial.TrialState.FAIL for trial in made.trials] == diverged
    assert "1 failed, 2 finished" in finished.out


def test_a_study_in_which_every_trial_failed_says_why(project: Project) -> None:
    finished = project.train(
        *STUDY,
        "optimizer=sgd",
        "model.batch_norm=false",
        "optimizer.lr=interval(1e29,1e30)",
        "hydra.sweeper.n_trials=2",
    )
    assert finished.status == 1
    assert re.search(r"error: none of 2 trials finished; the first said: train/loss=\w+ at step \d+", finished.err)
    (parent,) = project.runs("study")
    assert parent.info.status == "FAILED"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dropout=interval(0,1.5)"], "model.dropout=1.5: must be 0 or more and below 1"),
        (["model.widths.0=range(0,64)"], "each must be 1 or more"),
        (["optimizer.lr=interval(0,0.1)"], "optimizer.lr=0.0: must be above 0"),
        (["model.activation=choice(relu,step)"], "model.activation=step: one of relu"),
        (["data.batch_size=choice(64,100000)"], "data.batch_size=100000: must be 1 or more and at most 1437"),
        (["model.widths.5=range(8,64)"], "model.widths.5: model.widths has at most 3 items, counted from 0"),
        (["optimizer.lr=interval(1,0.1)"], "the search space cannot be read"),
        (["optimizer.lr=tag(log,interval(-1,1))"], "the search space cannot be read"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be a whole number, 1 or more"),
        (["hydra.sweeper.n_trials=abc"], "hydra.sweeper.n_trials=abc: must be a whole number, 1 or more"),
        (["hydra.sweeper.max_failure_rate=2"], "hydra.sweeper.max_failure_rate=2: must be 0 to 1"),
        (["hydra.sweeper.direction=minimize"], "direction=minimize: objective=test/accuracy means maximize; leave it"),
        (
            ["hydra.sweeper.storage=sqlite:////dev/null/x.db"],
            "hydra.sweeper.storage=sqlite:////dev/null/x.db: cannot be",
        ),
        (["hydra.sweeper.storage=postgresql:/me:pw@h/db"], "hydra.sweeper.storage=***@h/db: a path, or a URL, as in"),
        (["hydra.sweeper.storage=[sqlite://me:pw@h]"], "hydra.sweeper.storage=['sqlite://***@h']: a path or a URL"),
        (
            ["hydra/sweeper/sampler=grid", "model.widths=[8]"],
            "sampler=grid: it tries every combination, so each key needs choices or a value; for example",
        ),
        (["hydra/sweeper/sampler=best"], "hydra/sweeper/sampler=best: choose one of cmaes, gp, grid"),
        (["objective=choice(test/loss,test/accuracy)"], "objective=test/accuracy,test/loss: a study has one"),
        (["hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs=0: must be a whole number, 1 or more, or auto"),
        (["hydra.sweeper.n_jobs=many"], "hydra.sweeper.n_jobs=many: must be a whole number, 1 or more, or auto"),
        (["hydra.sweeper.timeout=0"], "hydra.sweeper.timeout=0: must be a number of seconds above 0, or null"),
        (["hydra.sweeper.timeout=soon"], "hydra.sweeper.timeout=soon: must be a number of seconds above 0, or null"),
        (["hydra/sweeper/pruner=best"], "hydra/sweeper/pruner=best: choose one of hyperband, median, none, patient"),
        (["hydra.sweeper.pruner.min_resource=0"], "hydra.sweeper.pruner: The value of `min_resource` is 0"),
        (["+hydra.sweeper.sampler.depth=0"], "hydra.sweeper.sampler: TPESampler.__init__() got an unexpected"),
        (
            ["hydra.sweeper.starting_points=[{optimizer.lr:5}]"],
            "hydra.sweeper.starting_points: optimizer.lr=5: outside of float 0.002 to 0.03, log",
        ),
        (["hydra.sweeper.starting_points=[{model.width:5}]"], "starting_points: model.width=5: no such key"),
        (["hydra.sweeper.starting_points=5"], "hydra.sweeper.starting_points=5: must be a list of settings"),
        (["hydra.sweeper.study_name=a/b"], "hydra.sweeper.study_name=a/b: letters, digits, _, - and . make a name"),
        (
            ["hydra.sweeper.direction=5"],
            "hydra.sweeper.direction=5: give minimize or maximize for each of objective=test/accuracy",
        ),
        (["hydra.sweeper.custom_search_space=no.such"], "hydra.sweeper.custom_search_space: Error l"),
    ],
)
def test_a_search_space_that_leaves_what_is_allowed_is_refused_before_trial_0(
    project: Project, overrides: list[str], message: str
) -> None:
    finished = project.train(*STUDY, *overrides)
    assert finished.status == 1
    assert message in finished.err
    assert finished.err.count("\n") == 1
    assert project.runs("study") == project.runs("trial") == []
    assert not study_folder(project).exists()


def test_a_grid_runs_every_combination_under_one_parent(project: Project) -> None:
    finished = project.train(
        "-m", "hydra.sweeper.study_name=grid", "data=digits", "epochs=1", "optimizer.lr=1e-3,1e-2", "seed=0,1"
    )
    assert finished.status == 0, finished.err
    (parent,) = project.runs("study")
    trials = project.runs("trial")
    in_order = sorted(trials, key=number_of)  # some of them have run at the same time
    tried = [(run.data.params["optimizer.lr"], run.data.params["seed"]) for run in in_order]
    assert tried == [("0.001", "0"), ("0.001", "1"), ("0.01", "0"), ("0.01", "1")]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    best = max(run.data.metrics["test/accuracy"] for run in trials)
    assert parent.data.metrics["test/accuracy"] == best
    assert f"test/accuracy {best:.2%}" in finished.out
    assert trained() == []  # a grid's models are taken only if asked for


def test_a_grid_over_an_interval_says_what_to_do(project: Project) -> None:
    finished = project.train("-m", "data=digits", "optimizer.lr=interval(0.1,0.2)")
    assert finished.status == 1
    assert finished.err.startswith("error: optimizer.lr=interval(0.1,0.2): a grid needs a list of values")
    assert "hydra/sweeper=optuna" in finished.err


def test_two_studies_of_the_same_command_have_names_of_their_own(project: Project) -> None:
    """And a study's name is the same in its parent, its trials and its folder, however long the checks took."""
    command = ("-m", "hydra/sweeper=optuna", "data=digits", "epochs=1", "hydra.sweeper.n_trials=1")
    for _ in range(2):
        assert project.train(*command).status == 0
    first, second = project.runs("study")
    assert first.info.run_name != second.info.run_name
    for parent, trial in zip([first, second], project.runs("trial"), strict=True):
        assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert study_folder(project, parent.data.tags[STUDY_TAG]).is_dir()
    assert find_study(None).run_id == second.info.run_id


def test_a_group_and_a_list_can_be_searched_and_are_shown(project: Project) -> None:
    finished = project.train(
        *STUDY, "model.widths=choice([16],[16,8])", "optimizer=choice(adam,adamw)", "model.dropout=0",
        "data.batch_size=64", "optimizer.lr=0.01", "epochs=1", "hydra/sweeper/sampler=grid",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    rows = finished.out[finished.out.index("trial  test/accuracy") :].splitlines()
    assert rows[0].split()[2:4] == ["widths", "optimizer"]
    assert sorted(tuple(row.split()[2:4]) for row in rows[1:5]) == [
        ("16", "adam"), ("16", "adamw"), ("16,8", "adam"), ("16,8", "adamw"),
    ]  # fmt: skip


def test_a_value_forced_with_plus_signs_ends_the_search_for_its_key(project: Project) -> None:
    finished = project.train(*STUDY, "++optimizer.lr=0.02", "hydra.sweeper.n_trials=1", "epochs=1")
    assert finished.status == 0, finished.err
    (trial,) = study_of(project).trials
    assert "optimizer.lr" not in trial.params


def test_the_cmaes_sampler_has_what_it_needs(project: Project) -> None:
    finished = project.train(*STUDY, "hydra/sweeper/sampler=cmaes", "hydra.sweeper.n_trials=3", "epochs=1")
    assert finished.status == 0, finished.err
    assert "3 trials, 3 finished" in finished.out


def test_a_combination_that_is_refused_only_as_a_trial_is_recorded_as_failed(project: Project) -> None:
    finished = project.train(
        *STUDY, "hydra/sweeper/sampler=grid", "data.batch_size=choice(64,1)", "model.batch_norm=choice(true,false)",
        "model.widths=[8]", "model.dropout=0", "optimizer.lr=0.01", "epochs=1", "seed=1",
    )  # fmt: skip
    made = study_of(project)
    states = {trial.number: trial.state == optuna.trial.TrialState.COMPLETE for trial in made.trials}
    trials = {int(run.data.tags[TRIAL_TAG]): run.info.status == "FINISHED" for run in project.runs("trial")}
    assert trials == states, finished.err
    assert False in trials.values()
    errors = [run.data.tags.get("sweep.error", "") for run in project.runs("trial")]
    assert any(error.startswith("data.batch_size=1: must be 2 or more") for error in errors)


def test_a_grid_over_data_sets_keeps_all_its_trials_under_its_parent(project: Project, mnist_root: str) -> None:
    finished = project.train(
        "-m", "data=digits,mnist", f"data.root={mnist_root}", "model.widths=[8]", "epochs=1", "data.batch_size=256"
    )
    assert finished.status == 0, finished.err
    assert "2 trials, 2 finished" in finished.out
    assert len(list((project.folder / "multirun").iterdir())) == 1  # both trials in one folder
    (parent,) = project.runs("study")
    assert {run.info.experiment_id for run in project.runs("trial")} == {parent.info.experiment_id}


def test_a_study_does_not_write_over_the_files_of_another(project: Project) -> None:
    grid = ("-m", "hydra.sweeper.study_name=tiny", "data=digits", "epochs=1", "seed=0,1")
    assert project.train(*grid).status == 0
    weights = (study_folder(project) / "0" / "weights.pt").read_bytes()
    again = project.train(*grid)
    assert again.status == 0, again.err
    assert "2 trials, 2 finished" in again.out
    refused = project.train(*STUDY)
    assert refused.err.startswith("error: hydra.sweeper.study_name=tiny: the study's space is another now: ")
    (study_folder(project) / "optuna.journal").unlink()
    lost = project.train(*STUDY)
    assert lost.err.startswith("error: hydra.sweeper.study_name=tiny: an earlier study has left its files in ")
    assert (refused.status, lost.status) == (1, 1)
    assert (study_folder(project) / "0" / "weights.pt").read_bytes() == weights
    assert len(project.runs("study")) == 1


def test_the_first_trial_is_the_job_as_composed_and_then_come_the_starting_points(project: Project) -> None:
    finished = project.train(
        *STUDY, "hydra.sweeper.n_trials=3", "epochs=1", "model.dropout=0.25", "model.widths=[24]",
        "hydra.sweeper.starting_points=[{optimizer.lr:0.004},{optimizer.lr:0.02,data.batch_size:16}]",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert [trial.params for trial in study_of(project).trials] == [
        {"optimizer.lr": 0.01, "data.batch_size": 64},
        {"optimizer.lr": 0.004, "data.batch_size": 64},
        {"optimizer.lr": 0.02, "data.batch_size": 16},
    ]


def test_a_trial_with_the_settings_of_a_finished_one_is_not_trained_again(project: Project) -> None:
    finished = project.train(
        *STUDY, "hydra.sweeper.n_trials=6", "epochs=1", "model.widths=[24]", "model.dropout=0", "optimizer.lr=0.01",
        "data.batch_size=choice(32,64)", "hydra/sweeper/sampler=random",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    trials = study_of(project).trials
    first = {trial.params["data.batch_size"]: trial for trial in reversed(trials)}
    assert all(trial.value == first[trial.params["data.batch_size"]].value for trial in trials)
    runs = project.runs("trial")
    assert sum(bool(models_of(run)) for run in runs) == len(first)
    assert sum("sweep.copy_of" in run.data.tags for run in runs) == 6 - len(first)
    assert [run.data.metrics["test/accuracy"] for run in sorted(runs, key=number_of)] == [t.value for t in trials]
    assert f"{6 - len(first)} copied, {len(first)} finished" in finished.out


def number_of(run: mlflow.entities.Run) -> int:
    return int(run.data.tags[TRIAL_TAG])


def test_a_pruned_trial_keeps_its_last_metrics_and_no_model(project: Project) -> None:
    finished = project.train(
        *STUDY, "hydra.sweeper.n_trials=2", "epochs=3", "hydra/sweeper/pruner=threshold",
        "hydra.sweeper.pruner.lower=0.6", "model.widths=[32]", "model.dropout=0", "data.batch_size=64",
        "optimizer.lr=choice(0.01,1e-6)", "hydra/sweeper/sampler=grid",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    by_lr = {run.data.params["optimizer.lr"]: run for run in project.runs("trial")}
    pruned, kept = by_lr["1e-06"], by_lr["0.01"]
    assert (kept.info.status, pruned.info.status) == ("FINISHED", "KILLED")
    assert pruned.data.tags["sweep.stopped"] == "pruned after epoch 1 of 3"
    assert pruned.data.metrics["test/accuracy"] < 0.6
    assert not models_of(pruned)
    assert models_of(kept)
    states = {trial.params["optimizer.lr"]: trial.state for trial in study_of(project).trials}
    assert states == {0.01: optuna.trial.TrialState.COMPLETE, 1e-6: optuna.trial.TrialState.PRUNED}
    assert not (study_folder(project) / str(number_of(pruned)) / "weights.pt").exists()
    assert "epoch 1/3" in (study_folder(project) / str(number_of(pruned)) / "train.log").read_text()
    assert "1 finished, 1 pruned" in finished.out


def test_several_objectives_end_in_a_pareto_front(project: Project) -> None:
    finished = project.train(
        *STUDY, "objective=[test/accuracy,model/parameters]", "hydra.sweeper.n_trials=4", "epochs=1",
        "hydra/sweeper/sampler=nsgaii", "model.widths.0=int(interval(4,64))",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    made = study_of(project)
    assert [direction.name for direction in made.directions] == ["MAXIMIZE", "MINIMIZE"]
    metrics = {number_of(run): run.data.metrics for run in project.runs("trial")}
    for trial in made.trials:
        assert trial.values == [metrics[trial.number]["test/accuracy"], metrics[trial.number]["model/parameters"]]
    results = OmegaConf.to_container(OmegaConf.load(study_folder(project) / "optimization_results.yaml"))
    solutions = [{"params": trial.params, "values": trial.values} for trial in made.best_trials]
    assert results == {"name": "optuna", "solutions": solutions}
    assert f"front   {len(made.best_trials)} trials that no other beats" in finished.out
    for trial in made.best_trials:
        told = f"trial {trial.number}: test/accuracy {trial.values[0]:.2%}  model/parameters {trial.values[1]:,.0f}"
        assert told in finished.out
    best = project.best("--study", "tiny", "--output", "best")
    assert best.status == 0, best.err
    top = max(made.best_trials, key=lambda trial: (trial.values[0], -trial.number))
    assert f"by test/accuracy is trial-{top.number:03d}" in best.out


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "nsgaiii"])
def test_every_sampler_searches_the_conditional_space(project: Project, sampler: str) -> None:
    finished = project.train(
        *STUDY, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=13", "tracking.enabled=false",
        "data.batch_size=256", "epochs=1", "model.widths.0=range(4,33)", "model.widths.1=range(4,17)",
        "model.widths.2=range(2,9)",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.err == ""
    for trial in study_of(project).trials:
        layers = [key for key in trial.params if key in ("model.widths.0", "model.widths.1", "model.widths.2")]
        assert len(layers) == trial.params["model.widths.length"]


def extend_space(cfg: DictConfig, trial: optuna.Trial) -> None:
    trial.suggest_int("data.batch_size", 32, cfg.data.batch_size)


def test_a_relative_storage_is_one_place_for_the_sweeper_and_for_jobs_in_folders_of_their_own(project: Project) -> None:
    finished = project.train(
        *STUDY, "hydra.sweeper.storage=sqlite:///own.db", "hydra.job.chdir=true", "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_trials=2", "model.widths.0=choice(8,16)", "epochs=1", "hydra.sweeper.max_failure_rate=0",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert list(project.folder.rglob("own.db")) == [project.folder / "own.db"]
    assert storage.names_in(f"sqlite:///{project.folder}/own.db") == ["tiny"]


def test_a_custom_search_space_adds_its_dimensions(project: Project) -> None:
    finished = project.train(
        *STUDY, "hydra.sweeper.custom_search_space=test_sweeper.extend_space", "hydra.sweeper.n_trials=2", "epochs=1",
        "hydra.sweeper.params={model.dropout:'interval(0,0.2)'}",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    for trial in study_of(project).trials:
        assert trial.params.keys() == {"model.dropout", "data.batch_size"}
        assert 32 <= trial.params["data.batch_size"] <= 64


def test_a_study_ends_when_too_many_trials_failed(project: Project) -> None:
    finished = project.train(
        *STUDY, "optimizer=sgd", "model.batch_norm=false", "optimizer.lr=interval(1e29,1e30)",
        "hydra.sweeper.n_trials=9", "hydra.sweeper.max_failure_rate=0.5",
    )  # fmt: skip
    assert finished.status == 1
    assert len(project.runs("trial")) == 1
    assert finished.err.startswith("error: 1 of 1 trials failed, more than hydra.sweeper.max_failure_rate=0.5 allows;")
    assert "train/loss=" in finished.err


def test_a_job_in_a_worker_knows_its_share_of_the_cores(project: Project) -> None:
    finished = project.train(*STUDY, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2", "epochs=1")
    assert finished.status == 0, finished.err
    share = str(max(1, num_cores() // 2))
    assert {run.data.params["num_threads"] for run in project.runs("trial")} == {share}
