"""The mixture that is sampled: which slabs are left, where it starts, and under which prior."""

from dataclasses import replace

import pytest
import torch

from pyro_sws.inference.hyperposterior.sampled_mixture import sampled_mixture
from pyro_sws.inference.hyperpriors import Beta, Gamma, Normal
from pyro_sws.inference.priors import Scaled, ScaleMixture, SpikeAndSlabs, Structured
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import MixturePrior

GROUP = Group("all", {"w": (300,)}, torch.float64)
# 200 weights at 0, 97 around 0.5, 3 around -0.5, none at 2.
FLAT = torch.cat([torch.zeros(200), torch.full((97,), 0.5), torch.full((3,), -0.5)]).double()
FLAT = FLAT + 0.01 * torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
MEANS, SHARES = [0.0, -0.5, 0.5, 2.0], [0.66, 0.01, 0.32, 0.01]
PRIOR = SpikeAndSlabs(5, Beta(3.0, 2.0), Gamma(50.0, 0.005), Gamma(20.0, 0.002))


def fitted(prior=PRIOR, means=MEANS, shares=SHARES, flat=FLAT, scales=None):
    """A fit that merging left with these components; its sites are as many as there were."""
    means, shares = (torch.tensor(x, dtype=torch.float64) for x in (means, shares))
    mixture = Mixture(means, torch.full_like(means, 1e4), shares)
    point = {**prior.start(GROUP, flat), "all.weights": flat}
    return Posterior({"all": GROUP}, point, {"all": MixturePrior(mixture, scales)}, {}, 1.0)


def test_slabs_that_hold_next_to_nothing_are_left_out():
    found = sampled_mixture(PRIOR, fitted(), "all")
    assert found.target.prior.slabs == 1 and found.left_out == (-0.5, 2.0)
    assert "those at -0.5, 2" in found.notes[0]
    at = found.target.constrained(found.target.start)
    assert at["all.means"].tolist() == pytest.approx([0.5])
    assert at["all.slab_precisions"].tolist() == pytest.approx([1e4])


def test_a_slab_with_a_few_weights_stays():
    flat = torch.cat([FLAT, FLAT[-3:]])[-300:]  # six at -0.5
    found = sampled_mixture(PRIOR, fitted(flat=flat), "all")
    assert found.target.prior.slabs == 2 and found.left_out == (2.0,)
    at = found.target.constrained(found.target.start)
    # Shares of what is not in the spike: 0.01 and 0.32, without the one that was left out.
    assert at["all.slab_shares"].tolist() == pytest.approx([1 / 33, 32 / 33])


def test_free_means_have_a_normal_as_wide_as_the_largest_weight():
    found = sampled_mixture(PRIOR, fitted(), "all")
    assert found.target.prior.slab_means == Normal(float(FLAT.abs().max()))
    assert found.means_deviation == float(FLAT.abs().max()) and len(found.notes) == 2
    own = replace(PRIOR, slab_means=Normal(0.3))
    kept = sampled_mixture(own, fitted(own), "all")
    assert kept.target.prior.slab_means == Normal(0.3) and kept.means_deviation is None


def test_free_precisions_are_left_free_and_said_to_be():
    free = replace(PRIOR, slab_precision="free", slab_means=Normal(0.3))
    (_, note) = sampled_mixture(free, fitted(free), "all").notes
    assert note.startswith("precisions that are free")


def test_the_density_is_that_of_the_smaller_mixture():
    found = sampled_mixture(PRIOR, fitted(), "all")
    mixture = found.target.mixture(found.target.start)
    at = found.target.constrained(found.target.start)
    assert mixture.means.tolist() == pytest.approx([0.0, 0.5])
    zero = at["all.zero_proportion"].item()
    assert mixture.proportions.tolist() == pytest.approx([zero, 1 - zero])
    assert zero == pytest.approx(0.6)  # the point's


def test_a_spike_of_several_widths_is_no_slab():
    prior = ScaleMixture("laplace", nodes=3, slabs=4)
    found = sampled_mixture(prior, fitted(prior, [0.0, 0.0, 0.0, 0.5], [0.3, 0.3, 0.1, 0.3]), "all")
    assert found.target.prior.slabs == 1 and found.left_out == ()
    assert len(found.target.mixture(found.target.start)) == 4


def test_a_scaled_prior_s_slabs_are_counted_in_its_own_units():
    prior = Scaled(PRIOR)
    flat = 2 * FLAT
    posterior = fitted(prior, flat=flat, scales=torch.full((300,), 2.0).double())
    posterior = replace(posterior, point={**posterior.point, "all.scales": torch.full((1,), 2.0)})
    found = sampled_mixture(prior, posterior, "all")
    assert found.target.prior.slabs == 1 and found.left_out == (-0.5, 2.0)
    assert found.means_deviation == pytest.approx(float(FLAT.abs().max()))


def test_without_a_slab_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="no slab holds 4 weights"):
        sampled_mixture(PRIOR, fitted(means=[0.0, 3.0], shares=[0.9, 0.1]), "all")


def test_a_density_that_differs_from_weight_to_weight_is_refused():
    prior = Structured(PRIOR)
    with pytest.raises(ValueError, match="is no mixture that all weights share"):
        sampled_mixture(prior, fitted(prior), "all")
