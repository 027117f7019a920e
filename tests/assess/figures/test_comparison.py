"""The picture of several fits: a panel for each, ranges that can be compared, any groups."""

import matplotlib
import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from pyro_sws.assess.figures.comparison import FittedWeights, fitted_densities
from pyro_sws.assess.figures.style import as_png
from pyro_sws.weights.mixture import Mixture


def fit(size, spread=1.0, scaled=False):
    """A spike and two slabs, and weights between them."""
    means = torch.tensor([0.0, -0.5, 0.5]) * spread
    mixture = Mixture(means, torch.full((3,), 400.0), torch.tensor([0.8, 0.1, 0.1]))
    return FittedWeights(torch.linspace(-0.6, 0.6, size) * spread, mixture, scaled)


def shown(figure):
    return [ax for ax in figure.axes if ax.get_visible()]


def titles(figure):
    return [ax.get_title(loc="left") for ax in shown(figure)]


def test_one_panel_a_run_with_one_range_of_weights_and_of_counts():
    runs = {"narrow": {"all": fit(100)}, "wide": {"all": fit(3000, 2.0)}}
    figure = fitted_densities(runs)
    assert titles(figure) == ["narrow", "wide"]
    first, second = shown(figure)
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert first.get_yscale() == "log"
    drawn = [ax.patches[0].get_data().values.sum() for ax in (first, second)]
    assert drawn == [100, 3000]  # every weight is in its histogram


def test_the_curve_integrates_to_the_number_of_weights():
    (axes,) = shown(fitted_densities({"one": {"all": fit(500)}}))
    (curve,) = [line for line in axes.lines if line.get_gid() == "density"]
    width = np.diff(axes.patches[0].get_data().edges)[0]
    x, y = curve.get_data()
    assert trapezoid(y, x) / width == pytest.approx(500, rel=1e-3)


def test_a_row_a_group_in_one_order_whatever_the_runs_have_theirs_in():
    runs = {"a": {"w": fit(50), "b": fit(5)}, "c": {"b": fit(7), "w": fit(60)}}
    assert titles(fitted_densities(runs)) == ["a: w", "c: w", "a: b", "c: b"]


def test_groups_of_other_names_stand_side_by_side_and_leave_no_empty_panel():
    runs = {
        "a": {"all": fit(50)},
        "b": {"w": fit(50), "b": fit(5)},
        "c": {"w": fit(9), "x": fit(9)},
    }
    assert titles(fitted_densities(runs)) == ["a", "b: w", "c: w", "b: b", "c: x"]


def test_more_than_three_runs_go_on_in_the_next_line():
    figure = fitted_densities({name: {"all": fit(20)} for name in "abcde"})
    assert titles(figure) == list("abcde")
    assert figure.get_size_inches()[0] == fitted_densities({"a": {"all": fit(9)}}).get_figwidth()


def test_scaled_weights_have_a_range_of_their_own_and_say_so():
    scaled = {name: {"all": fit(50, spread, scaled=True)} for name, spread in (("b", 4), ("c", 9))}
    plain, scaled, wider = shown(fitted_densities({"a": {"all": fit(50)}, **scaled}))
    ends = [ax.get_xlim()[1] for ax in (plain, scaled, wider)]
    assert ends[1] > 3 * ends[0] and ends[2] > 2 * ends[1]
    assert (plain.get_xlabel(), scaled.get_xlabel()) == ("weight", "weight / its scale")


def test_every_curve_is_named_once_and_matplotlib_is_left_as_it_was():
    settings = dict(matplotlib.rcParams)
    figure = fitted_densities({name: {"all": fit(200)} for name in "ab"})
    assert as_png(figure, dpi=30).startswith(b"\x89PNG")
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(named) == ["fitted mixture", "its slabs", "its spike", "retrained weights"]
    assert dict(matplotlib.rcParams) == settings


def test_nothing_to_draw_is_refused():
    for runs in ({}, {"a": {}}):
        with pytest.raises(ValueError, match="nothing to draw; give at least one run"):
            fitted_densities(runs)
