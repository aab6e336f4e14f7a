"""The command `sweep`, what is refused of command lines at once, and what Ctrl-C does while a program starts."""

import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, Project

from sweep import arguments, cli
from sweep.errors import SweepError


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The line with which `sweep` refuses these words."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(words))
    assert str(caught.value.code).startswith("error: "), caught.value.code
    assert "\n" not in str(caught.value.code)
    assert capsys.readouterr() == ("", "")
    return str(caught.value.code)


def test_help_names_every_verb_and_imports_nothing_that_takes_time() -> None:
    program = """
import sys
for slow in ("torch", "mlflow", "optuna"):
    sys.modules[slow] = None  # any import of it fails
from sweep.cli import main
main(["--help"])
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert re.findall(r"^    (\w+)  ", finished.stdout, re.MULTILINE) == list(cli.VERBS)
    assert max(map(len, finished.stdout.splitlines())) <= 80


def test_installing_the_project_installs_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"sweep": "sweep.cli:main"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_tells_its_own_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: sweep {verb} ")


def test_a_verb_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["train"], ["--study", "x"]):
        assert all(verb in refusal(capsys, *words) for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        *((f"{verb} --{name}=", f"--{name}") for verb in ("best", "draw") for name in ("run", "study", "model")),
        ("best --experiment=", "--experiment"),
        ("best --register=", "--register"),
        ("best --output=", "--output"),
        ("predict x.png --run=", "--run"),
        ("predict x.png --output=", "--output"),
        ("report --study=", "--study"),
        ("confirm --study=", "--study"),
        ("confirm --seeds=", "--seeds"),
        ("draw --port=", "--port"),
        ("visualize data=digits --study=", "--study"),
        ("visualize data=digits --output=", "--output"),
        ("best --bogus", "unrecognized arguments: --bogus"),
        ("best --r=1", "ambiguous option: --r=1"),
        ("best --run=a --study=b", "--study: not allowed with argument --run"),
        ("rerun", "the following arguments are required: RUN_ID"),
    ],
)
def test_an_option_that_is_given_nothing_or_is_not_there_is_refused_in_one_line(
    words: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, *words.split())
    assert line.startswith(f"error: {key}")
    assert line.endswith(f"sweep {words.split()[0]} --help says what there is")


@pytest.mark.parametrize("words", [("rerun", ""), ("predict", " "), ("best", "--run", "")])
def test_a_variable_of_the_shell_that_is_empty_is_no_choice_of_the_newest(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nothing is given" in refusal(capsys, *words)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert arguments.path_given("~/found") == Path("/home/me/found")


def test_the_command_that_is_printed_runs_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (ROOT, ROOT / "conf", tmp_path):
        monkeypatch.chdir(folder)
        python, program, *words = arguments.training_command("-m", "a b").split(" ", 2)
        assert (python, words) == ("python", ["-m 'a b'"])
        assert Path(program).samefile(ROOT / "sweep" / "train.py")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--resolve", "--resolve: it says how to show the config; add --cfg job"),
        ("--package model", "--package: it says how to show the config; add --cfg job"),
        ("--cfg hydra --resolve", "--cfg hydra --resolve: Hydra's part refers to the job's; --cfg all --resolve"),
        ("-m --run", "--run --multirun: these exclude each other; give one of them"),
        ("--run -m", "--run --multirun: these exclude each other; give one of them"),
        ("-m --cfg job", "--multirun --cfg: these exclude each other; give one of them"),
        ("--info --cfg job", "--cfg --info: these exclude each other; give one of them"),
        ("--shell-completion -m", "--multirun --shell-completion: these exclude each other"),
        ("--shell-completion", "--shell-completion: add install=SHELL or uninstall=SHELL, such as install=bash"),
        ("--experimental-rerun /nowhere", "--experimental-rerun=/nowhere: there is no .hydra/hydra.yaml in it"),
        ("--experimental-rerun x -m", "--experimental-rerun: it excludes --multirun and --config-name"),
        ("--info bogus", "--info/-i: invalid choice: 'bogus'"),
        ("--cfg", "--cfg/-c: expected one argument"),
        ("--bogus", "unrecognized arguments: --bogus"),
        ("hydra/sweeper=optuna", "hydra/sweeper=optuna: it would have no effect on a single run; add -m"),
        ("--run hydra/sweeper=optuna", "hydra/sweeper=optuna: it would have no effect on a single run; add -m"),
        ("hydra.sweeper.n_trials=2", "hydra.sweeper.n_trials=2: it would have no effect on a single run; add -m"),
        ("+hydra.sweeper.x=2", "+hydra.sweeper.x=2: it would have no effect on a single run; add -m"),
        ("hydra/sweeper/sampler=gp", "hydra/sweeper/sampler=gp: it would have no effect on a single run; add -m"),
        ("hydra/launcher=ray", "hydra/launcher=ray: it would have no effect on a single run; add -m"),
    ],
)
def test_what_hydra_would_answer_with_a_traceback_or_not_at_all_is_refused(words: str, message: str) -> None:
    with pytest.raises(SweepError, match=f"^{re.escape(message)}") as caught:
        arguments.check_training(words.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "-m --multirun hydra/sweeper=optuna",
        "-m hydra.sweeper.n_trials=3 hydra/sweeper=optuna",
        "hydra.mode=MULTIRUN hydra/sweeper=optuna",
        "hydra/sweeper=basic hydra/launcher=basic epochs=2",
        "--cfg job --resolve",
        "--cfg all --resolve --package hydra",
        "--cfg hydra hydra/sweeper=optuna",
        "--help --resolve hydra/sweeper=optuna",
        "--info searchpath hydra/sweeper=optuna",
        "--run epochs=2",
        "--hydra-help",
        "-sc install=bash",
    ],
)
def test_what_hydra_does_well_is_left_to_it(words: str) -> None:
    arguments.check_training(words.split())


def test_a_folder_that_was_there_stays_when_a_run_is_refused(project: Project) -> None:
    mine = project.folder / "mine"
    mine.mkdir()
    assert project.train("data=digits", "model.dropout=2", "hydra.run.dir=mine").status == 1
    assert mine.is_dir()
    assert project.train("data=digits", "model.dropout=2", "hydra.run.dir=mine/a/b").status == 1
    assert not (mine / "a").exists()


@pytest.mark.parametrize(
    "words", [("output_dir='~/x'",), ("hydra.run.dir=~/x",), ("-m", "seed=1,2", "output_dir='~/x'")]
)
def test_no_folder_is_called_tilde(project: Project, words: tuple[str, ...]) -> None:
    finished = project.run("train.py", "data=digits", *words)
    assert (finished.status, finished.out) == (1, "")
    assert re.fullmatch(r"error: [^\n]*~/x[^\n]*\$HOME[^\n]*\n", finished.err)
    assert not (project.folder / "~").exists()


def test_a_grid_of_one_job_is_refused(project: Project) -> None:
    finished = project.train("-m", "data=digits", "epochs=1")
    assert (finished.status, finished.out) == (1, "")
    assert finished.err.startswith("error: -m: no key has several values; ")
    assert project.runs("study") == []


INTERRUPTER = """
import os, signal, sys
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT_IMPORT_OF"] and (os.environ["IN"] in " ".join(sys.orig_argv)):
            os.killpg(0, signal.SIGINT)  # as a terminal does
sys.meta_path.insert(0, Interrupter())
"""
TRAIN = ("sweep/train.py", "data=digits")
STUDY = (*TRAIN, "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2")


@pytest.mark.parametrize(
    ("words", "module", "process"),
    [
        (("-m", "sweep.cli", "best"), "omegaconf.base", "cli"),
        (("-m", "sweep.cli", "best"), "mlflow.entities", "cli"),
        (TRAIN, "omegaconf.base", "train"),
        (TRAIN, "hydra.core.plugins", "train"),
        (TRAIN, "numpy._core._multiarray_umath", "train"),
        (STUDY, "optuna", "train"),
        (STUDY, "torch", "forkserver"),
    ],
)
def test_ctrl_c_while_a_program_imports_ends_it_without_a_word(
    project: Project, words: tuple[str, ...], module: str, process: str
) -> None:
    (project.folder / "sitecustomize.py").write_text(INTERRUPTER)
    path = os.pathsep.join([str(project.folder), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path, "AT_IMPORT_OF": module, "IN": process}
    outputs = (f"output_dir={project.folder / 'multirun'}",) if "sweep/train.py" in words else ()
    finished = subprocess.run(
        [sys.executable, *words, *outputs], cwd=ROOT, env=env, capture_output=True, text=True, start_new_session=True
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, "", "")
    assert not (project.folder / "multirun").exists()


def test_the_handler_of_ctrl_c_is_as_before_once_a_verb_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def interrupted(_: list[str]) -> None:
        seen.append(signal.getsignal(signal.SIGINT))
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("sweep.results.report"), "main", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main(["report"])
    assert caught.value.code == 130
    assert seen == [before]


def test_a_study_that_mlflow_refuses_leaves_nothing(project: Project) -> None:
    client = project.client()
    client.delete_experiment(client.create_experiment("gone"))
    finished = project.train(
        "-m", "hydra/sweeper=optuna", "data=digits", "epochs=1", "tracking.experiment=gone", "hydra.sweeper.n_jobs=1"
    )
    assert finished.status == 1
    assert re.search(r"^error: experiment=gone: it was deleted[^\n]*\n\Z", finished.err, re.MULTILINE)
    assert not (project.folder / "multirun").exists()
    assert project.runs("study") == []
