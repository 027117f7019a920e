"""What each family's docstring says, written out with numpy and scipy alone."""

from dataclasses import dataclass, replace

import numpy as np
from every_prior import RowScaled
from scipy import stats
from scipy.special import expit, log_softmax, logit, logsumexp, softmax

import pyro_sws as sws
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.priors import (
    DirichletProcess,
    GaussianPrior,
    Grid,
    Scaled,
    ScaleMixture,
    SparseDirichlet,
    SpikeAndSlabs,
    Structured,
    Ternary,
)


@dataclass(frozen=True)
class Written:
    """Each weight's mixture, (N, J) or (1, J), and its hyperpriors' log-density, in nats."""

    means: np.ndarray
    deviations: np.ndarray
    proportions: np.ndarray
    log_hyperpriors: float = 0.0
    values: np.ndarray | None = None  # what weights are rounded to, where no component says it

    def log_densities(self, w):
        return logsumexp(self._log_joint(w), axis=1)

    def complexity(self, w):
        return -self.log_densities(w).sum() - self.log_hyperpriors

    def cdf(self, w):
        below = stats.norm.cdf(w[:, None], self.means, self.deviations)
        return (self.proportions * below).sum(1)

    def snapped(self, w):
        """Each weight's most probable value: over components of one mean, probabilities add up."""
        if self.values is not None:
            return self.values[np.abs(w[:, None] - self.values).argmin(1)]
        joint = self._log_joint(w)
        means = np.broadcast_to(self.means, joint.shape)
        return np.array([_most_probable(*row) for row in zip(means, joint, strict=True)])

    def proportions_of_values(self, size):
        """Mean over weights of their values' proportions, by ascending value; (K,)."""
        if self.values is not None:
            edges = np.concatenate([[-np.inf], (self.values[1:] + self.values[:-1]) / 2, [np.inf]])
            return np.diff(stats.norm.cdf(edges, 0, self.deviations[0, 0]))
        means, shares = (
            np.broadcast_to(a, (size, a.shape[1])) for a in (self.means, self.proportions)
        )
        ranks = [np.unique(row, return_inverse=True)[1] for row in means]
        return np.mean([np.bincount(r, s) for r, s in zip(ranks, shares, strict=True)], axis=0)

    def at(self, part):
        """The same for the weights at ``part``."""
        own = {f: getattr(self, f) for f in ("means", "deviations", "proportions")}
        return replace(self, **{f: a if len(a) == 1 else a[part] for f, a in own.items()})

    def _log_joint(self, w):
        with np.errstate(divide="ignore"):  # a share may round to 0
            shares = np.log(self.proportions)
        return stats.norm.logpdf(w[:, None], self.means, self.deviations) + shares


def _most_probable(means, joint):
    levels, level_of = np.unique(means, return_inverse=True)
    return levels[np.bincount(level_of, np.exp(joint - joint.max())).argmax()]


def written(prior, point, group):
    """The family's formulas at a point: sites of the group, by name."""
    own = {s: v for s, v in point.items() if s.startswith(f"{group.name}.") and "weights" not in s}
    p = {s.removeprefix(f"{group.name}."): v.detach().double().numpy() for s, v in own.items()}
    return FAMILIES[type(prior)](prior, p, group)


def log_hyperprior(spec, value):
    match spec:
        case Gamma(shape, rate):
            return stats.gamma.logpdf(value, shape, scale=1 / rate).sum()
        case Beta(zeros, nonzeros):
            return stats.beta.logpdf(value, zeros, nonzeros)
        case Dirichlet(concentration):
            # scipy wants the shares to sum to 1 in double precision
            return stats.dirichlet.logpdf(value / value.sum(), [concentration] * len(value))
        case Normal(deviation):
            return stats.norm.logpdf(value, 0, deviation).sum()
    return 0.0  # fixed, or free


def shape(spec, p, shares, variances=(1.0,), masses=(1.0,)):
    """A spike, of one component or more, and slabs; with the hyperpriors that they share."""
    zero = p.get("zero_proportion", spec.zero_proportion)
    slabs = p.get("slab_precisions", spec.slab_precision)
    log_hyperpriors = log_hyperprior(spec.slab_precision, slabs)
    if spec.zero_proportion == 0:
        means, deviations, proportions = p["means"], slabs**-0.5, shares
    else:
        spike = p.get("spike_precision", spec.spike_precision)
        log_hyperpriors += log_hyperprior(spec.spike_precision, spike)
        log_hyperpriors += log_hyperprior(spec.zero_proportion, zero)
        means = np.append(np.zeros(len(variances)), p["means"])
        wide = np.broadcast_to(np.sqrt(1 / slabs), p["means"].shape)
        deviations = np.append(np.sqrt(np.divide(variances, spike)), wide)
        proportions = np.append(zero * np.asarray(masses), (1 - zero) * shares)
    return Written(means[None], deviations[None], proportions[None], log_hyperpriors)


def spike_and_slabs(spec, p, group, **spike):
    equal = np.full(len(p["means"]), 1 / len(p["means"]))
    found = shape(spec, p, p.get("slab_shares", equal), **spike)
    more = log_hyperprior(spec.slab_means, p["means"])
    more += log_hyperprior(spec.slab_shares, p.get("slab_shares"))
    return replace(found, log_hyperpriors=found.log_hyperpriors + more)


def structured(spec, p, group):
    base = spike_and_slabs(spec.shape, p, group)
    zero = expit(logit(base.proportions[0, 0]) + sum_of_effects(spec.by, p, "effects", group))
    slabs = base.proportions[0, 1:] / (1 - base.proportions[0, 0])
    proportions = np.column_stack([zero, np.outer(1 - zero, slabs)])
    deviations = np.repeat(base.deviations, group.size, axis=0)
    more = log_effects(p, "effects", spec.deviation)
    if spec.width_deviation is not None:
        widths = sum_of_effects(spec.by, p, "width_effects", group)
        deviations[:, 0] *= np.exp(-widths / 2)
        more += log_effects(p, "width_effects", spec.width_deviation)
    return Written(base.means, deviations, proportions, base.log_hyperpriors + more)


def sum_of_effects(by, p, kind, group):
    left = {axis: list(p.get(f"{axis}_{kind}", ())) for axis in by}

    def taken(axis, count):
        values, left[axis] = left[axis][:count], left[axis][count:]
        return values

    total = []
    for shape in group.shapes.values():
        effects = np.zeros(shape)
        if "tensor" in by:
            effects += taken("tensor", 1)
        if "row" in by and len(shape) > 1:
            for i, effect in enumerate(taken("row", shape[0])):
                effects[i] += effect
        if "column" in by and len(shape) > 1:
            for i, effect in enumerate(taken("column", shape[1])):
                effects[:, i] += effect
        total.append(effects.ravel())
    assert not any(left.values()), "an effect for each unit, and no more"
    return np.concatenate(total)


def log_effects(p, kind, deviation):
    sites = [f"{axis}_{kind}" for axis in ("tensor", "row", "column")]
    return sum(log_hyperprior(Normal(deviation), p[s]) for s in sites if s in p)


def scaled(spec, p, group):
    base = spike_and_slabs(spec.shape, p, group)
    counts = []
    for size in group.shapes.values():
        rows = size[0] if spec.by == "row" and len(size) > 1 else 1
        counts += [int(np.prod(size)) // rows] * rows
    each = np.repeat(p["scales"], counts)[:, None]
    improper = np.dot(counts, np.log(p["scales"]))
    return Written(
        base.means * each, base.deviations * each, base.proportions, base.log_hyperpriors + improper
    )


def dirichlet_process(spec, p, group):
    hazards, concentration = np.exp(p["log_hazards"]), np.exp(p["log_concentration"])
    sticks, left = [], 1.0
    for v in 1 - np.exp(-hazards):
        sticks.append(v * left)
        left *= 1 - v
    found = shape(spec, p, np.array([*sticks, left]))
    # Densities of logarithms: each times d x / d log x = x.
    more = log_hyperprior(spec.slab_means, p["means"])
    more += stats.expon.logpdf(hazards, scale=1 / concentration).sum() + p["log_hazards"].sum()
    more += log_hyperprior(spec.concentration, concentration) + p["log_concentration"]
    return replace(found, log_hyperpriors=found.log_hyperpriors + more)


def sparse_dirichlet(spec, p, group):
    found = shape(spec, p, softmax(p["log_gammas"]))
    more = log_hyperprior(spec.slab_means, p["means"]) + p["log_gammas"].sum()
    more += log_hyperprior(Gamma(spec.concentration / spec.slabs, 1.0), np.exp(p["log_gammas"]))
    return replace(found, log_hyperpriors=found.log_hyperpriors + more)


def grid(spec, p, group):
    steps = np.arange(spec.steps)
    positive = 1 + steps if spec.kind == "even" else 2**steps
    levels = np.append(-positive[::-1], positive)
    free = replace(SpikeAndSlabs(), **{f: getattr(spec, f) for f in SHARED})
    return spike_and_slabs(free, {**p, "means": p["spacing"] * levels}, group)


SHARED = ("zero_proportion", "spike_precision", "slab_precision", "slab_shares")


def ternary(spec, p, group):
    free = replace(SpikeAndSlabs(), **{f: getattr(spec, f) for f in SHARED})
    return spike_and_slabs(free, {**p, "means": p["spacing"] * np.array([-1.0, 1.0])}, group)


def scale_mixture(spec, p, group):
    variances, masses = nodes(spec.tail, spec.degrees, spec.floor, spec.nodes)
    return spike_and_slabs(spec, p, group, variances=variances, masses=masses)


def nodes(tail, degrees, floor, count):
    """Variances evenly spaced in their logarithm, and the mass that v p(v) gives them."""
    inverse_gamma = stats.invgamma(degrees / 2, scale=degrees / 2)
    low, high, density = {
        "laplace": (-2 * np.log(0.999), -2 * np.log(0.001), lambda v: np.exp(-v / 2) / 2),
        "student_t": (inverse_gamma.ppf(0.001), inverse_gamma.ppf(0.999), inverse_gamma.pdf),
        "horseshoe": (
            np.tan(np.pi * 0.001 / 2) ** 2,
            np.tan(np.pi * 0.99 / 2) ** 2,
            lambda v: 1 / (np.pi * np.sqrt(v) * (1 + v)),
        ),
    }[tail]
    variances = np.geomspace(max(low, floor**2), high, count)
    masses = variances * density(variances)
    return variances, masses / masses.sum()


def gaussian(spec, p, group):
    precision = p.get("precision", spec.precision)
    spacing = spec.reach / spec.steps / np.sqrt(precision)
    return Written(
        np.zeros((1, 1)),
        np.full((1, 1), precision**-0.5),
        np.ones((1, 1)),
        log_hyperprior(spec.precision, precision),
        spacing * np.arange(-spec.steps, spec.steps + 1),
    )


def row_scaled(spec, p, group):
    shapes = group.shapes.values()
    each = np.repeat(p["scales"], [np.prod(s[1:], dtype=int) for s in shapes for _ in range(s[0])])
    zero = np.concatenate([np.full(int(np.prod(s)), 0.9 if len(s) > 1 else 0.5) for s in shapes])
    slabs = np.repeat((1 - zero)[:, None] / spec.slabs, spec.slabs, axis=1)
    hyperpriors = log_hyperprior(Normal(1.0), p["means"])
    hyperpriors += log_hyperprior(Gamma(50.0, 50.0), p["scales"])
    return Written(
        np.append(0.0, p["means"]) * each[:, None],
        0.05 * each[:, None] * np.ones((1, spec.slabs + 1)),
        np.column_stack([zero, slabs]),
        hyperpriors,
    )


def by_hand(spec, p, group):
    zero, slabs = p["zero_proportion"], len(p["means"])
    hyperpriors = log_hyperprior(Normal(1.0), p["means"]) + log_hyperprior(Beta(20.0, 5.0), zero)
    hyperpriors += log_hyperprior(Gamma(50.0, 0.5), p["slab_precision"])
    return Written(
        np.append(0.0, p["means"])[None],
        np.append(1e-3**0.5, np.full(slabs, p["slab_precision"] ** -0.5))[None],
        np.append(zero, np.full(slabs, (1 - zero) / slabs))[None],
        hyperpriors,
    )


FAMILIES = {
    SpikeAndSlabs: spike_and_slabs,
    Structured: structured,
    Scaled: scaled,
    DirichletProcess: dirichlet_process,
    SparseDirichlet: sparse_dirichlet,
    Grid: grid,
    Ternary: ternary,
    ScaleMixture: scale_mixture,
    GaussianPrior: gaussian,
    RowScaled: row_scaled,
    sws.Custom: by_hand,
}


def error_cost(weights, inputs, targets):
    """Cross-entropy in nats, summed, of problems.classifier's network."""
    w1, b1, w2, b2 = np.split(weights, [32, 40, 64])
    hidden = np.tanh(inputs @ w1.reshape(8, 4).T + b1)
    log_p = log_softmax(hidden @ w2.reshape(3, 8).T + b2, axis=1)
    return -log_p[np.arange(len(targets)), targets].sum()
