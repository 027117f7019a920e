"""How a fit goes, as a value: its rates by site, its schedules, and what it refuses."""

import math

import pytest

from pyro_sws.inference.annealing import Annealing
from pyro_sws.inference.fitting import SCHEDULES, Fitting, Rates


@pytest.mark.parametrize(
    ("site", "kind"),
    [
        ("all.weights", "weights"),
        ("all.means", "means"),
        ("a-b.spike_precision", "precisions"),
        ("a.slab_precisions", "precisions"),
        ("noise_precision", "precisions"),
        ("a.zero_proportion", "proportions"),
        ("a.slab_shares", "proportions"),
        ("a.log_concentration", "proportions"),
        ("a.row_effects", "proportions"),
        ("a.spacing", "other"),
    ],
)
def test_a_sites_rate_goes_by_the_end_of_its_name(site, kind):
    rates = Rates(weights=1.0, means=2.0, precisions=3.0, proportions=4.0, other=5.0)
    assert rates.of(site) == getattr(rates, kind)


def test_cosine_falls_from_one_to_zero():
    cosine = SCHEDULES["cosine"]
    assert cosine(0.0) == 1 and cosine(0.5) == pytest.approx(0.5) and cosine(1.0) == 0


def test_a_schedule_is_a_name_or_a_function_of_progress():
    assert Fitting(schedule="constant").factor(0.7) == 1
    assert Fitting(schedule=math.exp).factor is math.exp


def test_the_defaults_are_those_that_the_documentation_gives():
    assert Fitting() == Fitting(60, Rates(), "cosine", Annealing(), 1)


NO_COUNTS = [0, -3, 2.5, math.nan, "3", None]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *(
            (lambda n=n: Fitting(epochs=n), f"epochs must be .* >= 0, got {n!r}")
            for n in NO_COUNTS[1:]
        ),
        *(
            (
                lambda n=n: Fitting(hyperparameters_every=n),
                f"hyperparameters_every must be a whole number >= 1, got {n!r}",
            )
            for n in NO_COUNTS
        ),
        *(
            (lambda r=r: Fitting(rates=Rates(means=r)), f"rates.means must be .* >= 0, got {r}")
            for r in (-1e-3, math.inf, math.nan)
        ),
        (
            lambda: Fitting(schedule="linear"),
            "unknown schedule 'linear'; choose from constant, cosine",
        ),
        (lambda: Fitting(schedule=None), "unknown schedule None; choose from constant, cosine"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "fields",
    [{"epochs": 0}, {"hyperparameters_every": 1}, {"rates": Rates(0, 0, 0, 0, 0, 0)}],
)
def test_the_ends_of_the_ranges_belong_to_them(fields):
    Fitting(**fields)
