"""The report's text: what was done about its main numbers, and why."""

import pytest

from pyro_sws.assess.report.text import certificate_text, left_alone_text, walk_text
from pyro_sws.assess.report.warnings import unspent

WALK = {
    "judged_on": "validation",
    "reference": 3.0,
    "tolerance": 0.5,
    "score": 3.25,
    "files": 41,
    "step": 30,
    "passes": 60.0,
    "width": 0.2,
}


def test_a_walks_line_says_what_it_was_held_to():
    assert walk_text({**WALK, "limited_by": "budget"}, "percent") == (
        "walk: 3.25% on validation data, where the network has 3.00% and 0.50% more was allowed; "
        "60 passes, 41 files, limited by the budget"
    )
    assert walk_text(WALK, "percent").endswith("41 files")  # of an older report


@pytest.mark.parametrize(("limit", "count"), [("budget", 1), ("tolerance", 0)])
def test_a_budget_at_its_end_before_the_tolerance_is_warned_of(limit, count):
    told = list(unspent({**WALK, "limited_by": limit}))
    assert len(told) == count and all("after 60 passes" in line for line in told)
    assert not list(unspent(WALK)) and not list(unspent(None))


def test_a_certificate_that_proves_nothing_says_why():
    row = {"bound_percent": 100.0, "training_examples": 60, "delta": 0.05, "vacuous": True}
    assert "100.0%" not in certificate_text(row, None) and "60 training" in certificate_text(
        row, ""
    )
    told = certificate_text({**row, "bound_percent": 9.0, "vacuous": False}, None)
    assert told == "certificate: true error <= 9.0% with probability 0.95"
    assert certificate_text(None, "no loss of 0 or 1") == "certificate: none: no loss of 0 or 1"


def test_what_was_not_rewritten_is_named_with_its_operation():
    rewriting = {"left_alone": {"a": "flip", "b": "cumsum", "c": "sort"}}
    (line,) = left_alone_text(rewriting)
    assert line == "units left in their order: a: flip; b: cumsum; and 1 more"
    assert not list(left_alone_text({"left_alone": {}}))
