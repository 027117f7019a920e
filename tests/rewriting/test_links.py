"""What is understood of a network's structure, and that the rest is left alone."""

import pytest
import torch
from sparse_networks import KINDS, network
from structures import NOT_UNDERSTOOD, Of, conv_net, convolution
from torch import nn
from torch.nn import functional as F

from models.lenet import lenet_5_caffe, lenet_300_100
from models.mlp import digits_mlp
from pyro_sws.rewriting.links import Layer, find_links


def shape_of(link):
    return link.before.weight, link.after.weight, link.units, link.repeat


def test_lenet_300_100_has_two_hidden_layers():
    links = find_links(lenet_300_100(dropout=0.5, input_dropout=0.2).eval())
    assert [shape_of(link) for link in links] == [
        ("ip1.weight", "ip2.weight", 300, 1),
        ("ip2.weight", "ip3.weight", 100, 1),
    ]


def test_a_channel_of_lenet_5_is_sixteen_columns_of_the_first_linear_layer():
    links = find_links(lenet_5_caffe(dropout=0.5).eval())
    assert [shape_of(link) for link in links] == [
        ("conv1.weight", "conv2.weight", 20, 1),
        ("conv2.weight", "ip1.weight", 50, 16),
        ("ip1.weight", "ip2.weight", 500, 1),
    ]
    assert links[0].before == Layer("conv1.weight", "conv1.bias")


def test_the_perceptron_of_the_digits_is_understood():
    assert len(find_links(digits_mlp(dropout=0.3).eval())) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_understood(kind):
    net, inputs = network(kind)
    assert len(find_links(net.eval())) == KINDS[kind][2]
    assert len(find_links(net.eval(), inputs)) == KINDS[kind][2]


@pytest.mark.parametrize("what", NOT_UNDERSTOOD)
def test_what_is_not_understood_has_no_links(what):
    assert find_links(NOT_UNDERSTOOD[what].eval()) == ()


def test_an_understood_stretch_beside_a_branch_is_found():
    net = Of(lambda m, x: x + m.two(m.one(x).relu())).eval()
    assert [shape_of(link) for link in find_links(net)] == [("one.weight", "two.weight", 4, 1)]


def test_an_example_shows_what_a_reshape_does():
    net = conv_net(lambda m, x: m.two(m.one(x).view(-1, 16))).eval()
    assert len(find_links(net, torch.zeros(3, 4, 2, 2))) == 1
    assert find_links(net, torch.zeros(3, 4, 4, 2)) == ()  # half an image a row


def test_an_image_without_a_batch_is_not_flattened_as_one():
    net = conv_net(lambda m, x: m.two(m.one(x).flatten(1))).eval()
    assert find_links(net, torch.zeros(4, 4, 4)) == ()


@pytest.mark.parametrize("keepdim", [False, True])
def test_the_mean_over_an_image_is_a_pool(keepdim):
    two = convolution() if keepdim else nn.Linear(4, 4)
    net = Of(lambda m, x: m.two(m.one(x).mean((-2, -1), keepdim=keepdim)), convolution(), two)
    assert [link.repeat for link in find_links(net.eval())] == [1]


def test_constants_are_what_the_next_layer_sees():
    net = nn.Sequential(nn.Linear(2, 3), nn.Softplus(), nn.ReLU(), nn.Linear(3, 1)).eval()
    bias = torch.tensor([-1.0, 0.0, 2.0])
    (link,) = find_links(net)
    torch.testing.assert_close(link.constants(bias), F.softplus(bias).double())


@pytest.mark.parametrize(
    ("pool", "constant"),
    [
        (nn.MaxPool2d(3, padding=1), True),  # pads with minus infinity
        (nn.AvgPool2d(3, padding=1), False),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), True),
        (nn.AvgPool2d(2, ceil_mode=True), True),
        (nn.AvgPool2d(2, divisor_override=3), False),
        (nn.AdaptiveAvgPool2d(3), True),
        (nn.AdaptiveMaxPool2d(3), True),
    ],
)
def test_a_pool_leaves_a_constant_image_constant_or_is_known_not_to(pool, constant):
    (link,) = find_links(nn.Sequential(nn.Conv2d(1, 2, 1), pool, nn.Conv2d(2, 1, 1)).eval())
    zero, seen = link.constants(torch.tensor([0.0, 2.0])).tolist()
    assert zero == 0
    pooled = pool(torch.full((1, 1, 7, 7), 2.0))
    assert (seen == 2) == constant == bool((pooled == 2).all())


def rectified(forward, promise):
    net = Of(forward)
    net.three = nn.Linear(4, 4)
    links = find_links(net.eval(), nonnegative_inputs=promise)
    return {link.before.weight for link in links if link.rectified}


def test_a_layer_sees_nothing_negative_after_a_rectifier_or_by_promise():
    forward = lambda m, x: m.three(m.two(m.one(x).relu()).relu())  # noqa: E731
    assert rectified(forward, False) == {"two.weight"}
    assert rectified(forward, True) == {"one.weight", "two.weight"}


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.three(m.two(m.one(x).relu() - 1.0).relu()),
        lambda m, x: m.three(m.two(m.one(x).tanh()).relu()),
        lambda m, x: m.three(m.two(m.one(x).relu()).tanh()),
        lambda m, x: m.three(m.two(m.one(x).relu())),
        lambda m, x: m.three((m.two(m.one(x).relu()) + 1.0).relu()),
        lambda m, x: (h := m.one(x).relu(), h.sub_(1.0), m.three(m.two(h).relu()))[2],
    ],
)
def test_nothing_else_keeps_negative_sums_away(forward):
    assert "two.weight" not in rectified(forward, False)
