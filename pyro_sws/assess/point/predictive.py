"""Class probabilities of a network, and averages over draws of its assignments and weights."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.assess.point.assignment_certainty import SoftPrior, responsibilities_by_block
from pyro_sws.assess.point.calibration import Predictions
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.batches import moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.finite import NotFinite, count_outputs
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import counted_targets
from pyro_sws.inference.targets import one_by_one
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, check_codebook_dtype, rounded
from pyro_sws.weights.structures import value_of
from pyro_sws.weights.weight_prior import WeightPrior

Weights = Mapping[str, Tensor]  # by tensor name; of what is left out the network has its own

# What the stages of ``compression_stages`` are called, in order; diagnostics.json has them as keys.
TRAINED, RETRAINED, SNAPPED, DRAWN = (
    "trained network",
    "retrained, not snapped",
    "snapped",
    "averaged over drawn snaps",
)


def predictions(
    model: Joint,
    draws: Iterable[Weights],
    batches: Iterable,
    point: Mapping[str, Tensor] | None = None,
    what: str = "test",
    seed: int = 0,
    stage: str | None = None,
) -> Predictions:
    """The class probabilities, averaged over ``draws`` of weights; of one network, a list of one.

    One pass through ``batches`` a draw, always under ``seed``, so that a loader that shuffles gives
    one order. Several labels an example count as so many examples, ignored ones as none. A
    Bernoulli's classes are 0 and 1. Raises ValueError for no draw, for other likelihoods, targets
    that cannot be, outputs that are not finite (``stage`` says of which network), and data that
    comes in another order every time.
    """
    total, labels, count = np.zeros(()), None, 0
    for weights in draws:
        with forked_rng(seed, device_dtype(model)[0]), torch.no_grad():
            probabilities, own = _pass(model, weights, batches, point or {}, what, stage)
        check_same_order(labels, own, what)
        total, labels, count = total + probabilities, own, count + 1
    if labels is None:
        raise ValueError("there are no draws of weights; give at least one")
    return Predictions(total / count, labels)


def predict_batches(
    model: Joint,
    weights: Weights,
    batches: Iterable,
    point: Mapping[str, Tensor],
    what: str,
    stage: str | None = None,
) -> Iterator[tuple[dist.TorchDistribution, Tensor]]:
    """p(targets | weights), computed in doubles, and the targets; batch by batch, in one pass.

    Of each target by itself: where an example has several, they are no event (see
    ``dist.Independent``), but more of the distribution's batch. Raises ValueError for no batches,
    for targets that cannot be, and, after the last batch, for outputs that are not finite, with
    their number: a batch that has any is left out.
    """
    likelihood = poutine.condition(model.likelihood, data=dict(point))
    batch, counts = None, []
    for batch in moved(batches, what, *device_dtype(model)):
        inputs, targets = batch
        with pyro_step():
            outputs = model.outputs(weights, inputs)
            counts.append(count_outputs(inputs, targets, outputs, model.likelihood))
            if counts[-1]:
                continue
            targets = value_of(targets)
            model.likelihood.check(outputs, targets)
            prediction = likelihood(outputs.double())
        yield one_by_one(prediction), targets
    if batch is None:
        raise ValueError(f"{what} has no batches; give at least one (inputs, targets) pair")
    if found := NotFinite.total(counts):
        raise found.error(what, stage)


def check_same_order(before: np.ndarray | None, now: np.ndarray, what: str) -> None:
    """Raise ValueError where a pass had other targets than the one before it, if there was one."""
    if before is not None and not np.array_equal(before, now):
        raise ValueError(f"{what} comes in another order every time; do not shuffle it")


def compression_stages(
    model: Joint,
    posterior: Posterior,
    quantized: Quantized,
    batches: Iterable,
    *,
    fitted: Posterior | None = None,
    draws: int = 20,
    weights: Mapping[str, Tensor] | None = None,
    what: str = "test",
    seed: int = 0,
    snapping: bool = False,
) -> dict[str, Predictions]:
    """Predictions by stage: the trained network, retrained, snapped, and averaged.

    The last is over networks of drawn assignments; with no draws there is no such stage. For
    ``draws`` and ``weights`` see ``draw_assignments``.

    ``posterior`` is the one that was quantised, ``quantized`` its network before rewriting.
    ``fitted`` is the fit before a refinement, whose weights are the retrained network's: those
    that a refined one snaps were never fitted as a network. Nor were those of a network that has
    learnt ``snapping``, as on a walk: there is no such stage then.
    """
    dtype = next(iter(quantized.codebooks.values())).dtype.name
    stages: dict[str, Iterable[Weights]] = {TRAINED: [{}]}
    if not snapping:
        stages[RETRAINED] = [(fitted or posterior).weights]
    stages[SNAPPED] = [as_weights(model, quantized.dequantize())]
    if draws:
        stages[DRAWN] = draw_assignments(posterior, draws, dtype, weights=weights, seed=seed)
    return {
        stage: predictions(
            model, of, batches, posterior.point, what, seed, f"at the stage {stage!r}"
        )
        for stage, of in stages.items()
    }


@torch.no_grad()
def draw_assignments(
    posterior: Posterior,
    draws: int,
    codebook_dtype: str = "float16",
    *,
    weights: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Iterator[dict[str, Tensor]]:
    """Networks whose weights each snap to a value drawn from their responsibilities.

    Independently weight by weight, given the weights and the mixture of ``posterior``, the one that
    is quantised. ``weights``, draws of them by tensor name (S, ...), are gone through in turn:
    each network then snaps its own; tensors that are not in it stay at the point. Where a prior
    has no responsibilities, weights snap as they always do. Under the widened components of a
    refinement a weight is drawn further from its own than the fit would have it. Takes nothing from
    the caller's generator.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    check_codebook_dtype(codebook_dtype)
    drawn = {} if weights is None else dict(weights)
    _check_draws(posterior, drawn)
    generators: dict[torch.device, torch.Generator] = {}
    for s in range(draws):
        network: dict[str, Tensor] = {}
        own = {name: values[s % len(values)] for name, values in drawn.items()}
        for name, group in posterior.groups.items():
            device = group.device
            if device not in generators:
                generators[device] = torch.Generator(device).manual_seed(seed)
            prior = rounded(posterior.priors[name], CODEBOOK_DTYPES[codebook_dtype])
            flat = group.flatten({**group.split(posterior.point[weights_site(name)]), **own})
            snapped = torch.empty_like(flat)
            for part in group.slices.values():
                snapped[part] = _draw(prior, flat, part, generators[device])
            network |= group.split(snapped)
        yield network


def weight_draws(posterior: Posterior) -> dict[str, Tensor]:
    """The posterior's draws of weights, by tensor name (S, ...); none where it has no spread."""
    by_tensor: dict[str, Tensor] = {}
    for group in posterior.groups.values():
        draws = (posterior.draws or {}).get(weights_site(group.name))
        if draws is not None and len(draws):
            each = [group.split(draw) for draw in draws.reshape(-1, group.size)]
            by_tensor |= {n: torch.stack([draw[n] for draw in each]) for n in group.shapes}
    return by_tensor


def _draw(prior: WeightPrior, flat: Tensor, part: slice, generator: torch.Generator) -> Tensor:
    """The values that the weights in ``part`` snap to; (n,)."""
    if isinstance(prior, SoftPrior):
        blocks = responsibilities_by_block(prior, flat, part)
        drawn = [torch.multinomial(r, 1, generator=generator).squeeze(1) for _, r in blocks]
        index = torch.cat(drawn)
    else:
        index = prior.assign(flat)[part]
    values, scale = prior.codebook(part)[index], prior.scale(part)
    return values if scale is None else values * scale


def _check_draws(posterior: Posterior, drawn: Mapping[str, Tensor]) -> None:
    shapes = {n: s for group in posterior.groups.values() for n, s in group.shapes.items()}
    for name, values in drawn.items():
        if name not in shapes:
            raise ValueError(f"no prior covers a tensor {name!r}; covered are {', '.join(shapes)}")
        if values.dim() < 1 or not len(values) or tuple(values.shape[1:]) != tuple(shapes[name]):
            given, own = tuple(values.shape), ("S", *shapes[name])
            raise ValueError(f"draws of {name!r} have shape {given}; they must be {own}")


def _pass(
    model: Joint,
    weights: Weights,
    batches: Iterable,
    point: Mapping[str, Tensor],
    what: str,
    stage: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    probabilities, labels = [], []
    for prediction, targets in predict_batches(model, weights, batches, point, what, stage):
        counted = counted_targets(model.likelihood, targets).flatten()
        probabilities.append(_probabilities(prediction)[counted])
        labels.append(targets.long().flatten()[counted])
    return torch.cat(probabilities).cpu().numpy(), torch.cat(labels).cpu().numpy()


def _probabilities(prediction: dist.TorchDistribution) -> Tensor:
    """(N, C) of a distribution over labels; in its own precision."""
    match prediction:
        case dist.Categorical(probs=p):
            return p.flatten(0, -2)
        case dist.Bernoulli(probs=p):
            return torch.stack([1 - p, p], dim=-1).flatten(0, -2)
    kind = type(prediction).__name__
    raise ValueError(f"calibration is of class probabilities; a {kind} likelihood has none")
