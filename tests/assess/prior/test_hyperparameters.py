"""Sites: a hyperprior is as strong as the curvature of its logarithm says, and free is seen."""

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import ExpTransform

from pyro_sws.assess.prior.hyperparameters import Site
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal, free_positive, free_real
from pyro_sws.weights.group import Group

GROUP = Group("g", {"w": (10,)}, torch.float64)


def site(name, density, value=None):
    value = density.sample() if value is None else torch.tensor(value, dtype=torch.float64)
    return Site(f"g.{name}", density, value)


def curvature(log_density, u):
    """-d^2 log_density / du^2."""
    return -torch.autograd.functional.hessian(log_density, torch.tensor(u, dtype=torch.float64))


@pytest.mark.parametrize("name", ["spike_precision", "scale"])
def test_a_gamma_says_as_much_as_so_many_weights(name):
    found = site(name, Gamma(8.0, 0.3).over(GROUP))
    mode = torch.tensor(7 / 0.3).double().log()
    # Without the Jacobian of log x: a point estimate is one of x.
    said = curvature(lambda u: found.base.log_prob(u.exp()), mode.item())
    power = -0.5 if name == "spike_precision" else 1.0  # of x, to have the deviation
    weight = (mode * power).exp().item()  # one that is as far off as is to be expected
    normal = lambda u: dist.Normal(0.0, (u * power).exp()).log_prob(torch.tensor(weight))  # noqa: E731
    one = curvature(normal, mode.item())
    assert found.strength == pytest.approx(float(said / one))


def test_counts_are_the_strength_of_a_beta_and_a_dirichlet():
    assert site("zero_proportion", Beta(20.0, 5.0).over(GROUP)).strength == 23
    assert site("slab_shares", Dirichlet(2.0).over(GROUP, 4)).strength == 4


def test_a_strength_that_is_not_known_is_none():
    assert site("means", Normal(0.5).over(GROUP, (3,))).strength is None
    assert site("concentration", Gamma(8.0, 0.3).over(GROUP)).strength is None


@pytest.mark.parametrize("density", [Gamma(8.0, 0.3), Beta(20.0, 5.0)])
def test_a_stronger_hyperprior_lies_where_the_weaker_one_did(density):
    found = site("precision", density.over(GROUP))
    stronger = eval(found.times_as_strong(10), {"Gamma": Gamma, "Beta": Beta})
    again = site("precision", stronger.over(GROUP))
    assert again.strength == pytest.approx(10 * found.strength, rel=1e-3)
    kept = -1 if isinstance(density, Gamma) else 0  # the mode of the one, the other's mean
    torch.testing.assert_close(again.centres[kept], found.centres[kept], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("density", "entries", "free"),
    [
        (Gamma(8.0, 0.3).over(GROUP, (3,)), 3, False),
        (Dirichlet(2.0).over(GROUP, 4), 1, False),
        (Beta(20.0, 5.0).over(GROUP).expand((6,)), 6, False),
        (free_real(GROUP, 3), 3, True),
        (free_positive(GROUP), 1, True),
        (dist.ImproperUniform(dist.constraints.real, (), (2,)), 1, True),
    ],
)
def test_entries_are_counted_and_what_is_free_is_seen(density, entries, free):
    value = torch.ones(density.shape(), dtype=torch.float64)
    found = Site("g.x", density, value)
    assert (found.entries, found.free) == (entries, free)
    assert (found.formula == "free") == free
    assert found.strength == 0 or not free


@pytest.mark.parametrize(
    ("density", "formula"),
    [
        (Gamma(5000.0, 2.0).over(GROUP), "Gamma(5000, 2), mode at 2500"),
        (dist.LogNormal(0.0, 1.0).expand((3,)).to_event(1), "LogNormal(0, 1)"),
        (dist.HalfCauchy(1.0), "HalfCauchy"),
        (
            dist.TransformedDistribution(Gamma(2.0, 3.0).over(GROUP), [ExpTransform().inv]),
            "log of Gamma(2, 3)",
        ),
    ],
)
def test_a_formula_is_as_the_books_write_it(density, formula):
    assert site("x", density).formula == formula


def test_a_gamma_of_precisions_is_told_in_deviations():
    found = site("precision", Gamma(5000.0, 2.0).over(GROUP), 100.0)
    assert found.formula == "Gamma(5000, 2), mode at deviation 0.02"  # (4999 / 2)^-1/2
    factor, start, centre = found.farthest()
    assert (start, centre) == ("deviation 0.1", "deviation 0.02")
    assert factor == pytest.approx((2499.5 / 100) ** 0.5)  # the mode is nearer than the mean


def test_a_beta_is_compared_in_odds_and_with_mean_or_mode_whichever_is_nearer():
    # Mean 0.8, odds 4; mode 19 / 23, odds 4.75.
    at = lambda z: site("zero_proportion", Beta(20.0, 5.0).over(GROUP), z).farthest()[0]  # noqa: E731
    assert at(0.8) == pytest.approx(1)
    assert at(19 / 23) == pytest.approx(1)
    assert at(0.5) == pytest.approx(4)
    assert at(0.95) == pytest.approx(19 / 4.75)


def test_of_many_entries_the_farthest_counts():
    density = Gamma(8.0, 0.3).over(GROUP, (3,))
    found = site("scales", density, [8 / 0.3, 80 / 0.3, 7 / 0.3])
    factor, start, _ = found.farthest()
    assert factor == pytest.approx(10) and start == "266.7"
