"""What is written has the shape that is promised: every key, no other, each of its type."""

import json

import numpy as np
import pytest
from small_recipe import write_recipe
from typed_shapes import mismatches

from pyro_sws.assess.diagnostics import FORMAT, Diagnostics
from pyro_sws.assess.draws.psis import LeaveOneOut, LeaveOneOutSummary
from pyro_sws.assess.point.assignment_certainty import Tie
from pyro_sws.diagnosis.diagnostics import Nuts
from pyro_sws.diagnosis.folder import diagnose
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

PRIOR = {"family": "spike_and_slabs", "slabs": 2, "zero_proportion": 0.3, "start_deviation": 0.3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run under a delta guide, and one under a guide with spread."""
    folder, folders = tmp_path_factory.mktemp("runs"), {}
    for guide in ("delta", "normal"):
        recipe = write_recipe(folder, prior=[PRIOR], guide=guide)
        folders[guide] = folder / guide
        run_recipe(read_recipe(recipe), folders[guide])
    return folders


@pytest.mark.parametrize("guide", ["delta", "normal"])
def test_diagnostics_of_a_run_have_their_shape(folders, guide):
    diagnose(folders[guide])
    written = json.loads((folders[guide] / "diagnostics" / "diagnostics.json").read_text())
    assert mismatches({"format": FORMAT, **written}, Diagnostics) == []


def test_diagnostics_by_nuts_and_with_restarts_have_their_shape(folders):
    nuts = Nuts(chains=2, warmup=10, draws=30, processes=1)
    found = diagnose(folders["delta"], nuts=nuts, restarts=[folders["normal"]])
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
