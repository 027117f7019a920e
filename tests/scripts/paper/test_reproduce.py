"""The paper's reproduction: its lists of runs, how a best is chosen, its table and its pictures."""

import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from small_recipe import write_recipe

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import open_run

NETWORK = "lenet_300_100"


@pytest.fixture
def settings(script):
    return script("paper.settings")


@pytest.fixture
def reproduction(script):
    return script("paper.reproduce")


@pytest.fixture
def arguments(tmp_path):
    return Namespace(
        networks=[NETWORK],
        trials=False,
        changes=False,
        seeds=[0],
        start=[],
        device="cpu",
        folder=tmp_path / "runs",
        out=tmp_path / "paper.json",
    )


def keep(runs, folder, **numbers):
    """Rows of the runs as if they had been run, every next one with a larger ratio."""
    for i, run in enumerate(runs):
        row = {
            **run.settings,
            "error_before_percent": 1.9,
            "error_unsnapped_percent": 1.8,
            "error_percent": 2.0,
            "nonzero_percent": 5.0,
            "nonzero_percent_snapped": 5.5,
            "values": 14,
            "ratio_paper": 45.0 + i,
            "ratio_paper_rewritten": 50.0 + i,
            "ratio": 90.0,
            "file_bytes": 12_345,
            **numbers,
        }
        path = run.path(folder)
        path.mkdir(parents=True)
        (path / "row.json").write_text(json.dumps(row))


def parsed(path, changes):
    recipe = read_recipe(path, changes)
    return repr((recipe.prior, recipe.likelihood, recipe.settings))


def test_no_two_trials_are_the_same_and_there_are_twenty_or_more(settings):
    for network, path in settings.NETWORKS.items():
        trials = settings.TRIALS[network]
        assert len({parsed(path, changes) for changes in trials.values()}) == len(trials)
    assert len(settings.TRIALS[NETWORK]) >= 20


def test_every_trial_says_which_hyperpriors_it_has(settings):
    """The two networks' recipes differ there, and a trial's name means one thing."""
    for changes in settings.VARIATIONS.values():
        for which in ("spike", "slab"):
            assert any(change.startswith(f"prior.0.{which}_precision=") for change in changes)


def test_no_two_changes_make_the_same_recipe(settings):
    path = settings.NETWORKS[NETWORK]
    recipes = {parsed(path, changes) for changes in [(), *settings.CHANGES.values()]}
    assert len(recipes) == len(settings.CHANGES) + 1


def test_the_wide_residual_network_has_a_recipe(settings):
    recipe = read_recipe(settings.MODELS / "wide_resnet_16_4.toml")
    assert recipe.prior[0].prior.slabs == 63


def test_a_run_is_kept_under_all_that_it_hangs_on(script, settings, tmp_path):
    run = script("shared.recipe_runs").Run
    recipe = settings.NETWORKS[NETWORK]
    one = run(recipe, "a trial", ("tau=0.01",), device="cuda")
    others = [
        run(settings.NETWORKS["lenet_5_caffe"], "a trial", ("tau=0.01",)),
        run(recipe, "a trial", ("tau=0.02",)),
        run(recipe, "a trial", ("tau=0.01",), seed=1),
        run(recipe, "a trial", ("tau=0.01",), held_out=True),
        run(recipe, "a trial", ("tau=0.01",), start="published.safetensors"),
    ]
    assert len({other.path(tmp_path) for other in [one, *others]}) == 6
    assert one.kept(tmp_path) is None
    keep([one], tmp_path)
    same = run(recipe, "a trial", ("tau=0.01",))
    assert one.row(tmp_path) == same.kept(tmp_path)
    assert same.row(tmp_path)["file_bytes"] == 12_345


def test_an_error_is_the_share_of_wrong_classes(script):
    net = torch.nn.Linear(3, 3, bias=False)
    inputs, targets = torch.eye(3).repeat(4, 1), torch.tensor([0, 1, 2] * 3 + [0, 0, 0])
    own = {"weight": torch.eye(3)}
    error = script("shared.recipe_runs").error_percent
    assert error(net, own, inputs, targets) == pytest.approx(100 * 2 / 12)
    assert error(net, {"weight": -torch.eye(3)}, inputs[:3], targets[:3]) == 100


def test_nothing_is_best_before_all_trials_were_run(reproduction, arguments):
    tried = reproduction.trials(NETWORK, arguments)
    keep(tried[:-1], arguments.folder)
    assert reproduction.best(tried, arguments) is None
    assert reproduction.changes(NETWORK, arguments) == []
    assert [v for v, _ in reproduction.rows(NETWORK, arguments)] == ["paper"]


def test_a_ratio_bought_by_an_error_is_not_best(reproduction, arguments):
    tried = reproduction.trials(NETWORK, arguments)
    keep(tried[:-1], arguments.folder)
    keep(tried[-1:], arguments.folder, ratio_paper_rewritten=150.0, error_percent=57.7)
    assert reproduction.best(tried, arguments) == tried[-2]


def test_the_best_within_the_papers_error_is_a_row_of_its_own(reproduction, arguments):
    tried = reproduction.trials(NETWORK, arguments)
    keep(tried[:2], arguments.folder, error_percent=1.94)
    keep(tried[2:], arguments.folder)
    found = dict(reproduction.rows(NETWORK, arguments))
    assert (found["within"].name, found["trial"].name) == (tried[1].name, tried[-1].name)


def test_a_best_within_the_papers_error_that_is_best_of_all_is_one_row(reproduction, arguments):
    keep(reproduction.trials(NETWORK, arguments), arguments.folder, error_percent=1.94)
    assert [v for v, _ in reproduction.rows(NETWORK, arguments)] == ["paper", "trial"]


def test_what_is_on_record_need_not_run_again(reproduction, arguments):
    keep(reproduction.trials(NETWORK, arguments), arguments.folder)
    keep(reproduction.changes(NETWORK, arguments), arguments.folder)
    keep([run for _, run in reproduction.rows(NETWORK, arguments)], arguments.folder)
    written = reproduction.collected(arguments)
    arguments.out.write_text(json.dumps(written))
    expected = dict(reproduction.rows(NETWORK, arguments))
    shutil.rmtree(arguments.folder)
    assert dict(reproduction.rows(NETWORK, arguments)) == expected
    assert reproduction.collected(arguments)[NETWORK] == written[NETWORK]


def test_a_row_of_another_seed_stays_on_record(reproduction, arguments):
    keep(reproduction.trials(NETWORK, arguments), arguments.folder)
    keep([run for _, run in reproduction.rows(NETWORK, arguments)], arguments.folder)
    first = reproduction.collected(arguments)
    arguments.out.write_text(json.dumps(first))
    shutil.rmtree(arguments.folder)
    arguments.seeds = [1]
    keep([run for _, run in reproduction.rows(NETWORK, arguments)], arguments.folder, ratio=91.0)
    rows = reproduction.collected(arguments)[NETWORK]["rows"]
    assert [row for row in rows if row["seed"] == 0] == first[NETWORK]["rows"]
    assert [row["ratio"] for row in rows if row["seed"] == 1] == [91.0, 91.0]


def test_what_was_run_counts_before_what_is_on_record(reproduction, arguments):
    run, *_ = reproduction.trials(NETWORK, arguments)
    keep([run], arguments.folder, ratio_paper=60.0)
    kept = reproduction.known(run, arguments)
    earlier = {NETWORK: {"trials": [{**kept, "ratio_paper": 50.0}]}}
    arguments.out.write_text(json.dumps(earlier))
    assert reproduction.known(run, arguments) == kept


def test_the_best_trial_and_the_best_change_to_it_become_rows_on_all_images(
    reproduction, settings, arguments
):
    tried = reproduction.trials(NETWORK, arguments)
    keep(tried, arguments.folder)
    changed = reproduction.changes(NETWORK, arguments)
    assert [run.changes for run in changed] == [
        (*tried[-1].changes, *sets) for sets in settings.CHANGES.values()
    ]
    assert all(run.held_out for run in [*tried, *changed])
    keep(changed, arguments.folder)
    found = dict(reproduction.rows(NETWORK, arguments))
    part = settings.PART_OF_THE_PRIOR  # a table's row is under the whole prior
    assert all(part in run.changes for run in [*tried, *changed])
    assert {name: run.changes for name, run in found.items()} == {
        "paper": (),
        "trial": tuple(change for change in tried[-1].changes if change != part),
        "change": tuple(change for change in changed[-1].changes if change != part),
    }
    assert not any(run.held_out for run in found.values())


def test_what_was_run_is_collected_beside_what_was_published(
    reproduction, script, settings, arguments
):
    keep(reproduction.trials(NETWORK, arguments), arguments.folder)
    keep([run for _, run in reproduction.rows(NETWORK, arguments)], arguments.folder)
    found = reproduction.collected(arguments)
    part = found[NETWORK]
    assert part["published"] == settings.PUBLISHED[NETWORK]
    assert [row["variant"] for row in part["rows"]] == ["paper", "trial"]
    assert part["best_trial"] == part["trials"][-1]["name"] and part["best_change"] is None
    lines = script("paper.tables").trials_table(found).splitlines()[2:]
    assert len(lines) == len(settings.TRIALS[NETWORK])
    assert lines[0].startswith(f"| LeNet-300-100 | **{part['best_trial']}** |")


def test_the_table_has_means_over_seeds_beside_the_published_rows(script):
    ours = {
        "error_before_percent": 1.65,
        "nonzero_percent_snapped": 5.25,
        "name": "Gammas",
        "start": None,
    }
    rows = [
        {"variant": "trial", "error_percent": 2.0, "ratio_paper": 60.0, **ours},
        {"variant": "trial", "error_percent": 2.2, "ratio_paper": 64.0, **ours},
    ]
    sizes = [
        {"ratio_paper_rewritten": 66.0, "file_bytes": 10_000, "ratio": 106.6},
        {"ratio_paper_rewritten": 70.0, "file_bytes": 11_000, "ratio": 97.0},
    ]
    published = {
        "method": "Ullrich et al. 2017",
        "error_before_percent": 1.89,
        "error_percent": 1.94,
        "nonzero_percent": 4.3,
        "ratio_paper": 64,
    }
    part = {
        "published": [published],
        "rows": [row | size for row, size in zip(rows, sizes, strict=True)],
    }
    found = {NETWORK: part, "_about": {"published": "table 1"}}
    table = script("paper.tables").paper_table(found, "`a command`").splitlines()
    assert table[2] == (
        "| LeNet-300-100 | Ullrich et al. 2017 | 1.89 % | 1.94 % | 4.3 % | 64 | - | - | - | - |"
    )
    assert table[3] == (
        "| LeNet-300-100 | this package, the best trial | 1.65 % | 2.10 % (2.00-2.20) "
        "| 5.2 % | 62 | 68 | 10,500 | 102 | 2 |"
    )
    assert "- LeNet-300-100, the best trial: Gammas" in table
    assert table[-2:] == ["Published: table 1; there are no files.", "`a command`"]


def test_tiles_stand_in_rows_with_a_gap_between_them(script):
    images = np.arange(12.0).reshape(3, 2, 2)
    sheet = script("paper.figures").tiles(images, columns=2)
    nan = np.nan
    expected = [
        [0, 1, nan, 4, 5],
        [2, 3, nan, 6, 7],
        [nan, nan, nan, nan, nan],
        [8, 9, nan, nan, nan],
        [10, 11, nan, nan, nan],
    ]
    np.testing.assert_array_equal(sheet, expected)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_recipe(read_recipe(write_recipe(folder)), folder / "out")
    return open_run(folder / "out")


def test_the_film_is_of_the_fit_that_the_run_made(script, run):
    frames = script("paper.animation").frames(run)
    assert [frame["epoch"] for frame in frames] == [0, 1, 2]
    for frame, mixtures in zip(frames[1:], run.history, strict=True):
        assert frame["means"] == mixtures["mixtures"]["all"]["means"]
    edges = np.array(frames[-1]["edges"])
    counts = np.histogram(run.point["all.weights"].numpy(), edges)[0]
    assert frames[-1]["counts"] == counts.tolist()


def test_pictures_of_a_run_are_drawn_from_its_folder_alone(script, run, tmp_path):
    script("paper.figures").draw_run(run.folder, tmp_path, "small")
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"small_weights.png", "small_training.png", "small_0.png"}
