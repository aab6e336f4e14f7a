"""The facts behind each plot, and that each can be drawn."""

import io
import math

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from sweep.digits.predictions import Mistake
from sweep.results import plots
from sweep.results.plots import Trial

TRIALS = [
    Trial(2, False, 0.97, {"lr": 0.1, "act": "tanh", "width": 128}, [(1, 0.9), (2, 0.97)]),
    Trial(0, True, 0.80, {"lr": 0.001, "act": "relu"}, [(1, 0.8)]),
    Trial(1, False, 0.98, {"lr": 0.01, "act": "relu", "width": 512}, [(1, 0.95), (2, 0.98)]),
    Trial(3, True, 0.99, {"lr": 0.02, "act": "relu", "width": 256}, [(1, 0.99)]),
]


def test_the_history_is_in_order_and_only_finished_trials_can_be_the_best_so_far() -> None:
    facts = plots.history(TRIALS, "maximize")
    assert facts.numbers == [0, 1, 2, 3]
    assert facts.values == [0.80, 0.98, 0.97, 0.99]
    assert facts.pruned == [True, False, False, True]
    assert math.isnan(facts.best[0])
    assert facts.best[1:] == [0.98, 0.98, 0.98]
    assert plots.history(TRIALS, "minimize").best[1:] == [0.98, 0.97, 0.97]


def test_an_axis_holds_the_trials_that_have_the_setting() -> None:
    facts = plots.axis(TRIALS, "width", is_log=True)
    assert facts.settings == [512, 128, 256]
    assert facts.numbers == [1, 2, 3]
    assert facts.values == [0.98, 0.97, 0.99]
    assert facts.pruned == [False, False, True]


def test_numbers_lie_where_their_logarithms_are_and_words_in_the_order_of_the_alphabet() -> None:
    facts = plots.coordinate(TRIALS, "lr", is_log=True)
    assert facts.places == pytest.approx([-1, -3, -2, math.log10(0.02)])
    assert list(facts.ticks) == pytest.approx([-3, -2, math.log10(0.02), -1])
    assert list(facts.ticks.values()) == ["0.001", "0.01", "0.02", "0.1"]
    assert plots.coordinate(TRIALS, "act", is_log=False).places == [1, 0, 0, 0]
    assert plots.coordinate(TRIALS, "act", is_log=False).ticks == {0: "relu", 1: "tanh"}


def test_a_trial_without_the_setting_lies_below_all_others() -> None:
    facts = plots.coordinate(TRIALS, "width", is_log=False)
    assert facts.places[1] < min(facts.places[i] for i in (0, 2, 3))
    assert facts.ticks[facts.places[1]] == "none"


def test_an_accuracy_is_drawn_as_its_distance_from_1_and_labelled_as_itself() -> None:
    figure = plots.draw_history(plots.history(TRIALS, "maximize"), "test/accuracy")
    finished = next(trace for trace in figure.data if trace.name == "finished")
    assert list(finished.y) == pytest.approx([0.02, 0.03])
    assert "trial 1: 98.00%" in finished.text
    axis = figure.layout.yaxis
    assert axis.range[0] > axis.range[1]  # the best on top
    for place, text in zip(axis.tickvals, axis.ticktext, strict=True):
        assert float(text.rstrip("%")) == pytest.approx(100 * (1 - place), rel=1e-3)


def test_a_perfect_accuracy_and_a_single_trial_can_be_drawn() -> None:
    only = [Trial(0, False, 1.0, {"lr": 0.1}, [(1, 1.0)])]
    for figure in (
        plots.draw_history(plots.history(only, "maximize"), "test/accuracy"),
        plots.draw_curves(only, "test/accuracy", best=0),
        *plots.draw_axes([plots.axis(only, "lr", is_log=True)], "test/accuracy", best=0),
        plots.draw_parallel([plots.coordinate(only, "lr", is_log=True)], [1.0], "test/accuracy"),
    ):
        assert all(math.isfinite(end) for end in figure.layout.yaxis.range or ())


def test_every_trial_has_its_curve_and_a_pruned_one_ends_with_a_cross() -> None:
    figure = plots.draw_curves(TRIALS, "test/accuracy", best=1)
    assert [list(trace.x) for trace in figure.data] == [[1], [1], [1, 2], [1, 2]]
    pruned = [trace for trace in figure.data if trace.name == "pruned"]
    assert len(pruned) == 2
    assert all(trace.marker.symbol[-1] == "x" for trace in pruned)
    assert [trace.name for trace in figure.data][-1] == "best"  # on top of the others
    assert list(figure.data[-1].y) == pytest.approx([0.05, 0.02])


def test_the_best_trial_stands_out_on_every_axis_that_it_has() -> None:
    axes = [plots.axis(TRIALS, key, is_log=key == "lr") for key in ("lr", "act", "width")]
    figures = plots.draw_axes(axes, "test/accuracy", best=1)
    best = [list(trace.x) for figure in figures for trace in figure.data if trace.name == "best"]
    assert best == [[0.01], ["relu"], [512]]
    assert len({figure.layout.yaxis.range for figure in figures}) == 1  # all with the same scale


def test_importances_are_drawn_with_the_highest_on_top() -> None:
    figure = plots.draw_importances({"lr": 0.7, "width": 0.3})
    assert list(figure.data[0].y) == ["width", "lr"]  # from below


def test_a_page_needs_no_network() -> None:
    plot = plots.Plot("Importances", "What <set> them apart", [plots.draw_importances({"lr": 1.0})])
    page = plots.to_page(plot)
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page
    assert "What &lt;set&gt; them apart" in page
    assert len(plots.to_html(plot)) < 20_000 < len(plots.plotly_script())


def test_a_page_s_figures_have_no_toolbar_and_those_of_each_setting_lie_in_a_grid_that_a_phone_shows_one_wide() -> None:
    axes = [plots.axis(TRIALS, key, is_log=False) for key in ("lr", "width")]
    page = plots.to_html(plots.Plot("Each parameter", "", plots.draw_axes(axes, "test/accuracy", best=1)))
    assert page.count('class="plots"') == 1
    assert page.count('class="plot"') == page.count('"displayModeBar": false') == 2


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
    facts = plots.coordinate([Trial(i, False, 0.5, {"x": x}) for i, x in enumerate(values)], "x", is_log)
    assert list(facts.ticks.values()) == written


def test_a_logarithmic_axis_says_so() -> None:
    assert plots.axis(TRIALS, "optimizer.lr", True, "lr").name == "lr (log)"
    assert plots.axis(TRIALS, "optimizer.lr", False, "lr").name == "lr"
    assert plots.coordinate(TRIALS, "lr", is_log=True).name == "lr (log)"
    losses = plots.draw_curves(TRIALS, "test/loss", best=1).layout.yaxis
    assert losses.title.text == "test/loss (log)"
    assert plots.draw_curves(TRIALS, "test/accuracy", best=1).layout.yaxis.title.text.endswith("(log of the error)")


def test_a_loss_in_thousands_is_written_in_digits() -> None:
    losses = [Trial(0, False, 0.02, {}), Trial(1, False, 1501.0, {})]
    axis = plots.draw_history(plots.history(losses, "minimize"), "val/loss").layout.yaxis
    assert list(axis.ticktext) == ["0.1", "1", "10", "100", "1000"]


def test_two_accuracies_that_are_almost_the_same_are_written_differently() -> None:
    close = [Trial(0, False, 0.98661, {}), Trial(1, False, 0.98662, {})]
    written = plots.draw_history(plots.history(close, "maximize"), "test/accuracy").layout.yaxis.ticktext
    assert len(set(written)) == len(written) > 1


def test_the_confusion_matrix_and_the_mistakes_are_pictures() -> None:
    confusion = np.array([[50, 2], [0, 48]])
    mistakes = [Mistake(image=7, label=0, predicted=1, probability=0.97)]
    images = np.zeros((1, 1, 28, 28), dtype=np.uint8)
    for figure in (
        plots.draw_confusion(confusion, ["cat", "dog"]),
        plots.draw_mistakes(mistakes, images, ["cat", "dog"]),
        plots.draw_mistakes([], images[:0], ["cat", "dog"]),
    ):
        assert Image.open(io.BytesIO(plots.to_png(figure))).format == "PNG"
    shown = [axes.get_title() for axes in plots.draw_mistakes(mistakes, images, ["cat", "dog"]).axes]
    assert shown == ["is cat\ntaken for dog, 97%"]
    written = {text.get_text() for text in plots.draw_confusion(confusion, ["cat", "dog"]).axes[0].texts}
    assert written == {"50", "2", "48"}


def test_a_loss_is_drawn_as_itself_with_the_lowest_below() -> None:
    figure = plots.draw_history(
        plots.history([Trial(0, False, 0.5, {}), Trial(1, False, 0.05, {})], "minimize"), "test/loss"
    )
    assert isinstance(figure, go.Figure)
    assert figure.layout.yaxis.range[0] < figure.layout.yaxis.range[1]
    assert list(figure.data[0].y) == [0.5, 0.05]
