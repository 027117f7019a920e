"""What is written has the shape that is promised: every key, no other, each of its type."""

import json

import numpy as np
import pytest
from few_draws import few_draws
from typed_shapes import mismatches

from pyro_sws.assess.diagnostics import FORMAT, Diagnostics
from pyro_sws.assess.draws.psis import LeaveOneOut, LeaveOneOutSummary
from pyro_sws.assess.point.assignment_certainty import Tie
from pyro_sws.diagnosis.diagnostics import Nuts
from pyro_sws.diagnosis.folder import diagnose


@pytest.fixture(autouse=True)
def quick():
    with few_draws():
        yield


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["mixture", "spread"])
def test_diagnostics_of_a_run_have_their_shape(finished_runs, tmp_path, kind):
    folder = finished_runs.copy(kind, tmp_path)
    diagnose(folder)
    written = json.loads((folder / "diagnostics" / "diagnostics.json").read_text())
    assert mismatches({"format": FORMAT, **written}, Diagnostics) == []


@pytest.mark.integration
def test_diagnostics_by_nuts_and_with_restarts_have_their_shape(finished_runs, tmp_path):
    nuts = Nuts(chains=2, warmup=5, draws=13, processes=1)
    other = finished_runs.folder("spread") / "out"
    found = diagnose(finished_runs.copy("mixture", tmp_path), nuts=nuts, restarts=[other])
    assert mismatches({"format": FORMAT, **found}, Diagnostics) == []
    assert found["restarts"] is not None and "divergences" in found["mixture"]["mixture"]


def test_a_leave_one_out_score_has_its_shape():
    khat = np.array([0.1, 0.9])
    score = LeaveOneOut(-3.0, 0.5, 1.5, elpd_each=np.array([-1.0, -2.0]), khat=khat, good_k=0.7)
    assert mismatches(score.to_dict(), LeaveOneOutSummary) == []
    assert score.to_dict()["unreliable"] == 1


def test_the_checker_finds_what_is_absent_unknown_and_of_another_type():
    row = {"name": "a", "values": [0.5, None], "weights": 3}
    assert mismatches({"values": [0.5, 1], "weights": 3}, Tie) == []
    assert mismatches(row, Tie) == [
        "it has 'name', which is not promised",
        "it['values'][1] is NoneType, not <class 'float'>",
    ]
    assert mismatches({"values": (0.5,)}, Tie) == [
        "it has no 'weights'",
        "it['values'] is tuple, not a list",
    ]
