"""The wide residual network: its size in closed form, its shapes, its residual arithmetic."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

MODELS = Path(__file__).parents[2] / "models"
wide_resnet = runpy.run_path(str(MODELS / "wide_resnet.py"))["wide_resnet"]
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def size(net):
    return sum(p.numel() for p in net.parameters())


def closed_form(depth, k, classes):
    """A stage, i to c channels: 9 i c + 9 (2 b - 1) c^2, i c, and norms 2 i + (4 b - 2) c."""
    b, total, i = (depth - 4) // 6, 3 * 16 * 9, 16
    for c in (16 * k, 32 * k, 64 * k):
        shortcut = 0 if i == c else i * c
        total += 9 * i * c + 9 * (2 * b - 1) * c * c + shortcut + 2 * i + (4 * b - 2) * c
        i = c
    return total + 2 * i + i * classes + classes


@pytest.mark.parametrize("depth, widening, classes", [(10, 1, 10), (16, 4, 10), (22, 2, 100)])
def test_the_number_of_parameters_is_the_closed_form(depth, widening, classes):
    assert size(wide_resnet(depth, widening, classes)) == closed_form(depth, widening, classes)


def test_wrn_16_4_has_2748890_parameters():
    assert size(wide_resnet()) == 2_748_890


def test_depth_is_the_number_of_convolutions_shortcuts_included():
    net = wide_resnet(depth=22, widening=2)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 22


def test_each_stage_but_the_first_halves_the_image():
    net = wide_resnet(10, 2).eval()
    first = net.stage1(net.conv(IMAGES))
    second = net.stage2(first)
    third = net.stage3(second)
    assert [t.shape for t in (first, second, third)] == [
        (2, 32, 32, 32),
        (2, 64, 16, 16),
        (2, 128, 8, 8),
    ]
    assert net(IMAGES).shape == (2, 10)


def test_a_block_whose_last_convolution_is_zero_is_the_identity():
    block = wide_resnet(16, 1).stage2[1]
    torch.nn.init.zeros_(block.conv2.weight)
    hidden = torch.randn(2, 32, 16, 16)
    torch.testing.assert_close(block(hidden), hidden)


def test_in_eval_mode_an_image_does_not_depend_on_its_batch():
    net = wide_resnet(10, 1, dropout=0.5).eval()
    torch.testing.assert_close(net(IMAGES)[:1], net(IMAGES[:1]))
    assert torch.equal(net(IMAGES), net(IMAGES))


def test_dropout_acts_in_training_alone():
    net = wide_resnet(10, 1, dropout=0.5)
    assert not torch.equal(net(IMAGES), net(IMAGES))


def test_every_parameter_has_a_gradient():
    net = wide_resnet(10, 1)
    torch.nn.functional.cross_entropy(net(IMAGES), torch.tensor([3, 7])).backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    assert all(g is not None and g.abs().max() > 0 for g in gradients.values())


@pytest.mark.parametrize("depth", [4, 15, 17])
def test_a_depth_that_is_not_6n_plus_4_is_refused(depth):
    with pytest.raises(ValueError, match="6 n \\+ 4"):
        wide_resnet(depth)


@pytest.mark.slow
def test_the_recipe_of_wrn_16_4_goes_from_images_to_a_file(cifar, tmp_path):
    few = ["epochs=1", "batch_size=5", "pretraining.epochs=1", "pretraining.batch_size=5"]
    changes = [f"data.data_dir={json.dumps(str(cifar))}", *few]
    result = run_recipe(
        read_recipe(MODELS / "paper" / "wide_resnet_16_4.toml", changes), tmp_path / "run"
    )
    report = result.report.to_dict()
    assert report["score"]["examples"] == 4 and len(result.history) == 1
    norms = {name for name, _ in result.network.named_parameters() if "norm" in name}
    assert set(report["uncovered"]) == norms
    assert report["groups"]["all"]["components_before_merging"] == 64
    assert report["groups"]["all"]["weights"] == 2_748_890 - sum(
        parameter.numel() for name, parameter in result.network.named_parameters() if name in norms
    )
    assert report["file_bytes"] < report["parameter_bytes"] / 2
