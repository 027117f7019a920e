"""How many components: one goes wherever the whole description is no longer without it. A driver.

It needs the data and the bytes, so it stands above the zones.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.batches import Batch, check_reiterable, moved
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.scoring import error_gradient, evaluate, placement
from pyro_sws.inference.steps import forked_rng, reseed
from pyro_sws.weights.guesses import Sensitivity, guesses
from pyro_sws.weights.merge import has_fixed_levels, singles
from pyro_sws.weights.moves import Move, after, disjoint
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, check_codebook_dtype, quantize

EXAMPLES = 10_000  # on which error costs are measured
MEASURED = 8  # moves a round, the most promising ones: twice as many seldom find one more
ROWS = 1000  # examples a batch
STEP = 0.1  # of a tensor's root mean square, from which to where the curvature is taken


def merge_by_description(
    model: Joint,
    posterior: Posterior,
    batches: Iterable,
    *,
    tau: float | None = None,
    codebook_dtype: str = "float16",
    examples: int = EXAMPLES,
    seed: int = 0,
) -> Posterior:
    """Merge or delete components while error cost + tau ln 2 bits of the quantised network falls.

    The error cost is in nats, that of about ``examples`` training examples, drawn once under
    ``seed``, for all of the data; bits are those of the encoded file before rewriting; ``tau`` is
    the posterior's unless given, and 1 makes the sum the two-part description length. Two
    components of neighbouring means merge by eq. 8, but for the mean: that of the weights that snap
    to either of them. What merges with a component of mean 0 becomes 0, and none such is deleted.
    Weights of a deleted one go to the next most responsible. The sum never rises, and components
    that change nothing go too.

    ``.merged`` says which fitted components are in which one now; deleted ones are in none. Groups
    whose levels are fixed stay as they are. Raises ValueError for a tau that is not positive, no
    examples and an unknown dtype, TypeError for a one-shot iterator.
    """
    tau = posterior.tau if tau is None else tau
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be a positive number, got {tau}")
    check_codebook_dtype(codebook_dtype)
    with forked_rng(seed, placement(model)[0]), torch.no_grad():
        subset = training_subset(model, batches, examples, seed)
        description = Description(model, subset, tau, codebook_dtype, seed)
        merged = {**singles(posterior), **posterior.merged}
        return _shortest(description, replace(posterior, merged=merged))


@dataclass(frozen=True, eq=False)
class Measured:
    """A posterior, its quantised network, and how long its description is."""

    posterior: Posterior
    quantized: Quantized
    nats: float


@dataclass(frozen=True, eq=False)
class Description:
    """What is made short: error cost + tau ln 2 bits, in nats, of a posterior's file."""

    model: Joint
    batches: Sequence[Batch]  # whose error cost stands for the whole data's
    tau: float
    codebook_dtype: str = "float16"
    seed: int = 0  # of networks that draw

    @property
    def nats_per_bit(self) -> float:
        return self.tau * math.log(2)

    @property
    def factor(self) -> float:
        """How many training examples each one of the batches stands for."""
        return self.model.data_size / sum(len(inputs) for inputs, _ in self.batches)

    def measure(self, posterior: Posterior, known: Measured | None = None) -> Measured:
        """Quantise, run and encode; not again where that gives the same network as ``known``."""
        quantized = quantize(posterior, self.codebook_dtype)
        if known is not None and quantized == known.quantized:
            return replace(known, posterior=posterior)
        reseed(self.seed, placement(self.model)[0])
        weights = as_weights(self.model, quantized.dequantize())
        found = evaluate(self.model, weights, self.batches, posterior.point, "batches")
        bits = 8 * len(encode(quantized))
        nats = self.factor * found.error_cost_nats + self.nats_per_bit * bits
        return Measured(posterior, quantized, nats)

    def sensitivity(self, found: Measured) -> Sensitivity:
        """Of the error cost to each weight; the curvature is the mean over a tensor's nonzero ones.

        Hutchinson's estimate of the Hessian's trace, from two gradients.
        """
        weights = as_weights(self.model, found.quantized.dequantize())
        generator = torch.Generator().manual_seed(self.seed)
        steps = {name: _signs(w, generator) * _size(w) for name, w in weights.items()}
        here, there = (
            error_gradient(self.model, at, self.batches, found.posterior.point)
            for at in (weights, {name: w + steps[name] for name, w in weights.items()})
        )
        curvature = {
            name: _ratio(((there[name] - here[name]) * step).sum(), step.square().sum())
            for name, step in steps.items()
        }
        return Sensitivity(
            {name: self.factor * slope for name, slope in here.items()},
            {name: (self.factor * c).expand_as(weights[name]) for name, c in curvature.items()},
        )


def training_subset(model: Joint, batches: Iterable, examples: int, seed: int = 0) -> list[Batch]:
    """About ``examples`` of the training data, or all of it, drawn under ``seed``; on the device.

    Raises TypeError for a one-shot iterator, ValueError for fewer than one example.
    """
    check_reiterable(batches, "batches")
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    share, (device, dtype) = examples / model.data_size, placement(model)
    pieces = []
    with forked_rng(seed, device):
        for inputs, targets in moved(batches, "batches", device, dtype):
            chosen = (torch.rand(len(inputs)) < share).to(device)
            if chosen.any():
                pieces.append((inputs[chosen], targets[chosen]))
    return list(_larger(pieces))


def _shortest(description: Description, posterior: Posterior) -> Posterior:
    """Rounds of measuring the most promising moves, until none of them shortens."""
    best = description.measure(posterior)
    tried: set[Move] = set()
    while True:
        best = _without_idle(description, best)
        promising = _promising(description, best, tried)
        found = [(description.measure(after(best.posterior, [m]), best), m) for m in promising]
        tried.update(promising)
        shorter = [(other, move) for other, move in found if other.nats <= best.nats]
        if not shorter:
            return best.posterior
        best = _together(description, best, sorted(shorter, key=lambda pair: pair[0].nats))


def _promising(description: Description, best: Measured, tried: set[Move]) -> list[Move]:
    """The moves of the best guesses, of each pair of components the best way of merging it."""
    snapped = as_weights(description.model, best.quantized.dequantize())
    sensitivity = description.sensitivity(best)
    guessed = guesses(best.posterior, snapped, sensitivity, description.nats_per_bit)
    untried = sorted((pair for pair in guessed if pair[0] not in tried), key=lambda pair: pair[1])
    ways = {(move.group, move.clusters): move for move, _ in reversed(untried)}
    return [move for move, _ in untried if ways[move.group, move.clusters] is move][:MEASURED]


def _together(
    description: Description, best: Measured, shorter: Sequence[tuple[Measured, Move]]
) -> Measured:
    """The moves of the most gain, as many at once as are better than the first one alone."""
    first, moves = shorter[0][0], disjoint(move for _, move in shorter)
    while len(moves) > 1:
        other = description.measure(after(best.posterior, moves), best)
        if other.nats <= first.nats:
            return other
        moves = moves[: len(moves) // 2]
    return first


def _without_idle(description: Description, best: Measured) -> Measured:
    """Without the components that no weight takes, and one for those that are stored as one."""
    for idle in (_unused, _coincident):
        while moves := disjoint(idle(best, CODEBOOK_DTYPES[description.codebook_dtype])):
            other = description.measure(after(best.posterior, moves), best)
            if not other.nats <= best.nats:
                break
            best = other
    return best


def _unused(best: Measured, dtype: torch.dtype) -> Iterator[Move]:
    for name, stored in _stored_means(best.posterior, dtype).items():
        quantized, posterior = best.quantized, best.posterior
        books = {quantized.codebook_of[tensor] for tensor in posterior.groups[name].shapes}
        taken = np.isin(stored, np.concatenate([quantized.codebooks[book] for book in books]))
        for j in np.flatnonzero(~taken & (stored != 0)) if taken.any() else ():
            yield Move(name, (posterior.merged[name][j],))


def _coincident(best: Measured, dtype: torch.dtype) -> Iterator[Move]:
    for name, stored in _stored_means(best.posterior, dtype).items():
        for i, j in pairwise(np.argsort(stored, kind="stable")):
            if stored[i] == stored[j]:
                clusters = best.posterior.merged[name]
                yield Move(name, (clusters[i], clusters[j]))


def _stored_means(posterior: Posterior, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Each group's means in the file's precision; without groups whose levels are fixed."""
    return {
        name: prior.mixture.means.to(dtype).cpu().numpy()
        for name, prior in posterior.priors.items()
        if not has_fixed_levels(prior)
    }


def _signs(weights: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 where a weight is not 0: most zeros must stay, or it would be another network."""
    signs = 2.0 * torch.randint(2, weights.shape, generator=generator) - 1
    return signs.to(weights) * (weights != 0)


def _size(weights: Tensor) -> Tensor:
    count = (weights != 0).sum().clamp_min(1)
    return STEP * (weights.square().sum() / count).sqrt()


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """At least 0, and 0 where nothing is known."""
    return (above / below).clamp_min(0) if below > 0 else torch.zeros_like(above)


def _larger(pieces: Iterable[Batch]) -> Iterator[Batch]:
    """The same examples in batches of ROWS or more, as far as their shapes agree."""
    pack: list[Batch] = []
    for piece in pieces:
        rows = sum(len(inputs) for inputs, _ in pack)
        if pack and (rows >= ROWS or _shapes(piece) != _shapes(pack[0])):
            yield _joined(pack)
            pack = []
        pack.append(piece)
    if pack:
        yield _joined(pack)


def _shapes(batch: Batch) -> list[torch.Size]:
    return [part.shape[1:] for part in batch]


def _joined(pack: Sequence[Batch]) -> Batch:
    inputs, targets = zip(*pack, strict=True)
    return torch.cat(inputs), torch.cat(targets)
