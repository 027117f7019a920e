"""Where components start, on weights whose clusters are known; and that every family can use it."""

import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from every_prior import GROUP, WEIGHTS, density, traced

import pyro_sws as sws
from pyro_sws.inference.priors import SpikeAndSlabs, initialization
from pyro_sws.inference.priors.initialization import INITIALIZATIONS, initialize

WIDE = torch.linspace(-1, 3, 1000, dtype=torch.float64) ** 3
NEEDS_SCIKIT = ("k_means", "em")
FAMILIES = [name for name in sws.PRIORS if name != "gaussian"]  # which has no slabs


def drawn(means, deviations, proportions, n=6000):
    rng = np.random.default_rng(0)
    j = rng.choice(len(means), size=n, p=proportions)
    return torch.tensor(rng.normal(np.array(means)[j], np.array(deviations)[j]))


def test_a_range_is_divided_evenly():
    start = initialize("range", WIDE, 3, 0.1)
    np.testing.assert_allclose(start.means, [-1, 13, 27], rtol=1e-12)
    np.testing.assert_allclose(start.deviations, 0.1)
    np.testing.assert_allclose(start.shares, 1 / 3)
    assert start.spike_deviation == 0.1


def test_the_papers_slabs_are_as_wide_as_they_are_apart():
    start = initialize("paper", WIDE, 5, 0.1)
    np.testing.assert_allclose(start.means, [-1, 6, 13, 20, 27], rtol=1e-12)
    np.testing.assert_allclose(start.deviations, 7.0)
    assert start.spike_deviation == 7.0
    assert initialize("paper", WIDE, 1, 0.1).deviations.tolist() == [0.1]


def test_equal_mass_puts_as_many_weights_between_any_two_means():
    means = initialize("equal_mass", WIDE, 4, 0.1).means
    between = [int(((means[i] <= WIDE) & (means[i + 1] > WIDE)).sum()) for i in range(3)]
    assert between == [250, 250, 250]


@pytest.mark.parametrize("choice", ["range", "paper"])
def test_a_single_slab_starts_in_the_middle(choice):
    assert initialize(choice, WIDE, 1, 0.1).means.item() == pytest.approx(13.0)


def test_given_means_are_the_start():
    start = initialize((-0.5, 0.5), WIDE, 2, 0.1)
    assert start.means.tolist() == [-0.5, 0.5] and start.deviations.tolist() == [0.1, 0.1]


def test_k_means_finds_three_points():
    w = torch.tensor([-0.5] * 20 + [0.0] * 100 + [0.7] * 60, dtype=torch.float64)
    start = initialize("k_means", w, 2, 0.1)  # the centre nearest 0 is the spike's
    np.testing.assert_allclose(start.means, [-0.5, 0.7], rtol=1e-9)
    np.testing.assert_allclose(start.shares, [0.25, 0.75], atol=1e-5)
    np.testing.assert_allclose(start.deviations, 0.1)
    alone = initialize("k_means", w, 3, 0.1, spike=False)
    np.testing.assert_allclose(alone.means, [-0.5, 0.0, 0.7], atol=1e-9)


def test_no_centre_of_k_means_can_be_improved():
    w = drawn([0.0, 0.4, -0.3], [0.05, 0.1, 0.02], [0.6, 0.2, 0.2], n=2000).numpy()
    means = initialize("k_means", torch.tensor(w), 6, 0.1, spike=False).means.numpy()
    nearest = np.abs(w[:, None] - means).argmin(1)
    own = [w[nearest == k].mean() for k in range(6)]
    # scikit-learn stops where the centres move by less than 1e-4 variances, squared and summed.
    assert ((means - own) ** 2).sum() < 1e-4 * w.var()


def test_quantiles_stand_for_many_weights(monkeypatch):
    w = drawn([0.0, 0.4, -0.3], [0.05, 0.1, 0.02], [0.6, 0.2, 0.2], n=9000)
    exact = initialize("k_means", w, 4, 0.1).means
    monkeypatch.setattr(initialization, "MOST_QUANTILES", 500)
    np.testing.assert_allclose(initialize("k_means", w, 4, 0.1).means, exact, atol=0.01)


def test_em_recovers_the_mixture_that_weights_were_drawn_from():
    means, deviations, proportions = [-0.6, 0.0, 0.5], [0.05, 0.02, 0.1], [0.2, 0.5, 0.3]
    w = drawn(means, deviations, proportions)
    start = initialize("em", w, 2, 0.3)
    counts = len(w) * np.array([0.2, 0.3])
    # Five standard errors: deviation / sqrt(n) of a mean, over sqrt 2 of a deviation.
    error = np.array([0.05, 0.1]) / counts**0.5
    assert (np.abs(start.means.numpy() - [-0.6, 0.5]) < 5 * error).all()
    assert (np.abs(start.deviations.numpy() - [0.05, 0.1]) < 5 * error / 2**0.5).all()
    assert abs(start.spike_deviation.item() - 0.02) < 5 * 0.02 / (2 * 0.5 * len(w)) ** 0.5
    assert abs(start.shares[0].item() - 0.4) < 5 * (0.24 / (0.5 * len(w))) ** 0.5


@pytest.mark.parametrize("choice", INITIALIZATIONS)
@pytest.mark.parametrize("spike", [True, False])
@pytest.mark.parametrize(
    "weights",
    [
        [0.0] * 50,  # fresh biases
        [0.3] * 50,
        [0.1] * 30 + [0.2] * 30,  # fewer values than slabs,
        [0.1, 0.1, 0.3],  # than weights,
        [0.2],
        [0.0] * 40 + [-0.3, 0.1, 0.2, 0.5, 0.6, 0.7, 0.8],  # most are equal
    ],
)
def test_no_two_slabs_start_as_one(choice, spike, weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    start = initialize(choice, weights, 5, 0.1, spike)
    assert (start.means.diff() > 0).all(), "components that start alike never part"
    assert all(value.isfinite().all() for value in vars(start).values())
    assert (start.deviations > 0).all() and start.spike_deviation > 0
    assert (start.shares > 0).all() and start.shares.sum().item() == pytest.approx(1)
    assert start.means.shape == start.deviations.shape == start.shares.shape == (5,)
    assert initialize(choice, weights, 1, 0.1, spike).means.shape == (1,)


def choosing(family, choice):
    if family in ("structured", "scaled"):
        return sws.PRIORS[family](shape=SpikeAndSlabs(4, 0.7, initialization=choice))
    prior = replace(sws.PRIORS[family](), initialization=choice)
    slabs = [f.name for f in fields(prior) if f.name in ("slabs", "truncation")]
    return replace(prior, **dict.fromkeys(slabs, 4))


@pytest.mark.parametrize("choice", INITIALIZATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_start_from_every_choice(family, choice):
    prior = choosing(family, choice)
    start = prior.start(GROUP, WEIGHTS)
    nodes = traced(prior, GROUP, start).nodes
    assert all(nodes[site]["fn"].support.check(value).all() for site, value in start.items())
    assert density(prior, GROUP, start).log_prob(WEIGHTS).isfinite()


@pytest.mark.parametrize("family", ["spike_and_slabs", "dirichlet_process", "sparse_dirichlet"])
def test_found_shares_and_deviations_are_where_a_family_starts(family):
    w = drawn([0.0, -0.4, 0.3], [0.01, 0.02, 0.05], [0.5, 0.1, 0.4], n=GROUP.size)
    prior = replace(choosing(family, "em"), zero_proportion=0.7)
    expected = initialize("em", w, 4, prior.start_deviation)
    found = density(prior, GROUP, prior.start(GROUP, w)).mixture
    np.testing.assert_allclose(found.means[1:], expected.means)
    np.testing.assert_allclose(found.deviations[1:], expected.deviations)
    np.testing.assert_allclose(found.proportions[1:], 0.3 * expected.shares, rtol=1e-6)
    np.testing.assert_allclose(found.deviations[0], expected.spike_deviation)


@pytest.mark.parametrize("choice", NEEDS_SCIKIT)
def test_without_scikit_learn_the_remedy_is_named(monkeypatch, choice):
    for module in ("sklearn.cluster", "sklearn.mixture"):
        monkeypatch.setitem(sys.modules, module, None)  # its import fails
    message = (
        r"this initialization needs scikit-learn: pip install 'pyro-sws\[digits\]', or choose "
        "'range', 'equal_mass' or 'paper'"
    )
    with pytest.raises(ImportError, match=message):
        SpikeAndSlabs(initialization=choice, slabs=3).start(GROUP, WEIGHTS)


def test_the_other_choices_do_without_scikit_learn(monkeypatch):
    for module in ("sklearn.cluster", "sklearn.mixture"):
        monkeypatch.setitem(sys.modules, module, None)
    for choice in INITIALIZATIONS.keys() - NEEDS_SCIKIT:
        assert initialize(choice, WEIGHTS, 3, 0.1).means.isfinite().all()


@pytest.mark.parametrize("choice", INITIALIZATIONS)
def test_a_start_is_always_the_same_and_draws_from_no_ones_generator(choice):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (initialize(choice, WIDE, 6, 0.1) for _ in range(2))
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name)), name
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
