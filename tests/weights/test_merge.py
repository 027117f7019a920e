"""Merging (Ullrich et al. 2017, eq. 8): what it conserves, what it keeps, and what it says."""

import time

import pytest
import torch

from pyro_sws.weights.group import Group
from pyro_sws.weights.merge import merge, merge_components, merge_pair
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import MixturePrior


def mixture(means, deviations, proportions):
    return Mixture(
        torch.tensor(means, dtype=torch.float64),
        torch.tensor(deviations, dtype=torch.float64) ** -2,
        torch.tensor(proportions, dtype=torch.float64),
    )


@pytest.fixture
def close():
    """Components 1 and 2 lie close, 3 far, 0 is the spike."""
    return mixture([0.0, 0.5, 0.502, -0.4], [0.01, 0.02, 0.03, 0.02], [0.9, 0.06, 0.02, 0.02])


def test_equation_8_by_hand(close):
    merged, clusters = merge_components(close, threshold=1.0)
    assert clusters == ((0,), (1, 2), (3,))
    assert merged.proportions[1].item() == pytest.approx(0.08)
    assert merged.means[1].item() == pytest.approx((0.06 * 0.5 + 0.02 * 0.502) / 0.08)
    variance = (0.06 * 0.02**2 + 0.02 * 0.03**2) / 0.08
    assert (1 / merged.precisions[1]).item() == pytest.approx(variance)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1e3, 1e9])
def test_merging_keeps_the_total_proportion(close, threshold):
    merged, clusters = merge_components(close, threshold)
    assert merged.proportions.sum().item() == pytest.approx(1)
    assert sorted(j for cluster in clusters for j in cluster) == [0, 1, 2, 3]
    assert len(clusters) == len(merged)


def test_merging_without_a_spike_keeps_the_mean():
    slabs = mixture([0.1, 0.2, 0.4], [0.1, 0.1, 0.1], [0.5, 0.3, 0.2])
    merged, _ = merge_components(slabs, threshold=1e9)
    assert len(merged) == 1
    assert merged.mean.item() == pytest.approx(slabs.mean.item())


def test_the_zero_component_keeps_mean_zero():
    near_zero = mixture([0.0, 1e-4, 0.5], [0.01, 0.01, 0.01], [0.9, 0.05, 0.05])
    merged, clusters = merge_components(near_zero, threshold=0.1)
    assert clusters == ((0, 1), (2,))
    assert merged.means[0].item() == 0.0


def test_threshold_zero_merges_nothing(close):
    merged, clusters = merge_components(close, 0.0)
    assert clusters == ((0,), (1,), (2,), (3,))
    torch.testing.assert_close(merged.means, close.means)


def test_a_chain_of_neighbours_does_not_collapse_as_a_whole():
    # Neighbours are 0.5 deviations apart (0.125 nats), the ends 5.
    chain = mixture([0.005 * i for i in range(1, 12)], [0.01] * 11, [1 / 11] * 11)
    merged, _ = merge_components(chain, threshold=0.13)
    assert len(merged) > 2


def test_two_dead_components_merge_without_nan():
    dead = mixture([0.3, 0.3, 0.0], [0.1, 0.1, 0.1], [0.0, 0.0, 1.0])
    merged, _ = merge_components(dead, threshold=1e-3)
    assert all(getattr(merged, f).isfinite().all() for f in ("means", "precisions", "proportions"))


def test_a_posterior_says_what_merged_and_leaves_the_old_one_alone(close):
    group = Group("all", {"w": (4,)}, torch.float64)
    point = {"all.weights": torch.zeros(4, dtype=torch.float64)}
    old = Posterior({"all": group}, point, {"all": MixturePrior(close)}, {}, tau=1.0)
    new = merge(old, threshold=1.0)
    assert new.merged == {"all": ((0,), (1, 2), (3,))}
    assert len(new.priors["all"].mixture) == 3
    assert len(old.priors["all"].mixture) == 4


def test_levels_that_are_fixed_do_not_merge(close):
    group = Group("grid", {"w": (4,)}, torch.float64)
    point = {"grid.weights": torch.zeros(4, dtype=torch.float64)}
    grid = MixturePrior(close, fixed_levels=True)
    new = merge(Posterior({"grid": group}, point, {"grid": grid}, {}, tau=1.0), threshold=1e9)
    assert new.priors["grid"] is grid and new.merged == {"grid": ((0,), (1,), (2,), (3,))}


def test_a_negative_threshold_is_refused(close):
    with pytest.raises(ValueError, match="at least 0 nats, got -1"):
        merge(Posterior({}, {}, {}, {}, 1.0), threshold=-1)


def merged_with_all_distances(mixture, threshold):
    """The oracle: the whole matrix of distances anew after each merge, and its first minimum."""
    clusters = [(j,) for j in range(len(mixture))]
    while len(mixture) > 1:
        kl = mixture.kl()
        distance = torch.maximum(kl, kl.T)
        distance.fill_diagonal_(torch.inf)
        i, j = sorted(divmod(int(distance.argmin()), len(mixture)))
        if not distance[i, j] < threshold:
            break
        mixture = merge_pair(mixture, i, j)
        clusters[i] = tuple(sorted(clusters[i] + clusters.pop(j)))
    return mixture, tuple(clusters)


def drawn_mixture(seed, size, dtype=torch.float64):
    """With a spike, equal components, dead ones, and one wide enough to be near to many."""
    generator = torch.Generator().manual_seed(seed)
    means = 0.3 * torch.randn(size, generator=generator, dtype=dtype)
    precisions = (5 + torch.randn(size, generator=generator, dtype=dtype)).exp()
    proportions = torch.rand(size, generator=generator, dtype=dtype)
    means[0], precisions[size // 2] = 0.0, 1.0
    copies = torch.randint(size, (size // 4,), generator=generator)
    means[-len(copies) :], precisions[-len(copies) :] = means[copies], precisions[copies]
    proportions[torch.randint(size, (size // 5,), generator=generator)] = 0.0
    return Mixture(means, precisions, proportions / proportions.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [1e-12, 0.01, 0.3, 1e9])
def test_the_same_merge_as_by_all_distances_each_time(threshold, dtype):
    for seed, size in enumerate(range(5, 61, 5)):
        mixture = drawn_mixture(seed, size, dtype)
        merged, clusters = merge_components(mixture, threshold)
        expected, expected_clusters = merged_with_all_distances(mixture, threshold)
        assert clusters == expected_clusters
        for field in ("means", "precisions", "proportions"):
            assert torch.equal(getattr(merged, field), getattr(expected, field))


def test_a_distance_that_is_no_number_ends_the_merging():
    broken = mixture([0.0, 0.5, 0.5, 0.9], [0.01, 0.02, 0.02, float("nan")], [0.7, 0.1, 0.1, 0.1])
    assert merge_components(broken, 1e9)[1] == merged_with_all_distances(broken, 1e9)[1]


@pytest.mark.parametrize("deviation", [1e-4, 1e-2])
def test_thousands_of_components_merge_in_seconds(deviation):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5000, generator=generator, dtype=torch.float64)
    many = Mixture(means, torch.full_like(means, deviation**-2), torch.full_like(means, 1 / 5000))
    started = time.process_time()
    merged, clusters = merge_components(many, 0.01)
    assert time.process_time() - started < 20  # 2 to 3 s; each merge's own matrix would take 1000
    assert 1 < len(merged) < 5000
    assert sorted(j for cluster in clusters for j in cluster) == list(range(5000))
    assert merged.mean.item() == pytest.approx(many.mean.item(), abs=1e-12)
