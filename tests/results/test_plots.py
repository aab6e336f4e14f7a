"""The facts behind each plot, and that each can be drawn."""

import math
import re
from html import unescape
from typing import Any

import pytest
from made import JOB, run, table
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.description import Metric
from sweep.job import Job
from sweep.results import page, plots
from sweep.results.axes import Scale, ticks_of
from sweep.results.page import Plot
from sweep.results.table import StudyTable

DIMENSIONS = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "act": CategoricalDistribution(["relu", "tanh"]),
    "width": IntDistribution(1, 1024, log=True),
}
RUNS = [
    run(2, 0.97, params={"lr": 0.1, "act": "tanh", "width": 128}),
    run(0, 0.80, "KILLED", params={"lr": 0.001, "act": "relu"}),
    run(1, 0.98, params={"lr": 0.01, "act": "relu", "width": 512}),
    run(3, 0.99, "KILLED", params={"lr": 0.02, "act": "relu", "width": 256}),
]
TABLE = table(RUNS, DIMENSIONS)
CURVES = {2: [(1, 0.9), (2, 0.97)], 0: [(1, 0.8)], 1: [(1, 0.95), (2, 0.98)], 3: [(1, 0.99)]}


def of_values(
    *values: float, objective: str = "test/accuracy", direction: str = "maximize", job: Job = JOB
) -> StudyTable:
    runs = [run(i, {objective: value}) for i, value in enumerate(values)]
    return table(runs, objectives=objective, directions=direction, job=job)


def test_the_history_is_in_order_and_only_finished_trials_can_be_the_best_so_far() -> None:
    facts = plots.history(TABLE)
    assert facts.numbers == [0, 1, 2, 3]
    assert facts.values == [0.80, 0.98, 0.97, 0.99]
    assert facts.pruned == [True, False, False, True]
    assert math.isnan(facts.best[0])
    assert facts.best[1:] == [0.98, 0.98, 0.98]
    assert plots.history(table(RUNS, directions="minimize")).best[1:] == [0.98, 0.97, 0.97]


def test_an_axis_holds_the_trials_that_have_the_setting() -> None:
    facts = plots.axis(TABLE, "width", is_log=True)
    assert facts.settings == [512, 128, 256]
    assert [row.number for row in facts.rows] == [1, 2, 3]


def test_numbers_lie_where_their_logarithms_are_and_words_in_the_order_of_the_alphabet() -> None:
    facts = plots.coordinate(TABLE, "lr", is_log=True)
    assert facts.places == pytest.approx([-3, -2, -1, math.log10(0.02)])
    assert list(facts.ticks) == pytest.approx([-3, -2, math.log10(0.02), -1])
    assert list(facts.ticks.values()) == ["0.001", "0.01", "0.02", "0.1"]
    assert plots.coordinate(TABLE, "act", is_log=False).places == [0, 0, 1, 0]
    assert plots.coordinate(TABLE, "act", is_log=False).ticks == {0: "relu", 1: "tanh"}


def test_a_trial_without_the_setting_lies_below_all_others() -> None:
    facts = plots.coordinate(TABLE, "width", is_log=False)
    assert facts.places[0] < min(facts.places[1:])
    assert facts.ticks[facts.places[0]] == "none"


def test_a_share_is_drawn_as_its_distance_from_1_and_labelled_as_itself() -> None:
    figure = plots.draw_history(TABLE)
    finished = next(trace for trace in figure.data if trace.name == "finished")
    assert list(finished.y) == pytest.approx([0.02, 0.03])
    assert "trial 1: 98.00%" in finished.text
    axis = figure.layout.yaxis
    assert axis.range[0] > axis.range[1]  # the best on top
    for place, text in zip(axis.tickvals, axis.ticktext, strict=True):
        assert float(text.rstrip("%")) == pytest.approx(100 * (1 - place), rel=1e-3)


def test_a_share_that_is_minimized_has_its_good_end_at_0() -> None:
    scale = Scale("val/error", Metric(direction="minimize", is_share=True), "minimize", [0.02, 0.3])
    assert (scale.is_log, scale.is_reversed) == (True, False)
    assert scale.place(0.02) == 0.02
    assert "10%" in scale.ticks().values()


def test_values_that_are_below_0_or_maximized_and_no_share_lie_where_they_are() -> None:
    rewards = Scale("reward", Metric(), "maximize", [-20.0, 0.0, 35.0])
    losses = Scale("loss", Metric(), "minimize", [-1.5, 2.0])
    for scale, value in ((rewards, -20.0), (losses, -1.5)):
        assert not scale.is_log
        assert scale.place(value) == scale.height(value) == value
        assert scale.axis()["type"] == "linear"
    assert list(rewards.ticks().values()) == ["-20", "0", "20"]


def test_a_perfect_share_and_a_single_trial_can_be_drawn() -> None:
    only = table([run(0, 1.0, params={"lr": 0.1})], DIMENSIONS)
    for figure in (
        plots.draw_history(only),
        plots.draw_curves(only, {0: [(1, 1.0)]}),
        *plots.draw_axes(only, [plots.axis(only, "lr", is_log=True)]),
        plots.draw_parallel(only, [plots.coordinate(only, "lr", is_log=True)]),
    ):
        assert all(math.isfinite(end) for end in figure.layout.yaxis.range or ())


def test_every_trial_has_its_curve_and_a_pruned_one_ends_with_a_cross() -> None:
    figure = plots.draw_curves(TABLE, CURVES)
    assert [list(trace.x) for trace in figure.data] == [[1], [1], [1, 2], [1, 2]]
    pruned = [trace for trace in figure.data if trace.name == "pruned"]
    assert len(pruned) == 2
    assert all(trace.marker.symbol[-1] == "x" for trace in pruned)
    assert [trace.name for trace in figure.data][-1] == "best"  # on top of the others
    assert list(figure.data[-1].y) == pytest.approx([0.05, 0.02])
    assert figure.layout.xaxis.title.text == "epoch"  # as the job calls its steps


def test_the_best_trial_stands_out_on_every_axis_that_it_has() -> None:
    axes = [plots.axis(TABLE, key, is_log=key == "lr") for key in ("lr", "act", "width")]
    figures = plots.draw_axes(TABLE, axes)
    best = [list(trace.x) for figure in figures for trace in figure.data if trace.name == "best"]
    assert best == [[0.01], ["relu"], [512]]
    assert len({figure.layout.yaxis.range for figure in figures}) == 1  # all with the same scale


def many() -> StudyTable:
    params: list[dict[str, Any]] = [
        {"lr": 10 ** (-(i % 7) / 2), "act": ("relu", "tanh")[i % 2], "width": 1 + i * 3} for i in range(40)
    ]
    return table([run(i, {"test/loss": one["lr"]}, params=one) for i, one in enumerate(params)], DIMENSIONS,
                 objectives="test/loss", directions="minimize")  # fmt: skip


def test_importances_are_drawn_by_short_names_with_the_highest_on_top() -> None:
    shares = {"lr": 0.7, "width": 0.3}
    (bars,) = plots.draw_importances(many(), shares, {"lr": "rate", "width": "width"}).data
    assert bars.y[-1] == "rate"  # from below
    assert set(bars.y) == {"rate", "width"}
    assert sum(bars.x) == pytest.approx(1)
    assert bars.texttemplate == "%{x:.0%}"


def test_the_pareto_front_shows_which_trials_no_other_beats_with_their_numbers_in_words() -> None:
    runs = [run(i, {"test/accuracy": a, "model/size": s}) for i, (a, s) in
            enumerate([(0.9, 1e4), (0.8, 1e3), (0.85, 2e4), (0.95, 5e4)])]  # fmt: skip
    made = table([*runs, run(7, 0.99, "KILLED")], objectives="test/accuracy,model/size",
                 directions="maximize,minimize")  # fmt: skip
    beaten, front = plots.draw_front(made).data
    assert list(front.x) == [0.9, 0.8, 0.95]
    assert list(beaten.text) == ["trial 2: test/accuracy 85.00%  model/size 20,000"]
    assert plots.draw_front(made).layout.xaxis.title.text == "test/accuracy"
    three = table([run(i, {"a": i, "b": -i, "c": 1.0}) for i in range(3)], objectives="a,b,c",
                  directions="maximize,maximize,minimize", job=Job())  # fmt: skip
    assert list(plots.draw_front(three).data[1].z) == [1.0, 1.0, 1.0]
    four = table([run(i, {"a": i, "b": -i, "c": 1.0, "d": 0.0}) for i in range(3)], objectives="a,b,c,d",
                 directions="maximize,maximize,minimize,minimize", job=Job())  # fmt: skip
    assert len(plots.draw_front(four).data[1].x) == 3


def test_a_page_of_a_plot_needs_no_network_and_escapes_what_others_wrote() -> None:
    made = page.page_of_plot(Plot("Importances", "What <set> them apart", [plots.draw_history(TABLE)]))
    assert not re.search(r'<link|<script[^>]* src|<img[^>]* src="(?!data:)', made)
    assert "Plotly.newPlot" in made
    assert "What &lt;set&gt; them apart" in made
    assert unescape(made).count('class="plot"') == 1


def test_a_page_s_figures_have_no_toolbar_and_those_of_each_setting_lie_in_a_grid_that_a_phone_shows_one_wide() -> None:
    axes = [plots.axis(TABLE, key, is_log=False) for key in ("lr", "width")]
    made = page.page_of_plot(Plot("Each parameter", "", plots.draw_axes(TABLE, axes)))
    assert made.count('class="plots"') == 1
    assert made.count('class="plot"') == made.count('"displayModeBar": false') == 2


@pytest.mark.parametrize(
    ("values", "is_log", "written"),
    [
        ([256, 512, 1024], False, ["256", "512", "1024"]),
        ([16, 32, 64, 128, 256, 512, 1024, 2048], True, ["16", "64", "256", "1024"]),
        ([133, 219, 362, 597, 601, 984], True, ["200", "300", "500"]),
        ([0.00222, 0.00417, 0.00781, 0.0146, 0.0274], True, ["0.003", "0.005", "0.01", "0.02"]),
        ([1.04e-6, 1.2e-5, 0.0095], True, ["1e-5", "0.0001", "0.001"]),
        ([0.0, 0.0741, 0.148, 0.222, 0.297], False, ["0", "0.1", "0.2"]),
        (list(range(20)), False, ["0", "5", "10", "15"]),
        ([0, 1], False, ["0", "1"]),
        ([1, 2, 3], False, ["1", "2", "3"]),
        ([20_000, 1_234_567], True, ["20,000", "50,000", "100,000", "200,000", "500,000", "1,000,000"]),
        ([0.0123], True, ["0.0123"]),
    ],
)
def test_what_is_written_on_an_axis_are_round_numbers_without_powers(
    values: list[float], is_log: bool, written: list[str]
) -> None:
    assert list(ticks_of(values, is_log).values()) == written


def test_a_logarithmic_axis_says_so() -> None:
    assert plots.axis(TABLE, "lr", True, "rate").name == "rate (log)"
    assert plots.axis(TABLE, "lr", False, "rate").name == "rate"
    assert plots.coordinate(TABLE, "lr", is_log=True).name == "lr (log)"
    losses = plots.draw_history(table(RUNS, objectives="test/loss", directions="minimize")).layout.yaxis
    assert losses.title.text == "test/loss (log)"
    assert plots.draw_curves(TABLE, CURVES).layout.yaxis.title.text.endswith("(log of the error)")


def test_a_loss_in_thousands_is_written_in_digits() -> None:
    axis = plots.draw_history(of_values(0.02, 1501.0, objective="test/loss", direction="minimize")).layout.yaxis
    assert list(axis.ticktext) == ["0.1", "1", "10", "100", "1000"]


def test_two_shares_that_are_almost_the_same_are_written_differently() -> None:
    written = plots.draw_history(of_values(0.98661, 0.98662)).layout.yaxis.ticktext
    assert len(set(written)) == len(written) > 1


def test_a_loss_is_drawn_as_itself_with_the_lowest_below() -> None:
    figure = plots.draw_history(of_values(0.5, 0.05, objective="test/loss", direction="minimize"))
    assert figure.layout.yaxis.range[0] < figure.layout.yaxis.range[1]
    assert list(figure.data[0].y) == [0.5, 0.05]


def test_nothing_is_known_of_a_metric_that_the_job_does_not_name_and_it_can_be_drawn_all_the_same() -> None:
    figure = plots.draw_history(of_values(-3.0, 2.0, objective="objective", job=Job()))
    assert list(figure.data[0].text) == ["trial 0: -3.0000", "trial 1: 2.0000"]
    assert JOB.metric("objective") == Metric()
