"""An Elbo of a small problem, and a guide that takes Pyro's own way to it."""

import torch
from problems import classifier

from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.guides import DeltaGuide
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint


class NotLean(DeltaGuide):
    """The same guide, unknown to the lean way: it goes through Pyro's ELBO."""


def elbo_of(guide, model, batch):
    store = {"params": {}, "constraints": {}}
    with pyro_step(store), torch.no_grad():
        guide(*batch)
    return Elbo(model, guide, store)


class Sample:
    """A stream: a pass is one batch, which is a sample of the data."""

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        return iter([self.batch])


def problem(prior, tau=0.3, likelihood="categorical", **settings):
    net, inputs, targets = classifier()
    if likelihood != "categorical":
        targets = torch.nn.functional.one_hot(targets).float()
    model = joint(net, prior, likelihood, len(inputs), tau=tau, **settings)
    return model, (inputs[:20], targets[:20])
