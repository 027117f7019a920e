"""The ways of taking a training step that benchmark.py compares: torch's, ours, Pyro's."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import pyro_sws as sws
from scripts.shared.timing import seconds_of

TAU = 0.03
RATE = 1e-3
SHARE = 1 / 64  # of the weights, for prior_subsample
EVERY = 4  # for hyperparameters_every
SLABS, ZERO_PROPORTION, START_DEVIATION = 16, 0.999, 0.1  # the textbook's; as SpikeAndSlabs()

Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Setting:
    """A network on its device, and what a pass over its data is."""

    net: nn.Module
    batches: Batches
    data_size: int
    device: torch.device


@dataclass(frozen=True)
class Way:
    """``run`` takes one step a batch and returns the seconds; ``forget`` drops what steps leave.

    That is gradients and the optimiser's moments, so that a measure of memory counts them.
    """

    run: Callable[[Batches], float]
    forget: Callable[[], None]


class Stepper:
    """Steps one by one, by a function that is made anew when the optimiser's state is dropped."""

    def __init__(self, make: Callable[[], Callable], values: Callable, device: torch.device):
        self.make, self.values, self.device = make, values, device
        self.step = make()

    def run(self, batches: Batches) -> float:
        def pass_over() -> None:
            for inputs, targets in batches:
                self.step(inputs, targets)

        return seconds_of(pass_over, self.device)

    def forget(self) -> None:
        for value in self.values():
            value.grad = None
        self.step = self.make()


def stepping(make: Callable[[], Callable], values: Callable, device: torch.device) -> Way:
    stepper = Stepper(make, values, device)
    return Way(stepper.run, stepper.forget)


def plain_torch(setting: Setting, **options: Any) -> Way:
    """Forward in train mode, cross-entropy, backward, Adam; options are Adam's."""
    net = copy.deepcopy(setting.net).train()

    def make() -> Callable:
        adam = torch.optim.Adam(net.parameters(), lr=RATE, **options)

        def step(inputs: Tensor, targets: Tensor) -> None:
            adam.zero_grad()
            cross_entropy(net(inputs), targets).backward()
            adam.step()

        return step

    return stepping(make, net.parameters, setting.device)


def model_of(setting: Setting, **options: Any) -> Any:
    prior = sws.SpikeAndSlabs()
    return sws.joint(setting.net, prior, "categorical", setting.data_size, tau=TAU, **options)


def our_fit(setting: Setting, every: int = 1, **options: Any) -> Way:
    """``fit`` for one epoch; options are those of ``joint``. Each call goes on from the last."""
    model = model_of(setting, **options)
    guide = sws.delta_guide(model)

    def run(batches: Batches) -> float:
        found = sws.fit(
            model, guide, batches, settings=sws.Fitting(epochs=1, hyperparameters_every=every)
        )
        return found.history[0]["seconds"]

    def forget() -> None:
        for value in guide.parameters():
            value.grad = None

    return Way(run, forget)


def plain_svi(setting: Setting) -> Way:
    """This package's model and guide under pyro.infer.SVI, as a user of Pyro would fit them."""
    model = model_of(setting)
    return svi(model, sws.delta_guide(model), setting)


def svi(model: Callable, guide: AutoDelta, setting: Setting) -> Way:
    guide(*setting.batches[0])  # makes its parameters

    def make() -> Callable:
        return SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": RATE}), Trace_ELBO()).step

    def values() -> list[Tensor]:
        return [value for _, value in pyro.get_param_store().named_parameters()]

    return stepping(make, values, setting.device)


class RealMixture(dist.MixtureSameFamily):
    """With the support that torch's lacks a transform for: autoguides refuse it as it is."""

    support = dist.constraints.real


def textbook(setting: Setting) -> Way:
    """The program that one writes first: a site a parameter, each under a MixtureSameFamily."""
    net, device = copy.deepcopy(setting.net), setting.device
    start = {name: value.detach().clone() for name, value in net.named_parameters()}
    low = min(float(value.min()) for value in start.values())
    high = max(float(value.max()) for value in start.values())
    precision = torch.tensor(START_DEVIATION**-2, device=device)

    def model(inputs: Tensor, targets: Tensor) -> None:
        with poutine.scale(scale=TAU):
            mixture = sampled_mixture(low, high, device)
            weights = {
                name: pyro.sample(name, mixture.expand(value.shape).to_event(value.dim()))
                for name, value in start.items()
            }
        logits = functional_call(net, weights, (inputs,))
        batch = torch.arange(len(inputs))
        with pyro.plate("data", setting.data_size, subsample=batch):
            pyro.sample("targets", dist.Categorical(logits=logits), obs=targets)

    values = {**start, "spike_precision": precision, "slab_precisions": precision.repeat(SLABS)}
    return svi(model, AutoDelta(model, init_loc_fn=init_to_value(values=values)), setting)


def sampled_mixture(low: float, high: float, device: torch.device) -> RealMixture:
    """The default prior, in Pyro's own words; means and shares have no hyperprior."""
    number = partial(torch.tensor, device=device)
    even = torch.linspace(low, high, SLABS, device=device)
    means = pyro.param("means", even)
    equal = torch.full((SLABS,), 1 / SLABS, device=device)
    shares = pyro.param("shares", equal, constraint=dist.constraints.simplex)
    spike = pyro.sample("spike_precision", dist.Gamma(number(5000.0), number(2.0)))
    gamma = dist.Gamma(number(250.0), number(0.1)).expand([SLABS]).to_event(1)
    slabs = pyro.sample("slab_precisions", gamma)
    proportions = torch.cat([number([ZERO_PROPORTION]), (1 - ZERO_PROPORTION) * shares])
    precisions = torch.cat([spike.view(1), slabs])
    components = dist.Normal(torch.cat([means.new_zeros(1), means]), precisions.rsqrt())
    return RealMixture(dist.Categorical(proportions), components)


WAYS: dict[str, Callable[[Setting], Way]] = {
    "torch": plain_torch,
    "torch_fused": partial(plain_torch, fused=True),
    "exact": our_fit,
    "portable": partial(our_fit, density="portable"),
    "compiled": partial(our_fit, density="compiled"),
    "prior_subsample": partial(our_fit, prior_subsample=SHARE),
    "hyperparameters_every": partial(our_fit, every=EVERY),
    "plain_svi": plain_svi,
    "textbook": textbook,
}
