"""Binned likelihoods against the exact sum, closed forms, and the series they are cut off from."""

import numpy as np
import pytest
import torch

from pyro_sws.weights.binned import REACH, binned
from pyro_sws.weights.mixture import Mixture

J = 4


def spiky(size, seed=0):
    """Nine weights in ten under a spike a tenth as wide as the slabs."""
    values = [[0.0, -0.2, 0.1, 0.3], [0.003, 0.03, 0.03, 0.05], [0.9, 0.04, 0.03, 0.03]]
    means, deviations, proportions = torch.tensor(values, dtype=torch.float64)
    mixture = Mixture(means, deviations**-2, proportions)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mixture, mixture.sample((size,))


def unconstrained(mixture):
    parts = [mixture.means, mixture.precisions.log(), mixture.proportions.log()]
    return torch.cat(parts).requires_grad_()


def at(u):
    means, log_precisions, logits = u.split(len(u) // 3)
    return Mixture(means, log_precisions.exp(), logits.softmax(0))


def derivatives(mixture, points, highest):
    """log f and its derivatives at the points, by autograd of the plain formula."""
    x = points.clone().requires_grad_()
    found = [mixture.component_log_prob(x).logsumexp(-1)]
    for _ in range(highest):
        found.append(torch.autograd.grad(found[-1].sum(), x, create_graph=True)[0])
    return found


def owners(w, bins):
    """The bin of each weight: bins are intervals, in order, so counts tell."""
    order = w.argsort()
    owner = torch.empty_like(order)
    owner[order] = torch.arange(len(bins)).repeat_interleave(bins.counts.long())
    return owner


@pytest.mark.parametrize("share", [0.05, 0.5, 1e6])
def test_counts_sums_and_squares_are_those_of_the_weights(share):
    mixture, w = spiky(5000)
    bins = binned(w, mixture, share)
    assert bins.counts.sum() == len(w)
    torch.testing.assert_close(bins.counts @ bins.means, w.sum())
    squares = bins.counts @ (bins.variances + bins.means.square())
    torch.testing.assert_close(squares, w.square().sum())


def test_each_bin_has_the_mean_and_variance_of_its_own_weights():
    mixture, w = spiky(5000)
    bins = binned(w, mixture)
    owner = owners(w, bins)
    assert 100 < len(bins) < 600
    for b in range(0, len(bins), 10):
        inside = w[owner == b]
        torch.testing.assert_close(bins.means[b], inside.mean())
        torch.testing.assert_close(bins.variances[b], inside.var(correction=0))


def test_no_bin_is_wider_than_its_share_of_the_nearest_deviation():
    mixture, w = spiky(50_000)
    share = 0.25
    owner = owners(w, binned(w, mixture, share))
    for b in range(int(owner.max()) + 1):
        inside = w[owner == b]
        width = inside.max() - inside.min()
        distances = (inside.unsqueeze(1) - mixture.means).abs()
        allowed = share * torch.maximum(mixture.deviations, distances / REACH)
        assert width <= allowed.min() * (1 + 1e-9)


def test_what_is_left_out_is_the_next_two_terms_of_the_series():
    """sum M3 f'''/6 + M4 f''''/24; the fifth order is a hundredth of the third (share 1/8)."""
    mixture, w = spiky(20_000)
    bins = binned(w, mixture)
    u = unconstrained(mixture)
    residuals = w - bins.means[owners(w, bins)]
    third, fourth = (
        torch.zeros(len(bins), dtype=w.dtype).index_add_(0, owners(w, bins), residuals**k)
        for k in (3, 4)
    )
    f = derivatives(at(u), bins.means, 4)
    left_out = third @ f[3] / 6 + fourth @ f[4] / 24
    error = at(u).total_log_prob(w) - bins.log_prob(at(u))
    assert abs(left_out.item()) < 1e-3  # nats, of a sum of some 70,000
    torch.testing.assert_close(error, left_out, rtol=0.05, atol=1e-9)
    expected, found = (torch.autograd.grad(value, u)[0] for value in (left_out, error))
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_binning_shifts_the_likelihoods_peak_by_less_than_a_hundredth_of_a_deviation():
    mixture, w = spiky(40_000)
    u = unconstrained(mixture)
    plain = shifts(u, w, binned(w, mixture, 0.5), counts_only=True)
    ours = shifts(u, w, binned(w, mixture), counts_only=False)
    assert plain.max() > 1  # what happens to those who keep only counts
    assert ours.max() < 0.01


def shifts(u, w, bins, counts_only):
    """How far a Newton step leads from the exact maximum, by eigendirection, in deviations."""
    exact = at(u).total_log_prob(w)
    approximate = bins.log_prob(at(u))
    if counts_only:
        approximate = bins.counts @ at(u).component_log_prob(bins.means).logsumexp(-1)
    slopes, others = (
        torch.autograd.grad(value, u, create_graph=True)[0] for value in (exact, approximate)
    )
    rows = [torch.autograd.grad(slope, u, retain_graph=True)[0] for slope in slopes]
    values, vectors = torch.linalg.eigh(-torch.stack(rows))
    kept = values > 1e-6 * values.max()  # the proportions' logits have one direction too many
    along = vectors.T @ (slopes - others).detach()
    return (along[kept] / values[kept].sqrt()).abs()


def test_one_component_is_exact_in_bins_of_any_width():
    _, w = spiky(1000)
    alone = Mixture(*(torch.tensor([x], dtype=w.dtype) for x in (0.02, 900.0, 1.0)))
    bins = binned(w, alone, bin_width=10.0)
    assert len(bins) < 10
    torch.testing.assert_close(bins.log_prob(alone), alone.total_log_prob(w), rtol=1e-12, atol=0)


def test_bins_grow_neither_with_the_weights_nor_with_their_range():
    mixture, w = spiky(20_000)
    bins = binned(w, mixture)
    assert len(binned(w.repeat(20), mixture)) == len(bins)
    far = torch.cat([w, w.new_tensor([-1e6, 1e6])])
    assert len(binned(far, mixture)) <= len(bins) + 2


def test_a_component_narrower_than_rounding_ends_in_few_bins():
    mixture, w = spiky(1000)
    sliver = Mixture(
        torch.cat([mixture.means, w[:1]]),
        torch.cat([mixture.precisions, w.new_tensor([1e40])]),
        torch.cat([mixture.proportions / 2, w.new_tensor([0.5])]),
    )
    assert len(binned(w, sliver)) <= len(w)


def test_equal_weights_are_one_bin():
    mixture, _ = spiky(1)
    bins = binned(torch.full((7,), 0.125), mixture)
    assert (bins.counts.tolist(), bins.means.tolist()) == ([7.0], [0.125])
    np.testing.assert_allclose(bins.variances, 0)


def test_what_cannot_be_binned_is_refused():
    mixture, w = spiky(10)
    w[3] = float("nan")
    with pytest.raises(ValueError, match="1 of 10 weights are not finite"):
        binned(w, mixture)
    with pytest.raises(ValueError, match="bin_width must be a positive part of a deviation, got 0"):
        binned(w, mixture, 0)
