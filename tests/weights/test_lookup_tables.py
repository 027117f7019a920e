"""The tables of slopes and of assignments against the slopes and assignments themselves."""

import pytest
import torch

from pyro_sws.weights.lookup_tables import (
    ASSIGNED_NODES,
    SLOPE_NODES,
    approximate_slopes,
    assign_by_table,
    tilted_slopes,
)
from pyro_sws.weights.mixture import Mixture


def mixture(dtype=torch.float64, deviation=0.02):
    means = torch.tensor([0.0, 0.5, -0.3], dtype=dtype)
    return Mixture(
        means, torch.full_like(means, deviation**-2), means.new_tensor([0.9, 0.06, 0.04])
    )


def slopes(of, w):
    """Written out: sum_j r_j (mean_j - w) / deviation_j^2."""
    pull = of.precisions * (of.means - w.unsqueeze(-1))
    return (of.responsibilities(w) * pull).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slopes_are_nearly_right(dtype):
    w = 0.2 * torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found, exact = approximate_slopes(mixture(dtype), w), slopes(mixture(dtype), w)
    assert found.dtype == dtype
    assert (found - exact).norm() < 5e-3 * exact.norm()


def test_the_error_grows_as_components_get_narrower():
    w = torch.linspace(-1, 1, 5001, dtype=torch.float64)
    errors = []
    for deviation in (0.4, 0.2, 0.1, 0.05):
        of = mixture(deviation=deviation)
        exact = slopes(of, w)
        errors.append(((approximate_slopes(of, w) - exact).norm() / exact.norm()).item())
    assert errors == sorted(errors) and errors[-1] < 1e-3


def test_the_ends_of_the_range_are_in_the_table():
    w = torch.tensor([-0.9, 0.013, 0.7], dtype=torch.float64)
    torch.testing.assert_close(
        approximate_slopes(mixture(), w), slopes(mixture(), w), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("w", [[], [0.1], [0.1, 0.1, 0.1]])
def test_too_few_weights_for_a_range(w):
    w = torch.tensor(w, dtype=torch.float64)
    torch.testing.assert_close(
        approximate_slopes(mixture(), w), slopes(mixture(), w), rtol=1e-5, atol=0
    )


def test_nothing_is_differentiated_through_it():
    w = torch.linspace(-1, 1, 9, dtype=torch.float64).requires_grad_()
    assert not approximate_slopes(mixture(), w).requires_grad


def test_without_a_tilt_tilted_slopes_are_the_others():
    w = 0.2 * torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, exact = tilted_slopes(mixture(), w, torch.zeros_like(w)), slopes(mixture(), w)
    # The spike's own slope is exact: less is read off than in the table of the whole.
    assert (found - exact).norm() <= (approximate_slopes(mixture(), w) - exact).norm()


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_tilt_without_bound_leaves_one_side(sign):
    w = torch.linspace(-1, 1, 5001, dtype=torch.float64)
    found = tilted_slopes(mixture(), w, torch.full_like(w, sign * 1e4))
    of = mixture()
    slabs = Mixture(of.means[1:], of.precisions[1:], of.proportions[1:])
    expected = -of.precisions[0] * w if sign > 0 else slopes(slabs, w)
    assert (found - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.parametrize("w", [[], [0.1], [0.1, 0.1, 0.1]])
def test_too_few_weights_for_a_range_under_a_tilt(w):
    w = torch.tensor(w, dtype=torch.float64)
    found = tilted_slopes(mixture(), w, torch.zeros_like(w), torch.zeros_like(w))
    torch.testing.assert_close(found, slopes(mixture(), w), rtol=1e-5, atol=0)


def test_slopes_are_exact_at_as_many_nodes_as_were_fitted_with():
    """A fit with subsampled priors, and so its file, depends on this number."""
    assert SLOPE_NODES == 2048
    w = torch.linspace(-1, 1, 2 * SLOPE_NODES - 1, dtype=torch.float64)
    of, error = mixture(deviation=1e-3), torch.zeros_like(w)
    error = (approximate_slopes(of, w) - slopes(of, w)).abs()
    assert error[::2].max() < error[1::2].max()


def of_components(means, deviations, proportions):
    means, deviations, shares = map(torch.tensor, (means, deviations, proportions))
    return Mixture(means, deviations**-2, shares / shares.sum())


MIXTURES = [
    of_components([0.0, 0.5, -0.3], [0.02, 0.05, 0.05], [0.9, 0.06, 0.04]),
    of_components([0.0, 0.0, 0.0, 0.2], [0.01, 0.05, 0.2, 0.02], [0.9, 0.05, 0.02, 0.03]),
    of_components(
        [-0.4, -0.1, 0.0, 0.1, 0.1], [0.1, 0.01, 0.01, 0.2, 0.01], [1.0, 2.0, 30.0, 1.0, 2.0]
    ),
    of_components([0.3], [0.1], [1.0]),
]


@pytest.mark.parametrize("of", MIXTURES)
@pytest.mark.parametrize("count", [0, 1, ASSIGNED_NODES, ASSIGNED_NODES + 1, 50_000])
def test_every_weight_has_its_own_assignment(of, count):
    w = 0.3 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    assigned = assign_by_table(of, w)
    assert assigned.dtype == torch.int64 and torch.equal(assigned, of.assign(w))


def test_weights_at_the_ends_at_the_nodes_and_all_alike():
    of = MIXTURES[2]
    for w in (
        torch.linspace(-1, 1, 2 * ASSIGNED_NODES - 1),
        torch.full((ASSIGNED_NODES + 1,), 0.1),
    ):
        assert torch.equal(assign_by_table(of, w), of.assign(w))


def test_few_weights_are_assigned_one_by_one(monkeypatch):
    asked = []
    assign = Mixture.assign
    monkeypatch.setattr(Mixture, "assign", lambda m, w: asked.append(len(w)) or assign(m, w))
    w = 0.3 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assign_by_table(MIXTURES[0], w)
    assert asked[0] == ASSIGNED_NODES and asked[1] < 0.01 * len(w)
