"""What a GPU makes of it: the step and how much of it is launching, seconds to 99%, trials that share one GPU.

python benchmarks/gpu.py                             on a machine with one
python benchmarks/gpu.py --device cpu --trials 2     shows only that it runs
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import studies
import torch
from studies import Task
from torch import Tensor, nn

from sweep.digits import batches, data, loop
from sweep.digits.classifier import build_classifier
from sweep.digits.config import Config, compose

GOAL = 0.99
STEPS = 200


class Training:
    """A job on its device, ready to be stepped."""

    def __init__(self, config: Config, device: torch.device, capturable: bool = False) -> None:
        loop.make_deterministic(config.seed, None)
        self.config, self.device = config, device
        self.precision = loop.pick_precision(config.precision, device)
        dataset = data.load(config.data)
        train, _, test = (batches.to_device(split, device) for split in dataset.splits)
        classifier = build_classifier(config, dataset.mean, dataset.std).to(device)
        self.network = classifier.network
        images = batches.ImageBatches(train, classifier.transform, config.data.shift)
        self.batches = batches.training_loader(images, config.data.batch_size, config.seed)
        self.test = batches.evaluation_loader(batches.ImageBatches(test, classifier.transform))
        self.optimizer = config.optimizer.build(self.network.parameters())
        for group in self.optimizer.param_groups if capturable else []:
            group["capturable"] = True
            group["lr"] = torch.tensor(group["lr"], device=device)
        self.scheduler = config.optimizer.build_scheduler(self.optimizer, config.epochs * len(self.batches))

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step of `loop.fit`."""
        smoothing = self.config.label_smoothing
        loop.take_step(self.network, x, y, self.optimizer, precision=self.precision, label_smoothing=smoothing)


def synchronize(device: torch.device) -> None:
    """Wait for what has been queued."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def ms_per_call(call: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds of a call, of STEPS of them queued one behind the other."""
    for _ in range(10):
        call()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(STEPS):
        call()
    synchronize(device)
    return (time.perf_counter() - started) / STEPS * 1e3


def measure_step(config: Config, device: torch.device) -> dict[str, float | None]:
    """Milliseconds of a step as it is, compiled, and as a CUDA graph, which launches once: the rest was launching."""
    training = Training(config, device)
    x, y = next(iter(training.batches))
    eager = ms_per_call(lambda: training.step(x, y), device)
    compiled = Training(config, device)
    compiled.network = cast(nn.Module, torch.compile(compiled.network))
    started = time.perf_counter()
    compiled.step(x, y)
    synchronize(device)
    compiling = time.perf_counter() - started
    found: dict[str, float | None] = {
        "eager_ms": eager,
        "compiled_ms": ms_per_call(lambda: compiled.step(x, y), device),
        "compiling_s": compiling,
        "graph_ms": None,
        "launch_share": None,
    }
    if device.type == "cuda":
        graph = capture(Training(config, device, capturable=True), x, y)
        replayed = ms_per_call(graph.replay, device)
        found |= {"graph_ms": replayed, "launch_share": 1 - replayed / eager}
    return found


def capture(training: Training, x: Tensor, y: Tensor) -> "torch.cuda.CUDAGraph":
    """The step of `training` on this batch as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated on the first steps must not be captured
        for _ in range(3):
            training.step(x, y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training.step(x, y)
    return graph


def count_waits(config: Config, device: torch.device) -> int | None:
    """How often the host waits for the GPU in an epoch of `loop.fit`; once is for the loss."""
    if device.type != "cuda":
        return None
    training = Training(config, device)
    epoch = loop.fit(
        training.network, training.batches, training.optimizer, training.scheduler,
        epochs=config.epochs, precision=training.precision,
    )  # fmt: skip
    next(epoch)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        next(epoch)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def seconds_to_goal(config: Config, device: torch.device) -> tuple[float, float]:
    """Seconds of training and evaluation until the test accuracy is GOAL, and the accuracy then, or at the end."""
    training = Training(config, device)
    started = time.perf_counter()
    accuracy = 0.0
    for _ in loop.fit(
        training.network, training.batches, training.optimizer, training.scheduler,
        epochs=config.epochs, precision=training.precision, label_smoothing=config.label_smoothing,
    ):  # fmt: skip
        accuracy = loop.evaluate(training.network.eval(), training.test).accuracy
        if accuracy >= GOAL:
            break
    return time.perf_counter() - started, accuracy


def measure_sharing(device: str, num_trials: int, epochs: int, slots: list[int]) -> dict[int, float]:
    """Trials an hour by how many share the device."""
    task = Task(num_trials, epochs, 0, studies.data_root())
    found = {}
    for num_slots in slots:
        command = studies.ours(task, studies.UNPRUNED, f"device={device}", f"hydra.sweeper.n_jobs={num_slots}")
        found[num_slots] = studies.run_study(f"{num_slots} slots", command, num_trials).trials_per_hour
    return found


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    device = loop.pick_device(options.device)
    mlp = compose(["data.batch_size=256", f"epochs={max(2, options.epochs)}"])
    cnn = compose(["model=cnn", f"epochs={options.epochs}"])
    seconds, accuracy = seconds_to_goal(cnn, device)
    results = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "mlp_step": measure_step(mlp, device),
        "cnn_step": measure_step(cnn, device),
        "waits_per_epoch": count_waits(mlp, device),
        "cnn_seconds_to_99": seconds if accuracy >= GOAL else None,
        "cnn_accuracy": accuracy,
        "trials_per_hour": measure_sharing(options.device, options.trials, options.epochs, options.slots),
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
