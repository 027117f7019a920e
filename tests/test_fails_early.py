"""What can be refused is refused before the first epoch: the network has hardly been called."""

import pytest
import torch
from torch import nn

import pyro_sws as sws

SLOW = {"tau": 0.1, "epochs": 1000}  # hours, if it began
BATCHES, LEAST = 3, 30  # of a pass; calls of the network that looking at it may take


class Counted(nn.Module):
    """A network that counts its calls."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.calls = nn.Linear(4, 8), nn.Linear(8, 3), [0]
        with torch.no_grad():
            self.first.weight *= scale

    def forward(self, inputs):
        self.calls[0] += 1
        return self.last(torch.tanh(self.first(inputs)))


INPUTS = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
LABELS = INPUTS[:, :3].argmax(1)
NAN = INPUTS[:5] * float("nan")
# What is wrong -> the change of the call, and what is said.
WRONG = {
    "values beyond the codebook": ({"net": Counted(2e5)}, "use codebook_dtype='float32'"),
    "a callback of nothing": ({"callback": lambda: None}, "callback must be a function of a Prog"),
    "a checkpoint in a file": ({"checkpoint": __file__}, "it is a file; name a folder"),
    "test inputs, late": ({"test": [(INPUTS[:5], LABELS[:5]), (NAN, LABELS[:5])]}, "test, one ba"),
    "validation inputs, late": (
        {"validation": [(INPUTS[:5], LABELS[:5]), (NAN, LABELS[:5])]},
        "validation, one batch: the inputs are not finite in 5 of 5",
    ),
    "validation labels, late": (
        {"validation": [(INPUTS[:5], LABELS[:5]), (INPUTS[:5], LABELS[:5] + 9)]},
        "validation: categorical: labels run from 9",
    ),
    "validation shapes": ({"validation": [(INPUTS[:5, :2], LABELS[:5])]}, "validation: Counted c"),
    "a label, late": ({"train": (INPUTS, torch.cat([LABELS[:59], LABELS[:1] + 9]))}, "labels run"),
    "another likelihood": ({"likelihood": "gaussian"}, "gaussian: targets must be floats"),
    "a count of examples": ({"data_size": 7}, "data_size = 7, but a pass through train shows 60"),
    "an unknown guide": ({"guide": "norml"}, "unknown guide 'norml'"),
    "a seed": ({"seed": -1}, "seed must be in"),
    "a refinement": ({"refinement": {"epochs": 3}}, "refinement must be a Refinement"),
    "a mixture that never moves": (
        {"epochs": None, "fit": sws.Fitting(epochs=2, hyperparameters_every=1000)},
        "the mixture would never move",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_before_the_first_epoch(what):
    change, message = WRONG[what]
    call = {"net": Counted(), "train": (INPUTS, LABELS), **SLOW, **change}
    net, (inputs, targets) = call.pop("net"), call.pop("train")
    net.calls[0] = 0
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        sws.compress(net, sws.Batches(inputs, targets, 20), **call)
    assert message in str(caught.value)
    assert net.calls[0] <= LEAST


def test_inputs_that_a_network_mends_are_no_fault():
    class Mends(Counted):
        def forward(self, inputs):
            return super().forward(inputs.nan_to_num())

    test = [(INPUTS[:5], LABELS[:5]), (NAN, LABELS[:5])]
    run = sws.compress(Mends(), sws.Batches(INPUTS, LABELS, 20), tau=0.1, epochs=1, test=test)
    assert run.report.score["examples"] == 10
