"""A place on a walk: where weights snap, what proportions follow, and what units do."""

import math

import pytest
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.walk.descent import Descent
from pyro_sws.compression.walk.place import Place, _proportions
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.weights.quantize import quantize


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))


def place_of(net, width=0.01, zero=0.5, prior=None):
    model = sws.joint(net, prior or default_rules(net), "categorical", 20, tau=0.03)
    return Place.of(model, width, zero)


def snapped(place):
    return {
        k: torch.from_numpy(v) for k, v in quantize(place.posterior, "float32").dequantize().items()
    }


def test_at_a_small_width_each_weight_takes_the_nearest_value():
    net = network()
    taken = snapped(place_of(net))
    weights = torch.cat(
        [
            p.detach().reshape(-1) / p.detach().square().mean().sqrt()
            for n, p in net.named_parameters()
            if p.dim() > 1
        ]
    )
    reach = weights.abs().sort().values[int(0.999 * (len(weights) - 1))]
    grid = torch.arange(-15, 16) * reach / 15
    nearest = grid[(weights[:, None] - grid).abs().argmin(1)]
    values = torch.cat(
        [
            taken[n].reshape(-1) / p.detach().square().mean().sqrt()
            for n, p in net.named_parameters()
            if p.dim() > 1
        ]
    )
    # Widths are small beside the spacing, but proportions differ: at a border one may win.
    assert (values - nearest).abs().median() < 1e-6
    assert ((values - weights).abs() <= reach / 30 + 0.01).all()


def test_the_dead_zone_is_where_the_formula_says():
    """A weight w leaves v for 0 below v / 2 + s^2 D / v, D the log of the proportions' ratio."""
    place = place_of(network(), width=0.2)
    (mixture,) = {n: d.mixture for n, d in place.densities.items() if n == "weights"}.values()
    own = mixture.means.abs() > 0
    v = float(mixture.means[own].abs().min())
    at = (
        int((mixture.means == v).nonzero())
        if (mixture.means == v).any()
        else int((mixture.means == -v).nonzero())
    )
    at_zero = int((mixture.means == 0).nonzero())
    ratio = math.log(float(mixture.proportions[at_zero] / mixture.proportions[at]))
    border = (v / 2 + 0.2**2 * ratio / v) * math.copysign(1, float(mixture.means[at]))
    two = sws.Mixture(
        *(x[[at_zero, at]] for x in (mixture.means, mixture.precisions, mixture.proportions))
    )
    for factor, zero in (0.999, True), (1.001, False):
        value = two.levels[two.assign(torch.tensor([border * factor]))]
        assert bool(value == 0) is zero


def test_proportions_are_the_shares_of_the_values_in_use():
    place = place_of(network(), width=0.1, zero=0.0)
    for name, density in place.densities.items():
        levels, taken = density.mixture.levels, density.assign(place.weights[name])
        counts = torch.bincount(taken, minlength=len(levels))
        order = density.mixture.means.argsort()
        shares = density.mixture.proportions[order]
        assert shares.sum().item() == pytest.approx(1, abs=1e-5)
        # A fixed point, but for half a weight of each value and those that have gone: those other
        # than zero in proportion to the roots of their shares.
        other = levels != 0
        expected = counts / counts.sum()
        roots = counts[other].sqrt()
        expected[other] = roots / roots.sum() * expected[other].sum()
        assert torch.allclose(shares, expected, atol=0.05)


@pytest.mark.parametrize("zero", [0.3, 0.9])
def test_zero_has_at_least_its_least_proportion(zero):
    for density in place_of(network(), zero=zero).densities.values():
        mixture = density.mixture
        assert mixture.proportions[mixture.means == 0].sum() >= zero - 1e-5


def test_a_group_of_zeros_has_a_place():
    net = network()
    with torch.no_grad():
        net[0].bias.zero_()
        net[2].bias.zero_()
    assert all((w == 0).all() for n, w in snapped(place_of(net)).items() if "bias" in n)


def test_a_prior_without_values_is_refused():
    with pytest.raises(ValueError, match="GaussianPrior of group 'all' has one component"):
        place_of(network(), prior=sws.GaussianPrior())


@pytest.mark.parametrize(
    "prior",
    [
        sws.SpikeAndSlabs(),
        sws.Structured(),
        sws.Scaled(),
        sws.DirichletProcess(),
        sws.SparseDirichlet(),
        sws.Grid(),
        sws.Ternary(),
        sws.ScaleMixture(),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_every_family_with_values_has_a_place_and_moves(prior):
    net = network()
    place = place_of(net, width=0.05, prior=prior)
    batches = [(torch.randn(20, 6), torch.arange(20) % 3)]
    descent = Descent(place, Portion(batches), "float16")
    moved, _ = descent.steps(place, 2, sws.Rates(), lambda progress: 1.0, seed=0)
    assert any(not torch.equal(moved.weights[n], place.weights[n]) for n in place.weights)
    wider = moved.wider(0.5, 0.5)
    assert (
        quantize(wider.posterior, "float16").nonzero <= quantize(place.posterior, "float16").nonzero
    )


@pytest.mark.parametrize("zero, at_zero", [(0.5, 0.8), (0.9, 0.9)])
def test_values_other_than_zero_are_as_probable_as_the_roots_of_their_shares(zero, at_zero):
    means = torch.tensor([-1.0, 0.0, 2.0])
    mixture = sws.Mixture(means, torch.ones(3), torch.full((3,), 1 / 3))
    found = _proportions(mixture, torch.tensor([16.0, 80.0, 4.0]), zero)
    rest = 1 - at_zero
    assert found.tolist() == pytest.approx([rest * 4 / 6, at_zero, rest * 2 / 6], rel=1e-5)
