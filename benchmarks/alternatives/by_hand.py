"""The study as one would write it by hand: torch, torchvision, Optuna's own loop, and MLflow with its defaults.

python benchmarks/alternatives/by_hand.py --trials 20 --epochs 4

MLFLOW_TRACKING_URI says where the record goes; otherwise MLflow's default, in the working directory.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import mlflow
import optuna
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

EXPERIMENT = "mnist"
LR = (2e-3, 3e-2)  # searched on a logarithmic scale
DROPOUT = (0.0, 0.3)


class Job(NamedTuple):
    """What all trials of a study have in common."""

    epochs: int
    seed: int
    data_root: str
    num_workers: int = 0
    """Processes that prepare images, for training and for testing each; 0 prepares them in the training's own."""
    batch_size: int = 256


def build_loaders(job: Job) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training and test images, each transformed as it is asked for."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train = MNIST(job.data_root, train=True, download=True, transform=transform)
    test = MNIST(job.data_root, train=False, download=True, transform=transform)
    workers: dict[str, Any] = {"num_workers": job.num_workers, "persistent_workers": job.num_workers > 0}
    return (
        DataLoader(train, batch_size=job.batch_size, shuffle=True, drop_last=True, **workers),
        DataLoader(test, batch_size=1000, **workers),
    )


def build_model(dropout: float) -> nn.Module:
    """The MLP 784-512-256-10; takes (B, 1, 28, 28), gives logits (B, 10)."""

    def hidden(in_features: int, width: int) -> list[nn.Module]:
        # The bias would be subtracted again by the batch norm that follows.
        return [nn.Linear(in_features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]

    return nn.Sequential(nn.Flatten(), *hidden(784, 512), *hidden(512, 256), nn.Linear(256, 10))


def train_epoch(
    model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer, scheduler: LRScheduler
) -> float:
    """One pass over the training images; the mean loss."""
    model.train()
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[Any]) -> float:
    """The share of images classified correctly."""
    model.eval()
    correct = num_images = 0
    for x, y in loader:
        correct += int((model(x).argmax(1) == y).sum())
        num_images += len(y)
    return correct / num_images


def run_trial(
    job: Job, lr: float, dropout: float, report: Callable[[float], None] = lambda _: None, run_name: str | None = None
) -> float:
    """Train once, recorded as a run in MLflow; the test accuracy after the last epoch.

    Args:
        report: Told the test accuracy after each epoch.
    """
    with mlflow.start_run(run_name=run_name):
        mlflow.log_params(job._asdict() | {"lr": lr, "dropout": dropout})
        torch.manual_seed(job.seed)
        train_loader, test_loader = build_loaders(job)
        model = build_model(dropout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=lr, total_steps=job.epochs * len(train_loader), cycle_momentum=False
        )
        for epoch in range(job.epochs):
            loss = train_epoch(model, train_loader, optimizer, scheduler)
            accuracy = evaluate(model, test_loader)
            mlflow.log_metrics({"train/loss": loss, "test/accuracy": accuracy}, step=epoch)
            report(accuracy)
        images, _ = next(iter(test_loader))
        # Arrays, and more than one image: that is how MLflow's default format exports a model for any batch size.
        mlflow.pytorch.log_model(model, name="model", input_example=images[:2].numpy())
    return accuracy


def build_parser(description: str | None, num_workers: int) -> argparse.ArgumentParser:
    """The options that every study of this kind has; `num_workers` by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-root", default="data", help="the folder that holds MNIST/raw, or will")
    parser.add_argument("--num-workers", type=int, default=num_workers, help="processes of each DataLoader")
    return parser


def main() -> None:
    """Search, and print the best trial."""
    # On two cores with nothing else running an epoch's training took 5.0 s with one thread and two workers, 6.2 s with
    # one worker, 8.1 s without; with two threads, which wait for each other, 7.2, 8.7 and 7.7 s.
    parser = build_parser(__doc__, num_workers=2)
    parser.add_argument("--num-threads", type=int, default=1, help="of torch")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time, in threads")
    options = parser.parse_args()
    torch.set_num_threads(options.num_threads)
    job = Job(options.epochs, options.seed, options.data_root, options.num_workers)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", *LR, log=True)
        dropout = trial.suggest_float("dropout", *DROPOUT)
        return run_trial(job, lr, dropout, run_name=f"trial-{trial.number}")

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_experiment(EXPERIMENT)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=options.seed))
    study.optimize(objective, n_trials=options.trials, n_jobs=options.jobs)
    print(f"best: trial {study.best_trial.number}, test/accuracy {study.best_value:.2%}, {study.best_params}")


if __name__ == "__main__":
    main()
