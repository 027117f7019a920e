"""How many components: one goes where the whole description is not longer without it. A driver.

It needs the data and the bytes, which no zone has both of.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise

import numpy as np
import torch

from pyro_sws.compression.component_moves import Move, after, disjoint
from pyro_sws.compression.description_length import Description, Measured
from pyro_sws.compression.encodings import Encodings
from pyro_sws.compression.move_estimates import estimates
from pyro_sws.compression.survey import EXAMPLES, sample_of
from pyro_sws.inference.batches import Batch, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.merge import has_fixed_levels, singles
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, check_codebook_dtype

MEASURED = 8  # moves a round, the most promising ones: twice as many seldom find one more


def merge_by_description(
    model: Joint,
    posterior: Posterior,
    batches: Iterable,
    *,
    tau: float | None = None,
    codebook_dtype: str = "float16",
    examples: int = EXAMPLES,
    sample: Sequence[Batch] | None = None,
    encodings: Encodings | None = None,
    rounds: int | None = None,
    seed: int = 0,
) -> Posterior:
    """Merge or delete components while error cost + tau ln 2 bits of the quantised network falls.

    The error cost is in nats: that of a sample of the training examples, scaled to all of them. The
    bits are those of the encoded file before rewriting. The sum never rises, and components that
    change nothing go too.

    Two components of neighbouring means merge by eq. 8 of Ullrich et al. 2017, except for the mean:
    it becomes that of the weights that snap to either of them. What merges with a component of mean
    0 becomes 0, and no component of mean 0 is deleted. The weights of a deleted component go to the
    next most responsible one. Groups whose levels are fixed stay as they are.

    Args:
        model: what ``joint`` returned, and the posterior is of.
        posterior: a fitted one, merged already or not.
        batches: a re-iterable of (inputs, targets), the training data.
        tau: weight of the bits, by default the posterior's; 1 makes the sum the two-part
            description length.
        codebook_dtype: of the values in the file, "float16" or "float32".
        examples: about how many training examples the sample has; it is drawn once.
        sample: the sample itself, where it is drawn already; ``batches`` are then not read.
        encodings: where lengths of files are remembered, to share with other steps.
        rounds: at most so many, each of up to MEASURED moves; None: until nothing is shorter.
        seed: of the sample, and of networks that draw.

    Returns:
        The posterior with other mixtures. Its ``.merged`` says which fitted components are in
        which one now; deleted ones are in none.

    Raises:
        ValueError: for a tau that is not positive, no examples and an unknown dtype.
        TypeError: for a one-shot iterator.
    """
    tau = posterior.tau if tau is None else tau
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be a positive number, got {tau}")
    check_codebook_dtype(codebook_dtype)
    with forked_rng(seed, device_dtype(model)[0]), torch.no_grad():
        if sample is None:
            sample = sample_of(batches, model.data_size, seed=seed, examples=examples)
        subset = list(moved(sample, "sample", *device_dtype(model)))
        description = Description(
            model, subset, tau, codebook_dtype, seed, encodings or Encodings()
        )
        merged = {**singles(posterior), **posterior.merged}
        return _shortest(description, replace(posterior, merged=merged), rounds)


def _shortest(description: Description, posterior: Posterior, rounds: int | None) -> Posterior:
    """Measure the most promising moves, round by round, until every one of them lengthens."""
    best = description.first(posterior)
    tried: set[Move] = set()
    for _ in count() if rounds is None else range(rounds):
        best = _without_idle(description, best)
        promising = _promising(description, best, tried)
        measured = [(description.measure(after(best.posterior, [m]), best), m) for m in promising]
        tried.update(promising)
        shorter = [(other, move) for other, move in measured if other.nats <= best.nats]
        if not shorter:
            break
        best = _together(description, best, sorted(shorter, key=lambda pair: pair[0].nats))
    return best.posterior


def _promising(description: Description, best: Measured, tried: set[Move]) -> list[Move]:
    """The moves with the best estimates; of each pair only the best way of merging it."""
    snapped = as_weights(description.model, best.quantized.dequantize())
    sensitivity = description.sensitivity(best)
    estimated = estimates(best.posterior, snapped, sensitivity, description.nats_per_bit)
    untried = sorted((pair for pair in estimated if pair[0] not in tried), key=lambda pair: pair[1])
    ways = {(move.group, move.clusters): move for move, _ in reversed(untried)}
    return [move for move, _ in untried if ways[move.group, move.clusters] is move][:MEASURED]


def _together(
    description: Description, best: Measured, shorter: Sequence[tuple[Measured, Move]]
) -> Measured:
    """The best moves made at once: as many as do better together than the first one alone."""
    first, moves = shorter[0][0], disjoint(move for _, move in shorter)
    while len(moves) > 1:
        other = description.measure(after(best.posterior, moves), best)
        if other.nats <= first.nats:
            return other
        moves = moves[: len(moves) // 2]
    return first


def _without_idle(description: Description, best: Measured) -> Measured:
    """Without components that no weight takes; those with the same stored mean become one."""
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
