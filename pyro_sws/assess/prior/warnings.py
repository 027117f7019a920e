"""Where a prior contradicts the trained weights, or is swamped by them: a sentence each."""

from collections.abc import Iterator

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.assess.prior.starting_point import StartingPoint, density_at, expected_zero_share
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import unscaled

# With 1 % of the votes a hyperprior moves the estimate by a hundredth of the way to its mode. (The
# zero proportion of LeNet-300-100 under Beta(999, 1), 0.4 % of the votes, went from 0.999 to 0.94.)
SWAMPED_SHARE = 0.01
# 10 times too wide costs log 10 - 1/2 = 1.8 nats a weight, 10 times too narrow 50 - log 10 = 47.
DEVIATION_RATIO = 10
# Steps of 1e-3 in the log of a precision need thousands to make up for a factor of 10.
START_RATIO = 10
# The density there is exp(-18) of its peak: such a weight is a billion to one against.
REACH_DEVIATIONS = 6


def prior_warnings(point: StartingPoint, deviation: float) -> list[str]:
    """What to mend before fitting, with the remedy. To be called under ``pyro_step``.

    ``deviation`` is the one that the density implies; see ``implied_deviation``.
    """
    checks = _swamped, _starts_elsewhere, _out_of_reach, _no_zeros, _wide_spike
    others = [warning for check in checks for warning in check(point)]
    return [*_of_another_width(point, deviation), *others]


def _of_another_width(point: StartingPoint, deviation: float) -> Iterator[str]:
    own = float(point.weights.std(correction=0))
    if own == 0 or 1 / DEVIATION_RATIO <= deviation / own <= DEVIATION_RATIO:
        return
    wider, ratio = ("wide", deviation / own) if deviation > own else ("narrow", own / deviation)
    yield (
        f"the prior starts {ratio:,.0f} times too {wider}: it expects a deviation of "
        f"{deviation:.3g}, the weights have {own:.3g}; start nearer to "
        "the weights (initialization, start_deviation)"
    )


def _swamped(point: StartingPoint) -> Iterator[str]:
    for site in point.sites.values():
        strength, weights = site.strength, point.group.size / site.entries
        # A strength of 0 is a flat density: it says nothing, and means to.
        if strength is None or not 0 < strength < SWAMPED_SHARE * weights:
            continue
        each = f" for each of its {site.entries} entries" if site.entries > 1 else ""
        votes = weights / strength
        remedy = site.times_as_strong(votes) or f"a {type(site.base).__name__} that much stronger"
        yield (
            f"{site.name} is swamped: {site.formula} says as much as {strength:,.4g} weights, the "
            f"group has {weights:,.0f}{each}, which outvote it {votes:,.0f} to 1; fix the value, "
            f"or give {remedy}"
        )


def _starts_elsewhere(point: StartingPoint) -> Iterator[str]:
    for site in point.sites.values():
        factor, start, centre = site.farthest()
        if factor > START_RATIO:
            what = " in odds" if isinstance(site.base, dist.Beta) else ""
            yield (
                f"{site.name} starts at {start}, {factor:,.0f} times{what} from where "
                f"{site.formula.partition(', mode')[0]} has it, {centre}; start nearer, or move "
                "the hyperprior"
            )


def _out_of_reach(point: StartingPoint) -> Iterator[str]:
    mixture = point.density.mixture
    weights = unscaled(point.density, point.group, point.weights)
    outside = ~_reached(mixture, weights)
    count = int(outside.sum())
    if count:
        far = point.weights[outside].abs().max()
        yield (
            f"{count:,} of the weights ({100 * count / len(weights):.2g} %), up to {far:.3g}, lie "
            f"more than {REACH_DEVIATIONS} deviations from every mean at the start: no component "
            "reaches them; spread the means over the weights, or start wider (initialization, "
            "start_deviation)"
        )


def _reached(mixture: Mixture, weights: Tensor) -> Tensor:
    """Which weights lie within reach of a component; (N,) bool, one component at a time."""
    reached = torch.zeros_like(weights, dtype=torch.bool)
    for mean, deviation in zip(mixture.means, mixture.deviations, strict=True):
        reached |= (weights - mean).abs() <= REACH_DEVIATIONS * deviation
    return reached


def _no_zeros(point: StartingPoint) -> Iterator[str]:
    if expected_zero_share(point.density, point.group) == 0:
        yield (
            "no weight is expected to be 0, so none will be pruned; give a zero_proportion above "
            "0, unless that is what you want"
        )


def _wide_spike(point: StartingPoint) -> Iterator[str]:
    """A spike that covers its neighbours takes their weights, unless its Gamma narrows it."""
    mixture = point.density.mixture
    slabs = mixture.means[mixture.means != 0].unique()
    if len(slabs) < 2 or len(slabs) == len(mixture):
        return
    spacing = float(slabs.max() - slabs.min()) / (len(slabs) - 1)
    width = min(_spike(mixture), _spike(_at_the_modes(point)))
    if width > spacing:
        yield (
            f"the spike's deviation is {width / spacing:.3g} times the spacing of the slabs at the "
            "start, and takes its neighbours' weights; narrow it (spike_precision), or have fewer "
            "slabs"
        )


def _spike(mixture: Mixture) -> float:
    """Its deviation, all components of mean 0 together."""
    at_zero = mixture.means == 0
    shares = mixture.proportions[at_zero] / mixture.proportions[at_zero].sum()
    return float((shares / mixture.precisions[at_zero]).sum().sqrt())


def _at_the_modes(point: StartingPoint) -> Mixture:
    """The mixture that the Gammas pull to: they at their modes, all else at the start."""
    values = {name: site.value for name, site in point.sites.items()}
    for name, site in point.sites.items():
        if isinstance(site.base, dist.Gamma) and len(site.centres) == 2:
            values[name] = site.centres[-1].expand_as(site.value)
    return density_at(point.prior, point.group, values)[0].mixture
