"""The baseline's search: as wide as the recipe's own where both vary a key, and what it tries."""

import sys

import pytest

from pyro_sws.recipes.recipe import read_recipe, read_search, read_table

PARAMS = {
    "pruning.density": 0.01,
    "pruning.levels": 8,
    "pruning.rate": 2e-3,
    "tau": 0.5,
    "refinement.widening": 4.0,
    "refinement.rates.weights": 1e-3,
    "refinement.rates.means": 5e-4,
}


def test_what_both_searches_vary_has_one_range_and_their_trials_have_as_many_epochs(script):
    module = script("frontier.search_pruned")
    search = read_search(read_table(module.RECIPE))
    own, space = search.space, module.SETTINGS.space
    shared = {path for path in space if not path.startswith("pruning.")}
    assert shared == own.keys() & space.keys() and len(shared) == 4
    assert all(space[path] == own[path] for path in shared)
    assert module.SETTINGS.worst_score == search.worst_score
    assert module.SETTINGS.sampler == search.sampler
    assert search.epochs == module.PRUNING_EPOCHS


def test_a_trial_is_pruned_and_refined_at_the_settings_drawn(script):
    module = script("frontier.search_pruned")
    run = module.run(3, PARAMS)
    assert run.held_out and run.seed == 0 and run.scored == "validation"
    assert run.pruning == script("frontier.magnitude_pruning").Pruning(0.01, 8, 4, 2e-3)
    plan = read_recipe(module.RECIPE, run.changes)
    assert plan.tau == 0.5
    assert (plan.refinement.epochs, plan.refinement.widening) == (8, 4.0)
    assert (plan.refinement.rates.weights, plan.refinement.rates.means) == (1e-3, 5e-4)


def test_the_front_has_no_trial_that_is_of_no_use_or_beaten(script, tmp_path):
    module = script("frontier.search_pruned")
    study = module.search_study.open_study("pruned", str(tmp_path / "s.log"), module.SETTINGS, {})
    for pair in ((3000, 2.0), (2000, 3.0), (2500, 3.5), (50, 90.0)):
        trial, params = module.search_study.ask(study, module.SETTINGS)
        assert params.keys() == PARAMS.keys()
        module.search_study.complete(study, trial, module.SETTINGS, pair)
    found = module.found(study)
    assert found["front"] == [1, 0]
    assert [trial["file_bytes"] for trial in found["trials"]] == [3000, 2000, 2500, 50]


def test_the_picture_leaves_out_files_of_no_use(script, tmp_path):
    module = script("frontier.search_pruned")
    rows = [(0, 3000, 2.0), (1, 50, 90.0), (2, 2000, 3.0)]
    trials = [
        {"number": number, "file_bytes": size, "score": score, "state": "complete"}
        for number, size, score in rows
    ]
    lost = {"number": 3, "file_bytes": None, "score": None, "state": "fail"}
    useful = module.useful([*trials, lost])
    assert useful == {0: (3000, 2.0), 2: (2000, 3.0)}
    search = {"trials": [*trials, lost], "front": [2, 0]}
    module.draw({"mixture": search, "pruned": search}, tmp_path / "searches.png")
    assert (tmp_path / "searches.png").stat().st_size > 10_000


def test_no_trials_leave_what_was_found_before(script, tmp_path, monkeypatch):
    out = tmp_path / "pruned.json"
    out.write_text("what was found")
    folder = tmp_path / "runs"
    words = ["search_pruned.py", "--trials", "0", "--folder", str(folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    module = script("frontier.search_pruned")
    monkeypatch.setattr(module.torch, "set_num_threads", lambda _: None)
    with pytest.raises(SystemExit, match="has no trials; make some by --trials 60"):
        module.main()
    assert out.read_text() == "what was found"
