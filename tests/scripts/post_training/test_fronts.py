"""The front of files, and bytes at a score between two of them: by hand."""

import math

import pytest


@pytest.fixture
def fronts(script):
    return script("post_training.fronts")


def row(size, nats):
    return {"bytes": size, "kl_nats": nats}


def test_only_what_no_other_beats_in_both_is_on_the_front(fronts):
    good, small = row(900, 0.001), row(100, 0.1)
    beaten, also_beaten = row(950, 0.002), row(100, 0.2)
    assert fronts.front([beaten, small, also_beaten, good]) == [good, small]


def test_halfway_in_logarithms_between_two_files_is_their_geometric_mean(fronts):
    rows = [row(1000, 0.001), row(10, 0.1)]
    assert fronts.bytes_at(rows, math.log(0.01)) == pytest.approx(100)
    assert fronts.bytes_at(rows, math.log(0.1)) == pytest.approx(10)


def test_beyond_the_shortest_file_it_is_the_shortest_and_nothing_is_as_good_as_none(fronts):
    rows = [row(1000, 0.001), row(10, 0.1)]
    assert fronts.bytes_at(rows, math.log(0.5)) == 10
    assert fronts.bytes_at(rows, math.log(1e-4)) is None
