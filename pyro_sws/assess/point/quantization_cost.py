"""What snapping costs: error and score as one tensor at a time takes its codebook's values."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.evaluation import Evaluation, device_dtype, evaluate
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import WeightPrior


@dataclass(frozen=True)
class SnapCosts:
    """The network unsnapped, with one tensor snapped, and with all of them; on the same data."""

    score_name: str
    score_unit: str
    unsnapped: Evaluation
    tensors: Mapping[str, Evaluation]  # the named tensor snapped, the others not
    snapped: Evaluation  # all of them

    @property
    def interaction_nats(self) -> float:
        """What all snaps together cost more than the sum of what each costs alone."""
        alone = [self._change(found)["error_cost_nats"] for found in self.tensors.values()]
        return self._change(self.snapped)["error_cost_nats"] - sum(alone)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: a row for each tensor, and what all of them do. Changes are snapped - unsnapped.

        Bits by tensor are in a report's ``tensors``, under the same names.
        """
        return {
            "score": {"name": self.score_name, "unit": self.score_unit},
            "unsnapped": asdict(self.unsnapped),
            "snapped": asdict(self.snapped),
            "change": self._change(self.snapped),
            "interaction_nats": self.interaction_nats,
            "tensors": [
                {"name": name, **self._change(found)} for name, found in self.tensors.items()
            ],
        }

    def _change(self, found: Evaluation) -> dict[str, float]:
        return {
            "error_cost_nats": found.error_cost_nats - self.unsnapped.error_cost_nats,
            "score": found.score - self.unsnapped.score,
        }


def snap_costs(
    model: Joint,
    posterior: Posterior,
    quantized: Quantized,
    batches: Iterable,
    what: str = "test",
    seed: int = 0,
) -> SnapCosts:
    """Score and error cost, in nats summed over ``batches``, before and after snapping, by tensor.

    ``quantized`` is ``quantize`` of ``posterior``, before rewriting, which moves units. After a
    refinement, ``posterior`` is the fit before it, and "snapped" also has what refinement changed:
    the weights behind refined snaps were never fitted as a network, and alone predict worse. One
    pass through the data a tensor, and two more. Raises ValueError for tensors that do not go
    together.
    """
    weights, values = posterior.weights, as_weights(model, quantized.dequantize())
    _check_alike(weights, values)

    def at(changed: Mapping[str, Tensor]) -> Evaluation:
        # The same random numbers for each, of a loader that shuffles or a network that draws.
        with forked_rng(seed, device_dtype(model)[0]):
            return evaluate(model, {**weights, **changed}, batches, posterior.point, what)

    return SnapCosts(
        model.likelihood.score_name,
        model.likelihood.score_unit,
        unsnapped=at({}),
        tensors={name: at({name: values[name]}) for name in weights},
        snapped=at(values),
    )


def as_snapped(
    posterior: Posterior, point: Mapping[str, Tensor], groups: Mapping[str, Mapping[str, Any]]
) -> Posterior:
    """The posterior that a run quantised: with these weights, and a report's mixtures by group.

    Of a run folder: its ``posterior``, ``snapped_point`` and ``report["groups"]``.
    """
    priors: dict[str, WeightPrior] = {}
    for name, prior in posterior.priors.items():
        means, deviations, proportions = (
            torch.tensor(groups[name][key], dtype=torch.float64)
            for key in ("means", "deviations", "proportions")
        )
        fields = (means, deviations**-2, proportions)
        mixture = Mixture(*(values.to(prior.mixture.means) for values in fields))
        priors[name] = replace(prior, mixture=mixture)  # type: ignore[type-var]
    return replace(posterior, point={**posterior.point, **point}, priors=priors)


def _check_alike(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    shapes, found = ({k: tuple(v.shape) for k, v in of.items()} for of in (weights, values))
    if shapes != found:
        raise ValueError(
            f"posterior and quantized are of different tensors: {shapes} and {found}; give "
            "quantize(posterior), before rewriting"
        )
