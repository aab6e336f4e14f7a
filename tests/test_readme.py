"""The README and docs/ say what is so: its commands compose, its examples run, its tree is the tree."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from sweep import cli
from sweep.digits import config, data, datasets

PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = "\n".join(PAGES.values())
SHELL = "\n".join(re.findall(r"^ {4}(.*)$", README, re.MULTILINE)).replace("\\\n", "")
COMMANDS = sorted(
    {line.split("#")[0].strip() for line in SHELL.splitlines() if re.match(r"(python|make|mlflow) ", line)}
)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("python sweep/train.py")])
def test_every_training_command_composes(command: str) -> None:
    overrides = [word for word in shlex.split(command)[2:] if word not in ("-m", "--help", "...")]
    searched = re.compile(r"interval\(|choice\(|=[^\[]*,")
    plain = [override for override in overrides if not searched.search(override)]
    with initialize_config_dir(str(ROOT / "conf")):
        config.parse(compose("config", plain))


def test_every_program_and_make_target_that_is_named_exists() -> None:
    for program in re.findall(r"python (sweep/\w+\.py)", README):
        assert (ROOT / program).is_file()
    assert set(re.findall(r"^sweep (\w+)", SHELL, re.MULTILINE)) <= set(cli.VERBS)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`?make (\w+)`?", SHELL)) <= set(targets)


def test_every_module_is_in_the_tree() -> None:
    tree = PAGES[ROOT / "docs" / "internals.md"]
    for module in (ROOT / "sweep").rglob("[!_]*.py"):
        assert re.search(rf"^ {{8,12}}{module.name} ", tree, re.MULTILINE), module.name


def test_what_zsh_would_take_for_a_pattern_is_quoted() -> None:
    for page in PAGES.values():
        for line in re.findall(r"^ {4}((?:python|sweep) .*)$", page, re.MULTILINE):
            unquoted = re.sub(r"'[^']*'", "", line.split(" #")[0])
            assert not re.search(r"[][(){}*?~]", unquoted.replace("...", "")), line


def test_every_link_leads_somewhere() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), target


@pytest.fixture
def copy_with_examples(tmp_path: Path) -> Path:
    """A copy of the project into which the examples of docs/digits.md have been put as it says."""
    for folder in ("conf", "sweep"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    page = PAGES[ROOT / "docs" / "digits.md"]
    for language, name in {"python": r"sweep/digits/\w+\.py", "yaml": r"conf/\w+/\w+\.yaml"}.items():
        for block in re.finditer(rf"```{language}\n(.*?)```", page, re.DOTALL):
            target = tmp_path / re.findall(name, page[: block.start()])[-1]
            before = target.read_text() + "\n\n" if target.exists() else ""
            target.write_text(before + block[1])
    return tmp_path


def run_in_copy(folder: Path, *arguments: str) -> str:
    env = os.environ | {"PYTHONPATH": str(folder), "MLFLOW_TRACKING_URI": "", "SWEEP_ROOT": ""}
    finished = subprocess.run(
        [sys.executable, "sweep/train.py", *arguments], cwd=folder, env=env, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_example_of_a_model_and_data_of_one_s_own_trains_and_is_searched(copy_with_examples: Path) -> None:
    folder = copy_with_examples
    train, test = data.load(datasets.DigitsConfig(name="digits", root="", batch_size=1, validation=0, shift=0)).splits[
        ::2
    ]
    for split, images in {"train": train, "test": test}.items():
        np.savez(folder / f"{split}.npz", images=images.images[:1000, 0].numpy(), labels=images.labels[:1000].numpy())
    mine = ("model=resmlp", "data=arrays", f"data.root={folder}", "data.batch_size=64", "epochs=4")
    printed = run_in_copy(folder, "-m", "hydra/sweeper=optuna", *mine, "hydra.sweeper.n_trials=2")
    assert "searching model.width, model.depth, optimizer.lr for the best test/accuracy" in " ".join(printed.split())
    assert max(float(percent) for percent in re.findall(r"test/accuracy (\d+\.\d+)%", printed)) > 90
    # Without MLFLOW_TRACKING_URI everything lies in the project's root, where `mlflow ui` looks.
    assert {"mlflow.db", "mlruns", "multirun"} <= {path.name for path in folder.iterdir()}
    assert list((folder / "mlruns" / "arrays" / "models").glob("*/artifacts/data/model.pt2"))
