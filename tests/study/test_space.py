"""The search space, read as a study reads it: from conf/ and a command line, by Hydra's own loader."""

from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.errors import SweepError
from sweep.study import covering, dimensions, reading
from sweep.study.space import Space

Read = Callable[..., Space]


@pytest.fixture
def master() -> Iterator[DictConfig]:
    with initialize_config_dir(str(ROOT / "conf")):
        yield compose("config", ["hydra/sweeper=basic"], return_hydra_config=True)


@pytest.fixture
def read(master: DictConfig) -> Read:
    def read_space(*arguments: str) -> Space:
        loader = GlobalHydra.instance().config_loader()
        params = loader.load_sweep_config(master, list(arguments)).search if not _searches(arguments) else master.search
        return reading.read_space(params, list(arguments), loader, master)

    return read_space


@pytest.fixture
def grid_of(master: DictConfig) -> Read:
    """The space of a grid of these values."""
    loader = GlobalHydra.instance().config_loader()
    return lambda *arguments: reading.read_space({}, list(arguments), loader, master, can_be_empty=True, in_order=True)


def _searches(arguments: tuple[str, ...]) -> bool:
    return any("(" in argument or ".length" in argument for argument in arguments)


@pytest.fixture
def job(master: DictConfig) -> Callable[..., DictConfig]:
    return lambda *overrides: GlobalHydra.instance().config_loader().load_sweep_config(master, list(overrides))


def test_a_width_is_a_dimension_only_of_trials_that_have_the_layer(read: Read) -> None:
    found = read()
    assert found.dimensions["model.widths.length"] == IntDistribution(1, 3)
    widths = {length: [k for k in found.active({"model.widths": length}) if k[-1].isdigit()] for length in (1, 2, 3)}
    assert widths == {
        1: ["model.widths.0"],
        2: ["model.widths.0", "model.widths.1"],
        3: ["model.widths.0", "model.widths.1", "model.widths.2"],
    }


def test_the_widths_of_a_trial_become_one_list(read: Read) -> None:
    values = {"model.widths.length": 2, "model.widths.0": 300, "model.widths.1": 100, "model.dropout": 0.1}
    assert read("optimizer.lr=0.01", "data.batch_size=64").overrides(values) == [
        "optimizer.lr=0.01", "data.batch_size=64", "model.dropout=0.1", "model.widths=[300,100]",
    ]  # fmt: skip


def test_a_fixed_number_of_layers_stays_possible(read: Read) -> None:
    found = read("model.widths.length=2")
    assert "model.widths.length" not in found.dimensions
    assert found.overrides({"model.widths.0": 300, "model.widths.1": 100})[-1] == "model.widths=[300,100]"
    assert not any("widths" in key for key in read("model.widths=[512]").dimensions)


def test_a_layer_without_a_dimension_keeps_its_width(read: Read) -> None:
    found = read("model.widths.1=64", "model.widths.length=choice(1,2)")
    assert found.overrides({"model.widths.length": 2, "model.widths.0": 300})[-1] == "model.widths=[300,64]"
    assert found.overrides({"model.widths.length": 1, "model.widths.0": 300})[-1] == "model.widths=[300]"


def test_every_choice_every_bound_and_the_shortest_and_longest_list_are_tried(read: Read) -> None:
    found = read()
    corners = covering.require_each_goes(found.extremes(), lambda _: None)
    flat = {override for corner in [*corners, corners[0] | found.shortest()] for override in found.overrides(corner)}
    assert {f"data.batch_size={size}" for size in (256, 512, 1024)} < flat
    assert {"model.dropout=0.0", "model.dropout=0.3", "optimizer.lr=0.002", "optimizer.lr=0.03"} < flat
    assert {"model.widths=[128,64,32]", "model.widths=[1024,512,256]", "model.widths=[1024]"} < flat


def test_only_a_value_that_never_goes_is_refused_whatever_the_order_of_the_values() -> None:
    refused = {("a1", "b1"), ("a1", "b2"), ("a2", "b2")}  # a1 goes with b3 alone, b2 with a3 alone

    def attempt(combination: dict[str, str]) -> None:
        if (combination["a"], combination["b"]) in refused or combination["a"] == "a4":
            raise SweepError(f"{combination['a']} and {combination['b']}")

    for order in (1, -1):
        values = {"a": ["a1", "a2", "a3"][::order], "b": ["b1", "b2", "b3"][::order]}
        taken = covering.require_each_goes(values, attempt)
        assert {one["a"] for one in taken} == {"a1", "a2", "a3"}
        assert {one["b"] for one in taken} == {"b1", "b2", "b3"}
        with pytest.raises(SweepError, match=r"^a4 and"):
            covering.require_each_goes(values | {"a": ["a4", *values["a"]]}, attempt)


def test_the_job_as_composed_is_a_point_of_the_space(read: Read, job: Callable[..., DictConfig]) -> None:
    assert read().point_of(job()) == {
        "model.widths.length": 2, "model.widths.0": 512, "model.widths.1": 256,
        "model.dropout": 0.0, "optimizer.lr": 0.01, "data.batch_size": 512,
    }  # fmt: skip
    groups = read(
        "optimizer=choice(adam,sgd)",
        "optimizer.lr=0.1",
        "model.widths=choice([512,256],[64])",
        "model.batch_norm=choice(true)",
    )
    point = groups.point_of(job("optimizer=sgd"))
    assert (point["optimizer"], point["model.widths"], point["model.batch_norm"]) == ("sgd", "[512,256]", True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=1", "optimizer.lr=1: outside of float 0.002 to 0.03, log"),
        ("data.batch_size=100", "data.batch_size=100: outside of choice(256, 512, 1024)"),
        ("model.widths=[64,64]", "model.widths.0=64: outside of int 128 to 1024, log"),
        ("model.widths=[512,256,128,64]", "model.widths.length=4: outside of int 1 to 3"),
    ],
)
def test_a_point_outside_says_of_which_dimension(
    read: Read, job: Callable[..., DictConfig], override: str, message: str
) -> None:
    with pytest.raises(SweepError) as raised:
        read().point_of(job(override))
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.widths.length=range(1,6)"], "model.widths.length=5: there is no model.widths.3; give it a dimension"),
        (["model.widths.length=interval(1.5,2.5)"], "model.widths.length=1.5,2.5: must be a whole number"),
        (["model.widths.5=range(8,64)"], "model.widths.5: model.widths has at most 3 items, counted from 0"),
        (["optimizer.lr=interval(1,0.1)"], "the search space cannot be read"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(read: Read, arguments: list[str], message: str) -> None:
    with pytest.raises(SweepError) as raised:
        read(*arguments)
    assert message in str(raised.value)


def test_a_float_with_a_step_takes_its_own_values_only(read: Read, job: Callable[..., DictConfig]) -> None:
    found = read("model.dropout=range(0.0,0.4,0.1)")
    assert found.dimensions["model.dropout"] == FloatDistribution(0.0, 0.3, step=0.1)
    assert found.point_of(job("model.dropout=0.2"))["model.dropout"] == 0.2
    with pytest.raises(SweepError):
        found.point_of(job("model.dropout=0.15"))


def test_a_space_is_read_back_as_it_was_written(read: Read, grid_of: Read) -> None:
    searched = read().dimensions
    assert dimensions.from_json(dimensions.to_json(searched)) == searched
    grid = grid_of("optimizer.lr=1e-4,1e-2", "model.widths=[8],[16,8]", "data=digits,mnist").dimensions
    assert dimensions.from_json(dimensions.to_json(grid)) == grid


def test_the_recorded_text_of_a_value_is_found_in_its_dimension() -> None:
    rate, width = FloatDistribution(1e-4, 1e-1, log=True), IntDistribution(8, 64)
    assert dimensions.value_of(rate, "0.01") == 0.01
    assert dimensions.value_of(width, "16") == 16
    for dimension in (rate, width):
        assert [dimensions.value_of(dimension, text) for text in ("", "500", "relu")] == [None] * 3
    assert dimensions.value_of(CategoricalDistribution((1e-4, 1e-2)), "0.0001") == 1e-4
    assert dimensions.value_of(CategoricalDistribution((True, False)), "False") is False
    assert dimensions.value_of(CategoricalDistribution(("[16]", "[32, 16]")), "[32,16]") == "[32, 16]"
    assert dimensions.value_of(CategoricalDistribution(("mlp", "cnn")), "resnet") is None


@pytest.mark.parametrize(
    ("dimension", "value", "side", "beyond"),
    [
        (FloatDistribution(1e-4, 1e-1, log=True), 0.099, "upper", 0.101),
        (FloatDistribution(0, 0.3), 0.001, "lower", -0.003),
        (IntDistribution(1, 3), 3, "upper", 4),
        (IntDistribution(128, 1024, log=True), 128, "lower", 127),
        (CategoricalDistribution((256, 512, 1024)), 256, "lower", 128),
        (CategoricalDistribution((256, 512, 1024)), 1024, "upper", 2048),
        (CategoricalDistribution((1e-4, 1e-3, 1e-2)), 1e-4, "lower", 1e-5),
        (CategoricalDistribution((0.0, 0.1, 0.2)), 0.2, "upper", 0.3),
    ],
)
def test_a_value_at_an_end_of_its_dimension_is_found_with_what_lies_beyond(
    dimension: BaseDistribution, value: float, side: str, beyond: float
) -> None:
    edge = dimensions.edge_of(dimension, value)
    assert edge is not None
    assert edge.side == side
    assert edge.beyond == pytest.approx(beyond)


def test_there_are_no_ends_in_the_middle_among_two_choices_and_among_words() -> None:
    assert dimensions.edge_of(FloatDistribution(1e-4, 1e-1, log=True), 1e-2) is None
    assert dimensions.edge_of(CategoricalDistribution((256, 512, 1024)), 512) is None
    assert dimensions.edge_of(CategoricalDistribution((64, 512)), 512) is None
    assert dimensions.edge_of(CategoricalDistribution(("relu", "tanh", "gelu")), "relu") is None
    assert dimensions.edge_of(IntDistribution(8, 8), 8) is None
    assert dimensions.edge_of(IntDistribution(8, 16), None) is None


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        (
            ("seed=0,1", "epochs=2,1"),
            [["seed=0", "epochs=2"], ["seed=0", "epochs=1"], ["seed=1", "epochs=2"], ["seed=1", "epochs=1"]],
        ),
        (("epochs=range(3,0,-1)",), [["epochs=3"], ["epochs=2"], ["epochs=1"]]),
        (("epochs=sort(3,1,2)",), [["epochs=1"], ["epochs=2"], ["epochs=3"]]),
        (("+new.key=1,2", "seed=7"), [["seed=7", "+new.key=1"], ["seed=7", "+new.key=2"]]),
        (("+note='a,b',c",), [["+note='a,b'"], ["+note=c"]]),
        (("+note=null,true",), [["+note=null"], ["+note=True"]]),
        (("+note=1,true,1.0",), [["+note=1"], ["+note=True"], ["+note=1.0"]]),
        (("+note='1',1,007,1e-3",), [["+note='1'"], ["+note=1"], ["+note=007"], ["+note=0.001"]]),
        (("seed=1,1",), [["seed=1"], ["seed=1"]]),
        (("optimizer=glob(a*)",), [["optimizer=adam"], ["optimizer=adamw"]]),
        (("seed=5",), [["seed=5"]]),
    ],
)
def test_a_grid_s_combinations_come_in_the_order_in_which_hydra_tries_them(
    grid_of: Read, given: tuple[str, ...], tried: list[list[str]]
) -> None:
    found = grid_of(*given)
    assert [found.overrides(combination) for combination in found.combinations()] == tried
