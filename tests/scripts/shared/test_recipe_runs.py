"""Runs of recipes: where one is kept, and how wrong its network is."""

import pytest
import torch
from kept_rows import keep


def test_a_run_is_kept_under_all_that_it_depends_on(script, tmp_path):
    run = script("shared.recipe_runs").Run
    networks = script("paper.settings").NETWORKS
    recipe = networks["lenet_300_100"]
    one = run(recipe, "a trial", ("tau=0.01",), device="cuda")
    others = [
        run(networks["lenet_5_caffe"], "a trial", ("tau=0.01",)),
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
