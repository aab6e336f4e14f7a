"""docs/job.md and docs/migrate.md: their programs run by the commands below them, all but Ray Tune's own."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Project

PAGES = {page: (ROOT / "docs" / page).read_text() for page in ("job.md", "migrate.md")}
COMMANDS = [
    (page, command)
    for page, text in PAGES.items()
    for command in re.findall(r"^ {4}(python (?!program).*)$", text, re.MULTILINE)
]


def write_programs(page: str, folder: Path) -> None:
    """The programs of a page, in a project of their own."""
    for name, text in re.findall(r"`([\w/.]+\.(?:py|yaml))`[^`]*\n\n```\w+\n(.*?)```", PAGES[page], re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pyproject.toml").touch()


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_the_programs_of_a_page_run_by_its_commands(
    project: Project, installed: dict[str, str], page: str, command: str
) -> None:
    folder = project.folder / "my project"
    write_programs(page, folder)
    env = installed | project.env | {"SWEEP_TEST_ABSENT": "torch"}
    words = [installed["SWEEP_TEST_PYTHON"], *shlex.split(command)[1:]]
    if "n_trials" in command and "=optuna" not in command:
        words.append("hydra.sweeper.n_jobs=1")  # workers would import scikit-learn once more each
    ended = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "error" not in ended.stdout.lower()
    if "n_trials" in command and "=optuna" not in command:
        assert re.search(r"(6/6|8/8)", ended.stdout)
