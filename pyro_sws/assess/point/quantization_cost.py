"""What snapping costs: error and score as one tensor at a time takes its codebook's values."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TypedDict, cast

from torch import Tensor

from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.evaluation import STAGES, Evaluation, device_dtype, evaluate
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Posterior

OF_LOSSES = ("mean_loss", "loss_variance", "zero_or_one", "judged")  # the score says as much


class ScoreName(TypedDict):
    """What a network is scored by."""

    name: str
    unit: str


class EvaluationRow(TypedDict):
    """An ``Evaluation`` as JSON."""

    score: float
    error_cost_nats: float
    examples: int
    mistakes: int | None
    classes: int


class CostChange(TypedDict):
    """Snapped - unsnapped."""

    error_cost_nats: float
    score: float


class TensorCostChange(CostChange):
    """What one tensor changes alone."""

    name: str


class QuantizationCostSummary(TypedDict):
    """``snapping`` of diagnostics.json."""

    score: ScoreName
    unsnapped: EvaluationRow
    snapped: EvaluationRow
    change: CostChange
    interaction_nats: float
    tensors: list[TensorCostChange]


@dataclass(frozen=True)
class QuantizationCosts:
    """The network unsnapped, with one tensor snapped, and with all of them; on the same data."""

    score_name: str
    score_unit: str
    unsnapped: Evaluation
    tensors: Mapping[str, Evaluation]  # the named tensor snapped, the others not
    snapped: Evaluation  # all of them

    @property
    def interaction_nats(self) -> float:
        """What all tensors together cost more than the sum of what each costs alone."""
        alone = [self._change(snapped)["error_cost_nats"] for snapped in self.tensors.values()]
        return self._change(self.snapped)["error_cost_nats"] - sum(alone)

    def to_dict(self) -> QuantizationCostSummary:
        """As JSON: a row for each tensor, and what all of them do. Changes are snapped - unsnapped.

        Bits by tensor are in a report's ``tensors``, under the same names.
        """
        return {
            "score": {"name": self.score_name, "unit": self.score_unit},
            "unsnapped": _row(self.unsnapped),
            "snapped": _row(self.snapped),
            "change": self._change(self.snapped),
            "interaction_nats": self.interaction_nats,
            "tensors": [
                {"name": name, **self._change(snapped)} for name, snapped in self.tensors.items()
            ],
        }

    def _change(self, snapped: Evaluation) -> CostChange:
        return {
            "error_cost_nats": snapped.error_cost_nats - self.unsnapped.error_cost_nats,
            "score": snapped.score - self.unsnapped.score,
        }


def quantization_costs(
    model: Joint,
    posterior: Posterior,
    quantized: Quantized,
    batches: Iterable,
    what: str = "test",
    seed: int = 0,
) -> QuantizationCosts:
    """Score and error cost, in nats summed over ``batches``, before and after snapping, by tensor.

    ``quantized`` is ``quantize`` of ``posterior``, before rewriting, which moves units. After a
    refinement, ``posterior`` is the fit before it, and "snapped" also has what refinement changed:
    the weights that refined components snap were never fitted as a network, and alone predict
    worse. One pass through the data a tensor, and two more. Raises ValueError for tensors that do
    not go together, and for outputs that are not finite.
    """
    weights, values = posterior.weights, as_weights(model, quantized.dequantize())
    _check_alike(weights, values)

    def at(changed: Mapping[str, Tensor], stage: str) -> Evaluation:
        # The same random numbers for each, of a loader that shuffles or a network that draws.
        with forked_rng(seed, device_dtype(model)[0]):
            return evaluate(model, {**weights, **changed}, batches, posterior.point, what, stage)

    return QuantizationCosts(
        model.likelihood.score_name,
        model.likelihood.score_unit,
        unsnapped=at({}, STAGES["posterior"]),
        tensors={name: at({name: values[name]}, f"with {name!r} snapped") for name in weights},
        snapped=at(values, STAGES["quantized"]),
    )


def _row(evaluation: Evaluation) -> EvaluationRow:
    row = asdict(evaluation)
    return cast(EvaluationRow, {key: row[key] for key in row if key not in OF_LOSSES})


def _check_alike(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    fitted, snapped = ({k: tuple(v.shape) for k, v in of.items()} for of in (weights, values))
    if fitted != snapped:
        raise ValueError(
            f"posterior and quantized are of different tensors: {fitted} and {snapped}; give "
            "quantize(posterior), before rewriting"
        )
