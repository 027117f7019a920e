"""The walk before a fit: how much data there is, a batch of it, a sample; in one pass."""

from dataclasses import dataclass, field

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import pyro_sws as sws
from pyro_sws.compression.survey import sample_of, survey

INPUTS, TARGETS = torch.arange(300.0)[:, None].expand(-1, 4), torch.arange(300) % 3
LIST = list(zip(INPUTS.split(64), TARGETS.split(64), strict=True))
LOADER = DataLoader(TensorDataset(INPUTS, TARGETS), 64, shuffle=True)


@dataclass
class Counted:
    """Batches that count how often they are walked through, and how many were looked at."""

    batches: list = field(default_factory=lambda: LIST)
    walks: int = 0
    seen: int = 0

    def __iter__(self):
        self.walks += 1
        for batch in self.batches:
            self.seen += 1
            yield batch


def drawn(batches, size, examples, seed):
    """In one pass, each example with probability examples / size."""
    inputs, targets = [], []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for x, y in batches:
            chosen = torch.rand(len(x)) < examples / size
            inputs.append(x[chosen])
            targets.append(y[chosen])
    return torch.cat(inputs), torch.cat(targets)


@pytest.mark.parametrize("batches", [LIST, sws.Batches(INPUTS, TARGETS, 64), LOADER])
@pytest.mark.parametrize("size", [None, 300])
@pytest.mark.parametrize("examples", [20, 150, 300, 1000])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_sample_is_the_one_that_a_pass_of_its_own_draws(batches, size, examples, seed):
    found = survey(batches, size, seed=seed, examples=examples)
    inputs, targets = (torch.cat(parts) for parts in zip(*found.sample, strict=True))
    expected = drawn(batches, 300, examples, seed)
    assert torch.equal(inputs, expected[0]) and torch.equal(targets, expected[1])
    assert found.size == 300


@pytest.mark.parametrize("size", [None, 300])
@pytest.mark.parametrize("sampled", [True, False])
def test_it_walks_through_the_data_once_and_looks_at_the_start_of_another_pass(size, sampled):
    batches = Counted()
    found = survey(batches, size, sampled=sampled)
    assert batches.walks == 2 and found.size == 300
    assert torch.equal(found.first[0], LIST[0][0]) and bool(found.sample) == sampled
    assert batches.seen == len(LIST) + 1  # a size that is given is checked


def test_it_walks_once_through_a_list():
    class Listed(list):
        walks = 0

        def __iter__(self):
            self.walks += 1
            return super().__iter__()

    batches = Listed(LIST)
    survey(batches)
    assert batches.walks == 1


def test_batches_say_their_size_without_a_pass():
    batches = sws.Batches(INPUTS, TARGETS, 64, augment=lambda x: pytest.fail("looked at"))
    found = survey(batches, sampled=False)
    assert found.size == 300 and len(found.first[0]) == 64


def test_the_size_of_a_stream_is_believed():
    """A pass may be an epoch of a larger whole."""
    assert survey(Counted(), 3000).size == 3000
    rows = sum(len(inputs) for inputs, _ in survey(Counted(), 3000, examples=1000).sample)
    assert abs(rows - 100) < 5 * (300 * (1 / 3) * (2 / 3)) ** 0.5  # binomial


def test_the_sample_is_of_the_examples_themselves():
    batches = sws.Batches(INPUTS, TARGETS, 20, augment=lambda x: x + torch.rand(len(x), 1))
    found = torch.cat([part for part, _ in survey(batches, examples=300).sample])
    assert torch.equal(found.sort(0).values, INPUTS)


def test_where_none_is_drawn_the_first_example_stands_in():
    ((inputs, targets),) = sample_of(LIST, 10**12, examples=1)
    assert torch.equal(inputs, INPUTS[:1]) and torch.equal(targets, TARGETS[:1])


def test_batches_of_several_shapes_stay_apart():
    shapes = [(5, 4), (5, 4), (5, 6), (5, 4)]
    batches = [(torch.zeros(shape), torch.zeros(shape[0])) for shape in shapes]
    found = sample_of(batches, 20, examples=20)
    assert [tuple(inputs.shape) for inputs, _ in found] == [(10, 4), (5, 6), (5, 4)]


@pytest.mark.parametrize("batches", [LIST, sws.Batches(INPUTS, TARGETS, 64), LOADER])
@pytest.mark.parametrize("sampled", [True, False])
def test_the_callers_generator_stays_where_it_is(batches, sampled):
    before = torch.get_rng_state()
    survey(batches, sampled=sampled)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("batches", "keys", "error", "message"),
    [
        (iter(LIST), {}, TypeError, "train is a one-shot iterator"),
        (3, {}, TypeError, "train must be a re-iterable"),
        ([], {}, ValueError, "train has no batches; give at least one"),
        (LIST, {"examples": 0}, ValueError, "examples must be at least 1, got 0"),
        (LIST, {"size": 0}, ValueError, "data_size must be at least 1 example, got 0"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(batches, keys, error, message):
    with pytest.raises(error, match=message):
        survey(batches, **keys)
