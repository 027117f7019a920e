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


def place_of(net, width=0.01, zero=0.5, prior=None, **settings):
    model = sws.joint(net, prior or default_rules(net), "categorical", 20, tau=0.03)
    return Place.of(model, sws.Walk(width=width, zero=zero, **settings))


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


@pytest.mark.parametrize("sparser", [1.0, 2.0])
def test_proportions_are_of_the_shares_of_the_values_in_use(sparser):
    place = place_of(network(), width=0.1, zero=0.0, sparser=sparser)
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
        roots, together = counts[other].sqrt(), expected[other].sum() ** sparser
        expected[other] = roots / roots.sum() * together
        expected[~other] = 1 - together
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
    moved, _ = descent.steps(place, 2, sws.WalkRates().over(10_000), lambda progress: 1.0, seed=0)
    assert any(not torch.equal(moved.weights[n], place.weights[n]) for n in place.weights)
    wider = moved.wider(0.5, sws.Walk())
    assert (
        quantize(wider.posterior, "float16").nonzero <= quantize(place.posterior, "float16").nonzero
    )


@pytest.mark.parametrize(
    "zero, sparser, at_zero", [(0.5, 1.0, 0.8), (0.5, 2.0, 0.96), (0.98, 2.0, 0.98), (0.9, 1, 0.9)]
)
def test_values_other_than_zero_are_as_probable_as_the_roots_of_their_shares(
    zero, sparser, at_zero
):
    means = torch.tensor([-1.0, 0.0, 2.0])
    mixture = sws.Mixture(means, torch.ones(3), torch.full((3,), 1 / 3))
    settings = sws.Walk(zero=zero, sparser=sparser)
    found = _proportions(mixture, torch.tensor([16.0, 80.0, 4.0]), settings)
    rest = 1 - at_zero
    assert found.tolist() == pytest.approx([rest * 4 / 6, at_zero, rest * 2 / 6], rel=1e-5)


@pytest.mark.parametrize("way", [0.1, 0.5, 1.0])
def test_proportions_go_part_of_the_way_in_logarithms(way):
    start, settings = place_of(network(), width=0.2), sws.Walk(following=way)
    whole = start.wider(0.3, sws.Walk(following=1.0))
    part = start.wider(0.3, settings)
    for name, density in start.densities.items():
        both = part.densities[name].mixture, whole.densities[name].mixture
        kept = [v for v in both[0].means.tolist() if v in both[1].means.tolist() and v != 0]
        before, after, reached = (
            {m: math.log(float(p) / zero) for m, p in pairs}
            for pairs, zero in (
                _against_zero(mixture) for mixture in (density.mixture, both[1], both[0])
            )
        )
        assert kept
        for value in kept:
            expected = (1 - way) * before[value] + way * after[value]
            assert reached[value] == pytest.approx(expected, abs=1e-4)


def _against_zero(mixture):
    pairs = list(zip(mixture.means.tolist(), mixture.proportions.tolist(), strict=True))
    return pairs, dict(pairs)[0.0]


def test_a_finer_place_has_a_value_more_between_each_two_and_half_the_width():
    place = place_of(network())
    finer = place.finer(sws.Walk(zero=0.5))
    assert finer.width == place.width / 2
    for name, density in place.densities.items():
        before, after = density.mixture.means.sort().values, finer.densities[name].mixture.means
        between = torch.cat([before, (before[1:] + before[:-1]) / 2]).sort().values
        step = (between[1:] - between[:-1]).median()
        beyond = torch.arange(1, 9) * step  # up to the largest weights
        between = torch.cat([between, between[-1] + beyond, between[0] - beyond])
        distance = (after[:, None] - between).abs().min(1).values  # those without weights are gone
        assert distance.max() < 1e-5 and len(before) < len(after)
    far = [(snapped(p)[n] - w).abs().max() for p in (place, finer) for n, w in weights_of(place)]
    count = len(far) // 2
    assert all(fine < 0.75 * coarse for coarse, fine in zip(far[:count], far[count:], strict=True))


def test_a_finer_place_reaches_the_few_largest_weights():
    """One in a thousand is beyond a prior's own values, and may be what a network needs most."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 80), nn.ReLU(), nn.Linear(80, 3))
    with torch.no_grad():
        net[0].weight[0, 0], net[0].weight[1, 1] = 2.0, -1.5
    place = place_of(net)
    coarse, fine = snapped(place)["0.weight"], snapped(place.finer(sws.Walk(zero=0.5)))["0.weight"]
    own = net[0].weight.detach()
    for at in ((0, 0), (1, 1)):
        assert abs(coarse[at] - own[at]) > 1 and abs(fine[at] - own[at]) < 0.02


def test_fixed_values_are_not_made_finer():
    net = network()
    place = place_of(net, prior=sws.Grid(steps=4))
    finer = place.finer(sws.Walk(zero=0.5))
    for name, density in finer.densities.items():
        assert set(density.mixture.means.tolist()) <= set(
            place.densities[name].mixture.means.tolist()
        )


def weights_of(place):
    named = dict(place.model.net.named_parameters())
    return [(n, w.detach()) for n, w in named.items() if w.dim() > 1]
