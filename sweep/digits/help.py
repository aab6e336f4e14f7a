"""The text of `python sweep/train.py --help`: the commands, and each setting with its value and its meaning.

The meanings are the docstrings under the fields of the settings' classes, and else the comments of conf/. They are read
from the files: importing the classes would import torch, which takes seconds.
"""

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from sweep import conf
from sweep.digits import CONF

STUDY = Path(conf.__file__).parent / "hydra" / "sweeper" / "study.yaml"
CLASSES = {
    "model": "models.py",
    "optimizer": "optimizers.py",
    "data": "datasets.py",
    "tracking": "config.py",
    "": "config.py",
}
"""File with the class of each group's settings; under the empty name that of settings in no group."""

WIDTH = 79
COLUMN = 34

COMMANDS = """\
Train one model, or search for the best.

  python sweep/train.py KEY=VALUE ...               one run
  python sweep/train.py -m KEY=VALUE,VALUE ...      a grid: all of the values
  python sweep/train.py -m hydra/sweeper=optuna     a study: Optuna searches

What can be done afterwards: sweep --help. Hydra's own options: --hydra-help."""


class _Class(NamedTuple):
    bases: list[str]
    choice: str | None
    """The value of `name` in the YAML that chooses this class."""
    meanings: dict[str, str]


def text(config: DictConfig) -> str:
    """Return the whole help for a job as composed, at most WIDTH wide."""
    sweeper = CONF / "hydra" / "sweeper"
    files = (STUDY, sweeper / "optuna.yaml")
    is_grid = "max_batch_size" in config.hydra.sweeper
    study = OmegaConf.merge(*map(OmegaConf.load, files)) if is_grid else config.hydra.sweeper
    of_grids = (STUDY.with_name("study_grid.yaml"), sweeper / "basic.yaml")
    sections = [
        (
            "Groups, GROUP=CHOICE",
            [(group, ", ".join(_choices(CONF / group))) for group in ("model", "optimizer", "data", "experiment")],
        ),
        ("Settings, KEY=VALUE (quote what has brackets)", list(_settings(config))),
        (
            "What a study searches, with its choices",
            [(_typed(str(key), value), "") for key, value in (config.get("search") or {}).items()],
        ),
        (
            "Settings of a study, with -m hydra/sweeper=optuna",
            [
                *_of_files(files, study, "hydra.sweeper."),
                *(
                    (f"hydra/sweeper/{group}=CHOICE", ", ".join(_choices(sweeper / group)))
                    for group in ("sampler", "pruner")
                ),
            ],
        ),
        (
            "Settings of a grid, with -m, besides those of a study",
            _of_files(of_grids, OmegaConf.merge(*map(OmegaConf.load, of_grids)), "hydra.sweeper."),
        ),
    ]
    return "\n\n".join([COMMANDS, *(_section(title, lines) for title, lines in sections if lines)])


def _section(title: str, lines: list[tuple[str, str]]) -> str:
    return "\n".join([f"{title}:", *(_line(what, meaning) for what, meaning in lines)])


def _line(what: str, meaning: str) -> str:
    start = f"  {what}"
    if len(start) > COLUMN - 2 and meaning:
        return f"{start}\n{textwrap.fill(meaning, WIDTH, initial_indent=' ' * COLUMN, subsequent_indent=' ' * COLUMN)}"
    return textwrap.fill(meaning, WIDTH, initial_indent=f"{start:{COLUMN}}", subsequent_indent=" " * COLUMN) or start


def _settings(config: DictConfig) -> Iterator[tuple[str, str]]:
    comments = _comments(CONF / "config.yaml")
    for group in (*CLASSES, ""):
        if group and group in config:
            choice = config[group].get("name", "")
            meanings = _meanings(CLASSES[group], str(choice) or f"{group.title()}Config")
            for key in config[group]:
                meaning = meanings.get(str(key), comments.get(str(key), ""))
                yield _typed(f"{group}.{key}", _raw(config[group], key)), meaning
    meanings = _meanings(CLASSES[""], "Config")
    for key in config:
        if key not in (*CLASSES, "hydra", "search"):
            yield _typed(str(key), _raw(config, key)), meanings.get(str(key), comments.get(str(key), ""))


def _of_files(paths: Sequence[Path], values: Any, prefix: str) -> list[tuple[str, str]]:
    """Return the settings at the top of YAML files with their comments; later files override earlier ones."""
    comments = {key: comment for path in paths for key, comment in _comments(path).items()}
    keys = [key for key in values if key not in ("_target_", "defaults", "sampler", "pruner", "study")]
    return [(_typed(f"{prefix}{key}", _raw(values, key)), comments.get(str(key), "")) for key in keys]


def _raw(config: Any, key: Any) -> Any:
    """Return a value; None for a mapping, and for a value composed of others, which its meaning explains."""
    if OmegaConf.is_interpolation(config, key) or OmegaConf.is_dict(config[key]):
        return None
    value = config[key]
    return OmegaConf.to_container(value) if OmegaConf.is_list(value) else "null" if value is None else value


def _typed(key: str, value: Any) -> str:
    """Return KEY=VALUE as typed in a shell."""
    if value is None:
        return key
    words = str(value).lower() if isinstance(value, bool) else str(value)
    return shlex.quote(f"{key}={words.replace(', ', ',')}")


def _choices(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _comments(path: Path) -> dict[str, str]:
    """Return the comment behind each value of a YAML file, by key."""
    return dict(re.findall(r"^ *(\w+):[^#\n]*# (.*)$", path.read_text(), re.MULTILINE))


def _meanings(file: str, name: str) -> dict[str, str]:
    """Return the docstrings of a class's fields, including those of its bases, by field.

    Args:
        file: File in sweep/digits/.
        name: Name of the class, or the value of its field `name`.
    """
    classes = {}
    for node in ast.parse((Path(__file__).parent / file).read_text()).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = _read_class(node)
    found = next((one for key, one in classes.items() if name in (key, one.choice)), None)
    meanings: dict[str, str] = {}
    while found is not None:
        meanings = found.meanings | meanings
        found = next((classes[base] for base in found.bases if base in classes), None)
    return meanings


def _read_class(node: ast.ClassDef) -> _Class:
    choice, meanings = None, {}
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            if field.target.id == "name" and isinstance(field.annotation, ast.Subscript):  # Literal["mlp"]
                choice = ast.literal_eval(field.annotation.slice)
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                meanings[field.target.id] = " ".join(str(after.value.value).split())
    return _Class([base.id for base in node.bases if isinstance(base, ast.Name)], choice, meanings)
