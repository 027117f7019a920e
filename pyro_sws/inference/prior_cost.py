"""The prior as a cost in a training loop of one's own, and its hyperparameters as a module."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import transform_to

from pyro_sws.inference.at_point import AtPoint
from pyro_sws.inference.density import Density
from pyro_sws.inference.fitting import Rates
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint, joint, sample_flat
from pyro_sws.inference.plain_numbers import instance
from pyro_sws.inference.priors import Prior, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule, as_rules
from pyro_sws.weights.network import plain
from pyro_sws.weights.posterior import weights_site


class PriorState(nn.Module):
    """A prior over a network's weights, and the values of its hyperparameters; see ``prior_state``.

    Its parameters are those values in unconstrained space (logarithms, log-odds), so that a step of
    any optimiser leaves a proportion a proportion. ``state_dict`` and ``to`` are a module's own.
    """

    def __init__(self, model: Joint, rules: Sequence[Rule]):
        super().__init__()
        self.rules = tuple(rules)
        self.groups, self.priors, self.way = model.groups, model.priors, model.density.way
        values = model.start()
        with pyro_step(validate=True), poutine.block(), AtPoint(values, whole=True) as run:
            model.sample_weights()
        for group in self.groups:
            del run.sampled[weights_site(group)]
        # As an AutoDelta has them: shares of J slabs are J logits.
        self.transforms = {site: transform_to(fn.support) for site, fn in run.sampled.items()}
        self.unconstrained = nn.ParameterDict(
            {
                _key(site): nn.Parameter(transform.inv(values[site]).detach().clone())
                for site, transform in self.transforms.items()
            }
        )

    def values(self) -> dict[str, Tensor]:
        """Site name -> value, such as "all.means" (J,); a gradient of it reaches the parameters."""
        own = self.unconstrained
        return {site: transform(own[_key(site)]) for site, transform in self.transforms.items()}

    def hyperparameters(self) -> dict[str, Tensor]:
        """Site name -> value, copied: what ``compress(start=)`` takes."""
        return {site: value.detach().clone() for site, value in self.values().items()}

    def check_network(self, net: nn.Module) -> None:
        """Raise ValueError for a network that has not the parameters that the state was made for.

        TypeError for what is no module.
        """
        tensors = dict(plain(net).named_parameters())
        for group in self.groups.values():
            for name, shape in group.shapes.items():
                if name not in tensors:
                    raise ValueError(
                        f"net has no parameter {name!r}, which the state's prior covers; make the "
                        "state of this network"
                    )
                if tuple(tensors[name].shape) != tuple(shape):
                    raise ValueError(
                        f"parameter {name!r} has shape {tuple(tensors[name].shape)} in net and "
                        f"{tuple(shape)} in the state; make the state of this network"
                    )

    def param_groups(self, rates: Rates = Rates()) -> list[dict[str, Any]]:  # noqa: B008  (frozen)
        """The parameters for torch's optimisers, one group a site, at the rates that a fit has."""
        instance("rates", rates, Rates)
        return [
            {"params": [self.unconstrained[_key(site)]], "lr": rates.of(site)}
            for site in self.transforms
        ]


@torch.inference_mode(False)
def prior_state(
    net: nn.Module,
    prior: Prior | Sequence[Rule] = SpikeAndSlabs(),  # noqa: B008  (frozen)
    *,
    density: Density = Density(),  # noqa: B008  (frozen)
) -> PriorState:
    """The hyperparameters of ``prior`` over the network's weights, to be learned beside them.

    They start where a fit would start them, given the weights as they are now, which are left as
    they are. Nothing of the network is kept but names and shapes.

    Args:
        net: a network with float32 or float64 parameters.
        prior: a prior family for all weights, or rules (see ``Rule``).
        density: how the density is computed; ``way`` alone counts.

    Raises:
        TypeError, ValueError: as ``joint``, for a network or a prior that cannot be; ValueError for
            a ``prior_subsample`` or ``autocast``, which belong to a fit.
    """
    instance("density", density, Density)
    if density.prior_subsample is not None or density.autocast is not None:
        raise ValueError(
            "prior_subsample and autocast are for fit; this cost is of all weights, and the "
            "network runs in a loop of yours: give Density(way=...) alone"
        )
    rules = as_rules(prior)
    return PriorState(joint(net, rules, "categorical", 1, density=density), rules)


def prior_cost(net: nn.Module, state: PriorState) -> Tensor:
    """-log p(weights | hyperparameters) - log p(hyperparameters) in nats: a scalar to minimise.

    The second part of the description length of Ullrich et al. 2017, eqs. 6-7, of the weights as
    ``net`` has them; a gradient reaches them and the parameters of ``state``. A mean loss an
    example, in nats, is joined by ``tau * prior_cost(net, state) / N``, of N training examples. A
    density, it may be negative. Frozen parameters count, and get no gradient.

    Raises TypeError for what is no module or no PriorState, ValueError for a network that has not
    the parameters for which the state was made.
    """
    instance("state", state, PriorState)
    state.check_network(net)
    tensors = dict(plain(net).named_parameters())
    values, groups = state.values(), {}
    for name, group in state.groups.items():
        device = tensors[next(iter(group.shapes))].device
        groups[name] = moved = replace(group, device=device)
        values[weights_site(name)] = moved.joined(tensors)
    with pyro_step(), poutine.block(), AtPoint(values, whole=True) as run:
        for _ in sample_flat(groups, state.priors, state.way):
            pass
    return -torch.stack(list(run.log_probs.values())).sum()


def _key(site: str) -> str:
    """A site's name as a module's parameter may be named: without dots."""
    return site.replace(".", "/")
