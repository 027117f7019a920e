"""A walk's settings and budget: what they mean, and what cannot be."""

import math

import pytest
import torch

import pyro_sws as sws
from pyro_sws.compression.walk.portions import Portion, cut


def test_a_budget_is_whichever_is_less():
    assert sws.Budget(passes=10, minutes=1).steps(20, step_seconds=0.1) == 200
    assert sws.Budget(passes=100, minutes=1).steps(20, step_seconds=0.1) == 600
    assert sws.Budget(passes=None, minutes=1).steps(20, step_seconds=0.1) == 600
    assert sws.Budget(passes=10, minutes=None).steps(20, step_seconds=1e9) == 200


def test_a_budget_has_a_limit():
    with pytest.raises(ValueError, match="give passes or minutes"):
        sws.Budget(passes=None, minutes=None)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", True])
@pytest.mark.parametrize("name", ["passes", "minutes"])
def test_a_budget_is_of_positive_numbers(name, value):
    with pytest.raises(ValueError, match=f"budget.{name} must be a"):
        sws.Budget(**{name: value})


@pytest.mark.parametrize(
    "field, value",
    [("width", 0), ("width", math.nan), ("growth", 1), ("growth", math.inf), ("steps", 0)]
    + [("steps", 2.5), ("zero", 1), ("zero", -0.1), ("decay", 0), ("decay", 1.1)]
    + [("soft_targets", -0.1), ("soft_targets", 1.1), ("soft_targets", "half")],
)
def test_a_walk_is_of_numbers_that_can_be(field, value):
    with pytest.raises(ValueError, match=f"walk.{field} must be"):
        sws.Walk(**{field: value})


def test_portions_go_on_where_the_last_one_ended():
    batches = [(torch.tensor([i]), torch.tensor([i])) for i in range(5)]
    portion, seen = Portion(batches), []
    for size in (2, 4, 6):
        seen.append([int(inputs) for inputs, _ in portion.of(size)])
        assert len(portion) == size
    assert seen == [[0, 1], [2, 3, 4, 0], [1, 2, 3, 4, 0, 1]]


def test_one_large_batch_is_cut_into_many():
    inputs, targets = torch.arange(200.0)[:, None], torch.arange(200)
    small = list(cut([(inputs, targets)]))
    assert len(small) == 20 and all(len(i) == 10 for i, _ in small)
    assert sorted(int(t) for _, targets in small for t in targets) == list(range(200))
    assert all((i[:, 0] == t).all() for i, t in small)


def test_batches_of_a_loader_stay_as_they_are():
    batches = sws.Batches(torch.randn(20, 2), torch.arange(20), 10)
    assert cut(batches) is batches
    many = [(torch.randn(1, 2), torch.arange(1))] * 30
    assert cut(many) is many
    ragged = [(torch.randn(2, n), torch.arange(2)) for n in (3, 4)]
    assert cut(ragged) is ragged


def test_a_weight_wanders_as_far_in_any_number_of_steps():
    """Of a random walk of n steps of a rate: the rate times the root of n."""
    rates = sws.WalkRates(weights=5.0, means=0.02)
    for steps in (100, 40_000):
        assert rates.over(steps).weights * steps**0.5 == pytest.approx(5.0)
        assert rates.over(steps).means == 0.02
