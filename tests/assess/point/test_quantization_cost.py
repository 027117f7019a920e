"""What snapping costs: each number is what the network itself does with those weights."""

import copy
import dataclasses

import pytest
import torch
from problems import classifier
from torch.nn.functional import cross_entropy

import pyro_sws as sws
from pyro_sws.assess.point.quantization_cost import quantization_costs
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.weights.quantize import quantize

SEVERAL = SpikeAndSlabs(slabs=4, zero_proportion=0.3, start_deviation=0.1)


def compressed(prior, **more):
    net, inputs, targets = classifier()
    train = sws.Batches(inputs, targets, 20)
    return sws.compress(
        net, train, prior=prior, tau=0.1, epochs=3, packing=sws.Packing(rewrite=False), **more
    )


@pytest.fixture(scope="module")
def result():
    return compressed(SEVERAL)


@pytest.fixture(scope="module")
def costs(result):
    net, inputs, targets = classifier()
    model = joint(net, SEVERAL, "categorical", 60)
    return quantization_costs(model, result.packed, quantize(result.packed), [(inputs, targets)])


def directly(result, snapped):
    """Nats and mistakes of the network with the named tensors snapped, without the package."""
    net, inputs, targets = classifier()
    values = quantize(result.packed).dequantize()
    state = dict(result.packed.weights) | {name: torch.tensor(values[name]) for name in snapped}
    own = copy.deepcopy(net)
    own.load_state_dict(state)
    with torch.no_grad():
        outputs = own(inputs)
    nats = cross_entropy(outputs, targets, reduction="sum").item()
    return nats, int((outputs.argmax(1) != targets).sum())


def test_one_tensor_at_a_time_is_the_network_with_that_tensor_snapped(result, costs):
    assert list(costs.tensors) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for name, found in costs.tensors.items():
        nats, mistakes = directly(result, [name])
        assert found.error_cost_nats == pytest.approx(nats, rel=1e-5)
        assert found.mistakes == mistakes and found.score == pytest.approx(100 * mistakes / 60)


def test_none_and_all_snapped_are_the_two_ends(result, costs):
    ends = directly(result, []), directly(result, costs.tensors)
    for found, (nats, mistakes) in zip((costs.unsnapped, costs.snapped), ends, strict=True):
        assert found.error_cost_nats == pytest.approx(nats, rel=1e-5)
        assert found.mistakes == mistakes
    change = ends[1][0] - ends[0][0]
    assert costs.to_dict()["change"]["error_cost_nats"] == pytest.approx(change, rel=1e-4)


def test_what_each_costs_alone_and_what_they_do_together_is_all(costs):
    told = costs.to_dict()
    alone = sum(row["error_cost_nats"] for row in told["tensors"])
    assert alone + told["interaction_nats"] == pytest.approx(told["change"]["error_cost_nats"])
    assert min(abs(row["error_cost_nats"]) for row in told["tensors"]) > 0


def test_snapping_what_is_snapped_costs_nothing(result):
    net, inputs, targets = classifier()
    model = joint(net, SEVERAL, "categorical", 60)
    quantized = quantize(result.packed)
    flat = torch.cat([torch.tensor(a).flatten() for a in quantized.dequantize().values()])
    at = dataclasses.replace(result.packed, point={**result.packed.point, "all.weights": flat})
    told = quantization_costs(model, at, quantized, [(inputs, targets)]).to_dict()
    assert [row["error_cost_nats"] for row in told["tensors"]] == [0, 0, 0, 0]
    assert told["interaction_nats"] == 0


def test_shuffled_batches_take_nothing_from_the_callers_generator(result):
    net, inputs, targets = classifier()
    model = joint(net, SEVERAL, "categorical", 60)
    state = torch.get_rng_state()
    quantization_costs(
        model, result.packed, quantize(result.packed), sws.Batches(inputs, targets, 20)
    )
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_tensors_that_do_not_go_together_are_refused(result):
    net, inputs, targets = classifier()
    model = joint(net, SEVERAL, "categorical", 60)
    other = quantize(compressed([sws.Rule(SEVERAL, "*.weight")]).packed)
    with pytest.raises(ValueError, match="different tensors"):
        quantization_costs(model, result.packed, other, [(inputs, targets)])
