"""The picture of the turnover, and what it says at the ends of its lines."""

import pytest


@pytest.mark.parametrize("widenings", [(), (1.0, 2.0, 5.0, 9.0)])
def test_the_picture_is_drawn(script, tmp_path, widenings):
    row = {"came_percent": 1.0, "overlap_percent": 50.0}
    phases = ["fit", "fit", "refinement", "refinement"]
    rows = [{"epoch": i, "phase": phase, **row} for i, phase in enumerate(phases, 1)]
    end = {"file_bytes": 4000, "decoded_error_percent": 2.0, "epochs": rows, "seed": 0}
    ways = [{"tau": 0.1, **end}, *({"tau": 0.3, "widening": w, **end} for w in widenings)]
    script("turnover.figure").draw(ways, tmp_path / "turnover.png")
    assert (tmp_path / "turnover.png").read_bytes().startswith(b"\x89PNG")


def test_a_refinement_that_is_not_kept_is_said_to_be_none(script):
    rows = [{"phase": "fit"}] * 8 + [{"phase": "refinement"}] * 16
    way = {"epochs": rows, "file_bytes": 4453, "decoded_error_percent": 1.64}
    ends = script("turnover.figure").ends
    assert ends(way) == ends({**way, "epoch_kept": 24}) == "4,453 bytes, 1.64 %"
    assert ends({**way, "epoch_kept": 8}) == "nothing gained, so the fit's 4,453 bytes, 1.64 %"
