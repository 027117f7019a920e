"""A search: what its trials are worth, that it goes on, and what it refuses. On a few weights."""

import io
import json
import math
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import optuna
import pytest
import torch
from messages import assert_says
from safetensors.torch import load_file, save_file
from small_search import SPACE, write_search

import pyro_sws as sws
from pyro_sws.inference.fit import read_posterior
from pyro_sws.recipes.recipe import read_recipe, read_search, read_table
from pyro_sws.recipes.search_table import Pruning, search_settings
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.inputs import build_network
from pyro_sws.tuning import search as tuning
from pyro_sws.tuning import study as search_study
from pyro_sws.tuning.importances import importances
from pyro_sws.tuning.pareto import is_hopeless, log_excess
from pyro_sws.tuning.trial import GuideProbe

pytestmark = pytest.mark.integration

ENDED = ("complete", "pruned", "failed")


def told(trial):
    """A trial without what a clock says."""
    return {**trial.to_dict(), "seconds": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A search of 3 trials: its folder, its result and what was told meanwhile."""
    folder, progress, printed = tmp_path_factory.mktemp("search"), [], io.StringIO()
    path = write_search(folder)
    before = torch.get_rng_state(), optuna.logging.get_verbosity()
    with redirect_stdout(printed), redirect_stderr(printed):
        result = sws.search(path, 3, folder / "out", callback=progress.append)
    after = torch.get_rng_state(), optuna.logging.get_verbosity()
    assert torch.equal(before[0], after[0]) and before[1] == after[1] and not printed.getvalue()
    return folder, result, progress


def test_every_trial_is_at_a_point_of_the_space_and_none_saw_the_test_split(made):
    _, result, _ = made  # whose test split raises when it is looked at
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    for trial in result.trials:
        assert trial.state == "complete" and trial.message is None and trial.seconds > 0
        for path, value in trial.params.items():
            assert SPACE[path]["low"] <= value <= SPACE[path]["high"]
        assert isinstance(trial.params["prior.0.slabs"], int)
    assert len({trial.params["tau"] for trial in result.trials}) == 3


def test_a_best_recipe_makes_the_file_that_its_trial_found(made, tmp_path):
    folder, result, _ = made
    assert {p.name for p in (folder / "out/best").iterdir()} == {
        f"trial_{trial.number}.toml" for trial in result.front
    }
    best = result.front[0]
    path = folder / f"out/best/trial_{best.number}.toml"
    recipe = read_recipe(path)
    run = run_recipe(recipe, tmp_path / "run")  # nor does this look at the test split
    assert len(run.data) == best.file_bytes
    assert run.report.score["decoded"] == best.score and run.report.score["data"] == "validation"
    assert read_search(read_table(path)) is None
    assert f"{best.file_bytes:,} bytes" in path.read_text().split("\n")[0]


def test_search_json_says_all_and_pictures_show_it(made):
    folder, result, _ = made
    found = json.loads((folder / "out/search.json").read_text())
    assert found == json.loads(json.dumps(result.to_dict()))
    assert found["score"] == {"name": "error", "unit": "percent", "data": "validation"}
    assert found["front"] == [trial.number for trial in result.front]
    assert found["importances"] is None  # three trials tell nothing
    assert (folder / "out/frontier.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "out/importances.png").exists()


def test_what_is_of_no_use_is_not_on_the_front(made):
    _, result, _ = made
    pairs = [(900, 4.0), (40, 91.0), (1500, 2.0), (1600, 3.0)]
    trials = tuple(
        replace(result.trials[0], number=i, file_bytes=size, score=score)
        for i, (size, score) in enumerate(pairs)
    )
    for worst, expected in ((None, [1, 0, 2]), (50.0, [0, 2]), (3.0, [2]), (1.0, [])):
        plan = replace(result.plan, settings=replace(result.plan.settings, worst_score=worst))
        found = replace(result, plan=plan, trials=trials)
        assert [trial.number for trial in found.front] == expected


def test_the_front_is_optuna_s(made):
    folder, result, _ = made
    plan = result.plan
    place = str(folder / "out/study.log")
    study = search_study.open_study(plan.name, place, plan.settings, plan.meaning())
    assert sorted(t.number for t in study.best_trials) == sorted(t.number for t in result.front)


def test_the_network_is_trained_once_and_progress_is_told(made):
    _, result, progress = made
    told = [(p.stage, p.done, p.total) for p in progress]
    fits = [
        [(f"trial {i}: fit", epoch, 4) for epoch in range(1, 5)] + [("trial", i + 1, 3)]
        for i in range(3)
    ]
    assert told == [("pretrain", epoch, 10) for epoch in range(1, 11)] + sum(fits, [])
    ends = [p.row for p in progress if p.stage == "trial"]
    assert ends == [trial.to_dict() for trial in result.trials]
    assert all("negative_elbo_nats" in p.row for p in progress if p.stage.endswith(": fit"))


def test_called_again_it_goes_on_as_if_it_had_never_stopped(made, tmp_path):
    folder, whole, _ = made
    for trials in (1, 0, 2):
        parts = sws.search(folder / "small.toml", trials, tmp_path / "out")
    assert list(map(told, parts.trials)) == list(map(told, whole.trials))


@pytest.mark.slow
def test_two_processes_share_a_data_base(tmp_path):
    path = write_search(tmp_path)
    storage = f"sqlite:///{tmp_path}/both.db"
    command = [sys.executable, "-m", "pyro_sws.cli", "search", path, "--trials", "2"]
    command += ["--storage", storage, "--out", tmp_path / "out", "--json"]
    both = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert all(printed == "" for _, printed in ends)
    found = sws.search(path, 0, tmp_path / "out", storage=storage)
    assert [trial.state for trial in found.trials] == ["complete"] * 4
    assert len({trial.params["tau"] for trial in found.trials}) == 4
    assert len(list((tmp_path / "out").glob("trained-*.safetensors"))) == 1


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tmp_path):
    space = {
        "rates.weights": {"choices": [1e30, 0.01]},
        "prior.0.match": {"choices": ["*", "none*"]},
    }
    path, progress = write_search(tmp_path, space, {"seed": 1}), []
    found = sws.search(path, 6, tmp_path / "out", callback=progress.append)
    for trial in found.trials:
        fails = trial.params["prior.0.match"] == "none*" or trial.params["rates.weights"] == 1e30
        assert trial.state == ("failed" if fails else "complete")
        if trial.params["prior.0.match"] == "none*":
            assert trial.message.startswith("prior[0]: match 'none*' matches no tensor")
        elif fails:
            assert "the loss became nan in epoch 1" in trial.message
    assert {trial.state for trial in found.trials} == {"failed", "complete"}
    assert [p.row["state"] for p in progress if p.stage == "trial"] == [
        trial.state for trial in found.trials
    ]


def test_an_interrupt_is_recorded_and_raised(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    path = write_search(tmp_path)
    monkeypatch.setattr(tuning, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sws.search(path, 2, tmp_path / "out")
    (trial,) = sws.search(path, 0, tmp_path / "out").trials
    assert (trial.state, trial.message) == ("failed", "KeyboardInterrupt")
    assert not (tmp_path / "out/frontier.png").exists()


def test_trials_are_given_up_by_the_rule_and_by_nothing_else(tmp_path):
    pruning = {"rungs": [0.25, 0.5], "share": 0.2, "after": 2}
    path = write_search(tmp_path, search={"pruning": pruning, "epochs": 4})
    found = sws.search(path, 7, tmp_path / "out")
    rule, before = Pruning(rungs=(0.25, 0.5), share=0.2, after=2), []
    for trial in found.trials:
        hopeless = [
            is_hopeless(pair, [t.rungs[rung] for t in before if rung in t.rungs], rule)
            for rung, pair in trial.rungs.items()
        ]
        assert not any(hopeless[:-1])
        assert trial.state == ("pruned" if hopeless[-1] else "complete")
        assert hopeless[-1] or len(hopeless) == 2
        before.append(trial)
    assert {trial.state for trial in found.trials} == {"pruned", "complete"}
    assert all(trial.file_bytes is None for trial in found.trials if trial.state == "pruned")


def test_the_estimate_at_a_rung_is_the_entropy_of_the_weights_as_they_would_snap(tmp_path):
    recipe = read_recipe(write_search(tmp_path, data="held_out.py:points"))
    net = build_network(recipe.network, recipe.seed)
    batches = sws.Batches(*recipe.data.source()["train"], 20)
    probe, estimates = GuideProbe(recipe), []
    watched = sws.compress(
        net,
        batches,
        prior=recipe.prior,
        epochs=2,
        guide=probe,
        callback=lambda progress: estimates.append(probe.entropy_bytes()),
    )
    # It only looks.
    assert watched.data == sws.compress(net, batches, prior=recipe.prior, epochs=2).data
    read = read_posterior(probe.model, probe.guide).weights
    assert all(torch.equal(w, watched.posterior.weights[name]) for name, w in read.items())
    quantized = sws.quantize(watched.packed)
    values = sum(2 * len(book) for book in quantized.codebooks.values())
    bits = 0.0
    for symbols in quantized.symbols.values():
        for count in torch.tensor(symbols.ravel().astype(int)).bincount().tolist():
            bits -= count * math.log2(count / symbols.size) if count else 0
    assert len(estimates) == 2 and estimates[1] == pytest.approx(bits / 8 + values)


def test_where_the_network_varies_each_trial_trains_its_own(tmp_path):
    space, progress = {"network.hidden": {"choices": [2, 8]}}, []
    path = write_search(tmp_path, space)
    found = sws.search(path, 2, tmp_path / "out", callback=progress.append)
    stages = [[f"trial {i}: pretrain"] * 10 + [f"trial {i}: fit"] * 4 + ["trial"] for i in (0, 1)]
    assert [p.stage for p in progress] == sum(stages, [])
    assert not list((tmp_path / "out").glob("*.safetensors")) and len(found.complete) == 2


def test_with_a_refinement_only_the_file_is_held_to_the_worst_score(tmp_path):
    pruning = {"after": 1, "share": 0.99}  # of three, none is beaten by so many
    search = {"pruning": pruning, "worst_score": 0.0}  # which no network here reaches at the rung
    states = {}
    for refinement in (None, {"epochs": 1}):
        folder = tmp_path / str(refinement is None)
        folder.mkdir()
        changes = {} if refinement is None else {"refinement": refinement}
        path = write_search(folder, search=search, **changes)
        states[refinement is None] = [t.state for t in sws.search(path, 3, folder / "out").trials]
    assert states[False] == ["complete"] * 3 and states[True] == ["complete", "pruned", "pruned"]


# What is refused, before any trial.


def refusal(path, folder, trials=1, error=ValueError, **options):
    def fail(progress):
        pytest.fail("a trial was begun")

    with pytest.raises(error) as caught:
        sws.search(path, trials, folder, callback=fail, **options)
    return str(caught.value)


def test_data_without_a_validation_split_is_refused_and_nothing_is_left(tmp_path):
    path = write_search(tmp_path, data="held_out.py:nothing_held_out")
    message = refusal(path, tmp_path / "new/out")
    remedy = "--set data.validation=5000"
    assert_says(message, "validation split", "held_out.py:nothing_held_out", remedy)
    assert not (tmp_path / "new").exists()


def test_a_recipe_that_cannot_be_run_is_refused(tmp_path):
    path = write_search(tmp_path)
    match = 'prior.0.match="fc*"'
    assert "match 'fc*' matches no tensor" in refusal(path, tmp_path / "out", changes=[match])
    assert "trials must be at least 0, got -1" in refusal(path, tmp_path / "out", -1)
    assert "cannot compute on 'x'" in refusal(path, tmp_path / "out", changes=["device=x"])
    assert "cannot write to" in refusal(path, path / "out", error=OSError)
    assert not (tmp_path / "out").exists()


def test_another_recipe_may_not_go_on_with_a_study(made):
    folder, *_ = made
    message = refusal(folder / "small.toml", folder / "out", changes=["tau=0.5", "seed=3"])
    place, seed, tau = str(folder / "out/study.log"), ("seed", "3", "0"), ("tau", "0.5", "0.03")
    assert_says(message, place, "'small'", *seed, *tau, "another storage")


def test_otherwise_trained_weights_may_not_go_on_with_a_study(made, tmp_path):
    folder, *_ = made
    (own,) = (folder / "out").glob("trained-*.safetensors")
    other = {name: 2 * tensor for name, tensor in load_file(own).items()}
    (tmp_path / "out").mkdir()
    save_file(other, tmp_path / "out" / own.name)
    storage = str(folder / "out/study.log")
    message = refusal(folder / "small.toml", tmp_path / "out", storage=storage)
    remedy = f"copy {own.name}", str(tmp_path / "out")
    assert_says(message, "'small'", "otherwise trained weights", *remedy)
    assert len(sws.search(folder / "small.toml", 0, folder / "out").trials) == 3


@pytest.mark.slow
def test_a_storage_that_cannot_be_is_refused(tmp_path):
    path, out = write_search(tmp_path), tmp_path / "out"
    message = refusal(path, out, storage="trials.db")
    assert message.startswith(
        "storage 'trials.db': give the path of a file that ends in .log, or a"
    )
    message = refusal(path, out, storage=f"sqlite:///{tmp_path}/none/a.db")
    assert "cannot be opened: (sqlite3.OperationalError) unable to open database file" in message
    assert "Can't load plugin" in refusal(path, out, storage="redis://localhost")
    (tmp_path / "text.log").write_text("not a journal\n")
    message = refusal(path, out, storage=f"{tmp_path}/text.log")
    assert message.startswith(f"{tmp_path}/text.log: no search's storage, or damaged: ")


def test_a_study_that_is_no_search_s_is_refused(tmp_path):
    journal = search_study.JournalFileBackend(f"{tmp_path}/study.log")
    other = optuna.create_study(storage=search_study.JournalStorage(journal), study_name="small")
    other.tell(other.ask(), 1.0)
    message = refusal(write_search(tmp_path), tmp_path / "out", storage=f"{tmp_path}/study.log")
    assert message.endswith("study 'small' is none of a search; choose another storage")


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "pyro_sws.tuning.study")
    monkeypatch.delattr("pyro_sws.tuning.study")
    message = refusal(write_search(tmp_path), tmp_path / "out", error=ImportError)
    assert message == "search needs Optuna: pip install 'pyro-sws[search]'"


def test_an_older_optuna_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna, "__version__", "3.6.1")
    monkeypatch.delitem(sys.modules, "pyro_sws.tuning.study")
    monkeypatch.delattr("pyro_sws.tuning.study")
    message = refusal(write_search(tmp_path), tmp_path / "out", error=ImportError)
    assert message.startswith("search needs Optuna 5.0 or later, there is 3.6.1: pip install")


# The study, with trials that cost nothing: bytes depend on a alone, the score on b alone.


def settings_of(**more):
    space = {name: {"low": 1.0, "high": 4.0} for name in "abc"}
    return search_settings({"space": space, **more})


def made_up(folder, trials, calls=1, **more):
    """A study of made-up trials, made in some calls."""
    settings, study = settings_of(**more), None
    for _ in range(calls):
        study = search_study.open_study("made up", f"{folder}/study.log", settings, {})
        for _ in range(trials // calls):
            trial, params = search_study.ask(study, settings)
            pair = math.exp(params["a"]), params["b"] ** 2
            search_study.complete(study, trial, settings, pair)
    return study, settings


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_study_made_in_two_calls_is_one_made_in_one(tmp_path, sampler):
    trials = {"tpe": 16, "gp": 12}[sampler]  # the first 10 are drawn at random
    found = []
    for calls in (1, 2):
        folder = tmp_path / str(calls)
        folder.mkdir()
        study, settings = made_up(folder, trials, calls, sampler=sampler)
        found.append([trial.params for trial in search_study.trials_of(study, settings)])
    assert found[0] == found[1] and len({params["a"] for params in found[0]}) == trials


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_keeps_away_from_scores_of_no_use(tmp_path, sampler):
    number = {"tpe": 25, "gp": 13}[sampler]
    study, settings = made_up(tmp_path, number, sampler=sampler, worst_score=4.0)
    trials = search_study.trials_of(study, settings)
    useful = [trial.score <= 4.0 for trial in trials[10:]]
    assert sum(useful) > 0.6 * len(useful)  # of points drawn at random it is a third


def test_another_seed_of_the_sampler_makes_other_trials(tmp_path):
    found = set()
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        study, settings = made_up(tmp_path / str(seed), 2, seed=seed)
        found |= {trial.params["a"] for trial in search_study.trials_of(study, settings)}
    assert len(found) == 4


@pytest.mark.parametrize("forest", [True, False])
def test_what_bytes_and_score_depend_on_is_what_mattered(tmp_path, monkeypatch, forest):
    if not forest:
        monkeypatch.setattr("pyro_sws.tuning.importances.find_spec", lambda name: None)
    study, _ = made_up(tmp_path, 25)
    found = importances(study)
    assert found["evaluator"] == ("fanova" if forest else "ped_anova") and found["trials"] == 25
    assert max(found["log_bytes"], key=found["log_bytes"].get) == "a"
    assert max(found["score"], key=found["score"].get) == "b"
    for name in ("log_bytes", "score", "log_excess"):
        assert sum(found[name].values()) == pytest.approx(1)
        assert found[name].keys() == {"a", "b", "c"}
    if forest:
        pairs = [tuple(trial.values) for trial in study.get_trials()]
        assert any(log_excess(pairs)) and found["log_excess"]["c"] < 0.3


def test_collapsed_trials_say_nothing_of_importance(tmp_path):
    study, settings = made_up(tmp_path, 25)
    scores = sorted(trial.values[1] for trial in study.get_trials())
    found = importances(study, worst_score=scores[14])
    assert found["trials"] == 15
    assert importances(study, worst_score=scores[8]) is None


def test_importances_need_ten_trials_and_something_to_explain(tmp_path):
    study, settings = made_up(tmp_path, 9)
    assert importances(study) is None
    (tmp_path / "flat").mkdir()
    study = search_study.open_study("flat", f"{tmp_path}/flat/study.log", settings, {})
    for _ in range(10):
        study.tell(search_study.ask(study, settings)[0], (100.0, 2.0))
    found = importances(study)
    assert found["log_bytes"] == found["score"] == found["log_excess"] == {}


def test_choices_of_any_kind_come_back_as_they_were(tmp_path):
    choices = [{"family": "grid", "steps": 4}, [1.5, 2], "a", 3, 0.5, True]
    settings = search_settings({"space": {"x": {"choices": choices}}})
    study = search_study.open_study("kinds", f"{tmp_path}/study.log", settings, {})
    found = [search_study.ask(study, settings)[1]["x"] for _ in range(40)]
    assert all(any(choice is value or choice == value for choice in choices) for value in found)
    assert all(any(choice == value for value in found) for choice in choices)


KILLED = """
import os, signal, sys
from pyro_sws.tuning import search as tuning

tuning.run_trial = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
tuning.search(sys.argv[1], 1, sys.argv[2])
"""


def test_a_trial_whose_process_was_killed_is_made_again(tmp_path):
    path = write_search(tmp_path)
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == -9
    result = sws.search(path, 2, tmp_path / "out")
    killed, again, other = result.trials
    assert (killed.state, again.state, other.state) == ("failed", "complete", "complete")
    assert killed.params == again.params != other.params
