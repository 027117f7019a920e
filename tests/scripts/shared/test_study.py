"""Bytes at one error, from a path over tau."""

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
