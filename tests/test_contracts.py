"""Contracts: what every row of PRIORS, GUIDES and CODERS must do, whoever wrote it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from every_prior import (
    GROUP,
    PRIORS,
    WEIGHTS,
    RowScaled,
    density,
    log_joint,
    somewhere,
    supports,
    traced,
)
from problems import classifier
from pyro.infer import Trace_ELBO
from scipy import stats
from written_out import error_cost, written

import pyro_sws as sws
from pyro_sws.codec.coders import Plane
from pyro_sws.compression.plan import NamedData, NamedNetwork, Plan
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.fit import complexity_cost, fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.weight_distribution import WeightDistribution
from pyro_sws.recipes.recipe import parse, to_toml, tomllib
from pyro_sws.recipes.sources import Source
from pyro_sws.weights.group import Group

TAU = 0.3


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


def drawn(scale=0.3):
    """Weights within, between and beyond the components."""
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(GROUP.size, generator=generator, dtype=torch.float64)


def test_a_priors_start_lies_in_the_support_of_every_site_it_samples(prior):
    start = prior.start(GROUP, WEIGHTS)
    trace = traced(prior, GROUP, start)
    sites = [name for name, site in trace.nodes.items() if site["type"] == "sample"]
    assert set(sites) == set(start), "each site has a start"
    for name in sites:
        assert name.startswith("all.")
        assert trace.nodes[name]["fn"].support.check(start[name]).all(), name
        assert start[name].shape == trace.nodes[name]["fn"].event_shape, name
        assert start[name].dtype == GROUP.dtype, name


def test_a_priors_density_integrates_to_one(prior):
    group = Group("all", {"a": (1, 1)}, torch.float64)  # a single weight
    point = somewhere(prior, group, torch.tensor([0.3], dtype=torch.float64))
    found, expected = density(prior, group, point), written(prior, point, group)
    means, deviations = expected.means[0], expected.deviations[0]
    # Beyond nine deviations lie 1e-19 of a component.
    ends = (means - 9 * deviations).min(), (means + 9 * deviations).max()
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = 0.0
    for low, high in panels(*ends, means, deviations):
        for node, weight in zip(nodes, weights, strict=True):
            w = (low + high + node * (high - low)) / 2
            p = found.log_prob(torch.tensor([w], dtype=torch.float64)).exp().item()
            total += weight * (high - low) / 2 * p
    # exp(-x^2 / 2) over six deviations is a polynomial of degree 31 up to 1e-12.
    assert total == pytest.approx(1, abs=1e-9)


def panels(low, high, means, deviations):
    """[low, high] in parts at most six deviations of any component wide that matters there."""
    middle, half = (low + high) / 2, (high - low) / 2
    near = deviations[np.abs(means - middle) < 9 * deviations + half]
    if len(near) == 0 or 2 * half <= 6 * near.min():
        return [(low, high)]
    return panels(low, middle, means, deviations) + panels(middle, high, means, deviations)


def test_a_priors_density_is_the_documented_one(prior):
    point, w = somewhere(prior, GROUP, WEIGHTS), drawn()
    expected = written(prior, point, GROUP)
    found = log_joint(prior, GROUP, point, w)
    assert found.item() == pytest.approx(-expected.complexity(w.numpy()), rel=1e-9)


def test_a_priors_gradient_is_its_slope(prior):
    found, w = density(prior, GROUP, somewhere(prior, GROUP, WEIGHTS)), drawn().requires_grad_()
    (gradient,) = torch.autograd.grad(found.log_prob(w), w)
    step = 1e-6 * torch.eye(GROUP.size, dtype=torch.float64)
    w = w.detach()
    slopes = [(found.log_prob(w + s) - found.log_prob(w - s)) / 2e-6 for s in step]
    # Central differences: rounding of 1e-16 |log p| / 1e-6, and a curvature term of order 1e-8.
    torch.testing.assert_close(gradient, torch.stack(slopes), rtol=1e-6, atol=1e-6)


def test_a_priors_gradients_in_its_hyperparameters_are_slopes(prior):
    point, w = somewhere(prior, GROUP, WEIGHTS), drawn()
    to_support = supports(prior, GROUP, point)
    free = {site: to_support[site].inv(value).requires_grad_() for site, value in point.items()}

    def value(moved):
        at = {site: to_support[site](u) for site, u in moved.items()}
        return log_joint(prior, GROUP, at, w)

    gradients = torch.autograd.grad(value(free), list(free.values())) if free else ()
    free = {site: u.detach() for site, u in free.items()}
    generator = torch.Generator().manual_seed(2)
    for (site, u), gradient in zip(free.items(), gradients, strict=True):
        if isinstance(prior, sws.PRIORS["scaled"]) and site == "all.scales":
            assert not gradient.any(), "trained sizes stay"
            continue
        for _ in range(2):  # along two random directions
            step = 1e-5 * torch.randn(u.shape, generator=generator, dtype=u.dtype)
            ends = [value({**free, site: u + sign * step}).item() for sign in (1, -1)]
            # Rounding: 1e-16 of terms of up to 1e4 nats; the third derivative: 1e-15 of them.
            assert (gradient * step).sum().item() == pytest.approx(
                (ends[0] - ends[1]) / 2, rel=1e-5, abs=1e-10
            ), site


def test_negative_elbo_is_error_cost_plus_tau_times_the_documented_complexity(prior):
    net, inputs, targets = classifier()
    model = joint(net, prior, "categorical", 60, tau=TAU, dtype=torch.float64)
    flat = model.start()["all.weights"]
    guide = delta_guide(model, somewhere(prior, model.groups["all"], flat))
    with pyro_step():
        loss = Trace_ELBO().loss(model, guide, inputs.double(), targets)
    point, w = guide.median(), flat.numpy()
    complexity = written(prior, point, model.groups["all"]).complexity(w)
    error = error_cost(w, inputs.double().numpy(), targets.numpy())
    tolerance = 1e-9 * (error + TAU * abs(complexity))
    assert loss == pytest.approx(error + TAU * complexity, abs=tolerance)
    assert complexity_cost(model, point) == pytest.approx(complexity, rel=1e-9)


def test_a_priors_draws_have_its_shape(prior):
    site = WeightDistribution(density(prior, GROUP, prior.start(GROUP, WEIGHTS)), GROUP)
    assert site.sample().shape == (GROUP.size,)
    assert site.sample((4,)).shape == (4, GROUP.size)
    assert site.log_prob(site.sample((4,))).shape == (4,)


def test_a_priors_draws_have_its_density(prior):
    point = somewhere(prior, GROUP, WEIGHTS)
    found, expected = density(prior, GROUP, point), written(prior, point, GROUP)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [found.sample(GROUP.size).numpy() for _ in range(150)]
    # Each weight's own distribution function makes them uniform; 4,050 of them.
    uniform = np.concatenate([expected.cdf(w) for w in draws])
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_a_priors_hyperparameters_can_be_drawn(prior):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trace = traced(prior, GROUP, {})
    for name, site in trace.nodes.items():
        if site["type"] == "sample":
            assert site["fn"].support.check(site["value"]).all(), name
    assert trace.nodes["_RETURN"]["value"].sample(GROUP.size).isfinite().all()


def test_weights_snap_to_their_most_probable_value(prior):
    point = somewhere(prior, GROUP, WEIGHTS)
    found, expected = density(prior, GROUP, point), written(prior, point, GROUP)
    for w in (drawn(), drawn(0.05), WEIGHTS):
        index = found.assign(w)
        assert index.dtype == torch.int64 and index.shape == w.shape
        snapped = [found.codebook(part)[index[part]] for part in GROUP.slices.values()]
        scales = [found.scale(part) for part in GROUP.slices.values()]
        values = [v if s is None else v * s for v, s in zip(snapped, scales, strict=True)]
        np.testing.assert_allclose(torch.cat(values), expected.snapped(w.numpy()), rtol=1e-12)


def test_a_tensors_values_ascend_and_have_the_mean_of_its_weights_proportions(prior):
    point = somewhere(prior, GROUP, WEIGHTS)
    found, expected = density(prior, GROUP, point), written(prior, point, GROUP)
    for part in GROUP.slices.values():
        proportions = found.proportions(part)
        assert (found.codebook(part).diff() > 0).all()
        assert proportions.sum().item() == pytest.approx(1, abs=1e-12)
        own = expected.at(part)
        np.testing.assert_allclose(
            proportions, own.proportions_of_values(part.stop - part.start), rtol=1e-9, atol=1e-12
        )


def test_a_prior_goes_to_a_file_and_back(prior):
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], prior=prior, epochs=3)
    assert sws.decode(result.data) == result.quantized
    decoded = sws.load(result.data, into=net)
    for name, values in result.quantized.dequantize().items():
        np.testing.assert_array_equal(decoded.get_parameter(name).detach().numpy(), values)
    assert result.report.score["decoded"] == result.report.score["quantized"]


def test_a_prior_is_fitted_on_samples_of_its_weights(prior):
    net, inputs, targets = classifier()
    model = joint(
        net, prior, "categorical", 60, dtype=torch.float64, density=sws.Density(prior_subsample=0.5)
    )
    batches = [(inputs[:40], targets[:40]), (inputs[40:], targets[40:])]
    fitted = fit(
        model, delta_guide(model), batches, settings=sws.Fitting(epochs=2, hyperparameters_every=2)
    )
    point, group = fitted.posterior.point, model.groups["all"]
    expected = written(prior, point, group).complexity(point["all.weights"].numpy())
    assert fitted.history[-1]["complexity_cost_nats"] == pytest.approx(expected, rel=1e-9)
    start = model.start()
    moved = [s for s, value in point.items() if not torch.equal(value, start[s])]
    assert {*moved, "all.scales"} >= point.keys(), "every site has moved but fixed scales"


def test_the_mean_over_two_ranks_is_the_whole(prior):
    net, inputs, targets = classifier()
    model = joint(net, prior, "categorical", 60, tau=TAU, dtype=torch.float64)
    batch = (inputs[:31].double(), targets[:31])
    guide, store = delta_guide(model), {"params": {}, "constraints": {}}
    with pyro_step(store), torch.no_grad():
        guide(*batch)
    whole = Elbo(model, guide, store)(*batch)[0]
    ranks = [replace(model, ranks=Ranks(rank, 2)) for rank in range(2)]
    parts = [Elbo(part, guide, store)(*batch)[0] for part in ranks]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [n for n in PRIORS if type(PRIORS[n]) in sws.PRIORS.values()])
def test_a_prior_says_the_same_in_toml(name):
    network, data = NamedNetwork(Source("net.py:f")), NamedData(Source("data.py:g"))
    recipe = Plan(network, data, (sws.Rule(PRIORS[name]),))
    again = parse(tomllib.loads(to_toml(recipe, Path())), Path())
    assert again.prior == recipe.prior


def test_scales_by_row_are_stored_once_a_row():
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], prior=RowScaled(), epochs=2)
    assert result.quantized.scales["0.weight"].shape == (8, 1)
    assert result.report.bits["scales"] > 0


@pytest.mark.parametrize("name", sws.GUIDES)
def test_a_guide_starts_at_the_networks_own_weights(name):
    net, inputs, targets = classifier()
    model = sws.joint(net, sws.SpikeAndSlabs(slabs=3), "categorical", 60)
    guide = sws.GUIDES[name](model)
    with pyro_step():
        Trace_ELBO().loss(model, guide, inputs, targets)
    start = model.groups["all"].split(guide.median()["all.weights"])
    for parameter, tensor in net.named_parameters():
        torch.testing.assert_close(start[parameter], tensor.detach())


@pytest.mark.parametrize("name", sws.CODERS)
def test_a_coder_gives_back_a_quantised_network(name):
    net, inputs, targets = classifier()
    quantized = sws.compress(net, [(inputs, targets)], epochs=2).quantized
    assert sws.decode(sws.encode(quantized, coder=name)) == quantized


@pytest.mark.parametrize("name", sws.CODERS)
def test_a_coder_codes_tensors_that_both_sides_know_the_planes_of(name):
    planes = [Plane((3, 4), 5, 0), Plane((3,), 5, None), Plane((), 300, 7), Plane((0, 2), 2, 1)]
    tensors = [
        np.arange(plane.size).reshape(plane.shape) % plane.levels * (i < 2)
        for i, plane in enumerate(planes)
    ]
    payload = sws.CODERS[name].encode(tensors, planes)
    assert isinstance(payload, bytes)
    found = sws.CODERS[name].decode(payload, planes)
    for symbols, tensor, plane in zip(found, tensors, planes, strict=True):
        assert symbols.shape == plane.shape and (symbols == tensor).all()


@pytest.mark.parametrize("name", sws.CODERS)
def test_a_coder_refuses_a_payload_that_is_not_its_own(name):
    with pytest.raises(sws.FormatError):
        sws.CODERS[name].decode(b"", [Plane((1000, 1000), 5, 0)])
    with pytest.raises(sws.FormatError):
        sws.CODERS[name].decode(bytes(100), [Plane((2,), 5, 0)])
