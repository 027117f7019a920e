"""The pictures of a search: the front as steps through what was found, a bar for each key."""

import pytest

from pyro_sws.assess.figures.search import frontier, importance_bars
from pyro_sws.assess.figures.style import as_png
from pyro_sws.tuning.pareto import pareto_front

PAIRS = [(900, 4.0), (1500, 2.0), (1600, 3.0), (4000, 1.5), (4100, 80.0)]
FRONT = {i: f"trial {i}" for i in pareto_front(PAIRS)}
SHARES = {"tau": 0.75, "prior.0.slabs": 0.25}


def test_the_steps_go_through_the_front_and_all_trials_are_shown():
    (axes,) = frontier(PAIRS, FRONT, "validation error, percent").axes
    (steps,) = axes.lines
    assert steps.get_drawstyle() == "steps-post"
    assert list(zip(*steps.get_data(), strict=True)) == [(1.5, 4000), (2.0, 1500), (4.0, 900)]
    every, best = (points.get_offsets().tolist() for points in axes.collections)
    assert sorted(every) == sorted([score, size] for size, score in PAIRS)
    assert len(best) == 3 and sorted(t.get_text() for t in axes.texts) == sorted(FRONT.values())


def test_scores_are_on_a_logarithmic_axis_only_where_they_differ_tenfold():
    (axes,) = frontier(PAIRS, FRONT, "error").axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    for pairs in (PAIRS[:4], [(900, 0.0), (800, 50.0)]):
        (axes,) = frontier(pairs, {0: "0"}, "error").axes
        assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")


def test_labels_and_legend_lie_where_no_trial_can():
    figure = frontier(PAIRS, FRONT, "error")
    (axes,) = figure.axes
    assert axes.get_legend() is None and len(figure.legends) == 1  # outside the panel
    assert {(t.get_ha(), t.get_va()) for t in axes.texts} == {("right", "top")}


def test_a_single_trial_can_be_drawn():
    assert as_png(frontier(PAIRS[:1], {0: "0"}, "error")).startswith(b"\x89PNG")


def test_a_panel_an_objective_and_a_bar_a_key_the_most_important_on_top():
    other = {"tau": 0.1, "prior.0.slabs": 0.9}
    figure = importance_bars({"log_bytes": SHARES, "score": {}, "log_excess": other})
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "bytes, their logarithm",
        "bytes at matched score",
    ]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["tau", "prior.0.slabs"]  # from below
    widths = [[bar.get_width() for bar in ax.patches] for ax in figure.axes]
    assert widths == [pytest.approx([75, 25]), pytest.approx([10, 90])]


def test_nothing_to_explain_is_still_a_picture():
    empty = {"log_bytes": {}, "score": {}, "log_excess": {}}
    assert as_png(importance_bars(empty)).startswith(b"\x89PNG")
