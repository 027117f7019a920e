"""Contracts: what every row of PRIORS, GUIDES and CODERS must do, whoever wrote it."""

import dataclasses
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from problems import classifier
from pyro import poutine
from pyro.infer import Trace_ELBO

import pyro_sws as sws
from pyro_sws.codec.coders import Plane
from pyro_sws.inference.joint import WeightDistribution
from pyro_sws.inference.steps import pyro_step
from pyro_sws.recipe import Recipe, parse, tomllib
from pyro_sws.sources import Source
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture


@dataclasses.dataclass(frozen=True)
class RowScaled:
    """A family from outside the package: a scale a row and a zero proportion a tensor."""

    slabs: int = 3

    def __call__(self, group):
        means = pyro.sample(
            f"{group.name}.means",
            dist.Normal(group.constant(0.0), 1.0).expand([self.slabs]).to_event(1),
        ).reshape(-1)
        zeros = {
            name: 0.9 if len(shape) > 1 else 0.5  # biases are rarely 0
            for name, shape in group.shapes.items()
        }
        rows = sum(shape[0] for shape in group.shapes.values())
        scales = pyro.sample(
            f"{group.name}.scales",
            dist.Gamma(group.constant(50.0), 50.0).expand([rows]).to_event(1),
        ).reshape(-1)
        precisions = group.constant(400.0).repeat(self.slabs + 1)
        return RowScaledPrior(
            Mixture(torch.cat([group.constant(0.0).view(1), means]), precisions, precisions / 1e9),
            group,
            zeros,
            scales,
        )

    def start(self, group, weights):
        rows = sum(shape[0] for shape in group.shapes.values())
        return {
            f"{group.name}.means": torch.linspace(-0.5, 0.5, self.slabs, dtype=group.dtype),
            f"{group.name}.scales": torch.ones(rows, dtype=group.dtype),
        }


@dataclasses.dataclass(frozen=True)
class RowScaledPrior:
    """Its density: nothing in the package knows about rows or tensors' own proportions."""

    mixture: Mixture
    group: Group
    zeros: dict
    scales: torch.Tensor

    def parts(self, flat):
        row = 0
        for name, part in self.group.slices.items():
            shape = self.group.shapes[name]
            scale = self.scales[row : row + shape[0]].repeat_interleave(
                np.prod(shape[1:], dtype=int)
            )
            row += shape[0]
            zero, slabs = self.zeros[name], len(self.mixture) - 1
            shares = scale.new_tensor([zero] + [(1 - zero) / slabs] * slabs)
            mixture = dataclasses.replace(self.mixture, proportions=shares)
            yield part, mixture, scale, flat[part] / scale

    def log_prob(self, flat):
        return sum(m.total_log_prob(w) - s.log().sum() for _, m, s, w in self.parts(flat))

    def assign(self, flat):
        return torch.cat([mixture.assign(w) for _, mixture, _, w in self.parts(flat)])

    def codebook(self, part):
        return self.mixture.levels

    def scale(self, part):
        return next(
            s for p, _, s, _ in self.parts(self.scales.new_zeros(self.group.size)) if p == part
        )

    def proportions(self, part):
        parts = self.parts(self.scales.new_zeros(self.group.size))
        return next(m.level_proportions for p, m, _, _ in parts if p == part)

    def sample(self, size):
        return torch.cat(
            [m.sample(w.shape) * s for _, m, s, w in self.parts(self.scales.new_zeros(size))]
        )


PRIORS = {**{name: family() for name, family in sws.PRIORS.items()}, "row_scaled": RowScaled()}
GROUP = Group("all", {"a": (3, 2), "b": (2,)}, torch.float64)
WEIGHTS = torch.linspace(-0.4, 0.6, GROUP.size, dtype=torch.float64)


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


def density(prior, group, weights):
    start = prior.start(group, weights)
    with pyro_step():
        return poutine.condition(prior, data=start)(group)


def test_a_priors_start_lies_in_the_support_of_every_site_it_samples(prior):
    start = prior.start(GROUP, WEIGHTS)
    with pyro_step():
        trace = poutine.trace(poutine.condition(prior, data=start)).get_trace(GROUP)
    sites = [name for name, site in trace.nodes.items() if site["type"] == "sample"]
    assert set(sites) == set(start), "each site has a start"
    for name in sites:
        assert name.startswith("all.")
        assert trace.nodes[name]["fn"].support.check(start[name]).all(), name
        assert start[name].shape == trace.nodes[name]["fn"].event_shape, name


def test_a_priors_density_integrates_to_one(prior):
    group = Group("all", {"a": (1, 1)}, torch.float64)  # a single weight
    found = density(prior, group, WEIGHTS[:1])
    grid = torch.linspace(-3, 3, 3001, dtype=torch.float64)
    p = torch.stack([found.log_prob(w.view(1)) for w in grid]).exp()
    assert torch.trapezoid(p, grid).item() == pytest.approx(1, abs=1e-9)


def test_a_priors_gradient_is_its_slope(prior):
    found = density(prior, GROUP, WEIGHTS)
    w = WEIGHTS.clone().requires_grad_()
    found.log_prob(w).backward()
    step = 1e-6 * torch.eye(GROUP.size, dtype=torch.float64)
    slopes = [(found.log_prob(WEIGHTS + s) - found.log_prob(WEIGHTS - s)) / 2e-6 for s in step]
    # Central differences: rounding of 1e-16 |log p| / 1e-6, and a curvature term of order 1e-12.
    torch.testing.assert_close(w.grad, torch.stack(slopes), rtol=1e-6, atol=1e-6)


def test_a_priors_draws_have_its_shape(prior):
    found = density(prior, GROUP, WEIGHTS)
    site = WeightDistribution(found, GROUP)
    assert site.sample().shape == (GROUP.size,)
    assert site.sample((4,)).shape == (4, GROUP.size)
    assert site.log_prob(site.sample((4,))).shape == (4,)


def test_a_prior_goes_to_a_file_and_back(prior):
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], prior=prior, epochs=3)
    assert sws.decode(result.data) == result.quantized
    decoded = sws.load(result.data, into=net)
    for name, values in result.quantized.dequantize().items():
        np.testing.assert_array_equal(decoded.get_parameter(name).detach().numpy(), values)
    assert result.report.score["decoded"] == result.report.score["quantized"]


@pytest.mark.parametrize("family", sws.PRIORS)
def test_a_prior_says_the_same_in_toml(family):
    recipe = Recipe(Source("net.py:f"), Source("data.py:g"), (sws.Rule(PRIORS[family]),))
    again = parse(tomllib.loads(recipe.to_toml(Path())), Path())
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
