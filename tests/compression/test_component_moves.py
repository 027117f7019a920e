"""Moves: what is conserved when two components become one, or one goes."""

import pytest
import torch

from pyro_sws.compression.component_moves import Move, after, disjoint
from pyro_sws.weights.group import Group
from pyro_sws.weights.merge import merge_pair, singles
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import MixturePrior

SINGLES = ((0,), (1,), (2,), (3,))


@pytest.fixture
def four():
    """A spike, two neighbours and one far from them."""
    return Mixture(
        torch.tensor([0.0, 0.5, 0.7, -0.4], dtype=torch.float64),
        torch.tensor([0.01, 0.02, 0.03, 0.02], dtype=torch.float64) ** -2,
        torch.tensor([0.9, 0.06, 0.02, 0.02], dtype=torch.float64),
    )


def test_a_merge_is_equation_8_unless_it_is_told_otherwise(four):
    merged, clusters = Move("all", ((1,), (2,))).apply(four, SINGLES)
    expected = merge_pair(four, 1, 2)
    assert clusters == ((0,), (1, 2), (3,))
    for field in ("means", "precisions", "proportions"):
        torch.testing.assert_close(getattr(merged, field), getattr(expected, field))


def test_a_wide_merge_has_the_moments_of_the_two_together(four):
    (merged, _) = Move("all", ((1,), (2,)), wide=True).apply(four, SINGLES)
    share = torch.tensor([0.75, 0.25], dtype=torch.float64)
    means, variances = four.means[1:3], 1 / four.precisions[1:3]
    mean = (share * means).sum()
    second = (share * (variances + means.square())).sum()  # E[w^2] adds up
    assert merged.means[1].item() == pytest.approx(mean.item())
    assert (1 / merged.precisions[1]).item() == pytest.approx((second - mean**2).item())


def test_a_value_takes_the_means_place_but_never_zeros(four):
    chosen, _ = Move("all", ((1,), (2,)), value=0.61).apply(four, SINGLES)
    assert chosen.means[1].item() == 0.61
    pruned, clusters = Move("all", ((1,), (0,)), value=0.2).apply(four, SINGLES)
    assert pruned.means[0].item() == 0.0 and clusters[0] == (0, 1)


def test_deleting_keeps_the_total_and_the_ratios(four):
    left, clusters = Move("all", ((1,),)).apply(four, SINGLES)
    assert clusters == ((0,), (2,), (3,))
    assert left.proportions.sum().item() == pytest.approx(1)
    assert (left.proportions[0] / left.proportions[1]).item() == pytest.approx(0.9 / 0.02)


def test_dead_components_are_deleted_and_merged_without_nan():
    dead = Mixture(torch.tensor([0.1, 0.3, 0.5]), torch.ones(3), torch.tensor([0.0, 0.0, 1.0]))
    moves = [Move("all", ((2,),)), Move("all", ((0,), (1,)), wide=True)]
    for move in moves:
        left, _ = move.apply(dead, SINGLES[:3])
        assert all(field.isfinite().all() for field in vars(left).values())
        assert left.proportions.sum().item() == pytest.approx(1)


def test_moves_in_any_order_lead_to_the_same_posterior(four):
    group = Group("all", {"w": (4,)}, torch.float64)
    point = {"all.weights": torch.zeros(4, dtype=torch.float64)}
    old = Posterior({"all": group}, point, {"all": MixturePrior(four)}, {}, tau=1.0)
    old = Posterior({"all": group}, point, old.priors, {}, 1.0, merged=singles(old))
    moves = [Move("all", ((1,), (2,)), 0.6), Move("all", ((3,),))]
    one, other = after(old, moves), after(old, moves[::-1])
    assert one.merged == other.merged == {"all": ((0,), (1, 2))}
    for field in ("means", "precisions", "proportions"):
        pair = (getattr(p.priors["all"].mixture, field) for p in (one, other))
        torch.testing.assert_close(*pair)
    assert old.merged == {"all": SINGLES} and len(old.priors["all"].mixture) == 4


def test_the_first_of_two_moves_of_one_component_counts():
    moves = [Move("a", ((1,), (2,))), Move("a", ((2,),)), Move("b", ((2,),)), Move("a", ((3,),))]
    assert disjoint(moves) == [moves[0], moves[2], moves[3]]
