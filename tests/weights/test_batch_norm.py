"""Batch norm folded: the same function in eval mode, by a scale, a shift and two constants."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pyro_sws.weights.batch_norm import (
    FURTHEST,
    MOST,
    as_fitted,
    foldable,
    folded,
    folded_weights,
    unfolded_weights,
)

KINDS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@torch.no_grad()
def trained(norm, seed=0):
    """The norm with statistics, and weights and biases if it has any, that are none's start."""
    draw = torch.Generator().manual_seed(seed)
    for name, low, high in [
        ("weight", 0.5, 2.0),
        ("bias", -1.0, 1.0),
        ("running_mean", -2.0, 2.0),
        ("running_var", 0.8, 4.0),
    ]:
        if getattr(norm, name, None) is not None:
            getattr(norm, name).uniform_(low, high, generator=draw)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(17)
    return norm.eval()


def inputs_of(dims, dtype=torch.float32, channels=5):
    return torch.randn(8, channels, *[3] * dims, generator=torch.Generator().manual_seed(1)).to(
        dtype
    )


def by_hand(norm, x):
    """The definition, in NumPy and float64."""
    weight, bias, mean, var = (
        np.asarray(t.detach().double()).reshape(-1, *[1] * (x.dim() - 2))
        for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return weight * (np.asarray(x.double()) - mean) / np.sqrt(var + norm.eps) + bias


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dims", KINDS)
def test_a_folded_norm_is_the_definition(dims, dtype, eps):
    norm = trained(KINDS[dims](5, eps=eps).to(dtype))
    x = inputs_of(dims, dtype)
    expected, made = by_hand(norm, x), folded(norm)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13  # a few roundings of either
    difference = np.abs(np.asarray(made(x).detach()) - expected).max()
    assert difference <= tolerance * np.abs(expected).max()
    assert not made.running_mean.any() and made.num_batches_tracked == 0
    assert (made.running_var == max(1 - eps, 0)).all() or dtype == torch.float32
    assert len(made.running_var.unique()) == 1 and (made.running_var >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_in_half_precision_is_folded_in_float32(dtype):
    """Without a rounding of its own: it is the float32 norm of the same numbers."""
    norm = trained(nn.BatchNorm1d(5)).to(dtype)
    made, same = folded(norm), folded(copy.deepcopy(norm).float())
    assert {t.dtype for t in norm.parameters()} == {dtype}
    assert (
        made.weight.dtype == torch.float32 and made.state_dict().keys() == norm.state_dict().keys()
    )
    assert all(torch.equal(t, same.state_dict()[name]) for name, t in made.state_dict().items())


def test_the_given_network_is_left_as_it_is():
    net = nn.Sequential(nn.Linear(3, 5), trained(nn.BatchNorm1d(5))).train()
    before = copy.deepcopy(net.state_dict())
    made = folded(net)
    assert made is not net and made.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_folding_twice_is_folding_once():
    net = folded(trained(nn.BatchNorm1d(5)))
    for one, other in zip(
        net.state_dict().values(), folded(net).state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.norm = trained(nn.BatchNorm1d(5))

    def forward(self, x):
        return self.norm(self.second(self.norm(self.first(x)).relu()))


class Named(nn.BatchNorm1d):
    """A class of one's own with torch's forward."""


@pytest.mark.parametrize(
    "net",
    [
        Twice(),
        nn.Sequential(trained(nn.BatchNorm1d(5, momentum=None))),
        nn.Sequential(trained(Named(5))),
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(trained(nn.BatchNorm1d(5)))).eval(),
        trained(nn.BatchNorm1d(5)),
    ],
    ids=["used twice", "cumulative", "derived", "sync", "the network itself"],
)
def test_norms_that_are_folded(net):
    net.eval()
    x = inputs_of(0)
    made = folded(net)
    assert made is not net
    torch.testing.assert_close(made(x), net(x), rtol=1e-5, atol=1e-5)


class Own(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x) + self.running_mean


def tied():
    one, other = trained(nn.BatchNorm1d(5)), trained(nn.BatchNorm1d(5), seed=2)
    other.weight = one.weight
    return nn.Sequential(one, other)


@torch.no_grad()
def uneven(**changes):
    norm = trained(nn.BatchNorm1d(5))
    for name, value in changes.items():
        getattr(norm, name)[1] = value
    return norm


OTHERS = {
    "without weights": lambda: trained(nn.BatchNorm1d(5, affine=False)),
    "without statistics": lambda: trained(nn.BatchNorm1d(5, track_running_stats=False)),
    "tied weights": tied,
    "a forward of its own": lambda: trained(Own(5)),
    "parametrised": lambda: weight_norm(trained(nn.BatchNorm1d(5)), dim=None),
    "instance norm": lambda: nn.InstanceNorm1d(5, affine=True, track_running_stats=True),
    "group norm": lambda: nn.GroupNorm(1, 5),
    "layer norm": lambda: nn.LayerNorm(5),
    "a channel without variance": lambda: uneven(running_var=0.0),
    "a mean far from 0": lambda: uneven(running_mean=1e4),
    "a negative variance": lambda: uneven(running_var=-1.0),
    "a mean that is not finite": lambda: uneven(running_mean=float("nan")),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_norms_that_stay_as_they_are(kind):
    net = OTHERS[kind]()
    assert folded(net) is net


def test_one_norm_that_cannot_be_folded_leaves_the_others_to_it():
    net = nn.ModuleDict({"a": trained(nn.BatchNorm1d(5)), "b": uneven(running_var=0.0)})
    assert [name for name, _ in foldable(net)] == ["a"]
    made = folded(net)
    assert torch.equal(made["b"].running_var, net["b"].running_var)
    assert not made["a"].running_mean.any()


@torch.no_grad()
def test_the_limits_are_of_scales_over_their_median_and_of_means_in_deviations():
    norm = nn.BatchNorm1d(5, eps=0.0)
    norm.running_var[0] = 1 / (0.99 * MOST) ** 2
    norm.running_mean[1] = 0.99 * FURTHEST
    assert list(foldable(norm))
    norm.running_var[0] = 1 / (1.01 * MOST) ** 2
    assert not list(foldable(norm))
    norm.running_var[0], norm.running_mean[1] = 1.0, 1.01 * FURTHEST
    assert not list(foldable(norm))
    norm.weight[1] = 0.0  # what it multiplies does not matter
    assert list(foldable(norm))


def test_a_network_that_no_file_can_hold_is_refused():
    net = nn.Sequential(trained(nn.BatchNorm1d(5)), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="no shape yet"):
        folded(net)


def test_weights_in_the_one_network_s_terms_are_the_others_in_theirs():
    net = nn.Sequential(nn.Linear(5, 5), trained(nn.BatchNorm1d(5))).eval()
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.rand(parameter.shape))
    weights = dict(other.named_parameters())
    made, x = folded_weights(net, weights), inputs_of(0)
    outputs = torch.func.functional_call(folded(net), {n: w.float() for n, w in made.items()}, x)
    torch.testing.assert_close(outputs, other(x), rtol=1e-5, atol=1e-5)
    back = unfolded_weights(net, made)
    for name, weight in weights.items():
        torch.testing.assert_close(back[name].to(weight), weight.detach())
    assert made["0.weight"] is weights["0.weight"] and "1.weight" in made
    part = {"1.bias": weights["1.bias"]}
    assert folded_weights(net, part).keys() == part.keys()


def test_given_tensors_are_folded_where_a_fit_s_raw_ones_are():
    net = nn.Sequential(nn.Linear(5, 5), trained(nn.BatchNorm1d(5)), uneven(running_var=0.0))
    made = folded(net)
    told = as_fitted(net.state_dict(), dict(made.named_buffers()))
    assert told.keys() == net.state_dict().keys()
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(told[name], parameter.detach())
    unfolded = as_fitted(net.state_dict(), dict(net.named_buffers()))
    assert all(torch.equal(unfolded[name], t) for name, t in net.state_dict().items())
