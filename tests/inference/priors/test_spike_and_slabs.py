"""The paper's prior: what it samples, where it starts, and what it refuses."""

import itertools

import pytest
import torch
from pyro import poutine

from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.weights.group import Group

GROUP = Group("g", {"w": (1000,)})
WEIGHTS = torch.linspace(-1, 3, 1000) ** 3

CHOICES = {
    "zero_proportion": (0.99, Beta(99.0, 1.0), 0.0),
    "spike_precision": (400.0, Gamma(5.0, 0.01), "free"),
    "slab_precision": (100.0, Gamma(5.0, 0.05), "free"),
    "slab_shares": ("free", "equal", Dirichlet(2.0)),
    "slab_means": ("free", Normal(0.5)),
}


def mixture(prior):
    with pyro_step():
        conditioned = poutine.condition(prior, data=prior.start(GROUP, WEIGHTS))
        trace = poutine.trace(conditioned).get_trace(GROUP)
    sites = {n.removeprefix("g.") for n, s in trace.nodes.items() if s["type"] == "sample"}
    return trace.nodes["_RETURN"]["value"].mixture, sites


@pytest.mark.parametrize("values", [*itertools.product(*CHOICES.values())], ids=str)
def test_every_combination_is_a_mixture_and_samples_what_it_learns(values):
    prior = SpikeAndSlabs(slabs=4, **dict(zip(CHOICES, values, strict=True)))
    found, sites = mixture(prior)
    zero, spike, slab, shares, _ = values
    assert found.proportions.sum().item() == pytest.approx(1)
    assert len(found) == (4 if zero == 0 else 5)
    assert zero == 0 or (found.means[0] == 0 and not (found.means[1:] == 0).any())
    learned = {"means"}
    learned |= {"slab_precisions"} if slab != 100.0 else set()
    learned |= {"slab_shares"} if shares != "equal" else set()
    learned |= {"spike_precision"} if zero != 0 and spike != 400.0 else set()
    learned |= {"zero_proportion"} if isinstance(zero, Beta) else set()
    assert sites == learned


def test_fixed_numbers_are_what_the_mixture_has():
    prior = SpikeAndSlabs(2, 0.9, spike_precision=400.0, slab_precision=100.0, slab_shares="equal")
    found, _ = mixture(prior)
    torch.testing.assert_close(found.proportions, torch.tensor([0.9, 0.05, 0.05]))
    torch.testing.assert_close(found.precisions, torch.tensor([400.0, 100.0, 100.0]))


def test_every_component_starts_with_the_given_deviation():
    found, _ = mixture(SpikeAndSlabs(slabs=3, start_deviation=0.2))
    torch.testing.assert_close(found.deviations, torch.full((4,), 0.2))


def test_constants_follow_the_groups_dtype():
    group = Group("g", {"w": (3,)}, torch.float64)
    with pyro_step():
        found = SpikeAndSlabs()(group)
    for field in ("means", "precisions", "proportions"):
        assert getattr(found.mixture, field).dtype == torch.float64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slabs": 0}, "slabs must be at least 1, got 0"),
        ({"zero_proportion": 1.0}, r"zero_proportion must be in \[0, 1\), got 1.0"),
        ({"spike_precision": -1.0}, "spike_precision must be positive, got -1.0"),
        ({"start_deviation": 0.0}, "start_deviation must be positive, got 0.0"),
        ({"slabs": 3, "initialization": (0.1,)}, "gives 1 means for 3 slabs"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SpikeAndSlabs(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"slab_shares": Dirichlet(0.1)},
        {"slab_precision": Gamma(0.5, 1.0)},
        {"zero_proportion": Beta(9.0, 0.5)},
    ],
)
def test_a_density_without_a_maximum_is_refused_a_point_estimate(fields):
    model = joint(torch.nn.Linear(3, 2), SpikeAndSlabs(**fields), "categorical", 10)
    with pytest.raises(ValueError, match=r"group 'all': no point estimate exists: .*; use "):
        delta_guide(model)
