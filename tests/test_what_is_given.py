"""What is given in the place of something else is refused by the function that it is given to."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from messages import assert_says
from problems import ONE_GROUP, classifier
from torch import nn

import pyro_sws as sws
from pyro_sws.weights.load import tensors_of


@pytest.fixture(scope="module")
def run():
    net, inputs, targets = classifier()
    return sws.compress(net, [(inputs, targets)], prior=ONE_GROUP, epochs=1)


def model():
    return sws.joint(classifier()[0], ONE_GROUP, "categorical", 60)


def fitted(*arguments, **keys):
    joint = model()
    return sws.fit(joint, sws.delta_guide(joint), [classifier()[1:]], *arguments, **keys)


def refusal(call, error):
    with pytest.raises(error) as caught:
        call()
    return caught.value


CALLS = [
    (lambda run: sws.merge(run), TypeError, ["Posterior", "run.posterior", "Run"]),
    (lambda run: sws.merge(run.posterior, "1"), ValueError, ["threshold", "0 nats", "'1'"]),
    (lambda run: sws.quantize(run), TypeError, ["Posterior", "run.posterior", "Run"]),
    (lambda run: sws.quantize(run.posterior, []), ValueError, ["codebook_dtype []", "float16"]),
    (lambda run: sws.quantize(run.posterior, signal_to_noise="1"), ValueError, [">= 0", "'1'"]),
    (lambda run: sws.rewrite(classifier()[0], run.posterior), TypeError, ["run.quantized", "Post"]),
    (lambda run: sws.encode(run), TypeError, ["quantize or rewrite", "Run"]),
    (lambda run: sws.decode(Path("net.sws")), TypeError, ["read_bytes()", "PosixPath"]),
    (lambda run: sws.inspect("net.sws"), TypeError, ["read_bytes()", "str"]),
    (lambda run: sws.load(run.data, into=nn.Linear), TypeError, ["into is the class Linear"]),
    (lambda run: sws.compare(run), TypeError, ["a list of runs", "Run"]),
    (lambda run: sws.compare("runs"), TypeError, ["a list of runs", "str"]),
    (lambda run: run.save("net.pt"), ValueError, ["net.pt", ".sws", "a folder"]),
    (lambda run: run.save("net.NPZ"), ValueError, ["net.NPZ", ".sws", "a folder"]),
    (lambda run: run.posterior.samples(2.5), ValueError, ["count", "2.5", "whole number"]),
    (lambda run: sws.refine(3, run.posterior, []), TypeError, ["joint(...)", "int"]),
    (lambda run: sws.refine(model(), run, []), TypeError, ["Posterior", "Run"]),
    (lambda run: sws.run_recipe("r.toml", "out"), TypeError, ["read_recipe", "str"]),
    (lambda run: sws.read_recipe("r.toml", "tau=1"), TypeError, ["a list of", "'tau=1'"]),
    (lambda run: fitted(5), TypeError, ["settings must be of Fitting", "5"]),
    (lambda run: fitted(merge_threshold="x"), ValueError, ["threshold", "'x'"]),
    (lambda run: fitted(seed=2**63), ValueError, ["seed", "2^63 - 1"]),
    (lambda run: sws.Ranks("0", 1), ValueError, ["rank", "a whole number", "'0'"]),
    # The error as a share, where the bound counts mistakes, would be a bound that does not hold.
    (
        lambda run: sws.certificate_of_counts(900, 0.03, 10_000),
        ValueError,
        ["mistakes", "whole number", "0.03"],
    ),
    (lambda run: sws.certify(900, run.network, []), TypeError, ["a path or bytes", "int"]),
    (lambda run: sws.load(run, run.network), TypeError, ["a path or bytes", "Run"]),
]


@pytest.mark.parametrize(("call", "error", "said"), CALLS)
def test_what_was_given_and_what_is_wanted_are_said(run, call, error, said):
    assert_says(refusal(lambda: call(run), error), *said)


def test_a_folder_in_place_of_a_file_is_refused(run, tmp_path):
    into = classifier()[0]
    assert_says(refusal(lambda: sws.load(tmp_path, into=into), OSError), "is a folder", "model.sws")


def test_counts_of_numpy_are_counts(run):
    assert all(len(v) == 3 for v in run.posterior.samples(np.int64(3)).values())
    joint = model()
    guide = sws.low_rank_guide(joint, rank=np.int64(2))
    assert sws.fit(joint, guide, [classifier()[1:]], epochs=np.int64(1)).posterior.draws


class Holds(nn.Module):
    """A layer that holds or makes something odd."""

    def __init__(self, made=lambda outputs: outputs, **held):
        super().__init__()
        self.linear, self.made = nn.Linear(4, 3), made
        for name, value in held.items():
            self.register_buffer(name, value) if isinstance(value, torch.Tensor) else setattr(
                self, name, value
            )

    def forward(self, inputs):
        return self.made(self.linear(inputs))


def compressed(net):
    return sws.compress(net, [classifier()[1:]], prior=ONE_GROUP, epochs=1)


def test_a_network_that_cannot_be_copied_says_why():
    error = refusal(lambda: compressed(Holds(lock=threading.Lock())), ValueError)
    assert_says(error, "Holds cannot be copied", "lock", "keep out of the module")


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda y: y.argmax(1), "int64"),
        (lambda y: y.long(), "int64"),
        (lambda y: y > 0, "bool"),
        (lambda y: y * 1j, "complex64"),
    ],
)
def test_outputs_that_are_no_real_numbers_are_refused(made, kind):
    error = refusal(lambda: compressed(Holds(made)), ValueError)
    assert_says(error, f"Holds returns {kind}", "real numbers")


@pytest.mark.parametrize("error", [KeyError("x"), AttributeError("no x"), ZeroDivisionError("x")])
def test_whatever_a_network_raises_is_one_line_with_what_it_was_given(error):
    def raises(outputs):
        raise error

    refused = refusal(lambda: compressed(Holds(raises)), ValueError)
    assert_says(refused, "Holds cannot compute outputs", "float32 of shape (60, 4)", "x")


def test_a_buffer_with_nan_comes_back_as_it_was():
    scale = torch.tensor([1.0, float("nan")])
    made = compressed(Holds(scale=scale))
    torch.testing.assert_close(
        tensors_of(sws.load(made.data, into=Holds(scale=scale)))["scale"], scale, equal_nan=True
    )
