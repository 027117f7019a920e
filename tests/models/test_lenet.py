"""The LeNets: sizes, names, and LeNet-5 against a convolution and pooling written out in numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate


def size(net):
    return sum(p.numel() for p in net.parameters())


def state(net):
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def convolve(images, weight, bias):
    """Valid cross-correlation over (rows, columns), summed over channels."""
    maps = [[correlate(x, w, mode="valid")[0] for w in weight] for x in images]
    return np.array(maps) + bias[:, None, None]


def pool(images):
    """Largest of each 2 x 2 block; an odd last row or column is a block of its own."""
    rows, columns = images.shape[2:]
    padding = ((0, 0), (0, 0), (0, rows % 2), (0, columns % 2))
    padded = np.pad(images, padding, constant_values=-np.inf)
    blocks = padded.reshape(*images.shape[:2], (rows + 1) // 2, 2, (columns + 1) // 2, 2)
    return blocks.max(axis=(3, 5))


def caffe(weights, images):
    """LeNet-5 as Caffe defines it, in float64; the only non-linearity is after ip1."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    hidden = pool(convolve(images, w["conv1.weight"], w["conv1.bias"]))
    hidden = pool(convolve(hidden, w["conv2.weight"], w["conv2.bias"]))
    hidden = hidden.reshape(len(images), -1) @ w["ip1.weight"].T + w["ip1.bias"]
    return np.maximum(hidden, 0) @ w["ip2.weight"].T + w["ip2.bias"]


@pytest.fixture
def lenet_5(lenet):
    """With biases that are not zero, so that a dropped one shows."""
    net = lenet.lenet_5_caffe().eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in net.state_dict().values():
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return net


def test_lenet_300_100_has_266610_parameters_under_the_published_names(lenet):
    net = lenet.lenet_300_100()
    assert size(net) == 266_610
    weights = {"ip1.weight": (300, 784), "ip2.weight": (100, 300), "ip3.weight": (10, 100)}
    biases = {"ip1.bias": (300,), "ip2.bias": (100,), "ip3.bias": (10,)}
    assert state(net) == weights | biases


def test_lenet_5_has_431080_parameters_under_the_published_names(lenet):
    net = lenet.lenet_5_caffe()
    assert size(net) == 431_080
    assert state(net) == {
        "conv1.weight": (20, 1, 5, 5),
        "conv1.bias": (20,),
        "conv2.weight": (50, 20, 5, 5),
        "conv2.bias": (50,),
        "ip1.weight": (500, 800),
        "ip1.bias": (500,),
        "ip2.weight": (10, 500),
        "ip2.bias": (10,),
    }


def test_lenet_300_100_is_three_affine_maps_with_two_rectifiers(lenet):
    net = lenet.lenet_300_100().eval()
    w = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    images = np.random.RandomState(0).rand(3, 784)
    hidden = np.maximum(images @ w["ip1.weight"].T + w["ip1.bias"], 0)
    hidden = np.maximum(hidden @ w["ip2.weight"].T + w["ip2.bias"], 0)
    expected = hidden @ w["ip3.weight"].T + w["ip3.bias"]
    with torch.no_grad():
        outputs = net.double()(torch.from_numpy(images))
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_lenet_300_100_reads_images_and_rows_of_pixels_alike(lenet):
    net = lenet.lenet_300_100().eval()
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(net(images), net(images.reshape(4, 784)))


def test_lenet_5_computes_what_caffe_does(lenet_5):
    images = np.random.RandomState(0).rand(2, 1, 28, 28)
    with torch.no_grad():
        outputs = lenet_5.double()(torch.from_numpy(images))
    np.testing.assert_allclose(
        outputs.numpy(), caffe(lenet_5.state_dict(), images), rtol=1e-10, atol=1e-12
    )


def test_pooling_an_odd_size_rounds_up(lenet_5):
    images = np.random.RandomState(0).rand(2, 1, 27, 27)  # 27 -> 23 -> 12 -> 8 -> 4
    with torch.no_grad():
        outputs = lenet_5.double()(torch.from_numpy(images))
    np.testing.assert_allclose(
        outputs.numpy(), caffe(lenet_5.state_dict(), images), rtol=1e-10, atol=1e-12
    )


def test_lenet_5_starts_within_the_bounds_of_caffes_xavier_filler(lenet):
    net = lenet.lenet_5_caffe()
    for name, fan_in in {"conv1": 25, "conv2": 500, "ip1": 800, "ip2": 500}.items():
        layer = getattr(net, name)
        bound = math.sqrt(3 / fan_in)
        assert 0.98 * bound < layer.weight.abs().max() <= bound  # of 500 draws or more
        assert not layer.bias.any()


@pytest.mark.parametrize("make", ["lenet_300_100", "lenet_5_caffe"])
def test_dropout_acts_in_training_alone(lenet, make):
    net = getattr(lenet, make)(dropout=0.5)
    images = torch.rand(4, 1, 28, 28)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


def test_input_dropout_of_one_hides_the_images(lenet):
    net = lenet.lenet_300_100(input_dropout=1.0)
    images = torch.rand(4, 784)
    assert torch.equal(net(images), net(torch.zeros(4, 784)))
    net.eval()
    assert not torch.equal(net(images), net(torch.zeros(4, 784)))
