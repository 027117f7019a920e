"""Where a fit sets out: which sites there are, which are drawn, and the zeros by weights."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_sws.assess.prior.starting_point import expected_zero_share, starting_point, zero_share
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import SpikeAndSlabs, Structured
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior, unscaled


@dataclass(frozen=True)
class Sites:
    """One site of every kind, and a deviation that depends on another site."""

    started: bool = True

    def __call__(self, group):
        one = group.constant(1.0)
        free = pyro.sample("all.free", dist.Normal(one, one).mask(False))
        with poutine.mask(mask=False):
            masked = pyro.sample("all.masked", dist.Normal(one, one))
        parent = pyro.sample("all.parent", dist.Gamma(100 * one, 100 * one))
        child = pyro.sample("all.child", dist.Gamma(1e6 * one, 1e6 / parent))
        pyro.deterministic("all.known", parent + child)
        pyro.factor("all.factor", -child)
        means = torch.stack([0 * one, free + masked])
        return MixturePrior(Mixture(means, child.repeat(2), one.repeat(2) / 2))

    def start(self, group, weights):
        values = {"all.free": 5.0, "all.masked": 7.0, "all.parent": 3.0, "all.child": 2.0}
        return {s: group.constant(v) for s, v in values.items()} if self.started else {}


@pytest.fixture(autouse=True)
def forked():
    with torch.random.fork_rng(), pyro_step():
        torch.manual_seed(0)
        yield


def found(prior, net=None):
    model = joint(net or torch.nn.Linear(3, 2), prior, "categorical", 1)
    return starting_point(model, "all", model.start())


def test_sites_are_what_a_fit_would_learn():
    sites = found(Sites()).sites
    assert {name: site.free for name, site in sites.items()} == {
        "all.free": True,
        "all.masked": True,
        "all.parent": False,
        "all.child": False,
    }
    assert sites["all.parent"].value == 3 and all(site.started for site in sites.values())


def test_a_draw_keeps_what_is_free_and_follows_the_hierarchy():
    start = found(Sites())
    draws = [start.draw() for _ in range(100)]
    assert {draw[1]["all.free"].value.item() for draw in draws} == {5.0}
    assert all(draw[0].mixture.means.tolist() == [0, 12] for draw in draws)
    parents = torch.stack([draw[1]["all.parent"].value for draw in draws])
    children = torch.stack([draw[1]["all.child"].value for draw in draws])
    # Gamma(100, 100) has mean 1 and deviation 0.1; a child's own deviation is a thousandth.
    assert abs(parents.mean() - 1) < 5 * 0.1 / 10
    torch.testing.assert_close(children, parents, rtol=7e-3, atol=0)


def test_what_is_free_and_has_no_start_can_only_be_drawn():
    start = found(Sites(started=False))
    assert not any(site.started for site in start.sites.values())
    assert start.draw()[1]["all.free"].value != start.draw()[1]["all.free"].value


def test_expected_zeros_are_averaged_over_the_weights():
    net = torch.nn.Linear(9, 1)  # 9 weights, 1 bias
    prior = Structured(SpikeAndSlabs(slabs=2, zero_proportion=0.5), by=("tensor",))
    start = found(prior, net)
    assert expected_zero_share(start.density, start.group) == pytest.approx(0.5)
    with poutine.condition(data={"all.tensor_effects": torch.tensor([0.0, 20.0])}):
        density = prior(start.group)
    assert expected_zero_share(density, start.group) == pytest.approx(0.9 * 0.5 + 0.1, rel=1e-6)


def test_zeros_and_scales_are_those_of_each_tensor():
    group = Group("all", {"a": (2,), "b": (2,)})
    mixture = Mixture(torch.tensor([0.0, 1.0]), torch.full((2,), 100.0), torch.full((2,), 0.5))
    prior = MixturePrior(mixture, torch.tensor([1.0, 1.0, 4.0, 4.0]))
    flat = torch.tensor([1.0, 1.4, 1.4, 4.0])
    assert unscaled(prior, group, flat).tolist() == pytest.approx([1, 1.4, 0.35, 1])
    assert zero_share(prior, group, flat) == 0.25
    assert flat[2] == pytest.approx(1.4), "the argument stays as it is"
