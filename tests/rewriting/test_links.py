"""What is understood of a network's structure, and that the rest is left alone."""

import numpy as np
import pytest
import torch
from moved_units import change_of_outputs, dense
from sparse_networks import KINDS, network
from structures import NOT_UNDERSTOOD, UNDERSTOOD, Of, conv_net, convolution
from torch import nn
from torch.nn import functional as F

from models.lenet import lenet_5_caffe, lenet_300_100
from models.mlp import digits_mlp
from pyro_sws.rewriting.links import WHOLE, find_links
from pyro_sws.rewriting.ranges import reads


def shape_of(link):
    """The name of each weight, and how many of its rows or columns a unit has."""
    weights = [place for place in link.places if place.name.endswith("weight")]
    return {place.name: np.count_nonzero(place.unit == 0) for place in weights}


def test_lenet_300_100_has_two_hidden_layers():
    links = find_links(lenet_300_100(dropout=0.5, input_dropout=0.2).eval()).links
    assert [(link.units, shape_of(link)) for link in links] == [
        (300, {"ip1.weight": 1, "ip2.weight": 1}),
        (100, {"ip2.weight": 1, "ip3.weight": 1}),
    ]


def test_a_channel_of_lenet_5_is_sixteen_columns_of_the_first_linear_layer():
    links = find_links(lenet_5_caffe(dropout=0.5).eval()).links
    assert [(link.units, shape_of(link)) for link in links] == [
        (20, {"conv1.weight": 1, "conv2.weight": 1}),
        (50, {"conv2.weight": 1, "ip1.weight": 16}),
        (500, {"ip1.weight": 1, "ip2.weight": 1}),
    ]
    assert [place.name for place in links[0].places if place.reads] == ["conv2.weight"]


def test_the_perceptron_of_the_digits_is_understood():
    assert len(find_links(digits_mlp(dropout=0.3).eval()).links) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_understood(kind):
    net, inputs = network(kind)
    assert len(find_links(net.eval()).links) == KINDS[kind][2]
    assert len(find_links(net.eval(), inputs).links) == KINDS[kind][2]


@pytest.mark.parametrize("what", NOT_UNDERSTOOD)
def test_what_is_not_understood_has_no_links(what):
    assert find_links(NOT_UNDERSTOOD[what].eval()).links == ()


@pytest.mark.parametrize("what", UNDERSTOOD)
def test_what_is_understood_has_units_that_may_move(what):
    found = find_links(UNDERSTOOD[what].eval())
    assert found.links
    for example in found.examples:
        net = UNDERSTOOD[what]
        assert change_of_outputs(net, example.double()) < 1e-12


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("control flow", "its forward cannot be traced: it looks at what tensors hold"),
        ("a flattened batch", "its inputs are not known; give an example"),
    ],
)
def test_a_network_that_is_left_alone_as_a_whole_says_why(what, why):
    assert find_links(NOT_UNDERSTOOD[what].eval()).left_alone == {WHOLE: why}


@pytest.mark.parametrize(("what", "operation"), [("a flip", "flip"), ("a hook", "flip")])
def test_a_tensor_that_is_left_alone_names_the_operation(what, operation):
    left = find_links(NOT_UNDERSTOOD[what].eval()).left_alone
    assert left and set(left.values()) == {operation}


def test_what_only_inputs_and_outputs_hold_in_place_is_not_called_left_alone():
    assert find_links(lenet_300_100().eval()).left_alone == {}


def test_an_understood_stretch_beside_a_branch_is_found():
    net = Of(lambda m, x: x + m.two(m.one(x).relu())).eval()
    (link,) = find_links(net).links
    assert shape_of(link) == {"one.weight": 1, "two.weight": 1}


def test_an_example_shows_what_a_reshape_does():
    net = conv_net(lambda m, x: m.two(m.one(x).view(-1, 16))).eval()
    for image, units in (((2, 2), 4), ((4, 2), 2)):  # of the latter, two channels are a row
        (link,) = find_links(net, torch.zeros(3, 4, *image)).links
        assert link.units == units
    assert find_links(net, torch.zeros(3, 4, 4, 4)).links == ()  # a channel is a row
    assert find_links(net).links == ()  # of unknown sizes


def test_an_image_without_a_batch_is_not_flattened_as_one():
    net = conv_net(lambda m, x: m.two(m.one(x).flatten(1))).eval()
    assert find_links(net, torch.zeros(4, 4, 4)).links == ()


def test_positional_and_keyword_inputs_are_taken():
    net = Of(lambda m, x: m.two(m.one(x["x"]).relu()) * x["scale"]).eval()
    net.forward = lambda x, scale: net.compute(net, {"x": x, "scale": scale})
    inputs = torch.ones(2, 4), torch.ones(2, 1)
    assert len(find_links(net, inputs).links) == 1
    assert len(find_links(net, dict(zip(("x", "scale"), inputs, strict=True))).links) == 1


@pytest.mark.parametrize("keepdim", [False, True])
def test_the_mean_over_an_image_is_a_pool(keepdim):
    two = convolution() if keepdim else nn.Linear(4, 4)
    net = Of(lambda m, x: m.two(m.one(x).mean((-2, -1), keepdim=keepdim)), convolution(), two)
    (link,) = find_links(net.eval()).links
    assert shape_of(link) == {"one.weight": 1, "two.weight": 1} and link.droppable


def test_a_norm_over_units_lets_them_move_but_none_go():
    net = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)).eval()
    (link,) = find_links(net).links
    assert not link.droppable and len(link.places) == 5


def test_a_recurrence_over_one_step_is_left_alone():
    """On one step the first state alone is multiplied, and nothing ties it to the next."""

    def stepped(m, x):
        h = torch.zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = torch.tanh(m.one(x[:, t]) + h @ m.within)
        return m.two(h)

    net = Of(stepped).eval()
    net.within = nn.Parameter(torch.randn(4, 4))
    one, several = (find_links(net, torch.randn(2, steps, 4)) for steps in (1, 3))
    assert one.links == () and "within" in one.left_alone
    (link,) = several.links
    assert len([p for p in link.places if p.name == "within"]) == 2


def test_a_table_s_places_beyond_the_example_stay():
    net = Of(lambda m, x: m.two(F.gelu(m.one(x + m.places[: x.shape[1]])))).eval()
    net.places = nn.Parameter(torch.randn(9, 4))
    (link,) = find_links(net, torch.randn(2, 5, 4)).links
    assert {place.name for place in link.places} == {"one.weight", "one.bias", "two.weight"}


def bounds(net, *, nonnegative=False):
    """weight -> what it reads."""
    found = find_links(net.eval())
    tensors = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    with torch.no_grad():
        read = reads(found.traces, lambda n: tensors[n].detach(), nonnegative=nonnegative)
    return {each.weight: each for each in read}


def test_constants_are_what_the_next_layer_sees():
    net = nn.Sequential(nn.Linear(2, 3), nn.Softplus(), nn.ReLU(), nn.Linear(3, 1)).eval()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    torch.testing.assert_close(bounds(net)["3.weight"].constants, F.softplus(net[0].bias.detach()))


def test_a_constant_passes_a_batch_norm():
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    net = dense(net).float()
    with torch.no_grad():
        net[0].weight[1] = 0
        seen = net[1](torch.zeros(1, 3, 1, 1))[0, 1, 0, 0]
    constants = bounds(net)["2.weight"].constants
    assert constants.isfinite().tolist() == [False, True, False]
    torch.testing.assert_close(constants[1], seen)


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
    net = nn.Sequential(nn.Conv2d(1, 2, 1), pool, nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([0.0, 2.0]))
    zero, seen = bounds(net)["2.weight"].constants.tolist()
    assert zero == 0
    pooled = pool(torch.full((1, 1, 7, 7), 2.0))
    assert (seen == 2) == constant == bool((pooled == 2).all())


def silenced(forward, promise):
    """Whether the third layer knows that all it reads is 0: the second's weights are negative."""
    net = Of(forward)
    net.three = nn.Linear(4, 4)
    with torch.no_grad():
        for parameter in net.two.parameters():
            parameter.copy_(-parameter.abs())
    return bool((bounds(net, nonnegative=promise)["three.weight"].constants == 0).all())


def test_a_rectifier_lets_nothing_through_that_cannot_be_positive():
    assert silenced(lambda m, x: m.three(m.two(m.one(x).relu()).relu()), False)
    assert silenced(lambda m, x: m.three(m.two(x).relu() + 0 * m.one(x)), True)
    assert not silenced(lambda m, x: m.three(m.two(x).relu() + 0 * m.one(x)), False)


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
    assert not silenced(forward, True)
