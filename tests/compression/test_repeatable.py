"""Networks that compute other outputs each time: refused, or no certificate is made of one drawing.

Those that draw by torch's generators, which are seeded, are fitted; others are not.
"""

import random

import numpy as np
import pytest
import torch
from problems import classifier
from torch import nn
from torch.nn import functional as F

import pyro_sws as sws
from pyro_sws.compression.repeatable import check_repeatable

PRIOR = sws.SpikeAndSlabs(slabs=8, start_deviation=0.05)  # weights stay what they are

COIN = random.Random(0)


class ByNumpy(nn.Linear):
    def forward(self, x):
        noise = np.random.normal(size=(len(x), 3))
        return super().forward(x) + torch.from_numpy(noise).to(x)


class ByACoin(nn.Linear):
    def forward(self, x):
        return super().forward(x) * (1 if COIN.random() < 0.5 else -1)


class Carries(nn.Linear):
    """Its outputs are added to the next ones, as of a recurrent network that is never reset."""

    last = 0.0

    def forward(self, x):
        outputs = super().forward(x) + self.last
        self.last = 1 + outputs.detach().mean(0)
        return outputs


class Counts(nn.Linear):
    """The passes that it made are in a buffer, written in place or anew."""

    def __init__(self, *sizes, in_place):
        super().__init__(*sizes)
        self.in_place = in_place
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        if self.in_place:
            self.passes += 1
        else:
            self.passes = self.passes + 1
        return super().forward(x) * self.passes.cos()


OTHER_EACH_TIME = {
    "numpy": ByNumpy,
    "a coin": ByACoin,
    "carries": Carries,
    "counts": lambda *sizes: Counts(*sizes, in_place=True),
    "counts anew": lambda *sizes: Counts(*sizes, in_place=False),
}


@pytest.mark.parametrize("make", OTHER_EACH_TIME.values(), ids=OTHER_EACH_TIME)
def test_a_network_that_is_another_one_each_time_is_refused_before_the_fit(make):
    _, inputs, targets = classifier()
    net, rows = make(4, 3), []
    with pytest.raises(ValueError, match="other outputs when it is run again") as caught:
        sws.compress(net, [(inputs, targets)], prior=PRIOR, epochs=1, callback=rows.append)
    assert "keeps state" in str(caught.value) and "\n" not in str(caught.value) and not rows


class Remembers(nn.Linear):
    """Outputs by the address of its weight: those of the first pass for another weight there."""

    def forward(self, x):
        own = self.weight.data_ptr() == self.address
        return super().forward(x) if own else 2 * super().forward(x)


def test_a_network_that_tells_exchanged_weights_apart_is_refused():
    _, inputs, _ = classifier()
    model = sws.joint(Remembers(4, 3), PRIOR, "categorical", 60)
    model.net.address = model.net.weight.data_ptr()
    clone = Remembers(4, 3)
    clone.address = -1
    clone_model = sws.joint(clone, PRIOR, "categorical", 60)
    check_repeatable(clone_model, inputs)  # twice the same each time
    other = {"weight": model.net.weight.detach().clone()}
    assert not torch.equal(model.outputs(other, inputs), model.net(inputs))
    with pytest.raises(ValueError, match="its weights exchanged for equal ones"):
        check_repeatable(model, inputs)


def test_looking_leaves_network_and_generators_as_they_were():
    _, inputs, _ = classifier()
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model = sws.joint(net, PRIOR, "categorical", 60)
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    generator = torch.get_rng_state()
    check_repeatable(model, inputs)
    assert all(torch.equal(before[name], t) for name, t in model.net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


class Draws(nn.Module):
    """The classifier, with noise of some kind between its layers."""

    def __init__(self, noise):
        super().__init__()
        self.body, self.noise = classifier()[0], noise

    def forward(self, x):
        return self.body[2](self.noise(self.body[0](x).tanh()))


DRAWN = {
    "dropout": lambda h: F.dropout(h, 0.5, training=True),
    "noise": lambda h: h + torch.randn_like(h),
    "one draw": lambda h: h * torch.rand(()),
}


@pytest.mark.integration
@pytest.mark.parametrize("noise", DRAWN.values(), ids=DRAWN)
def test_of_a_network_that_draws_nothing_is_certified_and_the_report_says_so(noise):
    _, inputs, targets = classifier()
    run = sws.compress(Draws(noise), [(inputs, targets)], prior=PRIOR, epochs=1)
    assert run.report.certificate is None and "draws" in run.report.certificate_reason
    (warning,) = [line for line in run.report.warnings if "draws as it computes" in line]
    assert "F.dropout" in warning
    again = sws.compress(Draws(noise), [(inputs, targets)], prior=PRIOR, epochs=1)
    assert again.data == run.data and again.report.score == run.report.score
    plain = sws.compress(Draws(nn.Dropout()), [(inputs, targets)], prior=PRIOR, epochs=1)
    assert plain.report.certificate is not None


def test_a_report_by_hand_looks_at_the_first_batch():
    _, inputs, targets = classifier()
    net, batches = Draws(DRAWN["noise"]), [(inputs, targets)]
    model = sws.joint(net, PRIOR, "categorical", 60)
    posterior = sws.fit(model, sws.delta_guide(model), batches, epochs=1).posterior
    snapped = sws.quantize(posterior)
    report = sws.report(net, model, posterior, snapped, sws.encode(snapped), batches)
    assert report.certificate is None and "draws" in report.certificate_reason
