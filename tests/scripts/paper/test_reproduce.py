"""The paper's reproduction: how a best is chosen, and what becomes a row."""

import json
import shutil
from argparse import Namespace

import pytest
from kept_rows import keep

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
