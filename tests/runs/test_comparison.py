"""Runs side by side: the reports' own numbers, in the order given, and what else differs."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import tomli_w
from problems import classifier
from small_recipe import table, write_recipe

import pyro_sws as sws
from pyro_sws.inference.priors.custom import Custom
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.comparison import compare, run_all
from pyro_sws.runs.differences import prior_texts
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import Run

pytestmark = pytest.mark.integration

FEW, MORE = sws.SpikeAndSlabs(slabs=2), sws.SpikeAndSlabs(slabs=4, zero_proportion=0.3)
IN_FOUR = [{"family": "spike_and_slabs", "slabs": 4, "zero_proportion": 0.3}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs "two" and "four" of one network, and their recipes beside them."""
    folder = tmp_path_factory.mktemp("compared")
    write_recipe(folder)
    (folder / "two.toml").write_text(tomli_w.dumps(table()))
    (folder / "four.toml").write_text(tomli_w.dumps(table(prior=IN_FOUR, from_run="out/two")))
    for name in ("two", "four"):
        run_recipe(read_recipe(folder / f"{name}.toml"), folder / "out" / name)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    """The same in a place where a test may change it."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def change_report(run, **changes):
    path = run / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_recipe(run, **changes):
    text = (run / "recipe.toml").read_text()
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (run / "recipe.toml").write_text(text)


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_row_has_the_run_s_own_numbers(folder):
    run = Run.open(folder / "out/two")
    row, other = compare([folder / "out/two", folder / "out/four"]).rows
    report = run.report.to_dict()
    assert (row["run"], other["run"]) == ("two", "four")
    assert row["file_bytes"] == len(run.data) and row["ratio"] == 4 * 67 / len(run.data)
    assert row["description"] == report["description"]
    assert row["error_cost_nats"] == report["error_cost_nats"]
    assert row["symbol_bits"] == report["bits"]["symbols"]
    bits = report["bounds"]["mixture_cross_entropy_bits"]
    assert row["mixture_cross_entropy_bits"] == bits
    effective = report["groups"]["all"]["effective_components"]
    assert row["effective_components"] == {"all": effective}
    assert row["fit_seconds"] == report["seconds"]["fit"]
    assert row["score"].items() <= report["score"].items()
    assert row["score"]["before"] == other["score"]["before"]


def test_the_order_is_the_one_given_and_no_density_is_in_it(folder):
    for order in (["two", "four"], ["four", "two"]):
        found = compare([folder / "out" / name for name in order])
        assert [row["run"] for row in found.rows] == order
        lines = found.markdown().splitlines()
        assert [line.split(" | ")[0] for line in lines[2:4]] == [f"| {name}" for name in order]
        text = (found.markdown() + json.dumps(found.to_dict())).lower()
        assert "elbo" not in text and "complexity" not in text


def test_the_table_says_in_markdown_what_the_rows_say(folder):
    found = compare([folder / "out/two", folder / "out/four"])
    header, rule, first, second = found.markdown().splitlines()[:4]
    assert header.count("|") == rule.count("|") == first.count("|") == second.count("|")
    bits = found.rows[0]["description"]
    told = f"{bits['total_bits']:,.0f} = {bits['file_bits']:,} + {bits['label_bits']:,.0f}"
    assert told in first and "spike_and_slabs, slabs 2, zero_proportion 0.999" in first
    assert "spike_and_slabs, slabs 4, zero_proportion 0.3" in second


def test_only_the_prior_differs_and_the_later_run_s_seconds_are_its_own(folder):
    found = compare([folder / "out/two", folder / "out/four"])
    timed = "started at an earlier run's fitted weights, and timed from there: four"
    warned = [  # of fits as short as these
        f"{name}: {warning}"
        for name in ("two", "four")
        for warning in sws.Run.open(folder / "out" / name).report.warnings
    ]
    assert found.notes == (timed, *warned)


def test_what_else_differs_is_noted(copied):
    change_recipe(copied / "out/four", **{"tau = 0.03": "tau = 0.5"})
    source = 'source = "../../points.py:points"'
    change_recipe(copied / "out/four", **{source: source + "\ncount = 50"})
    change_report(copied / "out/four", warnings=["no prior covers 0.bias: stored raw"])
    notes = compare([copied / "out/two", copied / "out/four"]).notes
    assert "tau differs: 0.03 in two; 0.5 in four" in notes
    assert "four: no prior covers 0.bias: stored raw" in notes
    data = "20 test examples of ../../points.py:points"
    assert f"the scores are on different data: {data} in two; {data}, count = 50 in four" in notes


def test_runs_of_other_networks_and_of_otherwise_trained_ones_are_told_apart(folder, tmp_path):
    write_recipe(tmp_path)
    runs = [folder / "out/two"]
    for name, changes in (("five", ["network.hidden=5"]), ("seed", ["seed=1"])):
        runs.append(tmp_path / name)
        run_recipe(read_recipe(tmp_path / "small.toml", changes), runs[-1])
    form = "the networks differ: tiny, 67 parameters in two; tiny, 43 parameters in five"
    assert compare(runs[:2]).notes[0] == form
    trained = "the networks have one form, but were not compressed from the same trained weights"
    assert compare([runs[0], runs[2]]).notes[0] == trained


def test_weights_of_one_scale_are_drawn_without_it(folder, tmp_path):
    """A grid's scale is its spacing: a unit, and the fitted values are that far apart."""
    prior = [{"family": "grid"}]
    path = write_recipe(tmp_path, prior=prior, from_run=str(folder / "out/two"))
    run_recipe(read_recipe(path), tmp_path / "grid")
    run, fits = Run.open(tmp_path / "grid"), compare([folder / "out/two", tmp_path / "grid"]).fits
    found, spacing = fits["grid"]["all"], run.posterior.point["all.spacing"].item()
    assert not found.scaled
    assert found.weights.tolist() == run.posterior.point["all.weights"].tolist()
    assert found.mixture.means.unique().diff().min().item() == pytest.approx(spacing, rel=1e-5)


def test_runs_of_one_name_go_by_their_paths(folder, copied):
    paths = [folder / "out/two", copied / "out/two"]
    assert [row["run"] for row in compare(paths).rows] == list(map(str, paths))


@pytest.mark.parametrize("lacking", ["description", "effective_components"])
def test_a_report_of_an_older_version_is_refused_with_the_run_to_make_again(copied, lacking):
    old = copied / "out/four"
    report = json.loads((old / "report.json").read_text())
    report.pop(lacking, None)
    report["groups"]["all"].pop(lacking, None)
    (old / "report.json").write_text(json.dumps(report))
    again = f"pyro-sws run {old}/recipe.toml --out {old} --overwrite"
    with pytest.raises(ValueError) as caught:
        compare([copied / "out/two", old])
    assert str(caught.value).startswith(f"{old}: report has no ")
    assert "from an older version" in str(caught.value) and lacking in str(caught.value)
    assert str(caught.value).endswith(again)


@pytest.mark.parametrize("other", [None, 3, {"a": 1}, SimpleNamespace(report=1)])
def test_what_is_neither_a_run_nor_a_folder_is_refused(folder, other):
    name = type(other).__name__
    with pytest.raises(
        TypeError, match=rf"runs\[1\] must be a Run.* or a run folder, got a {name}"
    ):
        compare([folder / "out/two", other])


def test_fewer_than_two_runs_or_the_same_twice_or_no_run_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="two or more runs to compare, got 1"):
        compare([folder / "out/two"])
    with pytest.raises(ValueError, match="different runs to compare, got .*two, .*two"):
        compare([folder / "out/two", folder / "out/two"])
    with pytest.raises(ValueError, match="holds no finished run"):
        compare([folder / "out/two", tmp_path])


def test_three_files_are_written_whole_or_none(folder, tmp_path, monkeypatch):
    found = compare([folder / "out/two", folder / "out/four"])
    found.save(tmp_path / "a/b")
    names = {"comparison.json", "comparison.md", "comparison.png"}
    assert {p.name for p in (tmp_path / "a/b").iterdir()} == names
    assert json.loads((tmp_path / "a/b/comparison.json").read_text()) == found.to_dict()
    assert (tmp_path / "a/b/comparison.png").read_bytes().startswith(b"\x89PNG")

    def fail(*args):
        raise MemoryError

    monkeypatch.setattr("pyro_sws.runs.comparison.as_png", fail)
    with pytest.raises(MemoryError):
        found.save(tmp_path / "none")
    assert not (tmp_path / "none").exists()


# Recipes are run first, once.


def test_a_recipe_is_run_once_and_a_folder_is_taken_as_it_is(folder, tmp_path):
    write_recipe(tmp_path)
    rows, out = [], tmp_path / "out"
    paths = [folder / "out/two", tmp_path / "small.toml"]
    for _ in range(2):
        folders = run_all(paths, out, callback=lambda told: rows.append(told.stage))
        assert folders == [folder / "out/two", out / "small"]
    assert rows == [f"small: {stage}" for stage in ("pretrain", "pretrain", "fit", "fit")]
    assert Run.open(folders[1]).data == Run.open(folders[0]).data


def test_what_cannot_be_run_into_its_place_is_refused_before_any_run(copied, tmp_path):
    out, (two, four) = copied / "out", (copied / "two.toml", copied / "four.toml")
    before = contents(copied)

    def refused(paths, match, error=ValueError):
        with pytest.raises(error, match=match):
            run_all(paths, out, callback=lambda told: pytest.fail("a run was begun"))
        assert contents(copied) == before

    (copied / "other").mkdir()
    shutil.copy(two, copied / "other/two.toml")
    (copied / "changed").mkdir()
    (copied / "changed/four.toml").write_text(four.read_text().replace("slabs = 4", "slabs = 5"))
    (out / "small").mkdir()
    (out / "small/mine.txt").write_text("mine")
    before = contents(copied)
    refused([two, copied / "other/two.toml"], "two runs would lie in .*out/two; give the recipes")
    refused([two, copied / "changed/four.toml"], "out/four holds a run of another recipe")
    refused([copied / "small.toml", two], "small is not empty")
    refused([copied / "none.toml", two], "none.toml", FileNotFoundError)
    refused([two, tmp_path], "holds no finished run")


# A prior in a few words.


@pytest.mark.parametrize(
    ("priors", "texts"),
    [
        ([[FEW], [FEW]], ["spike_and_slabs", "spike_and_slabs"]),
        (
            [[FEW], [dataclasses.replace(FEW, slab_precision=sws.Gamma(9.0, 0.5))]],
            [
                "spike_and_slabs, slab_precision Gamma(250, 0.1)",
                "spike_and_slabs, slab_precision Gamma(9, 0.5)",
            ],
        ),
        ([[FEW], [Custom(len)]], ["spike_and_slabs", "len"]),
    ],
)
def test_a_prior_is_told_by_its_family_and_what_is_not_as_in_the_others(priors, texts):
    assert prior_texts([[sws.Rule(prior) for prior in own] for own in priors]) == texts


def test_rules_of_one_group_are_held_against_each_other():
    rest = sws.Rule(FEW, group="rest")
    first = [sws.Rule(FEW, "*.bias", "biases"), rest]
    second = [sws.Rule(dataclasses.replace(FEW, slabs=3), "*.bias", "biases", each=True), rest]
    assert prior_texts([first, second]) == [
        "biases (*.bias): spike_and_slabs, slabs 2; rest (*): spike_and_slabs",
        "biases (*.bias, each): spike_and_slabs, slabs 3; rest (*): spike_and_slabs",
    ]
    # Without a group of that name, it is enough that one of the other's rules says the same.
    assert prior_texts([[sws.Rule(FEW)], first])[0] == "spike_and_slabs"
    assert prior_texts([[sws.Rule(MORE)], first])[0] == (
        "spike_and_slabs, slabs 4, zero_proportion 0.3"
    )


def test_a_prior_inside_another_is_told_field_by_field():
    scaled = [sws.PRIORS["scaled"](shape=shape) for shape in (FEW, MORE)]
    assert prior_texts([[sws.Rule(prior)] for prior in scaled]) == [
        "scaled, shape.slabs 2, shape.zero_proportion 0.999",
        "scaled, shape.slabs 4, shape.zero_proportion 0.3",
    ]


def test_runs_in_memory_are_called_by_their_places(folder):
    two, four = Run.open(folder / "out/two"), Run.open(folder / "out/four")
    rows = compare([two, four, folder / "out/four"]).rows
    assert [row["run"] for row in rows] == ["run 1", "run 2", "four"]
    assert rows[1] | {"run": "four", "folder": rows[2]["folder"]} == rows[2]


def test_results_of_compress_are_compared_as_they_are():
    net, inputs, targets = classifier()
    first = sws.compress(net, [(inputs, targets)], epochs=1)
    second = first.with_prior(sws.Grid(steps=2))
    found = compare([first, second])
    assert [row["file_bytes"] for row in found.rows] == [len(first.data), len(second.data)]
    assert [row["folder"] for row in found.rows] == [None, None]
    assert [row["prior"].split(",")[0] for row in found.rows] == ["spike_and_slabs", "grid"]
    assert "| run 1 |" in found.markdown()


def test_the_same_batches_are_the_same_data_and_a_folder_s_are_not_known(tmp_path):
    net, inputs, targets = classifier()
    run = sws.compress(net, [(inputs, targets)], epochs=1)
    again = run.with_prior(sws.SpikeAndSlabs(3), epochs=1)
    other = sws.compress(net, [(inputs.clone(), targets)], epochs=1)
    run.save(tmp_path / "run")
    assert not any("data" in note for note in compare([run, again]).notes)
    assert any("are on different data" in note for note in compare([run, other]).notes)
    notes = compare([run, tmp_path / "run"]).notes
    assert any("on the same data is not known" in note for note in notes)


def test_a_setting_that_differs_goes_by_its_key_in_a_recipe():
    net, inputs, targets = classifier()
    run = sws.compress(net, [(inputs, targets)], epochs=1)
    other = sws.compress(
        net, [(inputs, targets)], epochs=1, density=sws.Density(way="portable", prior_subsample=0.5)
    )
    notes = compare([run, other]).notes
    assert "density differs: auto in run 1; portable in run 2" in notes
    assert any(note.startswith("prior_subsample differs: None in run 1; 0.5") for note in notes)


@pytest.mark.integration
def test_a_run_of_a_recipe_without_a_prior_is_known_again(tmp_path):
    """Its folder spells the default out."""
    one, other = (write_recipe(tmp_path / name, prior=None) for name in ("a", "b"))
    other = other.rename(tmp_path / "b" / "other.toml")
    made = run_all([one, other], tmp_path / "runs")
    times = [(folder / "report.json").stat().st_mtime_ns for folder in made]
    assert "[[prior]]" in (made[0] / "recipe.toml").read_text()
    assert run_all([one, other], tmp_path / "runs") == made
    assert [(folder / "report.json").stat().st_mtime_ns for folder in made] == times
