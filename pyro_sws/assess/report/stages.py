"""The network at each stage, from as given to as decoded, measured on the same batches."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from pyro_sws.assess.report.shapes import Score
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.batches import Part, moved
from pyro_sws.inference.evaluation import Evaluated, Evaluation, device_dtype, evaluate_together
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint, outputs_of
from pyro_sws.inference.zero_rows import zero_rows
from pyro_sws.rewriting.rewrite import SAME, apart
from pyro_sws.weights.load import loaded
from pyro_sws.weights.network import float_parameter
from pyro_sws.weights.posterior import Posterior

ROUNDINGS = 16  # of one number in its dtype, in a network's output: for half precision, above SAME


def stages(
    model: Joint,
    posterior: Posterior,
    merged: Posterior,
    quantized: Quantized,
    decoded: nn.Module,
    snapping: bool = False,
) -> dict[str, Evaluated]:
    """The network as given, fitted, snapped, and read back from the file.

    What was fitted is asked for its error cost. Where the network has learnt ``snapping`` that is
    the snapped one: the weights behind its values are no network, and there is no stage of them.
    """
    snapped = as_weights(model, quantized.dequantize())
    zeros = zero_rows(snapped)
    given = {**dict(model.net.named_parameters()), **model.exact}
    model_dtype = device_dtype(model)

    def under(
        weights: Mapping[str, Tensor], point: Mapping[str, Tensor], hint: str = ""
    ) -> Evaluated:
        return Evaluated(partial(model.outputs, weights), model_dtype, point, hint=hint)

    fitted = under(snapped, merged.point, hint=zeros)
    if not snapping:
        fitted = under(posterior.weights, posterior.point)
    fitted = dataclasses.replace(fitted, observed=model.observed)
    # As a user will load it: in its own dtype, on the model's device.
    own = model_dtype[0], float_parameter(decoded).dtype
    at = decoded.to(model_dtype[0])

    def decoded_outputs(inputs: Part) -> Tensor:
        return outputs_of(at, {}, inputs, model.likelihood)

    return {
        "before": under(given, posterior.point),
        **({} if snapping else {"posterior": fitted}),
        "quantized": fitted if snapping else under(snapped, merged.point, hint=zeros),
        "decoded": Evaluated(decoded_outputs, own, merged.point, hint=zeros),
    }


@torch.no_grad()
def check_decoded(networks: Mapping[str, Evaluated], example: Part) -> None:
    """Raise ValueError unless the decoded network computes what the quantised one does.

    Up to rounding, see ``_difference``. Networks that draw are not compared: rewriting changes the
    order in which units draw. Outputs that are not finite are the scores' to refuse.
    """
    if draws(networks["decoded"], example) or draws(networks["quantized"], example):
        return
    dtype = networks["decoded"].device_dtype[1]
    first, decoded = (_outputs_on(networks[name], example, 0) for name in ("quantized", "decoded"))
    if difference := _difference(first, decoded, dtype):
        largest = apart(first, decoded)[1]
        raise ValueError(
            f"the network read back from the file computes other outputs than the quantised one: "
            f"they differ by {difference:g}, where the largest is {largest:g}; it "
            "does not compute with the parameters that it is filled with"
        )


@torch.no_grad()
def draws(network: Evaluated, example: Part) -> bool:
    """Whether its outputs are others with another seed of torch's generators."""
    one, other = (_outputs_on(network, example, seed) for seed in (0, 1))
    return _difference(one, other, network.device_dtype[1]) > 0


@torch.no_grad()
def unsteady(network: Evaluated, example: Part) -> bool:
    """Whether its outputs are others when it is run again with the same seed."""
    one, other = (_outputs_on(network, example, 0) for _ in range(2))
    return _difference(one, other, network.device_dtype[1]) > 0


def _difference(one: Tensor, other: Tensor, dtype: torch.dtype) -> float:
    """The largest one of outputs, where it is more than rounding explains; else 0.

    Rounding is SAME of the largest output, more where a network computes in half precision.
    """
    if not (_no_fault(one) & _no_fault(other)).all():
        return 0.0
    difference, largest = apart(one, other)
    rounding = max(SAME, ROUNDINGS * torch.finfo(dtype).eps)
    return difference if difference > rounding * largest else 0.0


def _no_fault(outputs: Tensor) -> Tensor:
    """A logit of -inf is none."""
    return outputs.isfinite() | (outputs == -math.inf)


@torch.no_grad()
def is_constant(networks: Mapping[str, Evaluated], example: Part) -> bool:
    """Whether the decoded network's outputs are one and the same on all examples, and were not."""
    before, decoded = (_outputs_on(networks[name], example, 0) for name in ("before", "decoded"))
    return torch.equal(decoded, decoded[:1].expand_as(decoded)) and not torch.equal(
        before, before[:1].expand_as(before)
    )


def _outputs_on(network: Evaluated, example: Part, seed: int) -> Tensor:
    ((inputs, _),) = moved([(example, example)], "example", *network.device_dtype)
    with pyro_step(), forked_rng(seed, network.device_dtype[0]):
        return network.outputs(inputs).double().clone()


def evaluations(
    model: Joint,
    networks: Mapping[str, Evaluated],
    train: Iterable,
    test: Iterable | None,
    test_name: str,
) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
    """On the training data, and on what is scored: one pass each, one in all where it is the same.

    Where there is test data, the training data is only for the error cost and the decoded network.
    """
    if test is None:
        both = evaluate_together(networks, model.likelihood, train, "train")
        return both, both
    scored = {name: dataclasses.replace(each, observed=None) for name, each in networks.items()}
    evaluations = evaluate_together(scored, model.likelihood, test, test_name)
    asked = {name for name, each in networks.items() if each.observed is not None}
    needed = {name: networks[name] for name in networks if name in {*asked, "decoded"}}
    return evaluate_together(needed, model.likelihood, train, "train"), evaluations


def as_score(model: Joint, evaluations: Mapping[str, Evaluation], data: str) -> Score:
    """The scores of the stages as the report has them; ``data`` names what they are on."""
    return {
        "name": model.likelihood.score_name,
        "unit": model.likelihood.score_unit,
        "data": data,
        "examples": evaluations["decoded"].judged,
        "before": evaluations["before"].score,
        "posterior": evaluations["posterior"].score if "posterior" in evaluations else None,
        "quantized": evaluations["quantized"].score,
        "decoded": evaluations["decoded"].score,
    }


def filled(net: nn.Module, stored: Quantized) -> nn.Module:
    """A copy of the network with the weights of a file."""
    return loaded(net, stored.tensors())
