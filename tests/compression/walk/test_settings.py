"""A walk's settings and budget: what they mean, and what cannot be."""

import math

import pytest

import pyro_sws as sws


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


def test_a_weight_wanders_as_far_in_any_number_of_steps():
    """Of a random walk of n steps of a rate: the rate times the root of n."""
    rates = sws.WalkRates(weights=5.0, means=0.02)
    for steps in (100, 40_000):
        assert rates.over(steps).weights * steps**0.5 == pytest.approx(5.0)
        assert rates.over(steps).means == 0.02
