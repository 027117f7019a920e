"""The studies of priors: what is read off a path over tau, and fits that are not run again."""

import math

import pytest


def path(taus, bytes_at_one=1000.0, power=-1.5, error_at_one=4.0, slope=1.0):
    """Errors and log bytes that are straight lines in log tau."""
    return [
        {
            "tau": tau,
            "error_percent": error_at_one + slope * math.log(tau),
            "file_bytes": bytes_at_one * tau**power,
        }
        for tau in taus
    ]


def test_bytes_at_an_error_are_those_of_the_tau_that_has_it(script):
    rows = path([0.05, 0.1, 0.2, 0.4])
    # error = 4 + log tau = 2 at tau = exp(-2), where the file has 1000 exp(3) bytes
    size, reached = script("shared.study").matched_bytes(rows, 2.0)
    assert size == pytest.approx(1000 * math.exp(3), rel=1e-9) and reached


def test_an_error_that_no_fit_of_the_path_comes_near_is_said_to_be_out_of_reach(script):
    rows = path([0.1, 0.2, 0.4])
    size, reached = script("shared.study").matched_bytes(rows, 0.5)
    assert size == pytest.approx(1000 * math.exp(1.5 * 3.5), rel=1e-9) and not reached


def test_a_fit_is_kept_under_all_that_it_hangs_on(script, tmp_path):
    fit = script("priors.fits").Fit
    one = fit("digits", {"family": "grid"}, 0.01)
    others = [
        fit("digits", {"family": "grid"}, 0.02),
        fit("digits", {"family": "grid", "steps": 4}, 0.01),
        fit("digits", {"family": "grid"}, 0.01, seed=1),
        fit("digits", {"family": "grid"}, 0.01, held_out=True),
    ]
    places = {f.path(tmp_path) for f in [one, *others]}
    assert len(places) == 5
    one.path(tmp_path).write_text('{"file_bytes": 7}')
    assert one.row(tmp_path) == {"file_bytes": 7}
