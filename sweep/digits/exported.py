"""Whether the model that MLflow keeps is the one that its weights make here, checked without loading it.

Loading an exported program runs what is in it: pickles, if there are any, and in any case its expressions, which torch
evaluates as Python. So a stranger's program is never loaded; its parts are compared with those of one made here.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader

from sweep import SweepError, in_one_line, plain_yaml

SETTINGS = "MLmodel"
PROGRAM = "data/model.pt2"
OF_DOWNLOAD = "registered_model_meta"
"""File that MLflow adds when it downloads a model."""
SAMPLES = "data/sample_inputs/model.pt"
GRAPH = "models/model.json"
OF_THE_ARCHIVE = ".data/serialization_id"
"""Record that differs each time, and that nobody reads."""
MOST_GRAPH_BYTES = 2**26


def compare_models(logged: Path, ours: Path) -> str:
    """Check that the model in the folder `logged` runs nothing that the one in `ours` does not, and has its weights.

    Returns:
        Why they may nevertheless not be the same, and so `logged` is better not loaded; empty if they are.

    Raises:
        SweepError: `logged` is damaged, would run something else, or has other weights.
    """
    theirs, mine = (_flavors(folder) for folder in (logged, ours))
    for flavor, settings in theirs.items():
        for key, value in settings.items():
            expected = mine.get(flavor, {}).get(key)
            if value != expected and not key.endswith("_version"):
                raise SweepError(f"model/{SETTINGS}: {flavor}.{key}={_shown(value)} would be run when it is loaded")
    files, known = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        for folder in (logged, ours)
    )
    if extra := sorted(files - known - {OF_DOWNLOAD}):
        raise SweepError(f"model/{_shown(extra[0])}: no file of a model that this project logs; it could be run")
    if missing := sorted(known - files):
        raise SweepError(f"model/{missing[0]}: it is missing")
    versions = [one["pytorch"].get("pytorch_version") for one in (theirs, mine)]
    if versions[0] != versions[1]:
        return f"it was made by torch {_shown(versions[0])}, and here is {versions[1]}"
    return _compare_programs(logged / PROGRAM, ours / PROGRAM)


def _flavors(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what MLmodel says about loading the model."""
    try:
        found = plain_yaml((folder / SETTINGS).read_bytes())
    except (SweepError, OSError) as error:
        raise SweepError(f"model/{SETTINGS}: {in_one_line(error, 200)}") from error
    flavors = found.get("flavors")
    if not isinstance(flavors, dict) or not all(isinstance(one, dict) for one in flavors.values()):
        raise SweepError(f"model/{SETTINGS}: it is damaged: it has no flavors")
    if "pytorch" not in flavors:
        raise SweepError(f"model/{SETTINGS}: it is no model of MLflow's flavor pytorch")
    return flavors


def _compare_programs(logged: Path, ours: Path) -> str:
    at = f"model/{PROGRAM}"
    try:
        theirs, mine = PT2ArchiveReader(str(logged)), PT2ArchiveReader(str(ours))
        names, known = (sorted(reader.get_file_names()) for reader in (theirs, mine))
    except Exception as error:  # whatever torch raises of what is no such archive
        raise SweepError(f"{at}: it is damaged ({type(error).__name__})") from error
    if extra := [name for name in names if name not in known]:
        raise SweepError(f"{at}: {_shown(extra[0])} in it would be unpickled, or run, when it is loaded")
    if names != known:
        raise SweepError(f"{at}: it is damaged: parts of it are missing, or there twice")
    for name in names:
        if name in (GRAPH, SAMPLES):
            _require_plain(at, theirs, name)
        elif name != OF_THE_ARCHIVE and (_size(theirs, name) != _size(mine, name) or _differ(at, theirs, mine, name)):
            raise SweepError(f"{at}: {name} in it is not what its weights.pt and config.yaml make")
    if _graph(theirs) != _graph(mine):
        return "its program is another than this version of the project makes on this machine"
    return ""


def _size(reader: PT2ArchiveReader, name: str) -> int:
    return int(reader.archive_file.get_record_size(name))


def _differ(at: str, theirs: PT2ArchiveReader, mine: PT2ArchiveReader, name: str) -> bool:
    try:
        return theirs.read_bytes(name) != mine.read_bytes(name)
    except RuntimeError as error:  # its checksum is wrong
        raise SweepError(f"{at}: it is damaged ({in_one_line(error, 100)})") from error


def _require_plain(at: str, reader: PT2ArchiveReader, name: str) -> None:
    """Check that a record which may differ holds nothing but tensors, or JSON."""
    try:
        if _size(reader, name) > MOST_GRAPH_BYTES:
            raise ValueError(f"{_size(reader, name):,} bytes")
        content = reader.read_bytes(name)
        if name == GRAPH:
            json.loads(content)
        else:
            torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever JSON, zip and pickle raise of what they cannot read
        raise SweepError(
            f"{at}: {name} in it is damaged, or would be unpickled when it is loaded ({type(error).__name__})"
        ) from error


def _graph(reader: PT2ArchiveReader) -> Any:
    """Return the program without the origin of its lines, and without cuDNN's setting, which a CPU does not use."""
    return _without_origin(json.loads(reader.read_bytes(GRAPH)))


def _without_origin(part: Any) -> Any:
    if isinstance(part, Mapping):
        if part.get("name") == "cudnn_enabled" and part.get("arg") in ({"as_bool": True}, {"as_bool": False}):
            return "cudnn_enabled"
        return {key: _without_origin(value) for key, value in part.items() if key != "metadata"}
    return [_without_origin(one) for one in part] if isinstance(part, list) else part


def _shown(value: Any) -> str:
    return " ".join(str(value).split())[:80]
