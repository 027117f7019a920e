"""Look before fitting: what each group's prior covers, expects and weighs."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.inference.steps import forked_rng, pyro_step
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import WeightPrior


def describe_priors(net: nn.Module, rules: Sequence[Rule]) -> dict[str, Any]:
    """By group: its tensors, the trained weights, the density at the start, and every site.

    A site's ``share`` is the strength of its hyperprior in pseudo-observations, as a share of the
    group's weights: what is far below 1 will be swamped by them.
    """
    model = joint(net, rules, "categorical", data_size=1)
    start = model.start()
    groups = {}
    with forked_rng(0, torch.device("cpu")), torch.no_grad():
        for name, group in model.groups.items():
            with pyro_step():
                conditioned = poutine.condition(model.priors[name], data=start)
                trace = poutine.trace(conditioned).get_trace(group)
            density: WeightPrior = trace.nodes["_RETURN"]["value"]  # type: ignore[assignment]
            weights = start[weights_site(name)]
            groups[name] = {
                "family": type(model.priors[name]).__name__,
                "tensors": list(group.shapes),
                "summary": _summary(density, weights, group),
                "sites": [
                    _site(site, trace.nodes[site]["fn"], start.get(site), group.size)
                    for site in trace.nodes
                    if trace.nodes[site]["type"] == "sample"
                ],
            }
    return {"groups": groups, "uncovered": list(model.uncovered)}


def _summary(prior: WeightPrior, weights: Tensor, group: Group) -> dict[str, Any]:
    mixture = prior.mixture
    zero = mixture.proportions[mixture.means == 0].sum()
    variance = (mixture.proportions * (1 / mixture.precisions + mixture.means.square())).sum()
    deviation = (variance - mixture.mean.square()).sqrt()
    low, high = weights.aminmax()
    return {
        "tensors": ", ".join(group.shapes),
        "weights": group.size,
        "components": len(mixture),
        "expected zero share": _short(zero),
        "prior deviation at the start": _short(deviation),
        "the weights' deviation": _short(weights.std(correction=0)),
        "the weights' range": f"{_short(low)} .. {_short(high)}",
        "means at the start": _values(mixture.means),
        "nats a weight at the start": _short(-prior.log_prob(weights) / group.size),
    }


def _site(site: str, fn: Any, start: Tensor | None, size: int) -> dict[str, Any]:
    hyperprior, strength = _hyperprior(fn)
    return {
        "site": site,
        "shape": list(fn.event_shape),
        "hyperprior": hyperprior,
        "start": "a draw" if start is None else _values(start),
        "share": "-" if strength is None else f"{strength / size:.3g}",
    }


def _hyperprior(fn: Any) -> tuple[str, float | None]:
    """Its formula, and its strength in pseudo-observations where that is known."""
    if isinstance(fn, dist.MaskedDistribution):
        return "free", 0.0
    while isinstance(fn, dist.Independent):
        fn = fn.base_dist
    match fn:
        case dist.Gamma():
            shape, rate = fn.concentration.flatten()[0], fn.rate.flatten()[0]
            deviation = _short((rate / (shape - 1)).sqrt())
            mode = f"mode at deviation {deviation}" if shape >= 1 else "no mode"
            return f"Gamma({_short(shape)}, {_short(rate)}), {mode}", float(2 * (shape - 1))
        case dist.Beta():
            a, b = fn.concentration1, fn.concentration0
            return f"Beta({_short(a)}, {_short(b)})", float(a + b - 2)
        case dist.Dirichlet():
            concentration = fn.concentration
            total = float((concentration - 1).sum())
            return f"Dirichlet({_short(concentration.flatten()[0])})", total
        case dist.Normal():
            return f"Normal({_short(fn.loc.flatten()[0])}, {_short(fn.scale.flatten()[0])})", 1.0
    return type(fn).__name__, None


def _values(start: Tensor) -> str:
    low, high = start.aminmax()
    return _short(low) if low == high else f"{_short(low)} .. {_short(high)}"


def _short(value: Tensor) -> str:
    return f"{float(value):.4g}"
