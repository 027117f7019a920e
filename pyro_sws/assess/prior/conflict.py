"""Where prior and weights disagree: fitted values in their hyperpriors, trained weights in draws.

The checks before fitting, of width, reach and strength, are in ``prior.warnings``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict, cast

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ExpTransform
from scipy import stats
from scipy.stats.distributions import rv_frozen
from torch import Tensor

from pyro_sws.assess.prior.hyperparameters import Site
from pyro_sws.assess.prior.starting_point import (
    StartingPoint,
    density_at,
    starting_point,
    zero_share,
)
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import noise_trace
from pyro_sws.weights.weight_prior import WeightPrior

FAR = 0.01  # a tail probability below it is worth a look


class HyperparameterTailRow(TypedDict):
    """``placed`` of diagnostics.json: a row a hyperparameter."""

    name: str
    hyperprior: str
    entries: int
    value: str
    tail: float | None
    corrected: float | None
    far: bool


class PriorCheckRow(TypedDict):
    """``trained_weights`` of diagnostics.json: a row a figure."""

    figure: str
    trained: float
    low: float
    high: float
    tail: float


@dataclass(frozen=True)
class HyperparameterTail:
    """A fitted hyperparameter in its hyperprior.

    ``tail`` is 2 min(F, 1 - F) of the entry that is furthest out, F the hyperprior's distribution
    function at the fitted value, and ``corrected`` min(1, entries x tail): among J entries one is
    as far out as 1 / J. None where there is no such function: for what is free, fixed or joint.

    It says where the point lies, and is no p-value: at 0.001 the weights have pulled it there
    against the hyperprior, at 0.9 it lies near the hyperprior's median, perhaps because nothing
    pulls at it.
    """

    name: str
    hyperprior: str
    entries: int
    value: str  # of that entry; a precision as its deviation
    tail: float | None
    corrected: float | None

    @property
    def far(self) -> bool:
        return self.corrected is not None and self.corrected < FAR

    def to_dict(self) -> HyperparameterTailRow:
        """As JSON."""
        return {
            "name": self.name,
            "hyperprior": self.hyperprior,
            "entries": self.entries,
            "value": self.value,
            "tail": self.tail,
            "corrected": self.corrected,
            "far": self.far,
        }


@dataclass(frozen=True)
class PriorCheck:
    """A figure of the trained weights beside those of weights drawn from the prior."""

    figure: str
    trained: float
    low: float  # 5 % and 95 % quantiles of the draws
    high: float
    tail: float  # 2 min(share of draws not below, not above), both counting the trained one

    def to_dict(self) -> PriorCheckRow:
        """As JSON."""
        return cast(PriorCheckRow, asdict(self))


def hyperparameter_tails(
    model: Joint, point: Mapping[str, Tensor]
) -> dict[str, list[HyperparameterTail]]:
    """By group, each hyperparameter of a fit: how far out in its hyperprior it lies.

    ``point`` is a posterior's. A site whose hyperprior depends on another is judged given the
    other's fitted value. The likelihood's own, a learned noise, are under "likelihood". Of a
    refined posterior, all are those before refinement.
    """
    with forked_rng(0, device_dtype(model)[0]), pyro_step(), torch.no_grad():
        by_group = {
            name: [
                _tail_of(site) for site in density_at(model.priors[name], group, point)[1].values()
            ]
            for name, group in model.groups.items()
        }
        like = next(iter(point.values()))
        nodes: Mapping[str, Any] = noise_trace(model.likelihood, like, point).nodes
    sites = [
        _tail_of(Site(name, node["fn"], node["value"]))
        for name, node in nodes.items()
        if node["type"] == "sample"
    ]
    return {**by_group, "likelihood": sites} if sites else by_group


def check_trained_weights(
    model: Joint, draws: int = 100, seed: int = 0
) -> dict[str, list[PriorCheck]]:
    """By group: the model's trained weights among weights drawn from its prior, by three figures.

    Deviation, largest magnitude, and share that snaps to 0; each draw is of hyperparameters first,
    free ones at their start, and then of weights (Box 1980; Gelman, Meng & Stern 1996). The zero
    share of the trained weights is under the mixture at the start. A prior that prunes is meant to
    disagree with trained weights on zeros: the check says by how much. The least ``tail`` there can
    be is 2 / (draws + 1). Raises ValueError for draws < 1.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    with forked_rng(seed, device_dtype(model)[0]), torch.no_grad():
        start = model.start()
        with pyro_step():
            return {
                name: _check_group(starting_point(model, name, start), draws)
                for name in model.groups
            }


def _tail_of(site: Site) -> HyperparameterTail:
    tails = _tails(site)
    entry = 0 if tails is None else int(tails.argmin())
    value = site.shown(site.value.reshape(-1)[entry])
    if tails is None:
        return HyperparameterTail(site.name, site.formula, site.value.numel(), value, None, None)
    least = float(tails[entry])
    corrected = min(1.0, tails.size * least)
    return HyperparameterTail(site.name, site.formula, tails.size, value, least, corrected)


def _tails(site: Site) -> np.ndarray | None:
    """2 min(F, 1 - F) of every entry, in double precision (E,); None without a known F."""
    law, value = None if site.free else _univariate(site.base), _double(site.value)
    match site.base:
        # F does not change under a logarithm.
        case dist.TransformedDistribution(base_dist=base, transforms=[only]):
            if not site.free and isinstance(only.inv, ExpTransform):
                law, value = _univariate(_one(base)), np.exp(value)
    return None if law is None else np.ravel(2 * np.minimum(law.cdf(value), law.sf(value)))


def _one(density: dist.TorchDistribution) -> dist.TorchDistribution:
    while isinstance(density, dist.Independent):
        density = density.base_dist
    return density


def _univariate(density: dist.TorchDistribution) -> rv_frozen | None:
    """The same law by scipy, whose upper tails keep their digits; None where it has none."""
    match density:
        case dist.Gamma(concentration=shape, rate=rate):
            law = stats.gamma(_double(shape), scale=1 / _double(rate))
        case dist.Beta(concentration1=a, concentration0=b):
            law = stats.beta(_double(a), _double(b))
        case dist.Dirichlet(concentration=a):  # each share by itself is a Beta
            law = stats.beta(_double(a), _double(a.sum(-1, keepdim=True) - a))
        case dist.Normal(loc=loc, scale=scale):
            law = stats.norm(_double(loc), _double(scale))
        case dist.LogNormal(loc=loc, scale=scale):
            law = stats.lognorm(_double(scale), scale=np.exp(_double(loc)))
        case dist.HalfNormal(scale=scale):
            law = stats.halfnorm(scale=_double(scale))
        case dist.Exponential(rate=rate):
            law = stats.expon(scale=1 / _double(rate))
        case _:
            return None
    return law


def _double(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _check_group(point: StartingPoint, draws: int) -> list[PriorCheck]:
    trained = _figures(point, point.density, point.weights)
    drawn: dict[str, list[float]] = {figure: [] for figure in trained}
    for _ in range(draws):
        density, _ = point.draw()
        figures = _figures(point, density, density.sample(point.group.size))
        for figure, value in figures.items():
            drawn[figure].append(value)
    return [_among(figure, value, np.array(drawn[figure])) for figure, value in trained.items()]


def _figures(point: StartingPoint, density: WeightPrior, flat: Tensor) -> dict[str, float]:
    return {
        "deviation": float(flat.double().std(correction=0)),
        "largest magnitude": float(flat.abs().max()),
        "zero share": zero_share(density, point.group, flat),
    }


def _among(figure: str, trained: float, drawn: np.ndarray) -> PriorCheck:
    above, below = (
        (side.sum() + 1) / (len(drawn) + 1) for side in (drawn >= trained, drawn <= trained)
    )
    low, high = np.quantile(drawn, [0.05, 0.95])
    tail = min(1.0, 2 * float(min(above, below)))
    return PriorCheck(figure, trained, float(low), float(high), tail)
