"""How well given weights predict: error cost, score and mistakes over a pass through data."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.batches import Part, moved, moved_to_each
from pyro_sws.inference.finite import NotFinite, count_densities, count_outputs
from pyro_sws.inference.isolation import kept_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import Likelihood, counted_targets
from pyro_sws.weights.structures import value_of

DeviceDtype = tuple[torch.device, torch.dtype]

# What errors say of the network at each stage of a run.
STAGES = {
    "before": "before compression",
    "posterior": "of the posterior (retrained, not snapped)",
    "refined": "as the refinement snaps it",
    "quantized": "once quantized",
    "decoded": "decoded from the file",
}


@dataclass(frozen=True)
class Evaluation:
    """One pass of a network over data."""

    score: float  # in the likelihood's unit; lower is better
    error_cost_nats: float  # -log p(targets | weights), summed over the examples
    examples: int
    judged: int  # examples of which a target counts; see ``Likelihood``
    mistakes: int | None  # of those; None unless every example is right or wrong
    classes: int  # how many labels a target may have, where it is a label
    fit_cost_nats: float | None = None  # the error cost as a fit counts it, where that was asked
    mean_loss: float = 0.0  # what the score is of
    loss_variance: float = 0.0  # of an example around that mean: / examples it is the mean's
    zero_or_one: bool = False  # each loss is: the mean is a share


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A network to evaluate: any function of inputs (B, ...), moved to ``device_dtype`` first.

    ``point`` gives the value of a learned noise. ``observed`` (outputs, inputs) is the density that
    a fit counts by, with soft targets where the likelihood has any; its cost is measured too.
    ``hint`` is said where its outputs are not finite.
    """

    outputs: Callable[[Part], Tensor]
    device_dtype: DeviceDtype
    point: Mapping[str, Tensor] | None = None
    observed: Callable[[Tensor, Part], dist.TorchDistribution] | None = None
    hint: str = ""


def evaluate(
    model: Joint,
    weights: Mapping[str, Tensor],
    batches: Iterable,
    point: Mapping[str, Tensor] | None = None,
    what: str = "test",
    stage: str | None = None,
) -> Evaluation:
    """The model's network with these weights (tensor name -> value); see evaluate_network."""
    outputs, at = partial(model.outputs, weights), device_dtype(model)
    return evaluate_network(outputs, model.likelihood, batches, at, point, what, stage)


def evaluate_network(
    outputs_of: Callable[[Part], Tensor],
    likelihood: Likelihood,
    batches: Iterable,
    device_dtype: DeviceDtype,
    point: Mapping[str, Tensor] | None = None,
    what: str = "test",
    stage: str | None = None,
) -> Evaluation:
    """A network, or any function of inputs (B, ...), on the batches as ``device_dtype`` says.

    ``point`` gives the value of a learned noise; ``what`` and ``stage`` name the data and the
    network in errors. Raises ValueError for targets that cannot be, and for an example that is not
    finite, see ``evaluate_together``.
    """
    networks = {"only": Evaluated(outputs_of, device_dtype, point)}
    found = evaluations_or_not_finite(networks, likelihood, batches, what)["only"]
    if isinstance(found, NotFinite):
        raise found.error(what, stage)
    return found


def evaluate_together(
    networks: Mapping[str, Evaluated], likelihood: Likelihood, batches: Iterable, what: str = "test"
) -> dict[str, Evaluation]:
    """Several networks by name, in one pass through the batches: each sees the same ones.

    On each batch they start from the same state of torch's generators, so that networks that draw
    draw alike. Raises ValueError for no batches, and for targets that cannot be; and
    NotFiniteError, a ValueError, with the network's name and the number of examples, where outputs
    or log-densities are not finite: neither a score nor a cost can be made of them.
    """
    found = evaluations_or_not_finite(networks, likelihood, batches, what)
    evaluations: dict[str, Evaluation] = {}
    for name, each in found.items():
        if isinstance(each, NotFinite):
            raise each.error(what, STAGES.get(name, f"{name!r}"), networks[name].hint)
        evaluations[name] = each
    return evaluations


@torch.no_grad()
def evaluations_or_not_finite(
    networks: Mapping[str, Evaluated], likelihood: Likelihood, batches: Iterable, what: str = "test"
) -> dict[str, Evaluation | NotFinite]:
    """``evaluate_together``, with the counts in the place of an evaluation that cannot be."""
    sums: dict[str, list[_Sums]] = {name: [] for name in networks}
    last = list(networks)[-1:]
    each = [network.device_dtype for network in networks.values()]
    for batch in moved_to_each(batches, what, each):
        for (name, network), (inputs, targets) in zip(networks.items(), batch, strict=True):
            # The last one moves the generators on, or every batch would draw the same.
            with nullcontext() if name in last else _generators_kept(network.device_dtype[0]):
                try:
                    sums[name].append(_measured(network, likelihood, inputs, targets))
                except ValueError as error:
                    raise ValueError(f"{what}: {error}") from error.__cause__
    if not all(sums.values()):
        raise ValueError(f"{what} has no batches; give at least one (inputs, targets) pair")
    return {name: _summed(rows, likelihood, what) for name, rows in sums.items()}


class _Sums(NamedTuple):
    """Over the examples of one batch; zeros where any of them is not finite."""

    not_finite: NotFinite
    losses: float = 0.0  # each times its weight, as the following
    weights: float = 0.0  # how many targets of an example count; 1 where nothing says that
    products: tuple[float, float, float] = (0.0, 0.0, 0.0)  # weight^2 times loss^2, loss and 1
    cost: float = 0.0
    fit_cost: float | None = None
    examples: int = 0
    judged: int = 0
    mistakes: int | None = None
    zero_or_one: bool = False
    classes: int = 0


def _measured(network: Evaluated, likelihood: Likelihood, inputs: Part, targets: Part) -> _Sums:
    point, fit_cost = dict(network.point or {}), None
    conditioned = poutine.condition(likelihood, data=point)
    with pyro_step():  # functional_call swaps the weights in for a moment: one thread at a time
        outputs = network.outputs(inputs)
        if not_finite := count_outputs(inputs, targets, outputs, likelihood):
            return _Sums(not_finite)
        wanted = value_of(targets)
        likelihood.check(outputs, wanted)
        densities = conditioned(outputs).log_prob(wanted)
        cost = -densities.double().sum().item()
        if network.observed is not None:
            observed = poutine.condition(network.observed, data=point)
            fit_cost = float(-observed(outputs, inputs).log_prob(wanted).sum().double())
    losses = likelihood.losses(outputs, wanted)
    if not_finite := count_densities((densities, losses), len(inputs)):
        return _Sums(not_finite)
    weights = _weights(likelihood, wanted, losses.device, len(inputs))
    weighted = _by_example(losses, len(inputs)) * weights
    return _Sums(
        NotFinite(examples=len(inputs)),
        losses=weighted.sum().item(),
        weights=weights.sum().item(),
        products=(
            weighted.square().sum().item(),
            (weighted * weights).sum().item(),
            weights.square().sum().item(),
        ),
        cost=cost,
        fit_cost=fit_cost,
        examples=len(inputs),
        judged=int((weights > 0).sum()),
        mistakes=_mistakes(likelihood, outputs, wanted, losses),
        zero_or_one=_zero_or_one(losses),
        classes=_classes(likelihood, outputs, wanted),
    )


def _by_example(losses: Tensor, examples: int) -> Tensor:
    """(B,), in doubles; of a likelihood that has summed them, or has more than one, in equal parts.

    Their sum stays what it is.
    """
    if losses.shape == (examples,):
        return losses.double()
    return (losses.double().sum() / examples).expand(examples)


def _weights(likelihood: Likelihood, targets: Any, device: torch.device, examples: int) -> Tensor:
    """How many targets of each example count, or 1 where nothing says that; (B,)."""
    if hasattr(likelihood, "weights"):
        return likelihood.weights(targets)
    if not hasattr(likelihood, "counted"):
        return torch.ones(examples, dtype=torch.float64, device=device)
    return counted_targets(likelihood, targets).reshape(len(targets), -1).sum(1).double()


def _mistakes(
    likelihood: Likelihood, outputs: Tensor, targets: Tensor, losses: Tensor
) -> int | None:
    """How many examples are wrong; None where one is wrong in part.

    Losses whose mean is an error rate are mistakes already, also in a subclass with its own.
    """
    own = getattr(likelihood, "mistakes", None)
    if own is None or likelihood.score_unit == "percent":
        wrong = losses
    else:
        wrong = own(outputs, targets)
    return round(wrong.sum().item()) if _zero_or_one(wrong) else None


def _zero_or_one(values: Tensor) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _classes(likelihood: Likelihood, outputs: Any, targets: Any) -> int:
    if hasattr(likelihood, "classes"):
        return likelihood.classes(outputs)
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor):
        return 0
    return 2 if outputs.dim() == targets.dim() else outputs.shape[-1]


def _summed(rows: Sequence[_Sums], likelihood: Likelihood, what: str) -> Evaluation | NotFinite:
    if not_finite := NotFinite.total(row.not_finite for row in rows):
        return not_finite
    examples = sum(row.examples for row in rows)
    weights = sum(row.weights for row in rows)
    if not weights:
        raise ValueError(
            f"{what}: the likelihood ignores every target of its {examples} examples, and nothing "
            "can be scored; give some that count"
        )
    mean = sum(row.losses for row in rows) / weights
    fit_costs = [row.fit_cost for row in rows if row.fit_cost is not None]
    mistakes = [row.mistakes for row in rows if row.mistakes is not None]
    return Evaluation(
        score=likelihood.score(mean),
        error_cost_nats=sum(row.cost for row in rows),
        examples=examples,
        judged=sum(row.judged for row in rows),
        mistakes=sum(mistakes) if len(mistakes) == len(rows) else None,
        classes=rows[-1].classes,
        fit_cost_nats=sum(fit_costs) if fit_costs else None,
        mean_loss=mean,
        loss_variance=examples * _variance(rows, mean) / weights**2,
        zero_or_one=all(row.zero_or_one for row in rows),
    )


def _variance(rows: Sequence[_Sums], mean: float) -> float:
    """The sum of (weight (loss - mean))^2: of a ratio of two sums (Cochran 1977, sec. 2.11)."""
    squares, firsts, ones = (sum(each) for each in zip(*(r.products for r in rows), strict=True))
    return max(0.0, squares - 2 * mean * firsts + mean**2 * ones)


def _generators_kept(device: torch.device) -> AbstractContextManager[None]:
    return kept_rng(device)


def device_dtype(model: Joint) -> DeviceDtype:
    """Where the model computes, and in which dtype."""
    group = next(iter(model.groups.values()))
    return group.device, group.dtype


def error_cost(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> float:
    """-log p(targets | weights) in nats, summed over the examples, as a fit counts it.

    With soft targets where the likelihood has any; ``evaluate`` is of the targets alone. NaN or
    infinite where an example's outputs or log-density are not finite. Of a curvature what it says
    of the weights, and no batch is looked at.
    """
    with torch.no_grad():
        costs = _costs(model, weights, batches, point)
        return sum(float(cost.double()) for cost in costs)


def not_finite(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> NotFinite:
    """How many examples are not finite under these weights, and by what; the same walk again."""
    likelihood, counts = poutine.condition(model.likelihood, data=dict(point)), []
    with torch.no_grad():
        for inputs, targets in moved(batches, "batches", *device_dtype(model)):
            with pyro_step():
                outputs = model.outputs(weights, inputs)
                count = count_outputs(inputs, targets, outputs, model.likelihood)
                if not count:
                    densities = likelihood(outputs).log_prob(value_of(targets))
                    count = count_densities([densities], len(inputs))
            counts.append(count)
    return NotFinite.total(counts)


def error_gradient(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The gradient of ``error_cost`` in these weights; by name."""
    leaves = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
    with torch.enable_grad():
        for cost in _costs(model, leaves, batches, point):
            cost.backward()
    return {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in leaves.items()}


def _costs(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> Iterator[Tensor]:
    if not model.reads_data:
        yield model.weight_cost(weights)
        return
    observed = poutine.condition(model.observed, data=dict(point))
    for inputs, targets in moved(batches, "batches", *device_dtype(model)):
        with pyro_step():
            outputs = model.outputs(weights, inputs)
            cost = -observed(outputs, inputs).log_prob(value_of(targets)).sum()
        yield cost
