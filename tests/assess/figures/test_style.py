"""What figures share: bins with one centred at 0, whole labels, and a density that counts."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import trapezoid

from pyro_sws.assess.figures.style import (
    RETRAINED,
    ZERO,
    bin_edges,
    colours,
    counts_on,
    draw_density,
    padded,
)
from pyro_sws.weights.mixture import Mixture


@pytest.mark.parametrize("values", [[-0.3, 0.7], [0.0, 0.0], [2.0, 2.0], [-5e-4, -4e-4]])
def test_bins_are_even_hold_all_values_and_one_is_centred_at_zero(values):
    edges = bin_edges(np.array(values), weights=1000)
    widths = np.diff(edges)
    np.testing.assert_allclose(widths, widths[0], rtol=1e-6)
    assert edges[0] < min(values) and max(values) < edges[-1]
    assert np.mod(edges / widths[0], 1) == pytest.approx(0.5)


def test_a_range_has_room_and_is_never_empty():
    assert padded(np.array([0.0, 1.0])) == (-0.03, 1.03)
    assert padded(np.array([2.0, 2.0])) == (1.8, 2.2)
    assert padded(np.array([0.0])) == (-0.01, 0.01)


@pytest.mark.parametrize(
    ("value", "label"),
    [(12_000, "12k"), (1.5e6, "1.5M"), (2e9, "2G"), (0.25, "0.25"), (2e-5, "2e−5"), (-3, "−3")],
)
def test_labels_are_whole_numbers_of_a_unit(value, label):
    axes = Figure().subplots()
    counts_on(axes.xaxis)
    assert axes.xaxis.get_major_formatter()(value, 0) == label


def test_a_density_is_drawn_as_the_counts_that_it_expects_and_its_parts_add_up():
    mixture = Mixture(
        torch.tensor([0.0, 0.4]), torch.tensor([1e4, 400.0]), torch.tensor([0.9, 0.1])
    )
    axes, edges = Figure().subplots(), np.linspace(-0.7, 0.7, 29)
    draw_density(axes, mixture, 1000, edges)
    total, *parts = (line.get_xydata() for line in axes.lines)
    assert trapezoid(total[:, 1], total[:, 0]) / 0.05 == pytest.approx(1000, rel=1e-3)
    np.testing.assert_allclose(sum(part[:, 1] for part in parts), total[:, 1])
    assert colours(mixture) == [ZERO, RETRAINED]
