"""The figure of simulation-based calibration shows the differences and bands that there are."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from pyro_sws.assess.draws.simulation_based_calibration import simulation_calibration
from pyro_sws.assess.figures.draws import save_figure
from pyro_sws.assess.figures.simulation_based_calibration import simulation_calibration_figure


def found(simulations=200, shift=0, names="abcd"):
    generator = np.random.default_rng(0)
    ranks = {name: generator.integers(0, 20, simulations) for name in names}
    ranks["a"] = np.minimum(ranks["a"] + shift, 19)
    return simulation_calibration(ranks, 19)


@pytest.fixture
def methods():
    return {"NUTS": found(), "Laplace": found(shift=6)}


def test_lines_are_each_methods_differences_by_quantity(methods):
    figure = simulation_calibration_figure(methods)
    assert len(figure.axes) == 4
    for q, axes in enumerate(figure.axes):
        lines = [line for line in axes.lines if line.get_label() in methods]
        assert [line.get_label() for line in lines] == list(methods)
        assert len({line.get_color() for line in lines}) == 2
        for line, calibration in zip(lines, methods.values(), strict=True):
            np.testing.assert_allclose(line.get_xdata(), np.arange(1, 20) / 20)
            np.testing.assert_array_equal(line.get_ydata(), calibration.differences[q])


def test_a_line_is_outside_the_grey_where_the_quantity_leaves_its_band(methods):
    figure = simulation_calibration_figure(methods)
    low, high = methods["NUTS"].band
    for axes in figure.axes:
        (band,) = axes.collections  # one, for both have as many simulations
        edge = band.get_paths()[0].vertices[:, 1]
        assert edge.min() == pytest.approx((low / 200 - np.arange(1, 20) / 20).min())
        assert edge.max() == pytest.approx((high / 200 - np.arange(1, 20) / 20).max())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "a: Laplace outside",
        "b",
        "c",
        "d",
    ]


def test_a_heading_that_would_run_into_the_next_panel_takes_two_lines():
    calibration = found(shift=6, names=("a", "another", "third"))
    figure = simulation_calibration_figure({"Laplace's own approximation": calibration})
    headings = [axes.get_title(loc="left") for axes in figure.axes]
    assert headings[1:] == ["another", "third"]
    assert headings[0] == "a: Laplace's own approximation\noutside"


def test_fewer_simulations_have_a_band_of_their_own():
    figure = simulation_calibration_figure({"NUTS": found(50), "Laplace": found()})
    assert [len(axes.collections) for axes in figure.axes] == [2] * 4


@pytest.mark.parametrize("names", ["a", "abc", "abcdefghij"])
def test_the_lowest_panel_of_each_column_has_its_ranks_written(names, tmp_path):
    figure = simulation_calibration_figure({"NUTS": found(names=names)}, "A title")
    save_figure(figure, tmp_path / "sbc.png", dpi=30)
    written = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes]
    assert written == [i >= len(names) - 3 for i in range(len(names))]


def test_methods_that_cannot_be_compared_are_refused(methods):
    with pytest.raises(ValueError, match="1 to 4 methods, got 0"):
        simulation_calibration_figure({})
    with pytest.raises(ValueError, match="got 5"):
        simulation_calibration_figure({str(i): found() for i in range(5)})
    with pytest.raises(ValueError, match="the same quantities"):
        simulation_calibration_figure({"NUTS": found(), "Laplace": found(names="ab")})


def test_matplotlib_is_left_as_it_was(methods, tmp_path):
    settings, opened = dict(matplotlib.rcParams), pyplot.get_fignums()
    save_figure(simulation_calibration_figure(methods), tmp_path / "sbc.png", dpi=30)
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == opened
