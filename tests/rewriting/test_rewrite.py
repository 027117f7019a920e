"""Rewriting: fewer weights in a better order, and the same function."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sparse_networks import (
    KINDS,
    arbitrary,
    filled,
    given,
    largest_difference,
    layers,
    network,
    nonzero,
    sparse,
    weights,
)
from structures import NOT_UNDERSTOOD
from torch import nn

from models.lenet import lenet_5_caffe, lenet_300_100
from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.rewriting.links import WHOLE
from pyro_sws.rewriting.rewrite import rewrite

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=20)
@drawn(seed=SEEDS, salt=SEEDS, density=st.sampled_from([0.05, 0.2, 0.5]))
@pytest.mark.parametrize("kind", KINDS)
def test_the_function_stays_whatever_is_chosen(kind, seed, salt, density):
    net, inputs = network(kind)
    q = sparse(net, seed, density)
    r = rewrite(net, q, length=arbitrary(salt), example=inputs[:2])
    assert largest_difference(filled(net, q), r.network, inputs) < 1e-11


@settings(max_examples=10)
@drawn(seed=SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_function_stays_where_weights_are_fewest(kind, seed):
    net, inputs = network(kind)
    q = sparse(net, seed)
    r = rewrite(net, q, length=nonzero)
    assert largest_difference(filled(net, q), r.network, inputs) < 1e-11
    assert nonzero(r.quantized) <= nonzero(q)


def leaning(quantized):
    """A length that sums up over tensors: of how many columns a nonzero is from the left."""
    values = [v for v in quantized.tensors().values() if v.ndim > 1]
    return sum(int(np.nonzero(v.reshape(len(v), -1))[1].sum()) for v in values)


@pytest.mark.parametrize("make", [lenet_300_100, lenet_5_caffe])
def test_the_lenets_compute_the_same(make):
    net, inputs = make().double(), torch.rand(5, 1, 28, 28).double()
    q = sparse(net, 1, density=0.02)
    r = rewrite(net, q, length=leaning)
    assert r.hidden == {lenet_300_100: 400, lenet_5_caffe: 570}[make]
    assert r.orders and r.silent > 0
    assert largest_difference(filled(net, q), r.network, inputs) < 1e-11


def test_the_network_holds_what_the_quantized_says():
    net, _ = network("convolutions")
    r = rewrite(net, sparse(net), length=nonzero)
    for name, values in r.quantized.tensors().items():
        np.testing.assert_array_equal(r.network.get_parameter(name).detach().numpy(), values)
    assert not r.network.training


def test_a_unit_that_nothing_sees_has_no_weights():
    q = given(
        {
            "0.weight": [[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]],
            "0.bias": [1.0, 2.0, 3.0],
            "2.weight": [[1.0, 0.0, 1.0], [2.0, 0.0, 0.0]],
            "2.bias": [0.0, 1.0],
        }
    )
    r = rewrite(layers(2, 3, 2), q, length=nonzero)
    assert weights(r.quantized) == weights(q) | {
        "0.weight": [[1.0, 2.0], [0.0, 0.0], [5.0, 0.0]],
        "0.bias": [1.0, 0.0, 3.0],
    }
    assert (r.hidden, r.silent, r.dropped, r.folded) == (3, 1, 1, 0)
    assert r.quantized.codebooks["0.weight"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_what_only_dropped_units_saw_is_dropped_too():
    q = given(
        {
            "0.weight": [[1.0], [2.0]],
            "0.bias": [1.0, 1.0],
            "2.weight": [[3.0, 0.0], [0.0, 4.0]],
            "2.bias": [1.0, 1.0],
            "4.weight": [[5.0, 0.0]],
            "4.bias": [0.0],
        }
    )
    r = rewrite(layers(1, 2, 2, 1), q, length=nonzero)
    assert weights(r.quantized) == {
        "0.weight": [[1.0], [0.0]],
        "0.bias": [1.0, 0.0],
        "2.weight": [[3.0, 0.0], [0.0, 0.0]],
        "2.bias": [1.0, 0.0],
        "4.weight": [[5.0, 0.0]],
        "4.bias": [0.0],
    }
    assert r.dropped == r.silent == 2


IDLE = {  # unit 1 of a layer of two has no incoming weight
    "0.weight": [[1.0], [0.0]],
    "0.bias": [0.5, 0.75],
    "2.weight": [[1.0, 2.0], [-1.0, 3.0]],
    "2.bias": [0.0, -1.0],
}


def test_a_unit_that_is_always_zero_needs_no_fold():
    r = rewrite(layers(1, 2, 2), given(IDLE | {"0.bias": [0.5, -0.75]}), length=nonzero)
    assert weights(r.quantized)["2.weight"] == [[1.0, 0.0], [-1.0, 0.0]]
    assert weights(r.quantized)["2.bias"] == [0.0, -1.0]
    assert weights(r.quantized)["0.bias"] == [0.5, 0.0]
    assert (r.dropped, r.folded) == (1, 0)


def test_a_constant_goes_into_the_next_bias():
    r = rewrite(layers(1, 2, 2), given(IDLE), length=nonzero)
    assert weights(r.quantized)["2.bias"] == [0.0 + 2 * 0.75, -1.0 + 3 * 0.75]
    assert weights(r.quantized)["2.weight"] == [[1.0, 0.0], [-1.0, 0.0]]
    assert weights(r.quantized)["0.bias"] == [0.5, 0.0]
    assert (r.dropped, r.folded) == (0, 1)


def test_a_constant_stays_where_its_fold_is_longer():
    q = given(IDLE, book=[-1.0, 0.0, 0.5, 0.75, 1.0, 2.0, 3.0])
    in_books = lambda q: sum(map(len, q.codebooks.values()))  # noqa: E731
    r = rewrite(layers(1, 2, 2), q, length=in_books)
    assert r.folded == 0
    assert weights(r.quantized) == weights(q)
    r = rewrite(layers(1, 2, 2), q, length=nonzero)
    assert list(r.quantized.codebooks) == ["all", "2.bias"]
    assert r.quantized.codebooks["2.bias"].tolist() == [0.0, 1.25, 1.5]


def test_folded_values_that_the_codebook_has_need_no_other():
    q = given(IDLE, book=[-1.0, 0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0])
    r = rewrite(layers(1, 2, 2), q, length=nonzero)
    assert r.folded == 1
    assert list(r.quantized.codebooks) == ["all"]
    assert weights(r.quantized)["2.bias"] == [1.5, 1.25]


def test_a_fold_forgets_the_scale_of_the_bias():
    q = given(IDLE)
    scaled = Quantized(
        q.symbols, q.codebooks, q.codebook_of, scales={"2.bias": np.array([0.5, 0.5])}
    )
    r = rewrite(layers(1, 2, 2), scaled, length=nonzero)
    assert weights(r.quantized)["2.bias"] == [1.5, 1.75]
    assert not r.quantized.scales


def test_a_single_precision_codebook_is_followed_by_one():
    q = given(IDLE, book=[-1.0, 0.0, 0.5, 0.75, 1.0, 2.0, 3.0])
    half = {"all": q.codebooks["all"].astype(np.float16)}
    r = rewrite(layers(1, 2, 2), Quantized(q.symbols, half, q.codebook_of), length=nonzero)
    assert {n: b.dtype.name for n, b in r.quantized.codebooks.items()} == {
        "all": "float16",
        "2.bias": "float32",
    }


def test_constants_cascade_through_layers():
    q = given(
        {
            "0.weight": [[0.0], [0.0]],
            "0.bias": [2.0, 1.0],
            "2.weight": [[3.0, 0.0], [0.0, 1.0]],
            "2.bias": [-1.0, 1.0],
            "4.weight": [[4.0, 1.0]],
            "4.bias": [0.5],
        }
    )
    r = rewrite(layers(1, 2, 2, 1), q, length=nonzero)
    values = weights(r.quantized)
    assert values.pop("4.bias") == [0.5 + 4 * (3 * 2 - 1) + 2]
    assert all(not np.any(value) for value in values.values())
    assert r.folded == 4


def images(padding, pool=None):
    """Two 1 x 1 channels, the second of them constant, and a convolution that sees both."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), pool or nn.ReLU(), nn.Conv2d(2, 1, 3, padding=padding)
    ).double()
    q = given(
        {
            "0.weight": [[[[1.0]]], [[[0.0]]]],
            "0.bias": [0.0, 2.0],
            "2.weight": [np.arange(18.0).reshape(2, 3, 3)],
            "2.bias": [1.0],
        }
    )
    return net, q


def test_a_constant_channel_goes_into_the_bias_of_a_convolution_without_padding():
    net, q = images(padding=0)
    r = rewrite(net, q, length=nonzero)
    assert r.folded == 1
    assert weights(r.quantized)["2.bias"] == [1.0 + 2 * sum(range(9, 18))]
    inputs = torch.randn(3, 1, 5, 5).double()
    assert largest_difference(filled(net, q), r.network, inputs) < 1e-12


@pytest.mark.parametrize(
    "settings", [{"padding": 1}, {"padding": 0, "pool": nn.AvgPool2d(3, 2, padding=1)}]
)
def test_a_constant_channel_stays_where_padding_makes_a_border(settings):
    net, q = images(**settings)
    r = rewrite(net, q, length=nonzero)
    assert r.folded == 0
    assert weights(r.quantized) == weights(q)


def test_a_weight_without_a_zero_in_its_codebook_stays():
    q = given(IDLE | {"2.weight": [[1.0, 0.0], [2.0, 0.0]]})
    books = dict(q.codebooks) | {"0.bias": np.array([0.25, 0.5, 0.75])}
    of = Quantized(q.symbols, books, q.codebook_of)
    r = rewrite(layers(1, 2, 2), of, length=nonzero)
    assert weights(r.quantized) == weights(of)


def triples(quantized):
    """Each hidden unit of layers 0 and 2, whatever their order."""
    values = quantized.tensors()
    return sorted(
        zip(
            map(tuple, values["0.weight"].tolist()),
            values["0.bias"].tolist(),
            map(tuple, values["2.weight"].T.tolist()),
            strict=True,
        )
    )


@drawn(seed=SEEDS, salt=SEEDS)
def test_units_move_whole(seed, salt):
    q = sparse(layers(4, 7, 3), seed, density=1.0, scaled=["0.weight", "0.bias"])
    r = rewrite(layers(4, 7, 3), q, length=arbitrary(salt))
    if not r.dropped + r.folded:
        assert triples(r.quantized) == triples(q)
        assert sorted(r.quantized.scales["0.bias"]) == sorted(q.scales["0.bias"])


def test_scales_of_columns_move_with_their_units():
    net, rng = layers(4, 6, 3), np.random.default_rng(0)
    q = sparse(net, 3, density=0.6)
    scales = {"0.weight": rng.uniform(1, 2, (6, 1)), "2.weight": rng.uniform(1, 2, 6)}
    scales["2.bias"] = np.array([2.0])
    scaled = Quantized(q.symbols, q.codebooks, q.codebook_of, scales=scales)

    def columns(q):  # of a part of the network, too
        second = q.symbols.get("2.weight", np.ones((3, 6)))
        return int((np.arange(6) * (second != 1).sum(0)).sum())

    r = rewrite(net, scaled, length=columns)
    assert r.orders
    assert r.quantized.scales["2.weight"].tolist() != scales["2.weight"].tolist()
    inputs = torch.randn(9, 4).double()
    assert largest_difference(filled(net, scaled), r.network, inputs) < 1e-12


def test_raw_tensors_are_rewritten_as_coded_ones_are():
    net = layers(4, 6, 3)
    q = sparse(net, 5, density=0.6)
    biases = {name: values for name, values in q.tensors().items() if name.endswith("bias")}
    symbols = {name: s for name, s in q.symbols.items() if name not in biases}
    half = Quantized(symbols, q.codebooks, dict.fromkeys(symbols, "all"), biases)
    raw, coded = (rewrite(net, given, length=nonzero) for given in (half, q))
    assert coded.silent > 0
    assert weights(raw.quantized) == weights(coded.quantized)


def test_values_that_no_weight_takes_leave_the_codebooks():
    q = given(IDLE | {"0.weight": [[1.0], [2.0]]})
    books = {name: np.concatenate([book, [9.0]]) for name, book in q.codebooks.items()}
    spare = Quantized(q.symbols, books, q.codebook_of)
    r = rewrite(layers(1, 2, 2), spare, length=lambda q: sum(map(len, q.codebooks.values())))
    assert all(9.0 not in book for book in r.quantized.codebooks.values())
    assert weights(r.quantized) == weights(q)


@pytest.mark.integration
@settings(max_examples=10)
@drawn(seed=SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_never_longer(kind, seed):
    net, inputs = network(kind)
    q = sparse(net.float(), seed, dtype="float32")
    r = rewrite(net, q)
    assert len(encode(r.quantized)) <= len(encode(q))
    assert largest_difference(filled(net, q), r.network, inputs.float()) < 1e-4


def test_what_is_not_understood_has_no_units_to_move():
    for what, net in NOT_UNDERSTOOD.items():
        q = sparse(net, 1, dtype="float32")
        r = rewrite(net, q, length=nonzero)
        assert r.hidden == r.dropped == 0 and not r.orders
        if WHOLE in r.left_alone:
            assert r.quantized == q, what


def test_the_caller_finds_all_as_it_was():
    net, inputs = network("custom")
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random, dtype = torch.get_rng_state(), torch.get_default_dtype()
    q = sparse(net)
    kept = q.__reduce__()[1]
    rewrite(net, q, length=nonzero, example=inputs)
    assert net.training and all(module.training for module in net.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_default_dtype() == dtype and torch.is_grad_enabled()
    assert q == Quantized(*kept)


def test_the_same_call_gives_the_same_result():
    net, _ = network("custom")
    one, other = (rewrite(net, sparse(net, 7), length=arbitrary(7)) for _ in range(2))
    assert one.quantized == other.quantized


def test_a_quantized_of_another_network_is_refused():
    with pytest.raises(ValueError, match="another network"):
        rewrite(layers(1, 2), given(IDLE))


def test_the_largest_difference_is_that_of_the_outputs_in_evaluation():
    net, inputs = network("mlp")  # with dropout
    net.train()
    q = sparse(net, 3)
    r = rewrite(net, q, length=arbitrary(3), example=inputs)
    found = largest_difference(filled(net, q), r.network, inputs)
    assert r.quantized != q and r.largest_difference == found


def test_the_network_is_copied_once(monkeypatch):
    """Of a large one, each copy is gigabytes."""
    net, inputs = network("custom")
    copied, deepcopy = [], copy.deepcopy

    def counted(x, *args):
        copied.extend([x] if isinstance(x, nn.Module) else [])
        return deepcopy(x, *args)

    monkeypatch.setattr("copy.deepcopy", counted)
    rewrite(net, sparse(net), length=nonzero, example=inputs)
    assert copied == [net]


def test_the_same_network_is_measured_once():
    """A length may be a whole encoding."""
    net, inputs = network("convolutions")
    asked = []

    def length(quantized):
        assert not any(quantized == other for other in asked)
        asked.append(quantized)
        return arbitrary(5)(quantized)

    rewrite(net, sparse(net, 5, density=0.5), length=length, example=inputs)
    assert len(asked) > 10


def asked_of(net, quantized):
    """The names that each length was asked of, and what was found."""
    asked = []

    def length(part):
        asked.append({*part.symbols, *part.raw})
        return nonzero(part)

    return asked, rewrite(net, quantized, length=length)


def test_an_order_is_measured_on_the_tensors_that_it_changes():
    net = layers(6, 8, 8, 8, 8, 3)
    q = sparse(net, 5, density=0.5)
    asked, _ = asked_of(net, q)
    whole = [names for names in asked if names == set(q.symbols)]
    assert len(asked) > 20 and len(whole) <= 4


def test_a_large_network_is_measured_in_parts_alone(monkeypatch):
    net, inputs = network("convolutions")
    q = sparse(net, 5, density=0.5)
    monkeypatch.setattr("pyro_sws.rewriting.rewrite.SEARCHED", 10)
    monkeypatch.setattr("pyro_sws.rewriting.rewrite.COMPARED", 100)
    asked, _ = asked_of(net, q)
    assert asked and all(names != set(q.symbols) for names in asked)
    r = rewrite(net, q, length=leaning)
    assert r.orders and leaning(r.quantized) < leaning(q)
    assert largest_difference(filled(net, q), r.network, inputs) < 1e-11
