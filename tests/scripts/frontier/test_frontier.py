"""The baseline's parts against what they claim, and the frontier's points over seeds."""

import json

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, classifier

import pyro_sws as sws
from pyro_sws.compression.refine import Refinement, RefinementRates
from pyro_sws.recipes.recipe import read_recipe, read_table


def test_the_density_falls_from_all_to_its_goal(script):
    density_at = script("frontier.magnitude_pruning").density_at
    found = [density_at(progress, 0.02) for progress in np.linspace(0, 1, 101)]
    assert found[0] == 1 and found == sorted(found, reverse=True)
    assert all(value == 0.02 for value in found[70:])


def test_the_largest_weights_are_left(script):
    weights = torch.tensor([0.1, -0.5, 0.0, 0.3, -0.2])
    assert script("frontier.magnitude_pruning").largest(weights, 0.4).tolist() == [0, 1, 0, 1, 0]


def test_a_pruned_network_has_its_density_its_clusters_and_its_masks(script):
    module = script("frontier.magnitude_pruning")
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    model = sws.joint(net, ONE_GROUP, "categorical", 60, tau=0.05)
    settings = module.Pruning(density=0.3, levels=3, epochs=20)
    masked, posterior = module.pruned(model, batches, settings)
    flat = posterior.point["all.weights"]
    assert (flat != 0).sum() == round(0.3 * 67)
    prior = posterior.priors["all"].mixture
    values = sorted(set(sws.quantize(posterior).codebooks["all"].tolist()))
    assert len(prior) == 4 and set(values) <= set(prior.means.half().tolist())
    assert prior.proportions.sum().item() == pytest.approx(1)
    snapped = sws.quantize(posterior, "float32").dequantize()
    residual = flat - torch.cat([torch.from_numpy(a).flatten() for a in snapped.values()])
    assert residual.abs().max() < 0.5 * flat.abs().max()
    dense = {name: torch.ones_like(w) for name, w in posterior.weights.items()}
    kept = {name: dense[name] * masked.masks[name] for name in dense}
    assert torch.equal(masked.outputs(dense, inputs), model.outputs(kept, inputs))


def test_zeros_are_held_in_the_baselines_refinement(script):
    module = script("frontier.magnitude_pruning")
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    model = sws.joint(net, ONE_GROUP, "categorical", 60, tau=1e-4)
    masked, posterior = module.pruned(model, batches, module.Pruning(0.3, 3, 20))
    eager = Refinement(20, rates=RefinementRates(weights=0.02, means=0.02))
    found = sws.refine(masked, posterior, batches, eager)
    before, after = (sws.quantize(p).dequantize() for p in (posterior, found.posterior))
    assert found.epoch > 0
    assert not any(((before[name] == 0) & (after[name] != 0)).any() for name in before)


def test_means_are_over_the_seeds_of_one_setting(script):
    points = [
        {"name": "tau 1", "bytes": 100, "test_error_percent": 2.0},
        {"name": "tau 2", "bytes": 50, "test_error_percent": 3.0},
        {"name": "tau 1", "bytes": 300, "test_error_percent": 1.0},
    ]
    figure = script("frontier.figure")
    assert dict(figure.by_settings(points)) == {"tau 1": (200, 1.5), "tau 2": (50, 3.0)}
    beaten = {"name": "tau 3", "bytes": 60, "test_error_percent": 3.1}
    assert figure.front([*points, beaten]) == [(50, 3.0), (200, 1.5)]


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
        settings = read_recipe(recipe).settings
        assert settings.refinement is not None
        assert (tau, widening) == (settings.tau, settings.refinement.widening)
        assert epochs == settings.refinement.epochs


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


def test_a_recipes_own_points_are_rows_under_its_path(script):
    keys = "test_error_percent", "trained_error_percent", "bytes", "nonzero_percent"
    point = {"network": "lenet_5_caffe", **dict.fromkeys(keys, 1.0)}
    own = {**point, "recipe": "models/augmented/lenet_5_caffe.toml", "is_recipe": True}
    other = {**point, "recipe": "models/lenet_5_caffe.toml", "is_recipe": False}
    rows = script("frontier.tables").recipe_rows({"points": [other, own]})
    assert [row["recipe"] for row in rows] == ["augmented/lenet_5_caffe"]


def test_a_point_that_is_none_is_refused_with_those_there_are(script, monkeypatch, capsys):
    words = ["frontier.py", "run", "--network", "lenet_5_caffe", "--names", "density 0.1"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit):
        script("frontier.frontier").main()
    said = capsys.readouterr().err
    assert "no points ['density 0.1']" in said and "'density 0.007'" in said


def test_bytes_at_an_error_are_on_a_line_between_the_fronts_points(script):
    bytes_at = script("frontier.tables").bytes_at
    front = [(400.0, 1.0), (100.0, 2.0)]
    assert bytes_at(front, 1.5) == pytest.approx(200)  # the geometric mean
    assert bytes_at(front, 1.0) == pytest.approx(400)
    assert bytes_at(front, 3.0) == 100 and bytes_at(front, 0.9) is None


def test_the_baseline_stands_beside_what_is_smaller_at_its_error(script):
    sizes = {("mixture", "tau 1"): (100, 2.0), ("mixture", "tau 0.1"): (400, 1.0)}
    sizes[("pruned", "density 0.1")] = (250, 1.5)
    points = [
        {"network": "lenet_5_caffe", "method": m, "name": n, "bytes": b, "test_error_percent": e}
        for (m, n), (b, e) in sizes.items()
    ]
    row = script("frontier.tables").baseline_table({"points": points}, ["mixture"]).splitlines()[2]
    assert row == "| LeNet-5-Caffe | pruned | density 0.1 | 250 | 1.50 % | 1 | 200 (-20 %) |"


def test_code_lengths_are_means_over_the_runs_that_have_them(script):
    lengths = {"prior": 300.0, "order0": 200.0, "symbols": 100, "codebooks": 16}
    point = {"network": "lenet_5_caffe", "method": "mixture", "name": "tau 1"}
    points = [
        point | {"code_bits": lengths},
        point,
        point | {"code_bits": lengths | {"prior": 500}},
    ]
    rows = [{"variant": "trial", "code_bits": lengths}, {"variant": "change"}]
    table = script("frontier.code_tables").code_table(
        {"points": points}, {"lenet_5_caffe": {"rows": rows}}
    )
    assert table.splitlines()[2:] == [
        "| LeNet-5-Caffe | mixture, tau 1 | 400 | 200 | 100 | 16 | 2 |",
        "| LeNet-5-Caffe | the paper's method: the best trial | 300 | 200 | 100 | 16 | 1 |",
    ]
