"""Batches: every example once an epoch, in an order that torch's seed decides."""

import math

import pytest
import torch
from problems import ONE_GROUP, classifier
from torch.utils.data import DataLoader, TensorDataset

import pyro_sws as sws
from pyro_sws.compression.survey import survey
from pyro_sws.inference.batches import Batches, check_reiterable, moved, rounding
from pyro_sws.weights.structures import Structure

INPUTS, TARGETS = torch.arange(10.0)[:, None], torch.arange(10)


def order(batches):
    return [int(t) for _, targets in batches for t in targets]


@pytest.fixture(autouse=True)
def caller_s_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("size", [1, 3, 5, 10, 11])
def test_every_example_comes_once_an_epoch_with_its_target(size):
    batches = Batches(INPUTS, TARGETS, size)
    assert sorted(order(batches)) == list(range(10))
    assert all(torch.equal(inputs[:, 0].long(), targets) for inputs, targets in batches)


@pytest.mark.parametrize(("size", "sizes"), [(3, [3, 3, 3, 1]), (5, [5, 5]), (11, [10])])
def test_batches_are_full_but_for_the_last(size, sizes):
    batches = Batches(INPUTS, TARGETS, size)
    assert [len(inputs) for inputs, _ in batches] == sizes and len(batches) == len(sizes)


def test_each_epoch_has_an_order_of_its_own():
    batches = Batches(INPUTS, TARGETS, 3)
    orders = [order(batches) for _ in range(4)]
    assert len(set(map(tuple, orders))) == 4


def test_torchs_seed_decides_the_order():
    batches = Batches(INPUTS, TARGETS, 3)
    torch.manual_seed(5)
    first = order(batches)
    torch.manual_seed(5)
    assert order(batches) == first
    torch.manual_seed(6)
    assert order(batches) != first


def test_unshuffled_batches_keep_the_order_and_draw_nothing():
    before = torch.get_rng_state()
    assert order(Batches(INPUTS, TARGETS, 3, shuffle=False)) == list(range(10))
    assert torch.equal(torch.get_rng_state(), before)


def noisy(inputs):
    return inputs + torch.rand(len(inputs), *[1] * (inputs.ndim - 1))


@pytest.mark.parametrize("shuffle", [True, False])
def test_augmented_inputs_are_drawn_anew_and_keep_their_targets(shuffle):
    batches = Batches(INPUTS, TARGETS, 3, shuffle, augment=noisy)
    passes = [torch.cat([inputs[:, 0] - targets for inputs, targets in batches]) for _ in "ab"]
    assert all(((0 <= noise) & (noise < 1)).all() for noise in passes)
    assert not torch.equal(*passes)
    assert sorted(order(batches)) == list(range(10))


def test_what_is_measured_is_not_augmented():
    batches = Batches(INPUTS, TARGETS, 3, augment=noisy)
    assert all(torch.equal(inputs[:, 0].long(), targets) for inputs, targets in batches.plain)
    torch.manual_seed(5)
    first = order(batches.plain)
    torch.manual_seed(5)
    assert order(Batches(INPUTS, TARGETS, 3)) == first


def test_an_augmented_compression_is_measured_on_the_examples_themselves():
    net, inputs, targets = classifier()

    def found(augment):
        batches = sws.Batches(inputs, targets, 20, augment=augment)
        prior = sws.SpikeAndSlabs(slabs=8, zero_proportion=0.2, start_deviation=0.05)
        more = {"prior": prior, "epochs": 2, "tau": 1e-4}
        return sws.compress(net, batches, **more)

    plain, same, other = map(found, (None, lambda x: x, lambda x: -x))
    costs = [[row["negative_elbo_nats"] for row in r.history] for r in (plain, same, other)]
    assert same.data == plain.data
    assert costs[0] == costs[1] != costs[2]
    assert other.report.nonzero_percent > 50
    outputs = other.decoded(inputs).detach()
    bits = torch.nn.functional.cross_entropy(outputs, targets, reduction="sum") / math.log(2)
    assert other.report.description["label_bits"] == pytest.approx(float(bits), rel=1e-5)
    wrong = int((outputs.argmax(1) != targets).sum())
    assert other.report.score["decoded"] == pytest.approx(100 * wrong / 60)


def test_moving_casts_floats_and_leaves_integers():
    batches = [(INPUTS, TARGETS), (TARGETS[:, None], INPUTS)]
    found = list(moved(batches, "train", torch.device("cpu"), torch.float64))
    assert [(i.dtype, t.dtype) for i, t in found] == [
        (torch.float64, torch.int64),
        (torch.int64, torch.float64),
    ]


def test_a_dataloader_compresses_as_batches_do():
    net, inputs, targets = classifier()
    loader = DataLoader(TensorDataset(inputs, targets), 20, shuffle=True)
    result = sws.compress(net, loader, prior=ONE_GROUP, epochs=2)
    whole = [(inputs, targets)]
    assert result.report.score["examples"] == 60
    assert sws.compress(net, loader, prior=ONE_GROUP, epochs=2).data == result.data
    plain = DataLoader(TensorDataset(inputs, targets), 60)
    expected = sws.compress(net, whole, prior=ONE_GROUP, epochs=2)
    assert sws.compress(net, plain, prior=ONE_GROUP, epochs=2).data == expected.data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((INPUTS, TARGETS[:5]), "10 inputs but 5 targets; give as many"),
        ((INPUTS[:0], TARGETS[:0]), "no examples: inputs and targets are empty"),
        ((INPUTS, TARGETS, 0), "size must be at least 1 example a batch, got 0"),
    ],
)
def test_batches_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Batches(*arguments)


@pytest.mark.parametrize("once", [iter, lambda b: zip(b, strict=True), lambda b: (x for x in b)])
def test_an_iterator_that_is_empty_the_second_time_is_refused(once):
    with pytest.raises(
        TypeError, match="train is a one-shot iterator .* give a list, a DataLoader"
    ):
        check_reiterable(once([(INPUTS, TARGETS)]), "train")


@pytest.mark.parametrize("given", [3, None, torch.nn.Tanh()])
def test_what_holds_no_batches_is_refused(given):
    with pytest.raises(TypeError, match="train must be a re-iterable of .*; got"):
        check_reiterable(given, "train")


@pytest.mark.parametrize(
    ("batches", "error", "words"),
    [
        ([], ValueError, r"train has no batches; give at least one \(inputs, targets\) pair"),
        ([(INPUTS, TARGETS), (INPUTS[:0], TARGETS[:0])], ValueError, r"train\[1\] is empty"),
        ([INPUTS], TypeError, r"train\[0\] must be a pair \(inputs, targets\), got Tensor"),
        ([(INPUTS,)], TypeError, r"train\[0\] must be a pair .*, got tuple"),
        (
            [{"x": INPUTS, "y": TARGETS}],
            TypeError,
            r"must be a pair .*labels., got dict",
        ),
        ([(INPUTS.numpy(), TARGETS)], TypeError, r"pair of tensors, got \(ndarray, Tensor\)"),
        ([(INPUTS, TARGETS[:5])], ValueError, r"train\[0\] has 10 inputs but 5 targets"),
    ],
)
def test_batches_of_the_wrong_shape_are_refused_with_their_number(batches, error, words):
    with pytest.raises(error, match=words):
        survey(batches)
    if batches:
        with pytest.raises(error, match=words):
            list(moved(batches, "train", torch.device("cpu"), torch.float32))


SECONDS = 1.7e9 + 100 * torch.linspace(0, 1, 51, dtype=torch.float64).unsqueeze(1)


def test_inputs_that_lose_their_differences_in_float32_are_told():
    """By hand: float32 has one number in 128 there, so 50 seconds of 100 may be lost."""
    near = torch.cat([SECONDS, SECONDS - 1.7e9], 1)
    ((found),) = rounding(Structure({"t": near, "i": torch.arange(51)}), torch.float32)
    lost = (SECONDS - SECONDS.float().double()).abs().max().item()
    assert f"by {lost:.0f}% of their range" in found and lost > 40


@pytest.mark.parametrize(
    "inputs",
    [SECONDS - 1.7e9, torch.full((5, 1), 0.1).double() + 0.01, SECONDS.float(), torch.arange(3)],
    ids=["centred", "constant", "float32", "whole numbers"],
)
def test_inputs_that_keep_their_differences_are_not(inputs):
    assert rounding(inputs, torch.float32) == []
