from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sweep.digits import loop
from sweep.digits.batches import ImageBatches, ImageTransform, training_loader
from sweep.digits.datasets import LabelledImages
from sweep.digits.models import MLPConfig
from sweep.digits.optimizers import SGDConfig
from sweep.errors import SweepError

SGD = SGDConfig(name="sgd", lr=0.1, weight_decay=0.0, schedule="none", momentum=0.0, nesterov=False)


def two_clouds(num_batches: int = 8, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Batches of points around (-1, -1) and (1, 1), labelled by the cloud."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(num_batches):
        y = torch.randint(2, (32,), generator=generator)
        x = (2.0 * y - 1).unsqueeze(1) + 0.3 * torch.randn(32, 2, generator=generator)
        batches.append((x, y))
    return batches


def fitted(model: nn.Module, epochs: int, batches: list[tuple[Tensor, Tensor]], **changes: object) -> list[float]:
    optimizer = SGD.build(model.parameters())
    scheduler = SGD.build_scheduler(optimizer, epochs * len(batches))
    return [r.loss for r in loop.fit(model, batches, optimizer, scheduler, epochs=epochs, **changes)]  # type: ignore[arg-type]


def test_fit_lowers_the_loss_and_evaluate_sees_the_accuracy_rise() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    losses = fitted(model, 5, two_clouds())
    assert losses == sorted(losses, reverse=True)
    assert loop.evaluate(model.eval(), two_clouds(seed=1)).accuracy > 0.99


def test_fit_does_the_steps_of_a_loop_written_by_hand() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    by_hand = nn.Linear(2, 2)
    by_hand.load_state_dict(model.state_dict())
    batches = two_clouds()
    fitted(model, 2, batches)
    for x, y in batches * 2:
        by_hand.zero_grad()
        F.cross_entropy(by_hand(x), y).backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
    torch.testing.assert_close(model.weight, by_hand.weight)


def test_fit_stops_where_its_reader_stops() -> None:
    model = nn.Linear(2, 2)
    optimizer = SGD.build(model.parameters())
    results = loop.fit(model, two_clouds(), optimizer, SGD.build_scheduler(optimizer, 80), epochs=10)
    assert next(results).epoch == 1
    after_one = model.weight.clone()
    del results
    assert torch.equal(model.weight, after_one)


def test_a_loss_that_stops_being_finite_is_reported_with_its_step() -> None:
    batches = two_clouds()
    batches[2] = (batches[2][0] * torch.inf, batches[2][1])
    with pytest.raises(loop.NonFiniteLossError, match=r"train/loss=nan at step 3 \(epoch 1\)"):
        fitted(nn.Linear(2, 2), 3, batches)


def test_evaluate_is_the_mean_over_images_and_not_over_batches() -> None:
    always_zero = [
        (torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0, 0, 0])),
        (torch.tensor([[1.0, 0.0]]), torch.tensor([1])),
    ]
    evaluation = loop.evaluate(nn.Identity(), always_zero)
    expected = F.cross_entropy(torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])).item()
    assert evaluation.accuracy == 0.75
    assert evaluation.loss == pytest.approx(expected)


def test_evaluate_is_in_float32_whatever_the_training_was_in() -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(F.linear(x, torch.eye(2)).dtype)
        return x

    loop.evaluate(model, two_clouds(1))
    assert seen == [torch.float32]


def test_label_smoothing_changes_the_loss_as_torch_defines_it() -> None:
    batches = two_clouds(1)
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    expected = F.cross_entropy(model(batches[0][0]), batches[0][1], label_smoothing=0.2).item()
    assert fitted(model, 1, batches, label_smoothing=0.2) == [pytest.approx(expected)]


def test_auto_precision_is_bfloat16_only_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert loop.pick_precision("auto", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True})
    assert loop.pick_precision("auto", cpu) == torch.float32
    assert loop.pick_precision("bfloat16", cpu) == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(SweepError, match=r"^device=cuda: there is none here; choose one of auto, cpu"):
        loop.pick_device("cuda")


def test_an_epoch_is_trained_without_reading_anything_back_from_the_device() -> None:
    meta = torch.device("meta")  # has shapes and no values: whatever needs a value raises
    images = LabelledImages(
        torch.zeros(640, 1, 28, 28, dtype=torch.uint8, device=meta), torch.zeros(640, dtype=torch.int64, device=meta)
    )
    with meta:
        transform = ImageTransform(0.1, 0.3, (1, 28, 28), flatten=True)
        model = MLPConfig(name="mlp", widths=[32], dropout=0.1, batch_norm=True, activation="relu").build(
            (1, 28, 28), 10
        )
    loader = training_loader(ImageBatches(images, transform, shift=2), batch_size=64, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = SGD.build_scheduler(optimizer, len(loader))
    served = []

    class Counted:
        def __len__(self) -> int:
            return len(loader)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for batch in loader:
                served.append(batch)
                yield batch

    with pytest.raises(NotImplementedError):  # at the end, where the losses are looked at
        next(loop.fit(model, Counted(), optimizer, scheduler, epochs=1, label_smoothing=0.05))
    assert len(served) == len(loader) == 10
