"""The mode from the fitted point: a closed form, and starts from which the bins lead astray."""

import numpy as np
import pytest
import torch

from pyro_sws.inference.hyperposterior.laplace import mode_of
from pyro_sws.inference.hyperposterior.target import hyperposterior
from pyro_sws.inference.hyperpriors import Dirichlet, Gamma, Normal
from pyro_sws.inference.priors import GaussianPrior, SpikeAndSlabs
from pyro_sws.weights.group import Group

CLUSTERS = torch.cat([torch.full((100,), -0.5), torch.zeros(100), torch.full((100,), 0.5)]).double()
W = CLUSTERS + 0.03 * torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
WIDE = SpikeAndSlabs(
    2, 0.3, Gamma(2.0, 1e-5), Gamma(2.0, 1e-5), Dirichlet(2.0), Normal(1.0), (-0.8, 0.9), 0.3
)


def given(prior, weights=W, **settings):
    group = Group("all", {"w": (300,)}, torch.float64)
    point = {**prior.start(group, weights), "all.weights": weights}
    return hyperposterior(prior, group, point, **settings)


def test_the_mode_of_a_precision_is_that_of_its_gamma_in_the_logarithm():
    mode, curvatures, _ = mode_of(given(GaussianPrior(Gamma(3.0, 0.1))))
    shape, rate = 3 + 150, 0.1 + (W**2).sum().item() / 2
    assert mode.item() == pytest.approx(np.log(shape / rate), abs=1e-4)
    assert curvatures.item() == pytest.approx(shape, rel=1e-3)


def test_a_start_far_too_wide_for_the_weights_is_refused():
    """Fourteen bins for three clusters: what holds for wide components within one fails for narrow.

    The binned density then grows without bound, by components that lie between bins.
    """
    with pytest.raises(ValueError, match="start at a fitted point"):
        mode_of(given(WIDE))


def test_the_same_start_leads_to_the_mode_without_bins():
    target = given(WIDE, exact=True)
    mode, _, _ = mode_of(target)
    found = target.mixture(mode)
    assert sorted(found.means.tolist()) == pytest.approx([-0.5, 0, 0.5], abs=0.01)
    assert found.deviations.tolist() == pytest.approx([0.03] * 3, rel=0.2)
