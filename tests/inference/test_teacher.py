"""A network's outputs, computed once an example."""

import pytest
import torch

from pyro_sws.inference import teacher as module
from pyro_sws.inference.teacher import Teacher


class Asked:
    """A function of examples that counts how many it was asked for."""

    def __init__(self):
        self.examples = 0

    def __call__(self, inputs):
        self.examples += len(inputs)
        return inputs.reshape(len(inputs), -1).double().cumsum(1)[:, -1:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_outputs_are_the_networks_and_asked_for_once(dtype, shape):
    inputs, network = (10 * torch.randn(20, *shape)).to(dtype), Asked()
    teacher = Teacher(network, len(inputs))
    for seed in range(5):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
        for batch in inputs[order].split(6):
            assert torch.equal(teacher(batch), Asked()(batch))
    assert network.examples <= 40  # equal examples of bool may be in batches with new ones
    asked = network.examples
    teacher(inputs)
    assert network.examples == asked


def test_examples_that_are_drawn_anew_fill_no_more_than_the_table():
    network = Asked()
    teacher = Teacher(network, 8)
    for _ in range(10):
        batch = torch.randn(4, 3)
        assert torch.equal(teacher(batch), Asked()(batch))
    assert network.examples == 40
    assert len(teacher._rows) == 8


def test_no_more_bytes_are_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 5 * 8)
    inputs, network = torch.randn(10, 3), Asked()
    teacher = Teacher(network, 10)
    for _ in range(2):
        assert torch.equal(teacher(inputs[:5]), Asked()(inputs[:5]))
        assert torch.equal(teacher(inputs[5:]), Asked()(inputs[5:]))
    assert network.examples == 15


def test_sequences_of_several_lengths_are_told_apart():
    teacher = Teacher(lambda x: x.float() * 2, 10)
    short, long = torch.zeros(2, 3), torch.zeros(2, 5)
    for batch in (short, long, short, long):
        assert torch.equal(teacher(batch), 2 * batch)


def test_outputs_of_no_row_an_example_are_not_kept():
    network = Teacher(lambda x: x.sum(0, keepdim=True), 10)
    for _ in range(2):
        batch = torch.randn(3, 2)
        assert torch.equal(network(batch), batch.sum(0, keepdim=True))
        assert not network._rows


def test_outputs_carry_no_gradient():
    weight = torch.ones(2, requires_grad=True)
    teacher = Teacher(lambda x: x * weight, 4)
    inputs = torch.randn(4, 2)
    assert not teacher(inputs).requires_grad and not teacher(inputs).requires_grad
