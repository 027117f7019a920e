"""How fast a walk's width grows, and when it goes back: by the scores that it is told of."""

import math
from types import SimpleNamespace

import pytest
import torch

import pyro_sws as sws
from pyro_sws.compression.walk import walker as module
from pyro_sws.compression.walk.descent import Descent
from pyro_sws.compression.walk.pace import (
    AIM,
    EASE,
    EASY,
    HARD,
    HELD,
    LENIENT,
    OPENING,
    PATIENT,
    TOO_FAR,
    Pace,
)

SPEED = math.log(1.5)


def stand(width=1.0):
    return SimpleNamespace(place=SimpleNamespace(width=width))


def grown(pace, share=OPENING):
    place, width = pace.next_step(share)
    return width / place.width


def test_a_walk_that_loses_nothing_grows_at_full_speed():
    pace = Pace(stand(), 0.0, SPEED)
    assert grown(pace) == pytest.approx(1.5)
    pace.met(stand(1.5), 0.0)
    assert pace.next_step(0.0)[0].width == 1.5 and grown(pace) == pytest.approx(1.5)


def test_growth_stops_where_the_tolerance_is_used_up():
    pace = Pace(stand(), 0.0, SPEED)
    shrinking = []
    for lost in (EASE, EASE + 0.1, 0.8, 0.95, 1.0, 1.0):
        pace.met(stand(), lost)
        shrinking.append(grown(pace))
    assert shrinking[0] == pytest.approx(1.5) and shrinking[3] < 1.5
    assert shrinking == sorted(shrinking, reverse=True) and shrinking[-1] == 1.0


def test_a_step_too_far_is_undone_and_the_next_is_shorter():
    pace, good = Pace(stand(), 0.0, SPEED), stand(2.0)
    pace.met(good, 0.1)
    pace.met(stand(3.0), 1 + TOO_FAR + 0.1)
    place, width = pace.next_step(0.0)
    assert place is good.place
    assert 1 < width / 2.0 <= math.exp(SPEED * HARD)
    pace.met(stand(2.1), 0.0)
    assert pace.speed == pytest.approx(SPEED * HARD * EASY)


@pytest.mark.parametrize("share, lost", [(0.0, 1.6), (OPENING, 1.6), (PATIENT, 1.1)])
def test_a_step_beyond_the_tolerance_has_a_few_steps_to_come_back(share, lost):
    pace, good = Pace(stand(), 0.0, SPEED), stand(2.0)
    pace.met(good, 0.9)
    for step in range(HELD):
        pace.next_step(share)
        beyond = stand(2.5 + step)
        pace.met(beyond, lost)
        assert pace.next_step(share)[0] is beyond.place
    pace.met(stand(9.0), lost)
    assert pace.next_step(share)[0] is good.place
    # It had lost most of the tolerance there, and so it goes on at that width.
    assert grown(pace, PATIENT) == pytest.approx(1.0)


def test_at_first_more_may_be_lost_and_held():
    early, late = (Pace(stand(), 0.0, SPEED) for _ in range(2))
    for pace, share in ((early, OPENING), (late, PATIENT)):
        for _ in range(HELD + 1):
            pace.next_step(share)
            pace.met(stand(), 0.98 * LENIENT)
    assert early.stand is not None and late.stand is None
    late.next_step(PATIENT)
    for pace in (early, late):
        pace.met(stand(), 0.97 * LENIENT + TOO_FAR)
    assert early.stand is not None and late.stand is None
    pace = Pace(stand(), 0.0, SPEED)
    for _ in range(9):
        pace.met(stand(), 1.1 * AIM)
    assert grown(pace, 0.0) > 1 and grown(pace, OPENING) == 1


def test_before_any_place_is_within_widths_grow_where_that_makes_it_no_worse():
    pace = Pace(stand(), 10.0, SPEED)
    assert grown(pace) == pytest.approx(1.5)
    same = stand()
    pace.met(same, 10.0)
    assert pace.good is same and grown(pace) > 1
    assert pace.next_step(1.0)[1] == pace.next_step(1.0)[0].width  # in time to come within
    for _ in range(2 * HELD):  # worse, but it is learning: it goes on from there
        worse = stand()
        pace.met(worse, 10.0 + AIM)
        assert pace.next_step(0.0)[0] is worse.place and grown(pace, 0.0) < 1.3
    assert grown(pace) < 1.01
    nearer = stand()
    pace.met(nearer, 8.0)
    assert pace.good is nearer and pace.least == 8.0 and pace.held == 0
    pace.met(stand(), 8.0 + TOO_FAR + 0.1)
    assert pace.next_step(0.0)[0] is nearer.place


@pytest.mark.integration
@pytest.mark.parametrize("call", [1, 4, 30])
@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_the_way_is_undone(monkeypatch, call):
    """Wherever it happens, once: Adam's moments are then of no use either."""
    calls, steps = [], Descent.steps

    def failing(self, *arguments):
        calls.append(self)
        if len(calls) == call:
            for value in self.optimiser.state.values():
                value["exp_avg"].fill_(math.nan)
            raise FloatingPointError("the loss became nan")
        return steps(self, *arguments)

    monkeypatch.setattr(module.Descent, "steps", failing)
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(120) % 3
    inputs = torch.eye(3)[targets] + 0.1 * torch.randn(120, 3, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 3)
    run = sws.compress(net, sws.Batches(inputs, targets, 10), budget=sws.Budget(passes=10))
    assert calls[call] is not calls[call - 1]  # a new one, without moments
    assert all(math.isfinite(point.score) for point in run.frontier)
    assert run.frontier.smallest().within
