"""Runs that somebody else recorded, or that are damaged: what is in them is data, and what is wrong is one line."""

import contextlib
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, Project, models_of
from PIL import Image, ImageDraw
from torch import nn

from sweep import pytorch
from sweep.digits import classifier, config, exported, predict, predictions
from sweep.digits.job import DIGITS, PRECISION_TAG
from sweep.errors import SweepError
from sweep.record.runs import find_study
from sweep.record.tags import COPY_TAG, DIRECTION_TAG, STUDY_TAG, TRIAL_TAG
from sweep.results import best, confirm, report, rerun
from sweep.results.table import table_of
from sweep.study.dimensions import SPACE_FILE

CANARY = "canary.txt"
SECRET = "hunter2"


class Evil:
    """Writes the canary when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


Content = bytes | Callable[["Studied"], bytes]
"""What is in a file, or what it is made of the study's own."""


class Studied(NamedTuple):
    """A study of two trials, and where the better one's files are."""

    project: Project
    run_id: str
    study_id: str
    files: Path
    model: Path
    other: Path
    """The files of the other trial, whose model has another width."""
    picture: str


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studied]:
    """A test that changes the study's files puts them back, see `changed`."""
    project = Project(tmp_path_factory.mktemp("studied"))
    finished = project.train(
        "-m", "data=digits", "epochs=1", "num_threads=1", "model.widths=[16],[32]", "optimizer.lr=0.01",
        "hydra.sweeper.study_name=s",
    )  # fmt: skip
    assert finished.status == 0, finished
    worse, better = sorted(project.runs("trial"), key=lambda run: run.data.metrics["test/accuracy"])
    (study,) = project.runs("study")
    picture = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(picture).line((30, 10, 30, 50), fill=0, width=5)
    picture.save(project.folder / "one.png")
    (output,) = models_of(better)
    (model,) = project.folder.glob(f"mlruns/*/models/{output.model_id}/artifacts")
    files, other = (next(project.folder.glob(f"mlruns/*/{run.info.run_id}/artifacts")) for run in (better, worse))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", project.uri)
        patch.setenv("STRANGERS_SECRET", SECRET)
        patch.setenv("SWEEP_ROOT", str(ROOT))
        patch.chdir(project.folder)
        yield Studied(project, better.info.run_id, study.info.run_id, files, model, other, "one.png")


def made(content: Content, studied: Studied) -> bytes:
    return content if isinstance(content, bytes) else content(studied)


@contextlib.contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """The file at `path`, or none, with another content."""
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def arguments_of(studied: Studied, program: ModuleType) -> list[str]:
    """What makes `program` read the better trial."""
    return {
        "predict": [studied.picture, "--run", studied.run_id],
        "best": ["--run", studied.run_id, "--output", "made/here"],
        "rerun": [studied.run_id],
        "confirm": ["--study", "s"],
        "report": ["--study", "s"],
    }[program.__name__.rpartition(".")[2]]


def refusal(studied: Studied, program: ModuleType, *more: str) -> str:
    """The one line with which `program` refuses the better trial; it leaves nothing behind, and has run nothing."""
    before = sorted(studied.project.folder.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        program.main([*arguments_of(studied, program), *more])
    line = str(ended.value.code)
    assert re.fullmatch(r"error: [^\n]+", line), line
    # SQLite has a journal at times.
    assert [path for path in sorted(studied.project.folder.rglob("*")) if path not in before] == []
    assert SECRET not in line
    return line


def config_with(studied: Studied, **changes: Any) -> bytes:
    settings = yaml.safe_load((studied.files / "config.yaml").read_text())
    return yaml.safe_dump(settings | changes).encode()


BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(20))

DAMAGED_CONFIGS: dict[str, Content] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "a list": b"- 1\n- 2\n",
    "text": b"hello",
    "truncated": lambda s: (s.files / "config.yaml").read_bytes()[:60],
    "no mapping for a group": lambda s: config_with(s, model="mlp"),
    "an unknown key": lambda s: config_with(s, surprise=1),
    "a model of another name": lambda s: config_with(s, model={"name": "gpt"}),
    "a number for a name": lambda s: config_with(s) + b"\n1: 2\n",
    "a date": lambda s: config_with(s, epochs=None) + b"\nepochs: 2020-01-01\n",
    "a date that is none": lambda s: config_with(s) + b"\nepochs: 2020-99-99\n",
    "a missing value": lambda s: config_with(s, epochs="???"),
    "deep": b"a: " + b"[" * 5000,
    "large": b"a: " + b"x" * 2_000_000,
    "a bomb of aliases": BOMB,
    "a python tag": f'a: !!python/object/apply:os.system ["touch {CANARY}"]\n'.encode(),
    "a target": lambda s: config_with(s, callbacks={"_target_": "os.system", "command": f"touch {CANARY}"}),
    "the environment": lambda s: config_with(s, tracking={"enabled": True, "experiment": "${oc.env:STRANGERS_SECRET}"}),
    "the environment in a list": lambda s: config_with(s, objective=["${oc.env:STRANGERS_SECRET}"]),
    "a resolver of ours": lambda s: config_with(s, epochs="${half:2}"),
    "a folder of ours": lambda s: config_with(s, device="${project:x}"),
    "another key": lambda s: config_with(s, epochs="${seed}"),
    "the environment where Hydra would look": lambda s: config_with(s, hydra={"x": "${oc.env:STRANGERS_SECRET}"}),
}


@pytest.mark.parametrize("damage", DAMAGED_CONFIGS)
def test_a_config_that_is_damaged_or_would_be_resolved_is_told_in_one_line(
    studied: Studied, damage: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_bytes(made(DAMAGED_CONFIGS[damage], studied))
    with pytest.raises(SweepError, match=r"^config\.yaml: [^\n]{10,400}$") as refused:
        classifier.load_config(tmp_path)
    assert SECRET not in str(refused.value)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("program", [predict, best, rerun, confirm, report])
@pytest.mark.parametrize("damage", ["truncated", "binary", "the environment"])
def test_every_program_refuses_such_a_config_by_its_run_and_file_before_any_training(
    studied: Studied, program: ModuleType, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    num_runs = len(studied.project.runs("rerun"))
    with changed(studied.files / "config.yaml", made(DAMAGED_CONFIGS[damage], studied)):
        line = refusal(studied, program)
    assert re.match(rf"error: run={studied.run_id}: trial-00\d: config\.yaml: ", line)
    assert SECRET not in capsys.readouterr().out
    assert len(studied.project.runs("rerun")) == num_runs


def saved(content: object, compressed: bool = False) -> bytes:
    file = BytesIO()
    torch.save(content, file)
    if not compressed:
        return file.getvalue()
    smaller = BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
    return smaller.getvalue()


def weights_with(studied: Studied, **changes: Any) -> dict[str, Any]:
    return torch.load(studied.files / "weights.pt") | {name.replace("_", "."): value for name, value in changes.items()}


DAMAGED_WEIGHTS: dict[str, Content] = {
    "empty": b"",
    "truncated": lambda s: (s.files / "weights.pt").read_bytes()[:-300],
    "text": b"hello",
    "another model's": lambda s: (s.other / "weights.pt").read_bytes(),
    "a pickle": pickle.dumps(Evil()),
    "a pickle in an archive": saved({"network.0.weight": Evil()}),
    "a pickle of the old kind": (pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps(Evil())),
    "a whole model": saved(nn.Linear(2, 2)),
    "a list": saved([torch.zeros(2)]),
    "numbers": saved({1: torch.zeros(2)}),
    "compressed": saved({"network.0.weight": torch.zeros(1_000_000)}, compressed=True),
    "a view that is larger than the file": lambda s: saved(
        weights_with(s, network_9_weight=torch.zeros(1).expand(10**12))
    ),
    "another type": lambda s: saved(weights_with(s, transform_mean=torch.tensor(0.1, dtype=torch.float64))),
    "sparse": lambda s: saved(weights_with(s, transform_mean=torch.zeros(3).to_sparse())),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize("damage", DAMAGED_WEIGHTS)
def test_weights_that_are_damaged_or_more_than_tensors_are_told_in_one_line(
    studied: Studied, damage: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_bytes((studied.files / "config.yaml").read_bytes())
    (tmp_path / "weights.pt").write_bytes(made(DAMAGED_WEIGHTS[damage], studied))
    with pytest.raises(SweepError, match=r"^weights\.pt: it [^\n]{10,300}$"):
        classifier.load_classifier(tmp_path)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("program", [predict, best, rerun])
@pytest.mark.parametrize("damage", ["another model's", "a pickle in an archive"])
def test_every_program_refuses_such_weights_by_their_run_and_file_before_any_training(
    studied: Studied, program: ModuleType, damage: str
) -> None:
    num_runs = len(studied.project.runs("rerun"))
    with changed(studied.files / "weights.pt", made(DAMAGED_WEIGHTS[damage], studied)):
        line = refusal(studied, program)
    assert re.match(rf"error: run={studied.run_id}: trial-00\d: weights\.pt: it ", line)
    assert len(studied.project.runs("rerun")) == num_runs


def archive_with(
    studied: Studied, replace: Callable[[str, bytes], bytes] | None = None, added: Mapping[str, bytes] | None = None
) -> bytes:
    """The exported program of the better trial with its records replaced and others added."""
    file = BytesIO()
    with zipfile.ZipFile(studied.model / "data" / "model.pt2") as archive, zipfile.ZipFile(file, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            copy.writestr(name, replace(name, content) if replace else content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a name that is there twice
            for name, content in (added or {}).items():
                copy.writestr(f"model/{name}", content)
    return file.getvalue()


def settings_with(studied: Studied, flavor: str, **changes: Any) -> bytes:
    settings = yaml.safe_load((studied.model / "MLmodel").read_text())
    settings["flavors"].setdefault(flavor, {}).update(changes)
    return yaml.safe_dump(settings).encode()


def with_pickled_weight(name: str, content: bytes) -> bytes:
    if name.endswith("model_weights_config.json"):
        return content.replace(b'"use_pickle": false', b'"use_pickle": true')
    return saved(Evil()) if name.endswith("weights/weight_0") else content


def with_pickled_samples(name: str, content: bytes) -> bytes:
    return saved(Evil()) if name.endswith("sample_inputs/model.pt") else content


def with_other_weights(name: str, content: bytes) -> bytes:
    return bytes(len(content)) if name.endswith("weights/weight_0") else content


HOSTILE_CODE = f"import os; os.system('touch {CANARY}')\n_load_pyfunc = None\n".encode()

MLMODEL, PROGRAM, PYFUNC = "MLmodel", "data/model.pt2", "python_function"

HOSTILE_MODELS: dict[str, tuple[str, Content, str]] = {
    "a pickle": ("data/model.pth", saved(Evil()), "model/data/model.pth: no file of a model"),
    "a code folder": (MLMODEL, lambda s: settings_with(s, "pytorch", code="code"), "pytorch.code=code would be run"),
    "a code path": (MLMODEL, lambda s: settings_with(s, PYFUNC, code=".."), "python_function.code=.. would"),
    "a loader": (MLMODEL, lambda s: settings_with(s, PYFUNC, loader_module="evil"), "loader_module=evil"),
    "model as code": (MLMODEL, lambda s: settings_with(s, PYFUNC, model_code_path="e.py"), "model_code_path"),
    "a path outside": (MLMODEL, lambda s: settings_with(s, "pytorch", model_data="../.."), "pytorch.model_data=../.."),
    "another flavor": (MLMODEL, lambda s: settings_with(s, "sklearn", pickled_model="m.pkl"), "sklearn.pickled_model"),
    "code": ("code/evil.py", HOSTILE_CODE, "model/code/evil.py: no file of a model"),
    "settings damaged": (MLMODEL, b"\x00\x01", "model/MLmodel: it is damaged"),
    "settings with a tag": (MLMODEL, f'a: !!python/object/apply:os.system ["touch {CANARY}"]'.encode(), "MLmodel"),
    "no flavors": (MLMODEL, b"flavors: 1", "model/MLmodel: it is damaged: it has no flavors"),
    "a pickled weight": (PROGRAM, lambda s: archive_with(s, with_pickled_weight), "is not what its weights.pt"),
    "pickled samples": (PROGRAM, lambda s: archive_with(s, with_pickled_samples), "sample_inputs/model.pt in it is"),
    "an object": (
        PROGRAM, lambda s: archive_with(s, added={"data/constants/opaque_obj_0": pickle.dumps(Evil())}),
        "data/constants/opaque_obj_0 in it would be unpickled",
    ),
    "a library": (
        PROGRAM, lambda s: archive_with(s, added={"data/aotinductor/model/evil.so": b"\x7fELF"}),
        "data/aotinductor/model/evil.so in it would be unpickled, or run",
    ),
    "old weights": (
        PROGRAM, lambda s: archive_with(s, added={"data/weights/model.pt": saved(Evil())}),
        "data/weights/model.pt in it would be unpickled",
    ),
    "a record twice": (
        PROGRAM, lambda s: archive_with(s, added={"data/sample_inputs/model.pt": saved(Evil())}),
        "model/data/model.pt2: ",
    ),
    "other weights": (PROGRAM, lambda s: archive_with(s, with_other_weights), "data/weights/weight_0 in it is not"),
    "truncated": (PROGRAM, lambda s: archive_with(s)[:-200], "model/data/model.pt2: it is damaged"),
    "nothing": (PROGRAM, b"", "model/data/model.pt2: it is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE_MODELS)
def test_what_a_logged_model_would_run_is_told_without_loading_it(studied: Studied, kind: str, tmp_path: Path) -> None:
    file, content, message = HOSTILE_MODELS[kind]
    shutil.copytree(studied.model, tmp_path / "logged")
    (tmp_path / "logged" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "logged" / file).write_bytes(made(content, studied))
    assert exported.compare_models(studied.model, studied.model) == ""
    with pytest.raises(SweepError, match=r"^model/[^\n]+$") as refused:
        exported.compare_models(tmp_path / "logged", studied.model)
    assert message in str(refused.value)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("kind", ["a pickle", "a code folder", "a loader", "pickled samples", "truncated"])
def test_the_best_model_is_refused_where_it_would_run_something_and_its_weights_are_read_all_the_same(
    studied: Studied, kind: str
) -> None:
    file, content, message = HOSTILE_MODELS[kind]
    with changed(studied.model / file, made(content, studied)):
        line = refusal(studied, best)
        predict.main(arguments_of(studied, predict))
    assert line.startswith(f"error: run={studied.run_id}: trial-00")
    assert message in line
    assert "; not loaded. --trust takes it as it is and runs what is in it" in line
    assert not Path(CANARY).exists()


def evaluating(name: str, content: bytes) -> bytes:
    """An exported program without any pickle whose sizes are an expression that runs a command."""
    symbol = re.search(rb"Symbol\('\w+', positive=True, integer=True\)", content)
    if not name.endswith("models/model.json") or symbol is None:
        return content
    return content.replace(symbol[0], f"__import__('os').system('touch {CANARY}') or ".encode() + symbol[0])


def test_a_program_that_torch_would_evaluate_is_made_anew_and_not_registered_unless_it_is_trusted(
    studied: Studied, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetch = ["--run", studied.run_id, "--output", str(tmp_path / "fetched")]
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")  # which does not look at expressions
    with changed(studied.model / "data" / "model.pt2", archive_with(studied, evaluating)):
        best.main(fetch)
        told = capsys.readouterr()
        assert "its program is another than this version of the project makes on this machine" in told.err
        assert told.err.count("\n") == 1
        assert told.out.count(", as recorded") == 2
        with pytest.raises(
            SystemExit, match=r"^error: --register=reader: its program is another .* --trust registers it"
        ):
            best.main([*fetch, "--register", "reader"])
        assert not Path(CANARY).exists()
        best.main([*fetch, "--trust"])
        assert Path(CANARY).exists()  # so that these tests can fail
        Path(CANARY).unlink()


def test_what_another_version_of_torch_exported_is_made_anew_here(
    studied: Studied, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = settings_with(studied, "pytorch", pytorch_version="2.14.0")
    with changed(studied.model / "MLmodel", settings), changed(studied.model / "data" / "model.pt2", b"of 2.14"):
        best.main(["--run", studied.run_id, "--output", str(tmp_path / "fetched")])
    told = capsys.readouterr()
    assert told.err.startswith("note: it was made by torch 2.14.0, and here is ")
    assert "model/ was made anew from its weights.pt and config.yaml" in told.err
    model = pytorch.load_model(tmp_path / "fetched" / "model")
    images = torch.rand(3, 1, 28, 28)
    assert torch.allclose(model(images), classifier.load_classifier(tmp_path / "fetched")(images), atol=1e-5)


def test_an_untouched_model_is_the_same_as_the_one_made_here_and_an_earlier_fetch_is_replaced_whole(
    studied: Studied, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for _ in range(2):
        best.main(["--run", studied.run_id, "--output", str(tmp_path / "new" / "fetched")])
        assert capsys.readouterr().err == ""
    assert {path.name for path in (tmp_path / "new" / "fetched").iterdir()} == {"model", "weights.pt", "config.yaml"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fetched"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("name", ["config.yaml", "weights.pt"])
def test_a_link_to_a_file_of_this_machine_is_not_followed(studied: Studied, name: str, tmp_path: Path) -> None:
    (tmp_path / "private").write_text(SECRET)
    path = studied.files / name
    intact = path.read_bytes()
    path.unlink()
    path.symlink_to(tmp_path / "private")
    try:
        for program in (predict, best, rerun):
            refusal(studied, program)
    finally:
        path.unlink()
        path.write_bytes(intact)


def zipped(**arrays: Any) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def one_array() -> bytes:
    file = BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


WHOLE = {"test_labels": np.array([0, 1]), "test_predicted": np.array([0, 1]), "test_probability": np.array([0.5, 1.0])}

DAMAGED_PREDICTIONS: dict[str, bytes] = {
    "empty": b"",
    "a pickle": pickle.dumps(Evil()),
    "objects": zipped(**WHOLE | {"test_labels": np.array([Evil(), Evil()])}),
    "one array": one_array(),
    "other lengths": zipped(**WHOLE | {"test_labels": np.zeros(3, np.int32)}),
    "a table": zipped(**{name: array[:, None] for name, array in WHOLE.items()}),
    "words": zipped(**WHOLE | {"test_predicted": np.array(["a", "b"])}),
    "a class below 0": zipped(**WHOLE | {"test_predicted": np.array([-1, 1])}),
    "no probabilities": zipped(**WHOLE | {"test_probability": np.array([np.nan, 7.0])}),
    "one of three": zipped(test_labels=np.array([0, 1])),
}


@pytest.mark.parametrize("damage", DAMAGED_PREDICTIONS)
def test_damaged_predictions_are_told_and_never_unpickled(tmp_path: Path, damage: str) -> None:
    (tmp_path / "predictions.npz").write_bytes(DAMAGED_PREDICTIONS[damage])
    with pytest.raises(SweepError, match=r"^predictions\.npz: it is damaged \("):
        predictions.load_predictions(tmp_path / "predictions.npz", "test")
    assert not Path(CANARY).exists()


def test_predictions_that_unpack_to_more_than_anybody_has_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MOST_BYTES", 1000)
    (tmp_path / "predictions.npz").write_bytes(zipped(**WHOLE | {"test_labels": np.zeros(2000, np.int32)}))
    with pytest.raises(SweepError, match=r"^predictions\.npz: it is damaged \(unpacked it has [89],\d\d\d bytes\)$"):
        predictions.load_predictions(tmp_path / "predictions.npz", "test")


def test_a_report_leaves_damaged_predictions_and_such_as_are_not_what_was_recorded_out_and_says_so(
    studied: Studied, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed(studied.files / "predictions.npz", b"x"):
        report.main(["--study", "s"])
    told = capsys.readouterr()
    assert f"note: run={studied.run_id}: trial-00" in told.err
    assert "predictions.npz: it is damaged" in told.err
    with changed(studied.files / "predictions.npz", zipped(**WHOLE | {"test_labels": np.array([0, 10**12])})):
        report.main(["--study", "s"])
        page = (studied.project.folder / "multirun" / "s" / "report.html").read_text()
        assert "predictions.npz: it is damaged: it has more classes than the 10" in unescape(page)
    capsys.readouterr()
    with changed(studied.files / "predictions.npz", zipped(**WHOLE)):
        report.main(["--study", "s"])
    told = capsys.readouterr()
    assert re.search(r"its scores by example have a mean of 1, recorded is test/accuracy 0\.\d+; left out", told.err)
    assert "95% interval" not in told.out


@pytest.mark.parametrize("program", [report, confirm])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"name": "os.system"}}', bytes(range(256))])
def test_a_damaged_search_space_is_told_before_anything_is_trained(
    studied: Studied, program: ModuleType, content: bytes
) -> None:
    parent = studied.files.parents[1] / studied.study_id / "artifacts"
    with changed(parent / SPACE_FILE, content):
        line = refusal(studied, program)
    assert f"error: run={studied.study_id}: s: search_space.json: it is damaged" in line


@contextlib.contextmanager
def tagged(studied: Studied, run_id: str, key: str, value: str) -> Iterator[None]:
    client = studied.project.client()
    before = client.get_run(run_id).data.tags.get(key)
    client.set_tag(run_id, key, value)
    try:
        yield
    finally:
        client.delete_tag(run_id, key) if before is None else client.set_tag(run_id, key, before)


@pytest.mark.parametrize(
    ("program", "of_study", "key", "value"),
    [
        (report, False, TRIAL_TAG, "../../x"),
        (report, True, DIRECTION_TAG, "maximize,minimize"),
        (report, True, DIRECTION_TAG, "sideways"),
        (confirm, False, TRIAL_TAG, "1\nhydra: {}"),
        (rerun, False, COPY_TAG, "x"),
        (rerun, False, PRECISION_TAG, "${oc.env:STRANGERS_SECRET}"),
    ],
)
def test_a_tag_that_this_project_would_not_write_is_told(
    studied: Studied, program: ModuleType, of_study: bool, key: str, value: str
) -> None:
    with tagged(studied, studied.study_id if of_study else studied.run_id, key, value):
        refusal(studied, program)


@pytest.mark.parametrize(
    "name", ["s\nhydra:\n  callbacks: {evil: {_target_: os.abort}}", "a,b c='d' x=1", "s\u2028seed: 7"]
)
def test_what_confirm_writes_for_hydra_holds_settings_and_never_what_a_name_smuggles_in(
    studied: Studied, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = find_study("s")
    table = table_of(found._replace(name=name, tags=found.tags | {STUDY_TAG: name}), DIGITS)
    (chosen,) = confirm.choose_trials(table, 1)
    run = chosen.row.run._replace(params={"seed": "0\nevil: 1"})
    chosen = chosen._replace(row=chosen.row._replace(run=run))
    monkeypatch.setattr(confirm, "folder_of", lambda _: tmp_path / "s")
    folder = confirm.write_config(table, [chosen], 2, f"{name}-confirm")
    (written,) = (folder / "settings").iterdir()
    settings, recorded = (yaml.safe_load(path.read_text()) for path in (written, studied.files / "config.yaml"))
    assert settings == recorded | {"num_threads": None}
    composed = yaml.safe_load((folder / "config.yaml").read_text())
    assert composed.keys() == {"defaults", "hydra"}
    assert composed["hydra"].keys() == {"sweeper", "sweep", "job_logging", "hydra_logging"}
    assert composed["hydra"]["sweeper"]["study_name"] == f"{name}-confirm"
    with pytest.raises(SweepError, match=r"hydra\.sweeper\.study_name=\$\{oc\.env:STRANGERS_SECRET\}: it holds \$\{"):
        confirm.write_config(table, [chosen], 2, "${oc.env:STRANGERS_SECRET}")


def test_what_is_written_as_yaml_is_read_back_and_an_interpolation_is_never_resolved(
    compose: Callable[..., config.Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = compose("data=digits", "optimizer.lr=1e-5", "model.widths=[8,16]", "tracking.experiment='1e3'")
    assert config.from_yaml(config.to_yaml(job)) == job
    monkeypatch.setenv("STRANGERS_SECRET", SECRET)
    for text in ("${oc.env:STRANGERS_SECRET}", "a${oc.env:STRANGERS_SECRET}b", "\\${oc.env:STRANGERS_SECRET}"):
        with pytest.raises(SweepError, match=r"what was recorded is not resolved") as refused:
            config.from_yaml(config.to_yaml(job).replace("'1e3'", f"'{text}'"))
        assert SECRET not in str(refused.value)
