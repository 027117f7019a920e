"""The picture shows the weights as given, the prior at the start and at drawn hyperparameters."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from problems import EVERY_HYPERPRIOR, TWO_GROUPS, classifier
from scipy.stats import norm

from pyro_sws.assess.figures.prior import DRAWN, PANELS, expected_shares, prior_figure
from pyro_sws.assess.figures.style import INK, as_png
from pyro_sws.inference.priors import PRIORS, GaussianPrior, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior, UniformlyQuantized

EDGES = np.linspace(-2, 2, 41)


def curves(axes, colour):
    return [p for p in axes.patches if not p.get_fill() and same_color(p.get_edgecolor(), colour)]


def test_a_mixture_s_shares_are_those_of_its_normals_at_every_scale():
    mixture = Mixture(torch.tensor([0.0, 1.0]), torch.tensor([4.0, 25.0]), torch.tensor([0.7, 0.3]))
    found = expected_shares(MixturePrior(mixture, torch.tensor([1.0, 1.0, 1.0, 0.5])), 4, EDGES)
    cdf = 0.75 * (0.7 * norm.cdf(EDGES, 0, 0.5) + 0.3 * norm.cdf(EDGES, 1, 0.2))
    cdf += 0.25 * (0.7 * norm.cdf(EDGES, 0, 0.25) + 0.3 * norm.cdf(EDGES, 0.5, 0.1))
    np.testing.assert_allclose(found, np.diff(cdf), atol=1e-7)


def test_any_other_density_s_shares_are_those_of_its_draws():
    unit = Mixture(torch.zeros(1), torch.ones(1), torch.ones(1))
    found = expected_shares(UniformlyQuantized(unit, torch.full((1000,), 0.5), 3), 1000, EDGES)
    expected = np.diff(norm.cdf(EDGES, 0, 0.5))
    # Counts of at least 100,000 weights drawn: 5 standard errors of a share.
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / 1e5) + 1e-4).all()


def test_each_group_has_its_weights_its_start_and_its_draws():
    net = classifier()[0]
    figure = prior_figure(net, TWO_GROUPS, draws=3)
    for axes, size in zip(figure.axes, (40, 27), strict=True):
        (weights,) = [p for p in axes.patches if p.get_fill()]
        assert weights.get_data().values.sum() == size
        assert axes.get_yscale() == "log"
        (start,), drawn = curves(axes, INK), curves(axes, DRAWN)
        assert len(drawn) == 3
        assert all(start.get_linewidth() > curve.get_linewidth() for curve in drawn)
        # All but a few thousandths of the weights that are expected lie in the picture.
        assert start.get_data().values.sum() == pytest.approx(size, rel=0.01)
    assert "first: SpikeAndSlabs, 40 weights" in figure.axes[0].get_title(loc="left")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "the weights as given",
        "the prior at drawn hyperparameters",
        "the prior at the start",
    ]


def test_the_start_is_the_density_there():
    net = torch.nn.Linear(100, 50)
    (axes,) = prior_figure(net, GaussianPrior(precision=100.0)).axes
    (start,) = curves(axes, INK)
    counts, edges, _ = start.get_data()
    expected = 5050 * np.diff(norm.cdf(edges, 0, 0.1))
    # From at least 400,000 drawn weights, of which each stands for 5,050 / 400,000 in the group.
    error = np.sqrt(expected * 5050 / 400_000)
    assert (np.abs(counts - expected) < 5 * error + 0.1).all()


def test_a_prior_without_hyperpriors_says_so():
    prior = SpikeAndSlabs(slabs=2, spike_precision=100.0, slab_precision="free")
    (axes,) = prior_figure(classifier()[0], prior).axes
    assert "it has no hyperpriors" in axes.get_title(loc="left") and not curves(axes, DRAWN)


def test_the_largest_groups_are_drawn_and_the_rest_counted():
    layers = [torch.nn.Linear(5, 1 + i, bias=False) for i in range(PANELS + 2)]
    net = torch.nn.ModuleList(layers)
    figure = prior_figure(net, [Rule(GaussianPrior(), group="all", each=True)])
    headings = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(headings) == PANELS
    assert all(f", {5 * (3 + i)} weights" in heading for i, heading in enumerate(headings))
    assert figure.get_supxlabel() == "The 12 largest groups; 2 smaller ones are not drawn"


@pytest.mark.parametrize("family", PRIORS)
def test_every_family_is_drawn(family):
    assert as_png(prior_figure(classifier()[0], PRIORS[family](), draws=2), dpi=30)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_weights_that_are_all_alike_are_drawn(value):
    net = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(value)
    assert as_png(prior_figure(net, SpikeAndSlabs(slabs=2)), dpi=30)


def test_drawing_leaves_generator_and_style_as_they_were():
    before, state = dict(matplotlib.rcParams), torch.get_rng_state()
    net = classifier()[0]
    first = as_png(prior_figure(net, EVERY_HYPERPRIOR, draws=2), dpi=30)
    assert torch.equal(torch.get_rng_state(), state) and dict(matplotlib.rcParams) == before
    assert as_png(prior_figure(net, EVERY_HYPERPRIOR, draws=2), dpi=30) == first
