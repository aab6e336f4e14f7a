"""Everything that is measured side by side, in one run: `make bench`.

python benchmarks/bench.py                                   ten minutes on two cores
python benchmarks/bench.py --trials 6 --epochs 4 --rounds 1 --all    a quarter of an hour

Writes results.json and the tables in README.md, both beside this file. Nothing else should run meanwhile.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import stages
import step
import studies
import torch
import workers

ROOT = Path(__file__).resolve().parents[1]


HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
PACKAGES = (
    "torch", "torchvision", "hydra-core", "hydra-optuna-sweeper", "optuna", "mlflow", "lightning", "torchmetrics",
    "ray",
)  # fmt: skip
QUICK = ("by hand", "lightning", "ray tune", "ours", "ours, pruning")
"""The contestants of a run of ten minutes."""
ANSWERS = {
    "`--help`": ["--help"],
    "a mistyped key": ["optimizer.lrr=0.1"],
    "a mistyped key, in a study": ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trails=3"],
    "a mistyped choice": ["model=mpl"],
    "a value of the wrong type": ["epochs=four"],
}


def machine() -> dict[str, Any]:
    """What it was measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    return {
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def measure_stages(num_trials: int, epochs: int) -> list[dict[str, float]]:
    """Each trial's seconds by stage; in a process of its own, since it puts a clock into the project's functions."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        options = [f"--trials={num_trials}", f"--json={file.name}", *studies.JOB, f"epochs={epochs}"]
        subprocess.run([sys.executable, HERE / "stages.py", *options], check=True, capture_output=True)
        return json.loads(Path(file.name).read_text())


def measure_answers(num_times: int) -> dict[str, list[float]]:
    """Seconds from a command that trains nothing to its answer."""
    seconds: dict[str, list[float]] = {name: [] for name in ANSWERS}
    for _ in range(num_times):
        for name, arguments in ANSWERS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, ROOT / "sweep" / "train.py", *arguments], capture_output=True)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def tables(results: dict[str, Any]) -> str:
    """All of it as Markdown."""
    here = results["machine"]
    task = results["task"]
    parts = [
        f"Measured on {results['date']}: {here['processor']} ({here['capability']}), {here['cores']} cores, "
        f"{here['memory_gb']} GB, {'no GPU' if here['gpu'] is None else here['gpu']}; "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + ".",
        "### Studies",
        f"{task['trials']} trials of {task['epochs']} epochs; rounds: {task['rounds']}.",
        studies.markdown(results["studies"]),
        "### The training step",
        _rows(
            ["", "step, ms", "step, GFLOP/s", "1024x1024 product, GFLOP/s", "share", "quartiles"],
            [
                [
                    rate["precision"], f"{rate['step_ms']:.2f}", f"{rate['step_gflops']:.0f}",
                    f"{rate['gemm_gflops']:.0f}", f"{rate['share']:.0%}",
                    f"{rate['spread'][0]:.0%} to {rate['spread'][1]:.0%}",
                ]
                for rate in results["step"]
            ],
        ),
        "### Where the time of a trial goes",
        stages.table(results["stages"]),
        "### Workers",
        _rows(
            ["", "measured"],
            [
                ["two workers beside one, times as many trials an hour", f"{results['workers']['speedup']:.2f}"],
                [
                    "the first two trials start after the command, s",
                    " and ".join(f"{seconds:.1f}" for seconds in results["workers"]["seconds_to_first_trials"]),
                ],
                ["a worker's own memory, MB", f"{results['workers']['own_megabytes']:.0f}"],
                ["with its part of what is shared, MB", f"{results['workers']['megabytes_shared_once']:.0f}"],
            ],
        ),
        "### Answers",
        _rows(
            ["`python sweep/train.py` with", "seconds", "slowest"],
            [
                [name, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"]
                for name, seconds in results["answers"].items()
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def write(results: dict[str, Any]) -> None:
    """Leave the results beside this file, and their tables between the marks in README.md."""
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    text = README.read_text()
    marked = re.compile(r"(<!-- written by bench.py -->\n).*(<!-- end -->)", re.DOTALL)
    README.write_text(marked.sub(lambda found: f"{found[1]}\n{tables(results)}\n\n{found[2]}", text))


def main() -> None:
    """Measure everything, write it and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2, help="of each study")
    parser.add_argument("--epochs", type=int, default=2, help="of each trial")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="every contestant, not only those of a quick run")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew, from results.json")
    options = parser.parse_args()
    if options.tables:
        write(json.loads(RESULTS.read_text()))
        return
    os.environ.setdefault("SWEEP_DATA_ROOT", str(studies.data_root()))
    names = list(studies.CONTESTANTS) if options.all else list(QUICK)
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "task": {"trials": options.trials, "epochs": options.epochs, "rounds": options.rounds},
        "answers": measure_answers(3),
        "step": step.run([]),
        "stages": measure_stages(8, epochs=options.epochs),
        "workers": workers.measure(num_trials=8, epochs=options.epochs, num_rounds=1),
        "studies": studies.measure(options.trials, options.epochs, options.rounds, names),
    }
    write(results)
    print(tables(results))


if __name__ == "__main__":
    main()
