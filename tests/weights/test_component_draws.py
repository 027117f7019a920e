"""Components put in order, and what is said of their labels, on draws written by hand."""

import pytest
import torch
from label_report import label_report

from pyro_sws.weights.component_draws import ComponentDraws, ordered, relabelled


def draws(means, deviations=0.1, fixed=None):
    """Components of equal deviation; their proportions tell them apart."""
    means = torch.tensor(means, dtype=torch.float64)
    fixed = torch.zeros(means.shape[-1], dtype=torch.bool) if fixed is None else fixed
    names = torch.arange(means.shape[-1], dtype=torch.float64).expand(means.shape)
    return ComponentDraws(means, torch.full_like(means, deviations), names, fixed)


def test_components_are_ordered_by_mean_in_every_draw():
    found = ordered(draws([[[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]]]))
    assert found.means.tolist() == [[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]]
    assert found.proportions.tolist() == [[[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]]


def test_fixed_components_keep_their_places():
    spike_first_level_last = torch.tensor([True, False, False, True])
    found = ordered(draws([[[0.0, 0.5, -0.5, -9.0]]], fixed=spike_first_level_last))
    assert found.means.tolist() == [[[0.0, -0.5, 0.5, -9.0]]]
    assert found.proportions.tolist() == [[[0.0, 2.0, 1.0, 3.0]]]


def test_equal_means_keep_their_order():
    found = ordered(draws([[[1.0, 1.0, 0.0]]]))
    assert found.proportions.tolist() == [[[2.0, 0.0, 1.0]]]


def test_ordering_twice_changes_nothing_more():
    once = ordered(
        draws(torch.randn(3, 50, 6, generator=torch.Generator().manual_seed(0)).tolist())
    )
    assert torch.equal(ordered(once).means, once.means)
    assert (once.means.diff(dim=-1) >= 0).all()


def test_swapped_draws_are_counted_by_chain():
    one, other = [0.0, 1.0, 2.0], [0.0, 2.0, 1.0]
    spike = torch.tensor([True, False, False])
    report = label_report(draws([[one] * 4, [one, one, one, other]], fixed=spike))
    assert report.swapped.tolist() == [0.0, 0.25]
    assert report.crowded.tolist() == [0.0]


def test_neighbours_nearer_than_the_wider_ones_deviation_are_crowded():
    found = draws([[[0.0, 0.05, 1.0], [0.0, 0.2, 0.25], [0.0, 0.2, 1.0], [0.0, 0.2, 1.0]]])
    assert label_report(found).crowded.tolist() == [0.25, 0.25]
    found.deviations[..., 2] = 0.9  # in one draw it is farther away
    assert label_report(found).crowded.tolist() == [0.25, 0.75]


def test_chains_in_two_modes_are_apart_in_their_own_deviations():
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(2, 4000, 2, generator=generator, dtype=torch.float64)
    centres = torch.tensor([[[0.0, 1.0]], [[0.0, 1.5]]], dtype=torch.float64)
    apart = label_report(draws((centres + noise).tolist())).apart
    # Two centres 0.5 apart are each 25 deviations of 0.01 from their middle; 1 % off at most.
    torch.testing.assert_close(apart[:, 1], apart.new_tensor([-25.0, 25.0]), rtol=0.05, atol=0)
    assert apart[:, 0].abs().max() < 5 * 4000**-0.5


@pytest.mark.parametrize("free", [0, 1])
def test_without_two_components_that_move_nothing_can_swap(free):
    fixed = torch.tensor([True, not free])
    report = label_report(draws([[[0.0, 1.0], [0.0, 1.1]]] * 2, fixed=fixed))
    assert report.swapped.tolist() == [0.0, 0.0]
    assert report.crowded.shape == (0,) and report.apart.shape == (2, free)


def test_a_draw_is_relabelled_where_its_order_is_not_the_usual_one():
    found = relabelled(
        draws([[[0.0, 1.0], [0.1, 1.1], [1.0, 0.0]], [[0.2, 0.9], [0.0, 1.0], [0.0, 0.5]]])
    )
    assert found.tolist() == [[False, False, True], [False, False, False]]
