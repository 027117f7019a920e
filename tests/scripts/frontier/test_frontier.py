"""The frontier's methods: which runs each has, and which points are a recipe's."""

import json

import pytest

from pyro_sws.recipes.recipe import read_recipe, read_table


def test_published_networks_are_points_with_the_bytes_that_the_coders_made(script, tmp_path):
    context = {"bytes": 3845, "test_error_percent": 2.01, "nonzero": 500}
    coders = {"lenet_300_100_pruned_16": {"weights": 1000, "context": context}, "_about": {}}
    (tmp_path / "coders.json").write_text(json.dumps({**coders, "lenet_300_100": {}}))
    (point,) = script("frontier.frontier").published(tmp_path / "coders.json")
    assert (point["network"], point["bytes"]) == ("lenet_300_100", 3845)
    assert (point["test_error_percent"], point["nonzero_percent"]) == (2.01, 50.0)
    assert point["name"] == "Guo et al. 2016, 16 values"


def test_the_first_point_of_a_network_is_its_recipe(script):
    frontier = script("frontier.frontier")
    networks = [(recipe, frontier.POINTS[name][0]) for name, recipe in frontier.NETWORKS.items()]
    networks += [(r, frontier.AUGMENTED_POINTS[name][0]) for name, r in frontier.AUGMENTED.items()]
    for recipe, (tau, widening, epochs) in networks:
        plan = read_recipe(recipe)
        assert plan.refinement is not None
        assert (tau, widening) == (plan.tau, plan.refinement.widening)
        assert epochs == plan.refinement.epochs


def test_points_of_what_was_the_recipe_once_are_not_the_recipe(script, monkeypatch):
    frontier = script("frontier.frontier")
    name = "tau 1, widening 9, 20 epochs"
    point = {"network": "lenet_5_caffe", "method": "mixture", "name": name}
    monkeypatch.setitem(frontier.POINTS, "lenet_5_caffe", ((1, 9, 20), (2, 9, 20)))
    assert frontier.is_recipe(point)
    assert not frontier.is_recipe({**point, "method": "pruned"})
    assert not frontier.is_recipe({**point, "name": "tau 2, widening 9, 20 epochs"})
    earlier = frontier.point_name(*frontier.EARLIER_POINTS["lenet_300_100"][0])
    of_before = {"network": "lenet_300_100", "method": "mixture, before the search"}
    assert not frontier.is_recipe({**of_before, "name": earlier})


def test_a_method_has_the_recipe_of_its_network_and_runs_only_where_it_has_settings(script):
    frontier = script("frontier.frontier")
    recipes = {
        (method, network): {
            run.recipe.relative_to(frontier.MODELS).as_posix()
            for run in frontier.of_method(method, network, 0, held=False)
        }
        for method in frontier.METHODS
        for network in frontier.NETWORKS
    }
    dense, convolutional = {"lenet_300_100.toml"}, {"lenet_5_caffe.toml"}
    moved = {"augmented/lenet_5_caffe.toml"}
    for kind in "mixture", "pruned":
        found = [recipes[kind, network] for network in ("lenet_300_100", "lenet_5_caffe")]
        assert found == [dense, convolutional]
        of = f"{kind}, before the search", f"{kind}, augmented"
        assert [recipes[m, "lenet_300_100"] for m in of] == [dense, set()]
        assert [recipes[m, "lenet_5_caffe"] for m in of] == [set(), moved]


def test_the_augmented_recipe_is_the_plain_one_but_for_its_images_and_tau(script):
    frontier = script("frontier.frontier")
    for network, path in frontier.AUGMENTED.items():
        augmented, plain = read_table(path), read_table(frontier.NETWORKS[network])
        assert augmented.pop("augmentation") and augmented.pop("tau") > plain.pop("tau")
        for source in (augmented["network"], augmented["data"]):
            source["source"] = source["source"].removeprefix("../")
        assert augmented == plain


def test_every_methods_runs_are_collected(script, monkeypatch, tmp_path):
    frontier = script("frontier.frontier")
    keys = "error_percent", "error_before_percent", "file_bytes", "nonzero_percent", "cpu_seconds"
    for method in frontier.METHODS:
        run = next(
            run
            for network in frontier.NETWORKS
            for run in frontier.of_method(method, network, 0, held=False)
        )
        folder = run.path(tmp_path)
        folder.mkdir()
        (folder / "row.json").write_text(json.dumps({**run.settings, **dict.fromkeys(keys, 7.0)}))
    out = tmp_path / "frontier.json"
    words = ["frontier.py", "collect", "--folder", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    frontier.main()
    points = json.loads(out.read_text())["points"]
    own = [point["method"] for point in points if point["method"] != frontier.PUBLISHED]
    assert sorted(own) == sorted(frontier.METHODS)


def test_a_point_that_is_none_is_refused_with_those_there_are(script, monkeypatch, capsys):
    words = ["frontier.py", "run", "--network", "lenet_5_caffe", "--names", "density 0.1"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit):
        script("frontier.frontier").main()
    said = capsys.readouterr().err
    assert "no points ['density 0.1']" in said and "'density 0.007'" in said
