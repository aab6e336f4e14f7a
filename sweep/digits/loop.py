"""Training and evaluation of a classifier, with torch and nothing else.

`fit` is a generator: its caller records the results, and stops iterating to stop the training.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sweep import SweepError, require

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")
ALL_THREADS = torch.get_num_threads()  # as torch starts out: the cores, or OMP_NUM_THREADS


class Batches(Sized, Iterable[tuple[Tensor, Tensor]], Protocol):
    """Batches of inputs (B, ...) and labels (B,), iterated once an epoch."""


class EpochResult(NamedTuple):
    """The result of one epoch of training."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean of the training loss over the epoch's batches."""


class Evaluation(NamedTuple):
    """The result of a model on a data set that it is not trained on."""

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    """Share of the images classified correctly, 0 to 1."""
    labels: Tensor
    """(N,), int64, on the CPU."""
    predicted: Tensor
    """(N,), int64, on the CPU: the class with the highest probability."""
    probability: Tensor
    """(N,), float32, on the CPU: the model's probability of the predicted class."""


class NonFiniteLossError(SweepError):
    """A loss became infinite or not a number."""


def require_finite(metric: str, loss: float, epoch: int, step: int) -> None:
    """Raise a NonFiniteLossError that says where, if `loss` is infinite or not a number."""
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"{metric}={loss} at step {step} (epoch {epoch}): the training diverged; try a lower optimizer.lr"
        )


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is CUDA or Apple's MPS where there is one, else the CPU.

    Raises:
        SweepError: There is no such device here.
    """
    require(name in DEVICES, "device", name, f"one of {', '.join(DEVICES)}")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate, is_present in present.items() if is_present)
    here = ", ".join(candidate for candidate, is_present in present.items() if is_present)
    require(present[name], "device", name, f"there is none here; choose one of auto, {here}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type for matrix products; `auto` is bfloat16 only where `device` computes in it.

    Weights, optimizer state and evaluation stay in float32 either way.
    """
    require(name in PRECISIONS, "precision", name, f"one of {', '.join(PRECISIONS)}")
    if name == "auto":
        name = "bfloat16" if _computes_in_bfloat16(device) else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def make_deterministic(seed: int, num_threads: int | None) -> None:
    """Seed torch's random state with `seed`, and compute with `num_threads`, or one for each core.

    On the CPU with one thread the same seed then gives the same weights, bit for bit. With several
    threads sums are taken in another order, and the last bits may differ.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(num_threads or ALL_THREADS)


def fit(
    model: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    epochs: int,
    precision: torch.dtype = torch.float32,
    label_smoothing: float = 0.0,
) -> Iterator[EpochResult]:
    """Train `model` in place by cross-entropy and yield the result of each epoch.

    Args:
        model: Takes a batch's inputs, gives logits (B, num_classes).
        batches: The training set, already on the model's device.
        optimizer: Optimizer of the model's parameters.
        scheduler: Stepped after every batch.
        epochs: How often to go through `batches`.
        precision: Type in which matrix products are computed; see `pick_precision`.
        label_smoothing: Share of the target spread evenly over all classes
            (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567).

    Raises:
        NonFiniteLossError: At the end of the epoch in which the loss stopped being finite.
    """
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for x, y in batches:
            losses.append(take_step(model, x, y, optimizer, precision=precision, label_smoothing=label_smoothing))
            scheduler.step()
        # Brought over once an epoch: on a GPU each look waits for everything queued before it.
        step_losses = torch.stack(losses).float().cpu()  # (num_steps,)
        broken = (~step_losses.isfinite()).nonzero()
        if len(broken):
            first = int(broken[0])
            require_finite("train/loss", step_losses[first].item(), epoch, (epoch - 1) * len(losses) + first + 1)
        yield EpochResult(epoch, step_losses.mean().item())


def take_step(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: Optimizer, *, precision: torch.dtype, label_smoothing: float
) -> Tensor:
    """Take one step of `fit`; return the loss on inputs (B, ...) and labels (B,) before it, on the device."""
    with _autocast(x.device, precision):
        loss = F.cross_entropy(model(x), y, label_smoothing=label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.inference_mode()
def evaluate(model: Callable[[Tensor], Tensor], batches: Batches) -> Evaluation:
    """Return loss and accuracy of `model`, which is in evaluation mode, on `batches`, in float32."""
    losses, labels, highest = [], [], []
    for x, y in batches:
        logits = model(x).float()
        losses.append(F.cross_entropy(logits, y, reduction="none"))
        labels.append(y)
        highest.append(logits.softmax(dim=1).max(dim=1))
    # Brought over together: on a GPU each look waits for everything queued before it.
    loss = torch.cat(losses).double().mean().item()
    label = torch.cat(labels).cpu()
    predicted = torch.cat([each.indices for each in highest]).cpu()
    probability = torch.cat([each.values for each in highest]).cpu()
    return Evaluation(loss, (predicted == label).double().mean().item(), label, predicted, probability)


def _autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
