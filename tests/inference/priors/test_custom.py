"""Custom: a function does what a family does, from starts of its own or from derived ones."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch
from problems import ONE_GROUP, classifier
from pyro import poutine

import pyro_sws as sws
from pyro_sws.inference.priors.custom import MEMBERS, Custom
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior

GROUP = Group("g", {"a": (3, 2), "b": (2,)}, torch.float64)
WEIGHTS = torch.linspace(-0.4, 0.6, GROUP.size, dtype=torch.float64)


def scaled_slabs(group, components=3):
    """Components whose widths depend on one scale, beside means under a Normal."""

    def site(name, density):
        return pyro.sample(f"{group.name}.{name}", density)

    scale = site("scale", dist.HalfCauchy(group.constant(0.1)))
    spread = scale.expand(components)
    widths = site("widths", dist.Gamma(4.0 * spread, 2.0).to_event(1))
    means = site("slab_means", dist.Normal(0.0 * spread, 1.0).to_event(1)).reshape(-1)
    shares = group.constant(1 / components).expand(components)
    return MixturePrior(Mixture(means, 1 / widths.square(), shares))


def as_family(group):
    return ONE_GROUP(group)


def with_site(name, density):
    def function(group):
        pyro.sample(name, density)
        return ONE_GROUP(group)

    return function


def start_of(density, name="g.x"):
    return Custom(with_site(name, density)).start(GROUP, WEIGHTS)[name]


# It does what a family does.


def test_a_function_gives_the_file_of_the_family_that_it_is():
    net, inputs, targets = classifier()
    own = Custom(as_family, starts=ONE_GROUP.start)
    files = [
        sws.compress(net, [(inputs, targets)], prior=prior, epochs=3).data
        for prior in (ONE_GROUP, own)
    ]
    assert files[0] == files[1]


def test_arguments_go_to_the_function():
    prior = Custom(scaled_slabs, {"components": 5})
    assert prior.start(GROUP, WEIGHTS)["g.widths"].shape == (5,)
    assert len(prior(GROUP).mixture) == 5


# Where sites start.


def test_means_start_evenly_over_the_weights_range():
    found = Custom(scaled_slabs).start(GROUP, WEIGHTS)["g.slab_means"]
    torch.testing.assert_close(found, torch.tensor([-0.4, 0.1, 0.6], dtype=torch.float64))


def test_means_that_cannot_be_the_weights_start_at_their_own_mean():
    density = dist.Gamma(GROUP.constant(6.0), 2.0).expand([4]).to_event(1)
    assert start_of(density, "g.positive_means").tolist() == [3.0] * 4


@pytest.mark.parametrize(
    ("density", "mean"),
    [
        (dist.Gamma(6.0, 2.0), 3.0),
        (dist.Beta(3.0, 1.0), 0.75),
        (dist.Normal(0.5, 1.0).mask(False), 0.5),
        (dist.Dirichlet(torch.ones(4)), [0.25] * 4),
        (dist.Normal(torch.ones(2, 3), 1.0).to_event(2), [[1.0] * 3] * 2),
    ],
)
def test_a_site_starts_at_its_mean(density, mean):
    torch.testing.assert_close(start_of(density), torch.tensor(mean))


@pytest.mark.parametrize(
    "density",
    [
        dist.HalfCauchy(torch.tensor(1.0)),  # its mean is infinite,
        dist.Cauchy(torch.tensor(0.0), 1.0),  # is none at all,
        dist.LKJCholesky(3),  # has no formula,
        dist.Bernoulli(torch.tensor(0.5)),  # is no value that it can have
    ],
)
def test_a_site_without_a_mean_starts_at_a_draw_that_is_always_the_same(density):
    before = torch.get_rng_state()
    first = start_of(density)
    assert density.support.check(first).all() and torch.get_rng_state().equal(before)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        assert start_of(density).equal(first)


def test_a_site_starts_at_its_mean_given_the_starts_before_it():
    found = Custom(scaled_slabs).start(GROUP, WEIGHTS)
    torch.testing.assert_close(found["g.widths"], 2 * found["g.scale"].expand(3))


def test_a_site_in_a_plate_starts_once_for_each_of_its_places():
    def in_a_plate(group):
        with pyro.plate(f"{group.name}.plate", 2):
            pyro.sample(f"{group.name}.rates", dist.Gamma(6.0, 2.0))
        return ONE_GROUP(group)

    start = Custom(in_a_plate).start(GROUP, WEIGHTS)
    assert start["g.rates"].tolist() == [3.0, 3.0] and "g.plate" not in start


def test_starts_go_before_what_is_derived():
    def starts(group, weights):
        return {f"{group.name}.scale": weights.std()}

    found = Custom(scaled_slabs, starts=starts).start(GROUP, WEIGHTS)
    torch.testing.assert_close(found["g.scale"], WEIGHTS.std())
    torch.testing.assert_close(found["g.widths"], 2 * WEIGHTS.std().expand(3))


def test_the_caller_s_handlers_do_not_see_the_run_for_the_starts():
    with poutine.trace() as tracer, poutine.condition(data={"g.scale": torch.tensor(9.0)}):
        found = Custom(scaled_slabs).start(GROUP, WEIGHTS)
    assert found["g.scale"] != 9.0
    assert not [name for name in tracer.trace.nodes if name.startswith("g.")]


# What cannot be is named.


@dataclass(frozen=True)
class Half:
    """Some of a WeightPrior."""

    mixture: Mixture

    def log_prob(self, flat, places=None):
        return self.mixture.total_log_prob(flat)


MIXTURE = Mixture(*torch.tensor([[0.0], [4.0], [1.0]]))


class Plain:
    """All of a WeightPrior, but in a class that dataclasses.replace cannot copy."""

    mixture = MIXTURE
    log_prob = assign = codebook = scale = proportions = sample = None


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, ["given returned None; return a WeightPrior, such as MixturePrior(Mixture("]),
        (MIXTURE, ["given returned a Mixture, which lacks mixture, codebook, scale"]),
        (Half(MIXTURE), ["a Half, which lacks assign, codebook, scale, proportions, sample;"]),
        (Plain(), ["a Plain; make it a dataclass with a field 'mixture'"]),
    ],
)
def test_what_is_no_weight_prior_is_refused_with_what_it_lacks(returned, words):
    def given(group):
        return returned

    with pytest.raises(TypeError) as caught:
        Custom(given)(GROUP)
    assert all(word in str(caught.value) for word in words), caught.value


def test_the_members_of_a_weight_prior_are_those_of_the_protocol():
    assert {"mixture", "log_prob", "assign", "codebook", "scale", "sample"} <= set(MEMBERS)
    assert all(hasattr(MixturePrior(MIXTURE), member) for member in MEMBERS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scale", ["function: site 'scale' must start with 'g.'", 'f"{group.name}.scale"']),
        ("other.scale", ["site 'other.scale' must start with 'g.'"]),
        ("gg.scale", ["site 'gg.scale' must start with 'g.'"]),
        ("g.weights", ["site 'g.weights' is the weights' own"]),
    ],
)
def test_a_site_that_is_not_the_group_s_is_refused(name, words):
    prior = Custom(with_site(name, dist.Normal(0.0, 1.0)))
    for call in (lambda: prior(GROUP), lambda: prior.start(GROUP, WEIGHTS)):
        with pytest.raises(ValueError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value


def test_a_parameter_without_a_density_is_refused():
    def function(group):
        pyro.param("g.scale", torch.tensor(1.0))
        return ONE_GROUP(group)

    with pytest.raises(ValueError, match="pyro.param 'g.scale' would be lost after the fit"):
        Custom(function)(GROUP)


@pytest.mark.parametrize(
    ("starts", "error", "words"),
    [
        ({"g.scal": 1.0}, ValueError, "no site 'g.scal', did you mean 'g.scale'?; it has g.scale,"),
        ({"g.scale": -1.0}, ValueError, "'g.scale' lies outside its support, GreaterThan"),
        (
            {"g.widths": torch.ones(2)},
            ValueError,
            "'g.widths' has shape (2,); its distribution has (3,)",
        ),
        ([1.0], TypeError, "starts must return values by site name, got a list"),
    ],
)
def test_a_start_that_no_site_can_have_is_refused(starts, error, words):
    with pytest.raises(error) as caught:
        Custom(scaled_slabs, starts=lambda group, weights: starts).start(GROUP, WEIGHTS)
    assert words in str(caught.value)


def test_a_site_for_which_there_is_no_start_is_refused():
    flat = dist.ImproperUniform(dist.constraints.positive, torch.Size(), torch.Size())
    with pytest.raises(ValueError, match=r"site 'g.x' has no start: .*give one with starts="):
        start_of(flat)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"function": 3}, "function must be callable, got 3"),
        ({"function": as_family, "starts": 3}, "starts must be a function"),
        (
            {"function": scaled_slabs, "arguments": {"component": 3}},
            "scaled_slabs: got an unexpected keyword argument 'component'; "
            "it takes group, components",
        ),
    ],
)
def test_what_cannot_be_called_so_is_refused(fields, words):
    with pytest.raises(ValueError) as caught:
        Custom(**fields)
    assert words in str(caught.value)


def test_a_function_in_the_place_of_a_prior_is_told_of_custom():
    net, inputs, targets = classifier()
    with pytest.raises(ValueError, match=r"prior: must be a spec such as Custom\(function\)"):
        sws.compress(net, [(inputs, targets)], prior=as_family)
