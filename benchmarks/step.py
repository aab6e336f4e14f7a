"""How near the training step is to this machine's matrix products: the default MLP at batch size 256, MNIST.

python benchmarks/step.py                                     float32 and bfloat16, one thread
python benchmarks/step.py model.dropout=0.1 epochs=8          any job
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sweep.digits import data, loop
from sweep.digits.batches import ImageBatches, training_loader
from sweep.digits.classifier import build_classifier
from sweep.digits.config import Config, compose

SIZE = 1024
"""Rows and columns of the matrices whose product is this machine's rate."""
STEPS_BETWEEN = 4
"""A product is timed after each so many steps, so that both see the same machine."""


class StepRate(NamedTuple):
    """How fast a model is trained, beside a matrix product alone."""

    precision: str
    step_ms: float
    """Median over the steps."""
    step_gflops: float
    """Of the step's matrix products, over all of its time: GFLOP/s."""
    gemm_gflops: float
    """Of a product of two square matrices: GFLOP/s, the median."""
    share: float
    """Median over groups of steps of the one over the other, measured side by side."""
    spread: tuple[float, float]
    """First and third quartile of the same."""


class Interleaved:
    """Batches, with a matrix product timed now and then, and the time of every step between."""

    def __init__(self, batches: loop.Batches, dtype: torch.dtype) -> None:
        self.batches = batches
        self.a, self.b = torch.randn(2, SIZE, SIZE).to(dtype)
        self.product = torch.empty(SIZE, SIZE, dtype=dtype)
        self.groups: list[tuple[list[float], float]] = []
        """Seconds of each step, and of the product after them."""

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        steps: list[float] = []
        started = time.perf_counter()
        for batch in self.batches:
            yield batch
            now = time.perf_counter()
            steps.append(now - started)
            if len(steps) == STEPS_BETWEEN:
                torch.mm(self.a, self.b, out=self.product)
                self.groups.append((steps, time.perf_counter() - now))
                steps = []
            started = time.perf_counter()


def flop_of_step(network: nn.Module, batch_size: int) -> int:
    """Of the matrix products of a step of an MLP: one forward, two backward, but for the images' own gradient."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    products = [3 * layer.weight.numel() for layer in linear]
    products[0] -= linear[0].weight.numel()
    return 2 * batch_size * sum(products)


def measure(config: Config, precision: str) -> StepRate:
    """Train the job of `config` on one thread of the CPU, after an epoch that does not count."""
    loop.make_deterministic(config.seed, 1)
    dtype = loop.pick_precision(precision, torch.device("cpu"))
    dataset = data.load(config.data)
    classifier = build_classifier(config, dataset.mean, dataset.std)
    images = ImageBatches(dataset.splits.train, classifier.transform, config.data.shift)
    batches = Interleaved(training_loader(images, config.data.batch_size, config.seed), dtype)
    optimizer = config.optimizer.build(classifier.network.parameters())
    scheduler = config.optimizer.build_scheduler(optimizer, config.epochs * len(batches))
    epochs = loop.fit(
        classifier.network, batches, optimizer, scheduler,
        epochs=config.epochs, precision=dtype, label_smoothing=config.label_smoothing,
    )  # fmt: skip
    for result in epochs:
        if result.epoch == 1:
            batches.groups.clear()
    flop = flop_of_step(classifier.network, config.data.batch_size)
    gemm_flop = 2 * SIZE**3
    shares = [flop / statistics.fmean(steps) / (gemm_flop / gemm) for steps, gemm in batches.groups]
    first, middle, third = statistics.quantiles(shares)
    step = statistics.median(second for steps, _ in batches.groups for second in steps)
    gemm = statistics.median(second for _, second in batches.groups)
    return StepRate(precision, step * 1e3, flop / step / 1e9, gemm_flop / gemm / 1e9, middle, (first, third))


def run(overrides: list[str]) -> list[dict[str, Any]]:
    """Both precisions, of the job that `overrides` make."""
    config = compose(["data.batch_size=256", *overrides])
    return [measure(config, precision)._asdict() for precision in ("float32", "bfloat16")]


def main() -> None:
    """Print a line for each precision."""
    for rate in run(sys.argv[1:]):
        print(json.dumps(rate))


if __name__ == "__main__":
    main()
