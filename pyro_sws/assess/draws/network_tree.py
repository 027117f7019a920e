"""The network's tree for ArviZ: drawn networks, where the targets are what was observed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
import xarray as xr
from torch import Tensor

from pyro_sws.assess.draws.inference_data import SAMPLE_DIMS, inference_data
from pyro_sws.assess.point.predictive import (
    Weights,
    check_same_order,
    draw_assignments,
    predict_batches,
    weight_draws,
)
from pyro_sws.assess.prior.starting_point import starting_point
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.finite import NotFinite, count_densities
from pyro_sws.inference.fit import as_weights, complexity_cost
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import counted_targets, noise_trace
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, check_codebook_dtype, quantize, rounded
from pyro_sws.weights.weight_prior import WeightPrior

MOST_VALUES = 4_000_000  # weights of all draws together: above, only figures by tensor are kept
LARGEST_RATE = 2.0**48  # of a Poisson: above, a float32 cannot tell the counts from it
BY_TENSOR = ("nonzero", "size", "count")
TAKEN = (*SAMPLE_DIMS, "tensor", "example", "targets", *BY_TENSOR)
Groups = Mapping[str, Mapping[str, np.ndarray]]  # as inference_data takes them


def network_tree(
    model: Joint,
    fitted: Posterior,
    snapped: Posterior,
    batches: Iterable,
    *,
    guide: str,
    codebook_dtype: str = "float16",
    draws: int = 20,
    prior_draws: int = 20,
    what: str = "test",
    seed: int = 0,
    versions: Mapping[str, str] | None = None,
) -> xr.DataTree:
    """Draws of the network beside those of its prior, and what each predicts on ``batches``.

    Where the weights of ``fitted`` have spread, the posterior's draws are its own, all of them and
    not snapped, and ``guide``, whose they are, is the inference method. Else they are ``draws``
    networks whose weights each snap to a drawn value (see ``draw_assignments`` of ``snapped``,
    which is the posterior that was quantised); with 0 draws, one, as it is quantised. Of such draws
    the inference method is "delta": they are spread around a point, not a posterior's. Networks of
    the prior have hyperparameters drawn as in ``StartingPoint.draw``.

    In ``posterior`` and ``prior``, by tensor: ``size``, the root mean square of the weights as they
    are drawn, and ``nonzero``, how many of them are not 0 once snapped; in ``posterior`` also each
    tensor's values by its name, if those of all draws are at most ``MOST_VALUES`` (but for names in
    ``TAKEN`` or with "/"). ``targets`` are the data in ``observed_data``, are drawn from each
    network's predictions in ``posterior_predictive`` and ``prior_predictive``, and have
    log-densities in nats in ``log_likelihood``; several targets an example count as so many
    examples, ignored ones as none. ``sample_stats``: ``error_cost_nats``, summed over the batches,
    and, of weights that are not snapped, ``complexity_cost_nats`` at the fitted hyperparameters.
    The attribute ``data`` is ``what``.

    A leave-one-out score means something only where ``batches`` are the data of the fit, and tau
    is 1. There is no ``log_p`` and ``log_q`` to weight draws by: of a low-rank guide q is not in
    the posterior, and each draw of the weights would need its own hyperparameters.

    One pass through the data a network. Takes nothing from the caller's generator. Raises
    ValueError for draws below 0, for weights with spread under the guide "delta", for targets that
    cannot be, for outputs and log-likelihoods that are not finite, and for data that comes in
    another order every time.
    """
    spread = weight_draws(fitted)
    _check(spread, guide, draws, prior_draws)
    check_codebook_dtype(codebook_dtype)
    counts = {name: values.numel() for name, values in fitted.weights.items()}
    if spread:
        size = min(map(len, spread.values()))
        networks = _spread(model, fitted, snapped, spread, size, codebook_dtype)
    else:
        size = max(draws, 1)
        networks = _assigned(model, snapped, draws, codebook_dtype, seed)
    few = size * sum(counts.values()) <= MOST_VALUES
    kept = [name for name in counts if few and name not in TAKEN and "/" not in name]
    rng, rows = np.random.default_rng(seed), []
    observed: dict[str, np.ndarray] = {}
    of_prior = _from_prior(model, prior_draws, rng) if prior_draws else ()
    for network in chain(networks, of_prior):
        with forked_rng(seed, device_dtype(model)[0]), torch.no_grad():
            seen = _pass(model, network, batches, rng, what)
        check_same_order(observed.get("targets"), seen.targets, what)
        observed["targets"] = seen.targets
        rows.append(_row(network, seen, list(counts), kept))
    groups: Groups = {
        **_stacked(rows[:size]),
        **_stacked(rows[size:]),
        "observed_data": observed,
        "constant_data": {
            "count": np.array(list(counts.values())),
            "training_examples": np.array(model.data_size),
        },
    }
    dims = {name: ["tensor"] for name in BY_TENSOR}
    tree = inference_data(
        groups,
        inference_method=guide if spread else "delta",
        tau=fitted.tau,
        # Where one target is a vector, ArviZ's own names for the dimensions will have to do.
        dims=dims | ({"targets": ["example"]} if observed["targets"].ndim == 1 else {}),
        coords={"tensor": list(counts)},
        versions=versions,
    )
    tree.attrs["data"] = what
    return tree


@dataclass(frozen=True, eq=False)
class _Network:
    """A draw: weights and figures by tensor, and the sites of the likelihood (a learned noise)."""

    weights: Weights
    nonzero: Mapping[str, int]
    sites: Mapping[str, Tensor]
    complexity_cost_nats: float | None = None
    of_prior: bool = False

    @property
    def stage(self) -> str:
        """What errors call it."""
        return "drawn from the prior" if self.of_prior else "drawn from the posterior"


@dataclass(frozen=True, eq=False)
class _Seen:
    """A network's pass through the data: targets, (N,) or (N, ...), and log-likelihoods, (N,)."""

    targets: np.ndarray
    drawn: np.ndarray  # from the predictions
    log_likelihood: np.ndarray  # of ``targets``


def _spread(
    model: Joint,
    fitted: Posterior,
    snapped: Posterior,
    drawn: Weights,
    size: int,
    codebook_dtype: str,
) -> Iterator[_Network]:
    dtype, point = CODEBOOK_DTYPES[codebook_dtype], fitted.weights
    priors = {name: rounded(prior, dtype) for name, prior in snapped.priors.items()}
    for s in range(size):
        weights = {**point, **{name: values[s] for name, values in drawn.items()}}
        nonzero: dict[str, int] = {}
        flats: dict[str, Tensor] = {}
        for name, group in fitted.groups.items():
            flats[weights_site(name)] = flat = group.flatten(weights)
            nonzero |= _nonzero(priors[name], group, flat)
        cost = complexity_cost(model, {**fitted.point, **flats})
        yield _Network(weights, nonzero, _sites(model, fitted.point), cost)


def _assigned(
    model: Joint, snapped: Posterior, draws: int, codebook_dtype: str, seed: int
) -> Iterator[_Network]:
    if draws:
        networks: Iterable[Weights] = draw_assignments(snapped, draws, codebook_dtype, seed=seed)
    else:
        networks = [as_weights(model, quantize(snapped, codebook_dtype).dequantize())]
    for weights in networks:
        nonzero = {name: int(values.count_nonzero()) for name, values in weights.items()}
        yield _Network(weights, nonzero, _sites(model, snapped.point))


def _from_prior(model: Joint, draws: int, rng: np.random.Generator) -> Iterator[_Network]:
    device = device_dtype(model)[0]
    with forked_rng(_seed(rng), device), pyro_step(), torch.no_grad():
        start = model.start()
        points = [starting_point(model, name, start) for name in model.groups]
    for _ in range(draws):
        weights: dict[str, Tensor] = {}
        nonzero: dict[str, int] = {}
        with forked_rng(_seed(rng), device), pyro_step(), torch.no_grad():
            for point in points:
                density, _ = point.draw()
                flat = density.sample(point.group.size)
                weights |= point.group.split(flat)
                nonzero |= _nonzero(density, point.group, flat)
            nodes: Mapping[str, Any] = noise_trace(model.likelihood, flat, {}).nodes
            values = {name: nodes[name]["value"] for name in model.likelihood.start()}
        yield _Network(weights, nonzero, _sites(model, values), of_prior=True)


def _sites(model: Joint, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values[name].double() for name in model.likelihood.start()}


def _nonzero(prior: WeightPrior, group: Group, flat: Tensor) -> dict[str, int]:
    """How many of each tensor's weights do not snap to 0."""
    indices = prior.assign(flat)
    return {
        name: int(prior.codebook(part)[indices[part]].count_nonzero())
        for name, part in group.slices.items()
    }


def _pass(
    model: Joint, network: _Network, batches: Iterable, rng: np.random.Generator, what: str
) -> _Seen:
    parts, counts = [], []
    for prediction, targets in predict_batches(
        model, network.weights, batches, network.sites, what, network.stage
    ):
        # Not from the generator of the pass: that is the same for every network, so that their
        # draws would go together, and it may be what a loader takes its order from.
        with forked_rng(_seed(rng), targets.device):
            drawn = _draw_targets(prediction)
        exact = targets.double() if targets.is_floating_point() else targets
        shape = (-1, *prediction.event_shape)
        log_likelihood = prediction.log_prob(exact).reshape(-1)
        if not network.of_prior:  # such a network may rule the data out
            counts.append(count_densities([log_likelihood], len(log_likelihood)))
        part = targets.reshape(shape), drawn.to(targets.dtype).reshape(shape), log_likelihood
        if not prediction.event_shape:  # each target is by itself
            kept = counted_targets(model.likelihood, targets).flatten()
            part = part[0][kept], part[1][kept], part[2][kept]
        parts.append(part)
    if counts and (found := NotFinite.total(counts)):
        raise found.error(what, network.stage)
    return _Seen(*(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)))


def _draw_targets(prediction: dist.TorchDistribution) -> Tensor:
    drawn = prediction.sample()
    if isinstance(prediction, dist.Poisson):  # torch's counts overflow at 2^63, and silently
        drawn = torch.where(prediction.rate < LARGEST_RATE, drawn, prediction.rate)
    return drawn


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


def _row(network: _Network, seen: _Seen, names: Iterable[str], kept: Iterable[str]) -> Groups:
    """A draw's part of each group."""
    figures = {
        "nonzero": np.array([network.nonzero[name] for name in names]),
        "size": np.array([_root_mean_square(network.weights[name]) for name in names]),
    }
    if network.of_prior:
        return {"prior": figures, "prior_predictive": {"targets": seen.drawn}}
    stats = {"error_cost_nats": -seen.log_likelihood.sum()}
    if network.complexity_cost_nats is not None:
        stats["complexity_cost_nats"] = np.array(network.complexity_cost_nats)
    return {
        "posterior": {**{name: network.weights[name].cpu().numpy() for name in kept}, **figures},
        "posterior_predictive": {"targets": seen.drawn},
        "log_likelihood": {"targets": seen.log_likelihood.astype(np.float32)},
        "sample_stats": stats,
    }


def _root_mean_square(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def _stacked(rows: list[Groups]) -> dict[str, dict[str, np.ndarray]]:
    """One chain of the rows, each a draw."""
    return {
        group: {name: np.stack([row[group][name] for row in rows])[None] for name in variables}
        for group, variables in (rows[0] if rows else {}).items()
    }


def _check(spread: Weights, guide: str, draws: int, prior_draws: int) -> None:
    for name, count in {"draws": draws, "prior_draws": prior_draws}.items():
        if not isinstance(count, Integral) or count < 0:
            raise ValueError(f"{name} must be a whole number >= 0, got {count}")
    if spread and guide == "delta":
        raise ValueError(
            "the weights have draws, and a delta guide has none; guide must be the name of the one "
            "that they are of, such as 'normal'"
        )
