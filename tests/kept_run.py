"""A run that has ended, as a job is shown it again, without a record: its files are those of a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sweep.digits import batches, config, data, predictions
from sweep.digits.classifier import CONFIG_FILE, WEIGHTS_FILE, build_classifier
from sweep.digits.config import Config
from sweep.digits.loop import evaluate
from sweep.digits.predictions import PREDICTIONS_FILE, Predictions


@dataclass(frozen=True)
class KeptRun:
    """What `sweep.Kept` asks for."""

    folder: Path
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    run_id: str = "abc"
    name: str = "trial-007"

    def file(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.exists() else None


def kept_digits(folder: Path, job: Config, seed: int = 0) -> KeptRun:
    """A run of the digits job with what one leaves, but for the training."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = data.load(job.data)
    torch.manual_seed(seed)
    classifier = build_classifier(job, dataset.mean, dataset.std).eval()
    found = evaluate(classifier, batches.evaluation_loader(batches.ImageBatches(dataset.splits.test)))
    torch.save(classifier.state_dict(), folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(config.to_yaml(job))
    kept = Predictions(*(tensor.numpy() for tensor in found[2:]))
    predictions.save_predictions({"test": kept}, folder / PREDICTIONS_FILE)
    return KeptRun(folder, {"test/accuracy": found.accuracy}, digest=dataset.digest)


def require_each_way_to_load_works(told: str) -> None:
    """See that the three ways to load a model that `told` prints run as they stand, and that the models agree."""
    lines = [line.strip() for line in told.splitlines()]
    ways = [lines[i : i + 2] for i, line in enumerate(lines) if line.startswith(("import", "from"))]
    assert len(ways) == 3
    images = torch.rand(5, 1, 28, 28)
    answers = []
    for way in ways:
        scope: dict[str, Any] = {"images": images}
        exec("\n".join([*way, lines[-1]]), scope)
        answers.append(scope["predicted"])
    assert all(torch.equal(answers[0], answer) for answer in answers)
