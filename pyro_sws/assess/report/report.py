"""The report on a run: what came out, where each bit went and which bound it meets."""

import dataclasses
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor, nn

from pyro_sws.assess.report.certificate import certify
from pyro_sws.assess.report.lengths import (
    bounds_on_length,
    components_in_use,
    cross_entropy_bits,
    tensor_rows,
    variants,
)
from pyro_sws.codec.container import inspect
from pyro_sws.codec.paper_accounting import csr_huffman_bits
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.evaluation import (
    Evaluation,
    device_dtype,
    error_cost,
    evaluate,
    evaluate_network,
)
from pyro_sws.inference.fit import as_weights, complexity_cost
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.rewriting.rewrite import Rewritten
from pyro_sws.weights.density.log_density import density_backend, select_backend
from pyro_sws.weights.group import Group
from pyro_sws.weights.load import architecture, decode_for, load
from pyro_sws.weights.posterior import Posterior

VERSIONED = ("pyro-sws", "torch", "pyro-ppl", "numpy")


@dataclass(frozen=True)
class Report:
    """``to_dict()`` is what report.json holds. Costs are in nats, lengths in bits or bytes."""

    network: str
    parameters: int
    parameter_bytes: int  # in the dtype they were given in
    score: dict[str, Any]  # name, unit, data; before, posterior, quantized, decoded
    nonzero_percent: float  # of the parameters
    file_bytes: int
    ratio: float  # parameter_bytes / file_bytes: everything in the file counted
    variants: dict[str, int]  # bytes of the file: self_contained, and with a fingerprint
    rewriting: dict[str, Any] | None  # what was done to the units, and to the outputs
    refinement: dict[str, Any] | None  # epochs, the one kept, descriptions in nats before and after
    bits: dict[str, int]  # by part of the file; sums to 8 file_bytes
    # CSR and Huffman accounting of 2017; no such file exists. Of the network before rewriting: the
    # papers that count so drop weights, not units.
    ratio_paper: float
    bounds: dict[str, float]
    description: dict[str, float]  # bits: of the file, of the training targets given it, their sum
    certificate: dict[str, Any] | None
    certificate_reason: str | None  # why there is none
    tau: float
    negative_elbo_nats: float  # of the posterior's point: what a delta guide's fit minimises
    error_cost_nats: float  # as the fit counts it, with soft targets if it has any
    complexity_cost_nats: float
    seconds: dict[str, float]
    seed: int
    versions: dict[str, str]
    groups: dict[str, dict[str, Any]]
    tensors: list[dict[str, Any]]
    uncovered: list[str]
    warnings: list[str] = field(default_factory=list)
    bits_back_nats: float | None = None  # -ELBO of a guide with spread, where it is a code length

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """A few lines for a terminal."""
        unit = "%" if self.score["unit"] == "percent" else f" {self.score['unit']}"
        before, decoded = (f"{self.score[k]:.2f}{unit}" for k in ("before", "decoded"))
        lines = [
            f"{self.network}: {self.parameters:,} parameters, {self.parameter_bytes:,} bytes",
            f"file: {self.file_bytes:,} bytes, {self.ratio:.1f} times smaller, "
            f"{self.nonzero_percent:.1f}% of the weights are not zero",
            f"{self.score['data']} {self.score['name']}: {before} before, {decoded} decoded",
        ]
        if self.certificate is not None:
            lines.append(
                f"certificate: true error <= {self.certificate['bound_percent']:.1f}% with "
                f"probability {1 - self.certificate['delta']:.2f}"
                + (" (vacuous)" if self.certificate["vacuous"] else "")
            )
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings])


def report(
    net: nn.Module,
    model: Joint,
    posterior: Posterior,
    quantized: Quantized,
    data: bytes,
    train: Iterable,
    *,
    merged: Posterior | None = None,
    rewritten: Rewritten | None = None,
    refinement: dict[str, Any] | None = None,
    bits_back_nats: float | None = None,
    test: Iterable | None = None,
    test_name: str = "test",
    seconds: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Report:
    """Measure a file against the network it came from; scores on ``test``, else on ``train``.

    ``merged`` is what was quantised, after merging and refinement. ``quantized`` has every weight
    snapped, ``rewritten`` is what was made of it for the file, if anything. "decoded", the
    certificate and the lengths are of ``data`` alone, read back into ``net``'s form.
    """
    parameters = list(net.parameters())
    count = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    decoded = load(data, into=net)
    prior = merged or posterior
    with forked_rng(seed, device_dtype(model)[0]):  # a pass through shuffled batches draws an order
        score = _scores(model, posterior, prior, quantized, decoded, test, test_name, train)
        cost = error_cost(model, posterior.weights, train, posterior.point)
        training = _evaluate_decoded(model, decoded, train, prior, "train")
    complexity = complexity_cost(model, posterior.point)
    certificate, reason = _certificate(len(data), training)
    held = decode_for(net, data)
    tensors = tensor_rows(held)
    return Report(
        network=type(net).__name__,
        parameters=count,
        parameter_bytes=size,
        score=score,
        nonzero_percent=100 * _nonzero(held, net) / count,
        file_bytes=len(data),
        ratio=size / len(data),
        variants=variants(net, held, data),
        rewriting=None if rewritten is None else rewritten.summary(),
        refinement=refinement,
        bits=dict(inspect(data, architecture(net)).bits),
        ratio_paper=8 * size / csr_huffman_bits(quantized),
        bounds=bounds_on_length(held, tensors, cross_entropy_bits(quantized, prior)),
        description=_description(len(data), training),
        certificate=certificate,
        certificate_reason=reason,
        tau=model.tau,
        negative_elbo_nats=cost + model.tau * complexity,
        error_cost_nats=cost,
        complexity_cost_nats=complexity,
        seconds=dict(seconds or {}),
        seed=seed,
        versions={"python": platform.python_version(), **_versions()},
        groups=_groups(model, posterior, prior, quantized),
        tensors=tensors,
        uncovered=list(model.uncovered),
        warnings=_warnings(model),
        bits_back_nats=bits_back_nats,
    )


def _scores(
    model: Joint,
    posterior: Posterior,
    merged: Posterior,
    quantized: Quantized,
    decoded: nn.Module,
    test: Iterable | None,
    test_name: str,
    train: Iterable,
) -> dict[str, Any]:
    """The network as given, fitted, snapped, and read back from the file, on the same data."""
    data, name = (test, test_name) if test is not None else (train, "training")
    snapped = as_weights(model, quantized.dequantize())
    stages: dict[str, tuple[Mapping[str, Tensor], Posterior]] = {
        "before": (dict(model.net.named_parameters()), posterior),
        "posterior": (posterior.weights, posterior),
        "quantized": (snapped, merged),
    }
    found = {
        stage: evaluate(model, weights, data, of.point, name)
        for stage, (weights, of) in stages.items()
    }
    found["decoded"] = _evaluate_decoded(model, decoded, data, merged, name)
    return {
        "name": model.likelihood.score_name,
        "unit": model.likelihood.score_unit,
        "data": name,
        "examples": found["decoded"].examples,
        **{stage: evaluation.score for stage, evaluation in found.items()},
    }


def _evaluate_decoded(
    model: Joint, decoded: nn.Module, batches: Iterable, posterior: Posterior, what: str
) -> Evaluation:
    """The network as a user will load it: its own dtype, on the model's device."""
    device, dtype = device_dtype(model)[0], next(decoded.parameters()).dtype
    moved = decoded.to(device)
    return evaluate_network(
        moved, model.likelihood, batches, (device, dtype), posterior.point, what
    )


def _description(file_bytes: int, training: Evaluation) -> dict[str, float]:
    """The two-part description length at tau = 1: the file, then the targets given its network.

    The labels' part is -log2 p(training targets | decoded network, inputs): a length for labels and
    counts, a density, which can be negative, for continuous targets.
    """
    file_bits, label_bits = 8 * file_bytes, training.error_cost_nats / math.log(2)
    total_bits = file_bits + label_bits
    return {"file_bits": file_bits, "label_bits": label_bits, "total_bits": total_bits}


def _certificate(file_bytes: int, training: Evaluation) -> tuple[dict[str, Any] | None, str | None]:
    if training.mistakes is None:
        return None, "the bound is for a loss of 0 or 1 an example; this score is not one"
    certificate = certify(
        file_bytes, training.mistakes, training.examples, classes=training.classes
    )
    return {**dataclasses.asdict(certificate), "vacuous": certificate.vacuous}, None


def _nonzero(quantized: Quantized, net: nn.Module) -> int:
    parameters = dict(net.named_parameters())
    raw = sum(int((a != 0).sum()) for name, a in quantized.raw.items() if name in parameters)
    return quantized.nonzero + raw


def _groups(
    model: Joint, fitted: Posterior, merged: Posterior, quantized: Quantized
) -> dict[str, dict[str, Any]]:
    return {
        name: {**_group(model, fitted, merged, group), **components_in_use(quantized, group)}
        for name, group in model.groups.items()
    }


def _group(model: Joint, fitted: Posterior, merged: Posterior, group: Group) -> dict[str, Any]:
    mixture, clusters = merged.priors[group.name].mixture, merged.merged.get(group.name, ())
    given = fitted.merged.get(group.name, ())
    before = sum(map(len, given)) or len(fitted.priors[group.name].mixture)
    kept = {j for cluster in clusters for j in cluster}
    with density_backend(model.density):
        part = model.ranks.weights(group.size)
        seen = math.ceil((part.stop - part.start) * (model.prior_subsample or 1))
        way = select_backend(seen, before, group.dtype, group.device)
    return {
        "family": type(model.priors[group.name]).__name__,
        "weights": group.size,
        "tensors": list(group.shapes),
        "components": len(mixture),
        "components_before_merging": before,
        "merged": [list(cluster) for cluster in clusters if len(cluster) > 1],
        "deleted": [j for j in range(before) if j not in kept] if clusters else [],
        "means": mixture.means.tolist(),
        "deviations": mixture.deviations.tolist(),
        "proportions": mixture.proportions.tolist(),
        # How log p(weights) was computed while fitting, and why not compiled where it was not.
        "density": {**dataclasses.asdict(way), "prior_subsample": model.prior_subsample},
    }


def _warnings(model: Joint) -> list[str]:
    if not model.uncovered:
        return []
    names = ", ".join(model.uncovered)
    return [f"no prior covers {names}: stored raw; add a rule that matches them"]


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # used from a checkout that is not installed
            found[package] = "unknown"
    return found
