import pytest
import torch

from sweep.errors import SweepError
from sweep.models import CNNConfig, MLPConfig


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
