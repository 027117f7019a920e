"""The mixture's tree for ArviZ: the weights of a group are what was observed, bin by bin."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
import xarray as xr
from pyro import poutine
from torch import Tensor

from pyro_sws.assess.draws.inference_data import inference_data
from pyro_sws.assess.prior.hyperparameters import Site
from pyro_sws.assess.prior.starting_point import density_at
from pyro_sws.inference.hyperposterior.draws import HyperDraws
from pyro_sws.inference.hyperposterior.sampled_mixture import SampledMixture
from pyro_sws.inference.hyperposterior.target import Hyperposterior, shared_mixture
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.weights.binned import Bins, binned
from pyro_sws.weights.component_draws import ComponentDraws, ordered, relabelled
from pyro_sws.weights.mixture import Mixture

BINS = 100  # of even width, over the range of the weights
PRIOR_DRAWS = 1000
COMPONENTS = ("means", "deviations", "proportions")
Arrays = dict[str, np.ndarray]


def mixture_tree(
    sampled: SampledMixture,
    draws: HyperDraws,
    *,
    prior_draws: int = PRIOR_DRAWS,
    seed: int = 0,
    versions: Mapping[str, str] | None = None,
) -> xr.DataTree:
    """Draws of a group's mixture given its weights, beside those of its prior, as one tree.

    ``means``, ``deviations`` and ``proportions`` have a dimension component: "spike" (or "spike.0"
    and so on, for a spike of several widths), then the slabs by ascending mean in every draw, of
    posterior and prior alike. Hyperparameters that are one number are there by their own names,
    and so is what the prior gives to pyro.deterministic, of whatever shape.
    ``weights`` are counts by bin: in ``observed_data``, and drawn from ``prior_predictive`` and
    ``posterior_predictive``; in ``log_likelihood`` the log-densities of the weights in each bin,
    added up, in nats, to the accuracy of the target's own, finer bins. ``log_prior`` is that of the
    hyperparameters. What depends on a free site has no prior draws, but for shares: those are
    uniform where they are free. ``relabelled`` in ``sample_stats`` says which draws had their
    components in another order than most.
    """
    target = sampled.target
    bins = target.bins or binned(target.flat, target.mixture(target.start))
    edges = np.linspace(float(target.flat.min()), float(target.flat.max()), BINS + 1)
    rng = np.random.default_rng(seed)
    names = _names(draws.components)
    posterior = ordered(draws.components)
    prior, proper = _prior(target, prior_draws, seed)
    groups: dict[str, Arrays] = {
        "posterior": {
            **_deterministic(target, draws.sites),
            **_variables(posterior),
            **_scalars(draws.sites, target.group.name),
        },
        "posterior_predictive": {
            "weights": _predict_counts(posterior, edges, target.group.size, rng)
        },
        "log_likelihood": {"weights": _log_likelihood(bins, draws.components, edges)},
        "log_prior": {"hyperparameters": _log_prior(sampled, draws)},
        "sample_stats": {
            **{name: values.numpy() for name, values in draws.stats.items()},
            "relabelled": relabelled(draws.components).numpy(),
        },
        "prior_predictive": {"weights": _predict_counts(prior, edges, target.group.size, rng)},
        "observed_data": {"weights": np.histogram(target.flat.numpy(), edges)[0]},
        "constant_data": {"bin_low": edges[:-1], "bin_high": edges[1:]},
    }
    if proper:
        groups["prior"] = proper
    dims = {name: ["component"] for name in COMPONENTS}
    dims |= {name: ["bin"] for name in ("weights", "bin_low", "bin_high")}
    return inference_data(
        groups,
        inference_method=draws.method,
        dims=dims,
        coords={"component": names, "bin": (edges[:-1] + edges[1:]) / 2},
        versions=versions,
    )


def _names(components: ComponentDraws) -> list[str]:
    """The components' names; a component that stays at 0 is a spike, wherever it stands."""
    spike = (components.fixed & (components.means[0, 0] == 0)).tolist()
    own = {True: [f"spike.{j}" for j in range(sum(spike))], False: []}
    own[False] = [f"slab.{j}" for j in range(len(spike) - sum(spike))]
    own[True] = own[True] if sum(spike) > 1 else ["spike"]
    left = {kind: iter(names) for kind, names in own.items()}
    return [next(left[kind]) for kind in spike]


def _variables(components: ComponentDraws) -> Arrays:
    return {name: getattr(components, name).numpy() for name in COMPONENTS}


def _scalars(sites: Mapping[str, Tensor], group: str) -> Arrays:
    """Sites (chains, draws) of one number each, without the group's name."""
    own = {name.removeprefix(f"{group}."): values for name, values in sites.items()}
    return {name: values.numpy() for name, values in own.items() if values.dim() == 2}


def _deterministic(target: Hyperposterior, sites: Mapping[str, Tensor]) -> Arrays:
    """What the prior computes by pyro.deterministic in each draw, without the group's name."""
    chains, count = next(iter(sites.values())).shape[:2] if sites else (0, 0)
    rows: list[dict[str, Tensor]] = []
    with pyro_step(), poutine.block(), torch.no_grad():
        for i in range(chains * count):
            values = {site: drawn[divmod(i, count)] for site, drawn in sites.items()}
            run = poutine.trace(poutine.condition(target.prior, data=values))
            nodes: Mapping[str, Any] = run.get_trace(target.group).nodes
            rows.append(
                {
                    name.removeprefix(f"{target.group.name}."): node["value"]
                    for name, node in nodes.items()
                    if node["type"] == "sample" and node["infer"].get("_deterministic")
                }
            )
            if not rows[0]:  # nor in the other draws, which may be many
                return {}
    names = rows[0] if rows else {}
    return {
        name: torch.stack([row[name] for row in rows]).unflatten(0, (chains, count)).numpy()
        for name in names
    }


def _prior(target: Hyperposterior, count: int, seed: int) -> tuple[ComponentDraws, Arrays]:
    """Draws of the prior: components, with free sites as they start; and all that is proper."""
    start = target.constrained(target.start)
    drawn: dict[str, list[Tensor]] = {}
    mixtures = []
    with forked_rng(seed, torch.device("cpu")), pyro_step(), poutine.block(), torch.no_grad():
        _, learned = density_at(target.prior, target.group, start)
        free = {name: start[name] for name, site in learned.items() if _improper(site)}
        for _ in range(count):
            density, sites = density_at(target.prior, target.group, free)
            mixtures.append(shared_mixture(density) or density.mixture)
            for name in sites.keys() - free:
                drawn.setdefault(name, []).append(sites[name].value)
    means, deviations, proportions = (
        torch.stack([getattr(m, name) for m in mixtures]).unsqueeze(0) for name in COMPONENTS
    )
    still = (means == means[0, 0]).all(0).all(0)
    fixed = torch.ones_like(still) if target.fixed_levels else still
    components = ordered(ComponentDraws(means, deviations, proportions, fixed))
    improper = _moved_by(target, free)
    variables = {n: values for n, values in _variables(components).items() if n not in improper}
    stacked = {name: torch.stack(values).unsqueeze(0) for name, values in drawn.items()}
    return components, {**variables, **_scalars(stacked, target.group.name)}


def _moved_by(target: Hyperposterior, free: Mapping[str, Tensor]) -> set[str]:
    """Which of a mixture's variables depend on the free sites: those have no prior."""
    moved = torch.zeros_like(target.start)
    for name, part in target.parts(moved).items():
        part += name in free
    before, after = (target.mixture(u) for u in (target.start, target.start + moved))
    return {n for n in COMPONENTS if not torch.equal(getattr(before, n), getattr(after, n))}


def _improper(site: Site) -> bool:
    """Whether a site has no density to draw from; what is free on a simplex is uniform there."""
    return site.free and not isinstance(site.base, dist.Dirichlet)


def _predict_counts(
    components: ComponentDraws, edges: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Counts (chains, draws, bins) of ``size`` weights drawn from each mixture.

    Those beyond the ends are in no bin: counts then add up to fewer.
    """
    below = torch.special.ndtr(
        (torch.from_numpy(edges) - components.means.unsqueeze(-1))
        / components.deviations.unsqueeze(-1)
    )
    inside = (components.proportions.unsqueeze(-1) * below.diff(dim=-1)).sum(-2).numpy()
    outside = (1 - inside.sum(-1, keepdims=True)).clip(0)
    shares = np.concatenate([inside, outside], -1)
    return rng.multinomial(size, shares / shares.sum(-1, keepdims=True))[..., :-1]


def _log_likelihood(bins: Bins, components: ComponentDraws, edges: np.ndarray) -> np.ndarray:
    """(chains, draws, bins): the log-densities of all weights in a bin, added up; in nats."""
    bin_of = torch.from_numpy(np.digitize(bins.means.numpy(), edges[1:-1]))
    shape = components.means.shape[:2]
    flat = zip(*(getattr(components, name).flatten(0, 1) for name in COMPONENTS), strict=True)
    rows = []
    for means, deviations, proportions in flat:
        each = bins.log_probs(Mixture(means, deviations**-2, proportions))
        rows.append(torch.zeros(len(edges) - 1, dtype=each.dtype).index_add_(0, bin_of, each))
    return torch.stack(rows).unflatten(0, shape).numpy()


def _log_prior(sampled: SampledMixture, draws: HyperDraws) -> np.ndarray:
    flat = [sampled.target.log_hyperprior(row) for row in draws.vectors.flatten(0, 1)]
    return np.array(flat).reshape(draws.log_density.shape)
