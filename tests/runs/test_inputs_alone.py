"""A recipe whose data is inputs alone: post-training, held to what the network itself predicts."""

import pytest
import torch
from messages import assert_says
from safetensors.torch import save_file
from small_recipe import write_recipe
from torch import nn

import pyro_sws as sws
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

pytestmark = pytest.mark.integration
ALONE = """
import torch

def inputs():
    return {"train": torch.randn(200, 4, generator=torch.Generator().manual_seed(0))}
"""
RECIPE = {"data": "alone.py:inputs", "epochs": None, "pretraining": None}
RECIPE |= {"prior": None, "fit": {"family": "post_training", "files": 6}, "tolerance": 0.05}


@pytest.fixture
def recipe(tmp_path):
    path = write_recipe(tmp_path, **RECIPE, start="start.safetensors")
    (tmp_path / "alone.py").write_text(ALONE)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    save_file(net.state_dict(), tmp_path / "start.safetensors")
    return path, net


def test_the_file_is_that_of_the_call(recipe, tmp_path):
    path, net = recipe
    run = run_recipe(read_recipe(path), tmp_path / "run")
    inputs = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    called = sws.compress(net, inputs, fit=sws.PostTraining(files=6), tolerance=0.05)
    assert run.data == called.data
    assert run.report.post_training["unit"] == "nats"
    assert sws.Run.open(tmp_path / "run").data == run.data


def test_other_ways_need_targets(recipe, tmp_path):
    path, _ = recipe
    with pytest.raises(ValueError) as refused:
        run_recipe(read_recipe(path, ['fit={family="fit",epochs=1}', "tau=0.1"]), tmp_path / "run")
    assert_says(
        str(refused.value), "alone.py:inputs returned for 'train'", "pair (inputs, targets)"
    )


def test_no_network_is_trained_by_inputs_alone(tmp_path):
    path = write_recipe(tmp_path, **RECIPE)
    (tmp_path / "alone.py").write_text(ALONE)
    with pytest.raises(
        ValueError, match="inputs alone for 'train', by which no network is trained"
    ):
        run_recipe(read_recipe(path), tmp_path / "run")
