"""An environment of its own, with this package's wheel and what that asks for: how everybody else gets it."""

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "empty_environment"
PYTHON = FOLDER / "bin" / "python"

OURS = sysconfig.get_path("purelib")
"""What the tests themselves are run with: on PYTHONPATH it lends torch, Lightning or a launcher."""


def make() -> None:
    """Make the environment, unless it is there and the package has not changed since."""
    FOLDER.parent.mkdir(exist_ok=True)
    with FileLock(f"{FOLDER}.lock"):
        asked = _digest([ROOT / "pyproject.toml", ROOT / "constraints.txt"])
        wheel = _digest(
            path for path in sorted((ROOT / "sweep").rglob("*")) if path.suffix in (".py", ".yaml", ".html")
        )
        if _read("asked") != asked:
            _run(sys.executable, "-m", "venv", "--clear", str(FOLDER))
            _run(PYTHON, "-m", "pip", "install", "--quiet", f"{_wheel()}[report]", "--constraint", "constraints.txt")
        elif _read("wheel") != wheel:
            _run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(_wheel()))
        (FOLDER / "asked").write_text(asked)
        (FOLDER / "wheel").write_text(wheel)


def _wheel() -> Path:
    folder = ROOT / "build" / "wheel"
    for old in folder.glob("*.whl"):
        old.unlink()
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (made,) = folder.glob("*.whl")
    return made


def _run(*words: str | Path) -> None:
    env = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }  # by which pip would find this tree
    subprocess.run(words, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)


def _read(name: str) -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else ""


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()
