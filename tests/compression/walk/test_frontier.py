"""The frontier: choosing among files."""

from dataclasses import replace

import pytest

from pyro_sws.compression.walk.frontier import Frontier, Point


def point(step, size, score, within=True):
    return Point(step, size, score, within, 0.1, 0.03, 10.0, 1.0, 1.0, bytes(size))


MET = Frontier(
    (point(0, 900, 2.0), point(1, 500, 2.2), point(2, 600, 2.1), point(3, 300, 3.1, False),
     point(4, 200, float("inf"), False)),
    reference=2.0, tolerance=0.5, unit="percent", judged_on="validation",
)  # fmt: skip


def test_the_smallest_is_within_the_tolerance_or_what_is_asked():
    assert MET.smallest().step == 1
    assert MET.smallest(within=0.15).step == 2
    assert MET.smallest(within=2).step == 3
    assert MET.smallest(within=0).step == 0


def test_none_within_says_what_is_nearest():
    with pytest.raises(ValueError, match=r"nearest has 2 at 900 bytes"):
        MET.smallest(within=-0.1)


def test_pick_is_the_best_score_of_so_many_bytes():
    assert MET.pick(bytes=700).step == 2
    assert MET.pick(bytes=250).step == 4
    with pytest.raises(ValueError, match="the shortest has 200"):
        MET.pick(bytes=199)


def test_the_front_has_no_file_that_another_beats_in_both():
    assert [p.step for p in MET.front] == [0, 2, 1, 3, 4]
    worse = Frontier((*MET.points, point(5, 950, 2.0), point(6, 500, 2.3)), 2.0, 0.5, "percent", "")
    assert [p.step for p in worse.front] == [0, 2, 1, 3, 4]


def test_a_point_saves_its_file(tmp_path):
    MET[1].save(tmp_path / "net.sws")
    assert (tmp_path / "net.sws").read_bytes() == bytes(500)
    assert len(MET) == 5 and [p.step for p in MET] == list(range(5))


def test_the_chosen_file_is_the_one_in_its_shortest_order():
    """As the run has it; another that is no shorter changes nothing."""
    found = MET.with_chosen(bytes(450))
    assert found.smallest().bytes == 450 and found.smallest().data == bytes(450)
    assert [p.bytes for p in found] == [900, 450, 600, 300, 200]
    assert MET.with_chosen(bytes(500)) is MET


def test_a_frontier_is_shown_in_a_line_without_its_files():
    shown = repr(MET)
    assert (
        "5 files" in shown and "500 bytes at 2.2" in shown and "\\x00" not in shown + repr(MET[0])
    )
    assert len(shown) < 300


def test_the_nearest_has_the_best_score_and_the_fewest_bytes_of_those():
    twice = Frontier((*MET.points, point(5, 800, 2.0)), 2.0, 0.5, "percent", "")
    assert twice.nearest.step == 5


def test_a_walk_is_limited_by_its_tolerance_where_something_as_wide_was_beyond_it():
    assert MET.summary()["limited_by"] == "tolerance"
    wider = (replace(MET[0], width=0.05), MET[1], replace(MET[3], width=0.05))
    assert replace(MET, points=wider).summary()["limited_by"] == "budget"
