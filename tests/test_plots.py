"""The facts behind each plot, and that each can be drawn."""

import io
import math

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from sweep import plots
from sweep.plots import Trial
from sweep.predictions import Mistake

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
        plots.draw_axes([plots.axis(only, "lr", is_log=True)], "test/accuracy", best=0),
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
    figure = plots.draw_axes(axes, "test/accuracy", best=1)
    assert [list(trace.x) for trace in figure.data if trace.name == "best"] == [[0.01], ["relu"], [512]]


def test_importances_are_drawn_with_the_highest_on_top() -> None:
    figure = plots.draw_importances({"lr": 0.7, "width": 0.3}, num_trials=20)
    assert list(figure.data[0].y) == ["width", "lr"]  # from below


def test_a_page_needs_no_network() -> None:
    page = plots.to_html(plots.draw_importances({"lr": 1.0}, num_trials=20))
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page
    part = plots.to_html(plots.draw_importances({"lr": 1.0}, num_trials=20), whole=False)
    assert len(part) < 20_000 < len(plots.plotly_script())


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
