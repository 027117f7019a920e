"""The figures show what is there, whatever the network, and leave matplotlib as they found it."""

import matplotlib
import numpy as np
import pytest
import torch
from histories import history_of
from matplotlib import pyplot
from matplotlib.colors import same_color, to_rgba
from scipy.integrate import trapezoid

from pyro_sws.assess.figures.run import (
    RETRAINED,
    ZERO,
    ZEROS_DRAWN,
    before_after,
    component_history,
    weight_histogram,
)
from pyro_sws.assess.figures.style import as_png
from pyro_sws.assess.figures.training import training_curves
from pyro_sws.weights.mixture import Mixture

PNG = b"\x89PNG\r\n\x1a\n"


def spike_and_slabs(means, deviation=0.015, zero=0.9):
    """A spike of deviation 0.004, and slabs of equal shares."""
    j = len(means)
    return Mixture(
        torch.tensor([0.0, *means]),
        torch.tensor([0.004] + [deviation] * j) ** -2,
        torch.tensor([zero] + [(1 - zero) / j] * j),
    )


@pytest.fixture
def mixture():
    return spike_and_slabs([-0.4, 0.2, 0.5])


@pytest.fixture
def weights(mixture):
    generator = torch.Generator().manual_seed(0)
    before = 0.1 * torch.randn(500, generator=generator)
    j = torch.multinomial(mixture.proportions, 500, replacement=True, generator=generator)
    noise = torch.randn(500, generator=generator)
    return before, mixture.means[j] + mixture.deviations[j] * noise


def density(figure):
    """The fitted density's curve and the width of the histogram's bins."""
    axes = figure.axes[0]
    (curve,) = [line for line in axes.lines if line.get_gid() == "density"]
    width = np.diff(axes.patches[0].get_data().edges)[0]
    return *curve.get_data(), width


def bands(figure):
    patches = figure.axes[0].patches
    return [p for p in patches if str(p.get_gid()).startswith("band")]


@pytest.mark.parametrize("deviation", [0.015, 1e-3, 1e-7])
def test_the_density_integrates_to_the_number_of_weights(weights, deviation):
    mixture = spike_and_slabs([-0.4, 0.2, 0.5], deviation)
    x, y, width = density(weight_histogram(*weights, mixture, mixture.levels.numpy()))
    assert trapezoid(y, x) / width == pytest.approx(500, rel=1e-3)


def test_a_wide_component_has_its_density_in_weights_per_bin(weights):
    mixture = Mixture(torch.tensor([0.1]), torch.tensor([4.0]), torch.ones(1))
    x, y, width = density(weight_histogram(*weights, mixture, np.array([0.1])))
    expected = 500 * width * mixture.log_prob(torch.from_numpy(x)).exp().numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-2, atol=1e-6)


def test_every_weight_is_in_the_histograms(weights, mixture):
    figure = weight_histogram(*weights, mixture, mixture.levels.numpy())
    assert [p.get_data().values.sum() for p in figure.axes[0].patches] == [500, 500]


def test_the_codebook_is_the_ticks_at_the_top(weights, mixture):
    figure = weight_histogram(*weights, mixture, mixture.levels.numpy())
    (top,) = figure.axes[0].child_axes
    np.testing.assert_allclose(top.get_xticks(), [-0.4, 0, 0.2, 0.5])


def test_a_band_for_each_component_that_holds_weights(mixture):
    after = torch.tensor([0.0, 0.001, 0.51, 0.49, -0.4])  # none at 0.2
    drawn = bands(before_after(after, after, mixture))
    assert [p.get_gid() for p in drawn] == ["band 0", "band 1", "band 3"]
    ends = [p.get_y() + np.array([0, p.get_height()]) for p in drawn]
    np.testing.assert_allclose(ends, [[-0.008, 0.008], [-0.43, -0.37], [0.47, 0.53]], atol=1e-6)


def test_the_fuller_band_is_the_darker(mixture):
    after = torch.tensor([0.5] * 50 + [0.2] * 2 + [0.0] * 100)
    alpha = {p.get_gid(): p.get_alpha() for p in bands(before_after(after, after, mixture))}
    assert alpha["band 3"] > alpha["band 2"]


def test_given_symbols_replace_the_most_probable_ones(mixture):
    after = torch.tensor([0.0, 0.0])
    drawn = bands(before_after(after, after, mixture, symbols=torch.tensor([0, 3])))
    assert [p.get_gid() for p in drawn] == ["band 1", "band 3"]  # levels -0.4 and 0.5


def test_all_non_zero_weights_are_drawn_and_enough_of_the_others(mixture):
    after = torch.cat([torch.zeros(ZEROS_DRAWN + 7), torch.full((30,), 0.5)])
    figure = before_after(after, after, mixture)
    zeros, others = figure.axes[0].lines[:2]
    assert (len(zeros.get_xdata()), len(others.get_xdata())) == (ZEROS_DRAWN, 30)
    text = figure.axes[1].get_title(loc="left")
    assert "all 30 weights" in text and "20,000 of the 20,007" in text


def test_the_choice_of_zeros_takes_nothing_from_any_generator(mixture):
    after = torch.zeros(ZEROS_DRAWN + 7)
    states = torch.get_rng_state(), np.random.get_state()[1]
    first, second = (before_after(torch.arange(20_007.0), after, mixture) for _ in range(2))
    xs = [figure.axes[0].lines[0].get_xdata() for figure in (first, second)]
    np.testing.assert_array_equal(*xs)
    torch.testing.assert_close(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_weights_that_do_not_pair_up_are_refused(mixture):
    with pytest.raises(ValueError, match="as many entries, got 3, 2 and 2"):
        before_after(torch.zeros(3), torch.zeros(2), mixture)
    with pytest.raises(ValueError, match="symbol 4, but the mixture has 4 levels"):
        before_after(torch.zeros(1), torch.zeros(1), mixture, symbols=torch.tensor([4]))


def test_the_history_draws_each_mean_and_sets_the_spike_apart(mixture):
    axes = component_history(history_of(mixture), "all").axes[0]
    lines = [c for c in axes.collections if hasattr(c, "get_segments") and c.get_segments()]
    lines = [c for c in lines if c.get_segments()[0].shape == (2, 2)]
    means = {round(float(line.get_segments()[-1][-1, 1]), 3): line for line in lines}
    assert sorted(means) == [-0.4, 0, 0.2, 0.5]
    for mean, line in means.items():
        colour = to_rgba(line.get_color()[0])[:3]
        assert same_color(colour, ZERO if mean == 0 else RETRAINED)


def test_a_slab_is_as_thick_as_its_share_outside_the_spike():
    light = Mixture(
        torch.tensor([0.0, -0.3, 0.3]), torch.full((3,), 1e4), torch.tensor([0.99, 0.001, 0.009])
    )
    axes = component_history(history_of(light), "all").axes[0]
    lines = [c for c in axes.collections if len(c.get_linewidths()) > 1]
    width = {round(float(c.get_segments()[0][0, 1]), 1): c.get_linewidths()[-1] for c in lines}
    assert width[0.3] > 2 * width[-0.3]


def test_the_merged_state_stands_beside_the_history(mixture):
    figure = component_history(history_of(mixture), "all", spike_and_slabs([0.3]))
    assert figure.axes[1].get_xlabel() == "2 left"
    assert len(figure.axes[1].containers) == 2


def test_what_refinement_has_moved_and_widened_stays_within_its_panel(mixture):
    figure = component_history(history_of(mixture), "all", spike_and_slabs([-3.0, 7.0], 0.5))
    fit, end = figure.axes
    low, high = end.get_ylim()
    assert low < -3 - 2 * 0.5 and high > 7 + 2 * 0.5
    assert max(fit.get_ylim()) < 1  # and the fit's is not squeezed by it


def test_a_group_that_is_not_in_the_history_is_refused(mixture):
    with pytest.raises(ValueError, match="no group 'conv'; choose from all"):
        component_history(history_of(mixture), "conv")


NETWORKS = {
    "one component": (torch.linspace(-1, 1, 50), Mixture(*torch.tensor([[0.1], [4.0], [1.0]]))),
    "one weight": (torch.tensor([0.3]), spike_and_slabs([0.3])),
    "all weights zero": (torch.zeros(40), Mixture(*torch.tensor([[0.0], [1e12], [1.0]]))),
    "all weights equal": (torch.full((40,), -2.5), spike_and_slabs([-2.5])),
    "no spike": (
        torch.linspace(-1, 1, 50),
        Mixture(*torch.tensor([[-0.5, 0.5], [9, 9], [0.5, 0.5]])),
    ),
    "two components of one mean": (
        torch.linspace(-1, 1, 50),
        Mixture(*torch.tensor([[0.0, 0.0, 0.5], [1e4, 9, 9], [0.5, 0.3, 0.2]])),
    ),
    "a dead component": (torch.zeros(40), spike_and_slabs([0.5], zero=1.0)),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_figures_of_any_network_can_be_drawn(name):
    weights, mixture = NETWORKS[name]
    weights = weights.requires_grad_()
    levels = mixture.levels.numpy()
    figures = [
        weight_histogram(weights, weights, mixture, levels),
        before_after(weights, weights, mixture),
        component_history(history_of(mixture, epochs=1), "all", mixture),
        training_curves(history_of(mixture, epochs=1)),
    ]
    assert all(as_png(figure, dpi=30).startswith(PNG) for figure in figures)


def test_matplotlib_is_left_as_it_was(weights, mixture):
    settings, opened = dict(matplotlib.rcParams), pyplot.get_fignums()
    as_png(weight_histogram(*weights, mixture, mixture.levels.numpy()), dpi=30)
    as_png(before_after(*weights, mixture), dpi=30)
    as_png(component_history(history_of(mixture), "all", mixture), dpi=30)
    as_png(training_curves(history_of(mixture)), dpi=30)
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == opened
