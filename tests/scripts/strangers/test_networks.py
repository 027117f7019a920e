"""The strangers: each can be trained and scored, and is trained once; ResNet-20 by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import named_parts

MODELS = Path(__file__).parents[3] / "models"
RECIPES = {
    "digits_demo": "digits.toml",
    "lenet_300_100": "lenet_300_100.toml",
    "lenet_5": "lenet_5_caffe.toml",
}
# Fully connected layers by hand; published: He et al. 2016, table 6, and Caffe's own.
WEIGHTS = {
    "digits_demo": 64 * 300 + 300 + 300 * 100 + 100 + 1000 + 10,
    "digits_small": 64 * 32 + 32 + 320 + 10,
    "diabetes": 10 * 32 + 32 + 32 * 16 + 16 + 16 + 1,
    "lenet_300_100": 266_610,
    "lenet_5_published": 431_080,
    "resnet_20": 269_722,
    "spoken_digits_gru": 3 * 64 * (40 + 64 + 2) + 650,
}


@pytest.fixture
def networks(script):
    return script("strangers.networks")


NAMES = [
    "digits_demo",
    "digits_small",
    "breast_cancer",
    "diabetes",
    "spoken_digits_cnn",
    "spoken_digits_gru",
    "lenet_300_100",
    "lenet_300_100_published",
    "lenet_5",
    "lenet_5_published",
    "shakespeare_gru",
    "shakespeare_transformer",
    "resnet_20",
    "protein",
]


def test_there_are_twelve_and_two_starts_of_both_lenets(networks):
    assert list(networks.STRANGERS) == NAMES
    assert len({stranger.title for stranger in networks.STRANGERS.values()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_can_be_scored_against_its_targets(networks, name):
    stranger = networks.STRANGERS[name]
    inputs, targets = stranger.make(3)
    net = stranger.structure().eval()
    with torch.no_grad():
        outputs = net(inputs)
        stranger.likelihood.check(outputs, targets)
        # One example's outputs are its own: what is made has its batch in front.
        torch.testing.assert_close(net(inputs[1:2]), outputs[1:2], rtol=1e-4, atol=1e-4)
    assert stranger.likelihood.losses(outputs, targets).shape == (3,)


@pytest.mark.parametrize("name", WEIGHTS)
def test_it_has_as_many_weights_as_its_layers_say(networks, name):
    parameters = networks.STRANGERS[name].structure().parameters()
    assert sum(p.numel() for p in parameters) == WEIGHTS[name]


@pytest.mark.parametrize("name", RECIPES)
def test_what_has_a_recipe_is_trained_as_that_says(networks, name):
    stranger = networks.STRANGERS[name]
    plan = read_recipe(MODELS / RECIPES[name])
    network, data = named_parts(plan)
    assert stranger.pretraining == network.pretraining
    assert stranger.batch_size == data.batch_size
    assert stranger.structure.func.__name__ == network.source.name
    assert stranger.structure.keywords == dict(network.source.arguments)
    own = {"input_scale": 255, **getattr(stranger.read, "keywords", {})}
    assert own["input_scale"] == dict(data.source.arguments).get("input_scale", 255)


def test_what_is_published_was_not_held_out_from(networks):
    for stranger in networks.STRANGERS.values():
        assert (stranger.published is None) == (stranger.pretraining is not None)


def test_a_network_is_trained_once_a_seed_and_leaves_the_generator_as_it_was(
    networks, tmp_path, monkeypatch
):
    stranger = networks.STRANGERS["digits_small"].made()
    splits = stranger.splits()
    before = torch.get_rng_state()
    one, other = (stranger.trained(splits, seed, cache=tmp_path) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one[0].weight, other[0].weight)
    monkeypatch.setattr(networks, "pretrain", None)  # a second training would fail
    again = stranger.trained(splits, 0, cache=tmp_path)
    assert torch.equal(again[0].weight, one[0].weight) and not again.training
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_other_settings_of_the_training_are_another_network(networks, tmp_path):
    stranger = networks.STRANGERS["digits_small"].made()
    longer = networks.replace(stranger, pretraining=networks.Pretraining(epochs=2, batch_size=32))
    for each in (stranger, longer):
        each.trained(each.splits(), 0, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_published_is_read(networks, tmp_path):
    stranger = networks.STRANGERS["lenet_300_100_published"]
    (tmp_path / "pretrained").mkdir()
    weights = stranger.structure().state_dict()
    save_file(weights, tmp_path / "pretrained" / "lenet300100.safetensors")
    net = stranger.trained({}, 0, tmp_path)
    assert torch.equal(net.ip2.weight, weights["ip2.weight"]) and not net.training


def test_a_published_file_that_is_missing_is_named(networks, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pretrained/resnet20\.safetensors"):
        networks.STRANGERS["resnet_20"].trained({}, 0, tmp_path)
