import pytest
import torch

from sweep.digits.models import CNNConfig, Dropout, MLPConfig
from sweep.errors import SweepError


def mlp(**changes: object) -> MLPConfig:
    settings = {"name": "mlp", "widths": [32, 16], "dropout": 0.1, "batch_norm": True, "activation": "relu"}
    return MLPConfig(**(settings | changes))  # type: ignore[arg-type]


def cnn(**changes: object) -> CNNConfig:
    return CNNConfig(**({"name": "cnn", "channels": [4, 8], "dropout": 0.1} | changes))  # type: ignore[arg-type]


def test_mlp_has_the_layers_that_its_config_names() -> None:
    network = mlp(widths=[32, 16], activation="gelu").build((1, 28, 28), 10)
    names = [type(layer).__name__ for layer in network]  # type: ignore[attr-defined]
    assert names == ["Linear", "BatchNorm1d", "GELU", "Dropout"] * 2 + ["Linear"]
    assert network(torch.zeros(3, 784)).shape == (3, 10)


def test_mlp_without_batch_norm_and_dropout_is_linear_layers_and_activations() -> None:
    network = mlp(batch_norm=False, dropout=0.0, widths=[8]).build((1, 28, 28), 10)
    assert [type(layer).__name__ for layer in network] == ["Linear", "ReLU", "Linear"]  # type: ignore[attr-defined]
    assert sum(p.numel() for p in network.parameters()) == 784 * 8 + 8 + 8 * 10 + 10


def test_cnn_gives_logits_for_any_image_size_that_its_blocks_can_halve() -> None:
    assert cnn(channels=[4, 8, 16, 32]).build((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert cnn(channels=[4]).build((3, 8, 9), 5)(torch.zeros(2, 3, 8, 9)).shape == (2, 5)


def test_cnn_with_more_blocks_than_the_image_can_be_halved_is_refused() -> None:
    with pytest.raises(SweepError, match=r"model.channels=\[4, 4, 4, 4, 4\]: at most 4 blocks"):
        cnn(channels=[4] * 5).build((1, 28, 28), 10)


def test_same_seed_builds_the_same_weights() -> None:
    torch.manual_seed(3)
    first = mlp().build((1, 28, 28), 10).state_dict()
    torch.manual_seed(3)
    second = mlp().build((1, 28, 28), 10).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_the_share_that_it_is_told_and_scales_the_rest_in_both_directions(
    p: float, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    num_units = 401 * 501  # not a multiple of the four that share a draw
    x = torch.ones(401, 501, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    y.sum().backward()
    assert x.grad is not None
    assert y.dtype == dtype
    assert torch.equal(y, x.grad)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    share = (y == 0).double().mean().item()
    assert abs(share - p) < 5 * (p * (1 - p) / num_units) ** 0.5


def test_dropout_treats_all_units_alike_whatever_their_place_in_a_draw() -> None:
    torch.manual_seed(0)
    zeroed = (Dropout(0.5)(torch.ones(100_000, 4)) == 0).double()
    assert (zeroed.mean(dim=0) - 0.5).abs().max() < 0.01
    assert (torch.corrcoef(zeroed.T) - torch.eye(4)).abs().max() < 0.02


def test_dropout_leaves_an_evaluated_network_alone_and_follows_the_seed_in_training() -> None:
    x = torch.rand(8, 9)
    dropout = Dropout(0.3)
    torch.manual_seed(1)
    first = dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(dropout(x), first)
    assert torch.equal(dropout.eval()(x), x)
