"""The prior predictive: what networks drawn from a prior do on real inputs, before any fitting."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_sws.assess.prior.dead_units import watch_units
from pyro_sws.assess.prior.starting_point import StartingPoint, starting_point, zero_share
from pyro_sws.inference.batches import Part, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.inference.priors.shared import SharedSites
from pyro_sws.inference.targets import one_by_one
from pyro_sws.weights.structures import shape_of
from pyro_sws.weights.weight_prior import WeightPrior

EXAMPLES_AT_ONCE = 100  # bounds the memory that the activations take
# Shares of the largest entropy. A mean this close to 0 or to the largest leaves no room for inputs
# on which the network is neither certain nor without a clue.
CERTAIN, UNSURE = 0.01, 0.99


@dataclass(frozen=True)
class NetworkBehaviour:
    """What a network of certain weights does on the inputs."""

    entropy_nats: float | None  # mean over the predictions; None where they are of no labels
    output_mean: float  # over inputs and outputs, as the deviation
    output_deviation: float
    dead_share: float | None  # of the rectified units; None where the network has none
    zero_share: float  # of the covered weights: those that snap to 0


class Spread(TypedDict):
    """Of a figure over the draws."""

    lowest: float
    mean: float
    highest: float


class PriorPredictiveSummary(TypedDict):
    """A prior predictive as JSON; figures are the fields of ``NetworkBehaviour``."""

    examples: int
    likelihood: str
    maximum_entropy_nats: float | None
    trained: dict[str, float | None]
    summary: dict[str, Spread | None]
    output_deviation: float | None
    draws: list[dict[str, float | None]]
    kept_at_their_start: list[str]
    seed: int
    warnings: list[str]


@dataclass(frozen=True)
class PriorPredictive:
    """Figures of networks drawn from the prior, beside those of the trained network."""

    examples: int
    likelihood: str
    maximum_entropy_nats: float | None  # log(classes); log 2 for a Bernoulli
    trained: NetworkBehaviour
    draws: tuple[NetworkBehaviour, ...]
    kept: tuple[str, ...]  # sites with no hyperprior to draw from: they stay at their start
    seed: int

    @property
    def output_deviation(self) -> float:
        """Of the outputs of all draws together: that within each, and that of their means."""
        means = torch.tensor([draw.output_mean for draw in self.draws], dtype=torch.float64)
        within = sum(draw.output_deviation**2 for draw in self.draws) / len(self.draws)
        return math.sqrt(within + float(means.var(correction=0)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where every draw predicts nothing, or knows no doubt, or most draws are dead."""
        return (*_certain_or_unsure(self), *_dead(self))

    def to_dict(self) -> PriorPredictiveSummary:
        """As JSON, with lowest, mean and highest of the draws; None for what is not finite."""
        draws = [_numbers(draw) for draw in self.draws]
        return {
            "examples": self.examples,
            "likelihood": self.likelihood,
            "maximum_entropy_nats": self.maximum_entropy_nats,
            "trained": _numbers(self.trained),
            "summary": {key: _spread([draw[key] for draw in draws]) for key in draws[0]},
            "output_deviation": _number(self.output_deviation),
            "draws": draws,
            "kept_at_their_start": list(self.kept),
            "seed": self.seed,
            "warnings": list(self.warnings),
        }


def prior_predictive(
    net: nn.Module,
    rules: Prior | Sequence[Rule],
    inputs: Part,
    *,
    likelihood: str | Likelihood | Callable[..., object] = "categorical",
    start: Mapping[str, Tensor] | None = None,
    draws: int = 10,
    seed: int = 0,
) -> PriorPredictive:
    """Draw hyperparameters, then weights, and run the network on the inputs (B, ...), draw by draw.

    Hyperparameters come from their hyperpriors. A free one has none: a draw of it would have no
    meaning, and it stays at its start. What no rule covers stays as it is. The network runs in eval
    mode, on a copy. Dead units are those of ``nn.ReLU`` and ``nn.ReLU6`` modules that are 0 on
    every input, a channel being one unit; functional calls such as ``torch.relu`` cannot be seen.

    ``start``: weights by tensor name, instead of the network's own, as in ``joint``. Raises
    ValueError for draws < 1, no inputs, or inputs that the network cannot take.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if len(inputs) == 0:
        raise ValueError(f"there are no inputs, only {shape_of(inputs)}; give at least one")
    model = joint(net, rules, likelihood, len(inputs), start=start)
    device, dtype = device_dtype(model)
    ((inputs, _),) = moved([(inputs, inputs)], "inputs", device, dtype)
    with forked_rng(seed, device), torch.no_grad():
        point = model.start()
        with pyro_step():
            groups = [starting_point(model, name, point) for name in model.groups]
            own = [(group, group.density, group.weights) for group in groups]
            trained, maximum = _predict(model, own, inputs, point)
            drawn = [_predict(model, _draw(groups), inputs, point)[0] for _ in range(draws)]
    kept = [name for group in groups for name, site in group.sites.items() if site.free]
    family = type(model.likelihood).__name__
    return PriorPredictive(len(inputs), family, maximum, trained, tuple(drawn), tuple(kept), seed)


Drawn = tuple[StartingPoint, WeightPrior, Tensor]  # a group, a density, and weights of it


def _draw(groups: Sequence[StartingPoint]) -> list[Drawn]:
    with SharedSites():
        densities = [group.draw()[0] for group in groups]
    return [(g, d, d.sample(g.group.size)) for g, d in zip(groups, densities, strict=True)]


def _predict(
    model: Joint, drawn: Sequence[Drawn], inputs: Part, point: Mapping[str, Tensor]
) -> tuple[NetworkBehaviour, float | None]:
    """The figures of the network with these weights, and the largest entropy there can be."""
    weights: dict[str, Tensor] = {}
    zeros = size = 0.0
    for start, density, flat in drawn:
        weights |= start.group.split(flat)
        zeros += zero_share(density, start.group, flat) * start.group.size
        size += start.group.size
    starts = range(0, len(inputs), EXAMPLES_AT_ONCE)
    parts = [slice(first, first + EXAMPLES_AT_ONCE) for first in starts]
    with watch_units(model.net) as units:
        outputs = torch.cat([_outputs(model, weights, inputs[part]) for part in parts])
    entropy, maximum = _entropy(poutine.condition(model.likelihood, data=dict(point))(outputs))
    behaviour = NetworkBehaviour(
        entropy_nats=entropy,
        output_mean=float(outputs.double().mean()),
        output_deviation=float(outputs.double().std(correction=0)),
        dead_share=units.dead_share,
        zero_share=zeros / size,
    )
    return behaviour, maximum


def _outputs(model: Joint, weights: Mapping[str, Tensor], inputs: Part) -> Tensor:
    try:
        return model.outputs(weights, inputs)
    except ValueError as error:
        if error.__cause__ is None:
            raise
        given, reason = shape_of(inputs), str(error.__cause__).partition("\n")[0]
        raise ValueError(f"the network fails on inputs of shape {given}: {reason}") from None


def _entropy(predictions: dist.TorchDistribution) -> tuple[float | None, float | None]:
    """Mean entropy of a prediction in nats and its maximum; None where they are of no labels."""
    match one_by_one(predictions):
        case dist.Categorical() as each:
            return float(each.entropy().mean()), math.log(each.logits.shape[-1])
        case dist.Bernoulli() as each:
            return float(each.entropy().mean()), math.log(2)
    return None, None


def _certain_or_unsure(drawn: PriorPredictive) -> Iterator[str]:
    entropies = [draw.entropy_nats for draw in drawn.draws]
    known = [e for e in entropies if e is not None and math.isfinite(e)]
    if not drawn.maximum_entropy_nats or len(known) < len(entropies):
        return
    shares = [e / drawn.maximum_entropy_nats for e in known]
    if max(shares) < CERTAIN:
        yield (
            "every network drawn is certain of every prediction (their entropy is at most "
            f"{100 * max(shares):.2g} % of its maximum): such weights are too large for this "
            "network; narrow the slabs, or expect more zeros"
        )
    own = (drawn.trained.entropy_nats or 0) / drawn.maximum_entropy_nats
    if min(shares) > UNSURE > own:  # no contradiction where the network given is untrained
        yield (
            "every network drawn takes all classes for equally probable (the entropy is at least "
            f"{100 * min(shares):.3g} % of its maximum): such weights compute nothing. As a code "
            "for weights the prior may do; as a belief about networks, widen the slabs or expect "
            "fewer zeros"
        )


def _dead(drawn: PriorPredictive) -> Iterator[str]:
    dead = sum(draw.dead_share == 1 for draw in drawn.draws)
    if dead > len(drawn.draws) / 2:
        yield (
            f"in {dead} of {len(drawn.draws)} networks drawn every rectified unit is 0 on every "
            f"input, against {100 * (drawn.trained.dead_share or 0):.3g} % in the trained one: "
            "nothing that the input says gets through; expect fewer zeros, or give the biases a "
            "prior of their own"
        )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"lowest": min(known), "mean": sum(known) / len(known), "highest": max(known)}


def _numbers(behaviour: NetworkBehaviour) -> dict[str, float | None]:
    return {key: _number(value) for key, value in asdict(behaviour).items()}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
