"""A generalised likelihood: exp(-weight x loss), of any loss function."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_sws.inference.called import called, examples_in, named
from pyro_sws.inference.targets import what
from pyro_sws.inference.typed_fields import check_fields

GENERALISED = (
    "the likelihood is a generalised one, exp(-loss), and no probability of targets: error costs "
    "and label bits are of losses, and there is neither a certificate nor a calibration"
)


@dataclass(frozen=True)
class Loss:
    """Targets under exp(-weight x loss), where ``function(outputs, targets)`` is the loss.

    No density of targets, but as good as one for a posterior of weights (the Gibbs posterior;
    Bissiri, Holmes & Walker 2016): error costs are weighted losses, summed over the examples.
    ``weight`` is that posterior's learning rate, what a unit of loss is worth in nats. Nothing
    is read from it that needs a probability: no certificate, no calibration, no draws of targets.

    The function returns a loss for each example, (B,), or several, (B, ...), which are summed
    within it, or averaged with ``within_example = "mean"``: torch's own losses do so with
    reduction="none". One that can only give a single number says so by ``reduction``, "mean" or
    "sum" over the batch. Then each example has an equal part of its batch's, so that no standard
    error of a score is known.

    Scored by the mean loss an example, or by the mean of ``score_function(outputs, targets)``,
    (B,), lower being better; it is called ``score_name``, or as the function is. With
    ``score_unit = "percent"`` its values are from 0 to 1, and shown times 100.

    Of nn.CTCLoss, with outputs (B, T, C), targets (B, S), and as many of each in every example::

        def ctc(outputs, targets):
            log_probs = outputs.log_softmax(-1).transpose(0, 1)
            lengths = [torch.full((len(x),), x.shape[1]) for x in (outputs, targets)]
            return torch.nn.functional.ctc_loss(log_probs, targets, *lengths, reduction="none")

        sws.compress(net, train, likelihood=sws.Loss(ctc))
    """

    __pydantic_config__ = {"extra": "forbid"}
    function: Callable[..., Tensor]
    weight: float = 1.0
    reduction: Literal["none", "mean", "sum"] = field(default="none", kw_only=True)
    within_example: Literal["sum", "mean"] = field(default="sum", kw_only=True)
    score_function: Callable[..., Tensor] | None = field(default=None, kw_only=True)
    score_name: str = field(default="", kw_only=True)
    score_unit: str = field(default="loss", kw_only=True)

    generalised: ClassVar[str] = GENERALISED

    def __post_init__(self) -> None:
        check_fields(self, "loss: ")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"loss: weight must be positive and finite, got {self.weight}")
        said = getattr(self.function, "reduction", None)  # of torch's modules
        if said in ("mean", "sum") and self.reduction == "none":
            raise ValueError(_one_number(f"{named(self.function)} has reduction={said!r}", said))
        if not self.score_name:
            object.__setattr__(self, "score_name", self._default_name())

    def _default_name(self) -> str:
        if self.score_function is None:
            return "loss"
        name = named(self.score_function)
        if not name.isidentifier():
            raise ValueError(f"loss: a score_function {name} has no name; give score_name=")
        return name

    def __call__(self, outputs: Any) -> dist.TorchDistribution:
        return LossDensity(self, outputs)

    def given(self, outputs: Any, targets: Any) -> tuple[dist.TorchDistribution, Tensor]:
        """The density of these targets, which may be no tensor, and what Pyro is to observe."""
        losses = self.each(outputs, targets)
        return LossDensity(self, outputs, -self.weight * losses), torch.zeros_like(losses)

    def each(self, outputs: Any, targets: Any) -> Tensor:
        """The function's losses, one an example; (B,). Raises ValueError for what is none."""
        found, examples = called("loss:", self.function, outputs, targets), examples_in(outputs)
        _check_tensor(f"loss: {named(self.function)}", found)
        if self.reduction != "none":
            if found.numel() != 1:
                raise ValueError(
                    f"loss: reduction = {self.reduction!r} is of a function that returns one "
                    f"number a batch, and {named(self.function)} returns {what(found)}; drop it"
                )
            number = found.reshape(())
            return (number if self.reduction == "mean" else number / examples).expand(examples)
        if found.dim() == 0:
            raise ValueError(_one_number(f"{named(self.function)} returns one number a batch"))
        _check_examples(f"loss: {named(self.function)}", found, examples)
        rows = found.reshape(examples, -1)
        return rows.sum(1) if self.within_example == "sum" else rows.mean(1)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Any, targets: Any) -> None:
        """Nothing: the function takes what it takes, and is looked at where it is called."""

    def check_reading(self, outputs: Any, targets: Any) -> None:
        """Raise ValueError for a function that does not return losses of the first batch."""
        self.each(outputs, targets)
        self.losses(outputs, targets)

    def losses(self, outputs: Any, targets: Any) -> Tensor:
        if self.score_function is None:
            return self.each(outputs, targets).detach().double()
        found = called("loss: score_function", self.score_function, outputs, targets)
        where = f"loss: score_function {named(self.score_function)}"
        _check_tensor(where, found)
        _check_examples(where, found, examples_in(outputs))
        if found.dim() > 1:
            raise ValueError(f"{where} must return one value an example, got {what(found)}")
        return found.detach().double()

    def score(self, mean_loss: float) -> float:
        return 100 * mean_loss if self.score_unit == "percent" else mean_loss


class LossDensity(dist.TorchDistribution):
    """-weight x loss in the place of a log-density; (B,). Targets cannot be drawn from it."""

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real

    def __init__(self, spec: Loss, outputs: Any, known: Tensor | None = None):
        """``known``: the log-densities of targets that are given already, whatever the value."""
        self.spec, self.outputs, self.known = spec, outputs, known
        super().__init__(torch.Size([examples_in(outputs)]), validate_args=False)

    def expand(self, batch_shape, _instance=None):
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return dist.ExpandedDistribution(self, torch.Size(batch_shape))

    def log_prob(self, value: Any) -> Tensor:
        if self.known is not None:
            return self.known
        return -self.spec.weight * self.spec.each(self.outputs, value)

    def sample(self, sample_shape=()):
        raise ValueError(
            "no targets can be drawn: a Loss is a generalised likelihood, exp(-loss), and no "
            "distribution of targets; give the model targets, or a likelihood that is one"
        )


def _one_number(what_is: str, said: str = "mean") -> str:
    return (
        f'loss: {what_is}, where a loss for each example is needed: give it reduction="none", as '
        f"torch's losses take; where it has no loss of an example, say reduction={said!r} here"
    )


def _check_tensor(where: str, found: object) -> None:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        got = what(found) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{where} must return a tensor of floats, got {got}")


def _check_examples(where: str, found: Tensor, examples: int) -> None:
    if found.dim() == 0 or len(found) != examples:
        raise ValueError(
            f"{where} must return a value for each of {examples} examples, ({examples}, ...), got "
            f"{what(found)}"
        )
