"""docs/migrate.md: every program there runs, before and after, by the commands that stand below it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from sweep import ROOT

PAGE = (ROOT / "docs" / "migrate.md").read_text()
PROGRAMS = re.findall(r"`([\w/.]+\.(?:py|yaml))`:?\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^ {4}(python .*)$", PAGE, re.MULTILINE)


@pytest.fixture
def programs(project: Project) -> Path:
    """A project of its own with the page's programs."""
    folder = project.folder / "my project"
    for name, text in PROGRAMS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pyproject.toml").touch()
    return folder


@pytest.mark.parametrize("command", [*COMMANDS, pytest.param("python tune.py", marks=pytest.mark.slow)])
def test_the_programs_of_the_page_run_by_its_commands(
    project: Project, programs: Path, installed: dict[str, str], command: str
) -> None:
    env = installed | project.env
    if "tune.py" in command:  # Ray looks for what the framework's core does without
        env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    words = [sys.executable, *shlex.split(command)[1:]]
    ended = subprocess.run(words, cwd=programs, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "error" not in ended.stdout.lower()
    if "study" in command:
        assert "8/8" in ended.stdout
