"""What of a batch is inputs and what targets: by form, by name, by functions."""

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_sws as sws
from pyro_sws.inference.batch_reading import Read, Reading, read_by
from pyro_sws.inference.batches import Batches, pairs, unaugmented
from pyro_sws.inference.examples import digests
from pyro_sws.weights.structures import Structure, fed, named_output, tensors_in, value_of

A, B, Y = torch.randn(6, 3), torch.randn(6, 2), torch.arange(6) % 3


def only(batches):
    ((inputs, targets),) = pairs(batches, "train")
    return inputs, targets


@pytest.mark.parametrize(
    ("batch", "reading"),
    [
        ((A, B, Y), Reading()),
        (((A, B), Y), Reading()),
        ([[A, B], Y], Reading()),
        ({"a": A, "b": B, "y": Y}, Reading(targets="y")),
        ({"a": A, "b": B, "labels": Y}, Reading()),
        (UserDict({"a": A, "b": B, "labels": Y}), Reading()),
        ({"x": (A, B), "y": Y}, Reading(lambda net, b: net(*b["x"]), lambda b: b["y"])),
        ((A, B, Y), Reading(lambda net, b: net(b[0], b[1]), lambda b: b[2])),
        ((A, B, Y), Reading(targets=lambda b: b[-1])),
    ],
    ids=["triple", "nested", "lists", "named", "labels", "user dict", "functions", "f triple", "t"],
)
def test_two_inputs_and_targets_are_found(batch, reading):
    class Two(nn.Module):
        def forward(self, a, b):
            return a.sum(1) + b.sum(1)

    inputs, targets = only(read_by([batch], reading))
    assert torch.equal(targets, Y) and len(inputs) == 6
    assert torch.equal(fed(Two(), inputs), A.sum(1) + B.sum(1))
    assert torch.equal(fed(Two(), inputs[2:4]), (A.sum(1) + B.sum(1))[2:4])


def test_a_mapping_of_one_input_gives_that_one():
    inputs, targets = only(read_by([{"image": A, "label": Y}], Reading(targets="label")))
    assert inputs is A and targets is Y


def test_an_input_that_is_the_targets_too_stays_an_input():
    """As of an autoencoder: its targets are its inputs' very tensor."""
    batch = {"x": A, "mask": B, "y": A}
    inputs, targets = only(read_by([batch], Reading(targets="y")))
    assert value_of(inputs).keys() == {"x", "mask"} and targets is A
    with pytest.raises(TypeError, match="makes of it are 'x' and 'y'; say by forward"):
        only(read_by([batch], Reading(targets=lambda b: b["y"])))


def test_the_only_input_is_given_by_its_name_where_that_is_no_first_argument():
    inputs, _ = only(read_by([{"a": A, "y": Y}], Reading(targets="y", keywords=frozenset("a"))))
    assert torch.equal(value_of(inputs)["a"], A)


@dataclass(frozen=True)
class Points:
    x: torch.Tensor
    y: torch.Tensor
    scale: float = 2.0


def test_functions_are_given_a_dataclass_and_parts_of_it():
    def forward(net, batch):
        return net(batch.x * batch.scale)

    inputs, targets = only(read_by([Points(A, Y)], Reading(forward, lambda b: b.y)))
    assert targets is Y and torch.equal(fed(nn.Identity(), inputs), 2 * A)
    assert torch.equal(fed(nn.Identity(), inputs[2:4]), 2 * A[2:4])


def test_functions_cannot_be_given_parts_of_an_object_that_is_not_known():
    batch = SimpleNamespace(x=A, y=Y)
    with pytest.raises(TypeError, match="batch 0 is a SimpleNamespace; forward= is given parts"):
        only(read_by([batch], Reading(lambda net, b: net(b.x), lambda b: b.y)))


def test_a_function_may_change_the_targets_of_a_pair():
    inputs, targets = only(read_by([(A, Y.float())], Reading(targets=lambda b: b[1].long())))
    assert inputs is A and torch.equal(targets, Y)


class Tokens(nn.Module):
    """Says of each token what the next one is, as models with a language head do."""

    def forward(self, input_ids, attention_mask=None):
        return {"logits": nn.functional.one_hot(input_ids + 1, 9).float()}


def test_functions_are_asked_of_a_pair_of_tensors_as_of_any_other_batch():
    net, (x, y) = nn.Linear(3, 2), torch.ones(2, 4, 3)
    reading = Reading(forward=lambda net, batch: 2 * net(batch[0]), targets=lambda batch: batch[1])
    inputs, targets = reading((x, y), "batch")
    assert torch.equal(fed(net, inputs), 2 * net(x)) and targets is y
    _, changed = Reading(targets=lambda batch: batch[1] + 1)((x, y), "batch")
    assert torch.equal(changed, y + 1)


def test_labels_that_are_the_tokens_are_those_of_the_outputs_before_them():
    """As the loss of Hugging Face's causal models shifts them."""
    tokens = torch.tensor([[1, 2, 3, 4], [2, 3, 4, 5]])
    labels = tokens.clone()
    labels[1, 3] = -100
    inputs, targets = only([{"input_ids": tokens, "labels": labels}])
    outputs = named_output(fed(Tokens(), inputs))
    assert targets.tolist() == [[2, 3, 4], [3, 4, -100]]
    right = outputs.argmax(-1) == targets
    assert right.sum() == 5 and not right[1, 2]


def test_labels_that_are_not_the_tokens_belong_to_the_outputs_at_their_place():
    tokens, labels = torch.tensor([[1, 7, 3]]), torch.tensor([[-100, 2, -100]])  # 7 hides a 2
    inputs, targets = only([{"input_ids": tokens, "labels": labels}])
    assert targets is not None and torch.equal(targets, labels)
    assert named_output(fed(Tokens(), inputs)).shape == (1, 3, 9)


def test_a_decoder_that_is_made_of_labels_is_given_them():
    class Seq2Seq(nn.Module):
        class config:
            is_encoder_decoder = True

        def forward(self, a, labels=None, decoder_input_ids=None):
            return labels if decoder_input_ids is None else decoder_input_ids

    inputs, _ = only([{"a": A, "labels": Y}])
    assert torch.equal(fed(Seq2Seq(), inputs), Y)
    inputs, _ = only([{"a": A, "labels": Y, "decoder_input_ids": Y + 1}])
    assert torch.equal(fed(Seq2Seq(), inputs), Y + 1)


@pytest.mark.parametrize(
    ("batch", "error", "said"),
    [
        ({"a": A, "y": Y}, TypeError, "with 'labels', got dict {'a': (6, 3), 'y': (6,)}"),
        (
            {"a": A, "labels": [1, 2]},
            TypeError,
            "pair of tensors, got (dict, list)",
        ),
        (A, TypeError, "train[0] must be a pair (inputs, targets), got Tensor"),
        ((A,), TypeError, "must be a pair (inputs, targets), got tuple"),
        ((A.numpy(), Y), TypeError, "pair of tensors, got (ndarray, Tensor); give torch.as_tensor"),
        (((A, B[:4]), Y), ValueError, "inputs of train[0] have tensors of different lengths"),
        (((A, B), Y[:4]), ValueError, "train[0] has 6 inputs but 4 targets"),
        (({"a": A[:0]}, Y[:0]), ValueError, "train[0] is empty: inputs of shape {'a': (0, 3)}"),
        (((A, A.to_sparse()), Y), ValueError, "to_dense"),
    ],
    ids=["no labels", "lists", "tensor", "single", "numpy", "lengths", "counts", "empty", "sparse"],
)
def test_what_cannot_be_read_says_what_it_is(batch, error, said):
    with pytest.raises(error) as caught:
        list(pairs([batch], "train"))
    assert said in str(caught.value)


def test_functions_are_functions():
    with pytest.raises(TypeError, match="forward must be a function of network and batch"):
        Reading(forward=3)
    with pytest.raises(TypeError, match="targets must be a name in a mapping or a function"):
        Reading(targets=3)


def test_batches_that_are_read_are_walked_through_as_the_callers_own_are():
    loader = DataLoader(TensorDataset(A, Y), 2, shuffle=True)
    read = Read(loader, Reading(targets=lambda b: b[1]))
    assert len(read) == 3 and len(list(read)) == 3
    assert isinstance(unaugmented(read), Read)


def test_batches_of_a_structure_are_the_examples_in_one_order():
    batches = Batches({"a": A, "i": torch.arange(6)}, torch.arange(6), 4)
    seen = []
    for inputs, targets in batches:
        assert torch.equal(inputs["i"], targets) and torch.equal(inputs["a"], A[targets])
        seen += targets.tolist()
    assert sorted(seen) == list(range(6))


@pytest.mark.parametrize("inputs", [np.zeros(3), "x", {"a": 1}, torch.tensor(1.0)])
def test_batches_are_of_tensors(inputs):
    with pytest.raises(TypeError, match="inputs must be a tensor"):
        Batches(inputs, Y)


def test_augmentation_is_given_the_structure_itself():
    batches = Batches((A, B), Y, 6, shuffle=False, augment=lambda x: (x[0] + 1, x[1]))
    ((inputs, _),) = batches
    assert torch.equal(inputs[0], A + 1) and inputs[1] is not None


def test_inputs_are_moved_and_cast_wherever_they_are():
    model = sws.joint(nn.Linear(3, 3).double(), sws.SpikeAndSlabs(), "categorical", 6)
    from pyro_sws.inference.batches import moved
    from pyro_sws.inference.evaluation import device_dtype

    ((inputs, _),) = moved([({"a": A, "i": Y}, Y)], "train", *device_dtype(model))
    assert [t.dtype for t in tensors_in(inputs)] == [torch.float64, torch.int64]
    assert value_of(inputs)["a"].shape == (6, 3)


def test_labels_that_all_do_not_count_are_not_the_tokens():
    """As where no token of a batch is masked: the next batch's outputs have the same places."""
    tokens = torch.tensor([[1, 2, 3]])
    inputs, targets = only([{"input_ids": tokens, "labels": torch.full_like(tokens, -100)}])
    assert targets.shape == (1, 3) and named_output(fed(Tokens(), inputs)).shape == (1, 3, 9)


@pytest.mark.parametrize("tensor", [0, 1, 2], ids=["first input", "second input", "targets"])
def test_examples_differ_where_any_of_their_tensors_does(tensor):
    parts = [torch.zeros(4, 2), torch.zeros(4, 3), torch.zeros(4)]
    parts[tensor][1:] = 1.0
    first, second, targets = parts
    same = digests((Structure((first, second)), targets))
    assert same[0] != same[1] and same[1] == same[2] == same[3]


def test_a_key_that_is_not_there_is_answered_by_one_that_is():
    with pytest.raises(TypeError, match="a mapping with 'z', got dict .*targets='y'$"):
        sws.compress(nn.Linear(3, 2), [{"x": A, "y": Y}], targets="z")


def test_arguments_that_a_network_does_not_take_are_no_matter_of_dtypes():
    batches = [({"a": torch.arange(6).reshape(2, 3)}, torch.tensor([0, 1]))]
    with pytest.raises(ValueError, match="int64 in {'a': \\(2, 3\\)}: .*argument 'a'$"):
        sws.compress(nn.Linear(3, 2), batches)
