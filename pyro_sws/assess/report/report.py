"""The report on a run: what came out, where each bit went and which bound it meets."""

import dataclasses
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from torch import Tensor, nn

from pyro_sws.assess.report.certificate import (
    SideInformation,
    certificate_of_counts,
    holdout_certificate,
)
from pyro_sws.assess.report.filters import perplexity
from pyro_sws.assess.report.filters import score as shown
from pyro_sws.assess.report.lengths import (
    bounds_on_length,
    components_in_use,
    cross_entropy_bits,
    fitted_rate_distortion_bits,
    raw_rows,
    tensor_rows,
    variants,
)
from pyro_sws.assess.report.shapes import (
    REPORT_FORMAT,
    Bounds,
    CertificateRow,
    DataRow,
    Description,
    GroupRow,
    HoldoutRow,
    PostTrainingRow,
    RawRow,
    RefinementRow,
    RewritingRow,
    Score,
    TensorRow,
    Variants,
    WalkRow,
    check_format,
)
from pyro_sws.assess.report.stages import (
    as_score,
    check_decoded,
    draws,
    evaluations,
    filled,
    is_constant,
    stages,
)
from pyro_sws.assess.report.text import (
    bounds_text,
    certificate_text,
    holdout_text,
    left_alone_text,
    post_training_text,
    walk_text,
)
from pyro_sws.assess.report.warnings import unspent, warnings
from pyro_sws.bounds.rates import permutation_slack_bits
from pyro_sws.codec.container import inspect
from pyro_sws.codec.folded_norms import split_raw
from pyro_sws.codec.paper_accounting import csr_huffman_bits
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.batches import Part
from pyro_sws.inference.evaluation import Evaluated, Evaluation, device_dtype
from pyro_sws.inference.fit import complexity_cost
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.rewriting.rewrite import Rewritten
from pyro_sws.weights.density.log_density import density_backend, select_backend
from pyro_sws.weights.group import Group
from pyro_sws.weights.load import architecture, decode_for
from pyro_sws.weights.network import plain
from pyro_sws.weights.posterior import Posterior

DRAWS = (
    "the network draws as it computes: scores are of one drawing, of which nothing is certified; "
    "if that is not meant, let its layers, such as F.dropout, draw in training alone"
)
VERSIONED = ("pyro-sws", "torch", "pyro-ppl", "numpy")


@dataclass(frozen=True, kw_only=True)
class Report:
    """``to_dict()`` is what report.json holds. Costs are in nats, lengths in bits or bytes."""

    format: int = REPORT_FORMAT
    network: str
    date: str | None = None  # when it was made: ISO 8601, UTC
    command: str | None = None  # how it was made
    data: DataRow | None = None  # what was read
    parameters: int
    parameter_bytes: int  # in the dtype they were given in
    score: Score
    nonzero_percent: float  # of the parameters
    file_bytes: int
    ratio: float  # parameter_bytes / file_bytes: everything in the file counted
    variants: Variants
    rewriting: RewritingRow | None = None  # what was done to the units, and to the outputs
    refinement: RefinementRow | None = None
    walk: WalkRow | None = None
    post_training: PostTrainingRow | None = None
    bits: dict[str, int]  # by part of the file; sums to 8 file_bytes
    # CSR and Huffman accounting of 2017; no such file exists. Of the network before rewriting: the
    # papers that count so drop weights, not units.
    ratio_paper: float
    bounds: Bounds
    description: Description
    certificate: CertificateRow | None
    certificate_reason: str | None = None  # why there is none
    holdout: HoldoutRow | None = None  # of the test examples, or of those that a walk chose by
    tau: float
    # Of the posterior's point: what a delta guide's fit minimises. A walk's error cost is of the
    # snapped network.
    negative_elbo_nats: float
    error_cost_nats: float  # as the fit counts it, with soft targets if it has any
    complexity_cost_nats: float
    seconds: dict[str, float]
    seed: int
    versions: dict[str, str]
    groups: dict[str, GroupRow]
    tensors: list[TensorRow]
    raw: list[RawRow] = field(default_factory=list)  # what no prior covers, as the file has it
    uncovered: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    folded_norms: int | None = None  # batch norms whose statistics take no room in the file
    bits_back_nats: float | None = None  # -ELBO of a guide with spread, where it is a code length
    bits_back_standard_error_nats: float | None = None  # over the draws it is estimated from

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Report":
        """The report that ``to_dict`` made this of; one without ``format`` is of before there were.

        What an older report lacks has the field's default; keys of no field are left out. Raises
        ValueError for a format that this build does not know, and for a report that lacks what has
        no default.
        """
        check_format(table)
        if missing := _missing(table):
            raise ValueError(
                f"report has no {', '.join(missing)}: it is from an older version; make the run "
                "again"
            )
        names = [f.name for f in dataclasses.fields(cls)]
        return cls(**{name: table[name] for name in names if name in table})

    def text(self) -> str:
        before, decoded = (
            shown(self.score[key], self.score["unit"]) for key in ("before", "decoded")
        )
        single = 4 * self.parameters  # bytes in float32
        times = single / self.file_bytes
        own = "" if self.parameter_bytes == single else f" ({times:.1f} times than in float32)"
        lines = [
            f"{self.network}: {self.parameters:,} parameters, {self.parameter_bytes:,} bytes",
            f"file: {self.file_bytes:,} bytes, {self.ratio:.1f} times smaller{own}, "
            f"{self.nonzero_percent:.1f}% of the weights are not zero",
            f"{self.score['data']} {self.score['name']}: {before} before, {decoded} decoded",
        ]
        if self.score["unit"] == "bits":
            before, decoded = (perplexity(self.score[key]) for key in ("before", "decoded"))
            lines.append(f"perplexity: {before} before, {decoded} decoded")
        if self.walk is not None:
            lines.append(walk_text(self.walk, self.score["unit"]))
        if self.post_training is not None:
            lines.append(post_training_text(self.post_training))
        if self.rewriting is not None:
            lines += left_alone_text(self.rewriting)
        if "symbols" in self.bits:
            lines.append(bounds_text(self.bits["symbols"], self.bounds))
        lines.append(certificate_text(self.certificate, self.certificate_reason))
        if self.holdout is not None:
            lines.append(holdout_text(self.holdout))
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
    refinement: RefinementRow | None = None,
    walk: WalkRow | None = None,
    post_training: PostTrainingRow | None = None,
    bits_back_nats: float | None = None,
    bits_back_standard_error_nats: float | None = None,
    warned: Sequence[str] = (),
    test: Iterable | None = None,
    test_name: str = "test",
    seconds: Mapping[str, float] | None = None,
    seed: int = 0,
    date: datetime | None = None,
    command: str | None = None,
    dataset: DataRow | None = None,
    example: Part | None = None,
) -> Report:
    """Measure a file against the network it came from; scores on ``test``, else on ``train``.

    Args:
        net: the network as it was given; it is left as it is.
        model: the joint that was fitted.
        posterior: the fitted one, before merging.
        quantized: the network with every weight snapped, before rewriting.
        data: the file. "decoded", the certificate and the lengths are of these bytes alone, read
            back into the form of ``net``.
        train: a re-iterable of (inputs, targets), without augmentation.
        merged: what was quantised, after merging and refinement; by default ``posterior``.
        rewritten: what was made of ``quantized`` for the file, if anything.
        refinement: the ``summary()`` of what ``refine`` returned.
        walk: the ``summary()`` of a walk's frontier.
        post_training: what a file of post-training was held to.
        bits_back_nats: the fit's bits-back length, where it has one.
        bits_back_standard_error_nats: the standard error of that estimate.
        warned: what was noticed before the fit, the first of the warnings.
        test: a re-iterable of (inputs, targets) to score on.
        test_name: what that split is called in the report.
        seconds: durations by stage.
        seed: of networks and batches that draw.
        date: by default now.
        command: how the run was asked for.
        dataset: more of the data than is measured here.
        example: a batch of inputs, on which the outputs of the decoded network are compared with
            those of the quantised one, and with each other; by default the first that is scored.

    Raises:
        NotFiniteError: a ValueError, with the stage and the number of examples, where outputs or
            log-densities are not finite: no score, description or certificate is made of them.
        ValueError: where quantised and decoded outputs differ by more than rounding and rewriting
            explain.
    """
    net = plain(net)
    parameters = list(net.parameters())
    count = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    prior = merged or posterior
    stored = decode_for(net, data)
    snapping = walk is not None or post_training is not None
    networks = stages(model, posterior, prior, quantized, filled(net, stored), snapping)
    seen: list[Part] = [] if example is None else [example]
    watched = {**networks, "decoded": _keeping_first(networks["decoded"], seen)}
    with forked_rng(seed, device_dtype(model)[0]):  # a pass through shuffled batches draws an order
        training, scored = evaluations(model, watched, train, test, test_name)
    check_decoded(networks, seen[0])
    constant = is_constant(networks, seen[0])
    drawn = [name for name in ("before", "decoded") if draws(networks[name], seen[0])]
    told = [*warned, DRAWS] if drawn else [*warned]
    told += unspent(walk)
    if generalised := getattr(model.likelihood, "generalised", None):
        told.append(generalised)
    cost = training["quantized" if snapping else "posterior"].fit_cost_nats
    assert cost is not None  # that stage asks for it
    complexity = complexity_cost(model, posterior.point)
    certificate, reason = _certificate(len(data), training["decoded"], generalised)
    if certificate is not None and "decoded" in drawn:
        certificate, reason = None, DRAWS
    scored_name = "training" if test is None else test_name
    bits = dict(inspect(data, architecture(net)).bits)
    tensors = tensor_rows(stored)
    return Report(
        network=type(net).__name__,
        date=_utc(date or datetime.now(timezone.utc)),
        command=command,
        data=dataset or _measured(training, scored, scored_name),
        parameters=count,
        parameter_bytes=size,
        score=as_score(model, scored, scored_name),
        nonzero_percent=100 * _nonzero(stored, net) / count,
        file_bytes=len(data),
        ratio=size / len(data),
        variants=variants(net, stored, data),
        rewriting=None if rewritten is None else cast(RewritingRow, rewritten.summary()),
        refinement=refinement,
        walk=walk,
        post_training=post_training,
        bits=bits,
        ratio_paper=8 * size / csr_huffman_bits(quantized),
        bounds=_bounds(stored, tensors, quantized, prior, rewritten, seed),
        description=_description(len(data), training["decoded"]),
        certificate=certificate,
        certificate_reason=reason,
        holdout=None if drawn else _holdout(scored["decoded"], scored_name, walk),
        tau=model.tau,
        negative_elbo_nats=cost + model.tau * complexity,
        error_cost_nats=cost,
        complexity_cost_nats=complexity,
        seconds=dict(seconds or {}),
        seed=seed,
        versions={"python": platform.python_version(), **versions_of(VERSIONED)},
        groups=_groups(model, posterior, prior, quantized),
        tensors=tensors,
        raw=raw_rows(model, stored),
        uncovered=list(model.uncovered),
        warnings=[*told, *warnings(model, posterior, stored, scored, bits, constant, snapping)],
        folded_norms=_folded_norms(stored),
        bits_back_nats=bits_back_nats,
        bits_back_standard_error_nats=bits_back_standard_error_nats,
    )


def _bounds(
    stored: Quantized,
    tensors: Sequence[TensorRow],
    quantized: Quantized,
    prior: Posterior,
    rewritten: Rewritten | None,
    seed: int,
) -> Bounds:
    """Of the file's symbols, and what of the fitted density and of the units' order bounds them."""
    found = bounds_on_length(stored, tensors, cross_entropy_bits(quantized, prior))
    device = next(iter(prior.point.values())).device
    with forked_rng(seed, device):
        found["rate_distortion_bits"] = fitted_rate_distortion_bits(quantized, prior)
    if rewritten is not None:
        found["permutation_bits"] = permutation_slack_bits(rewritten.unit_counts)
    return found


def _keeping_first(network: Evaluated, seen: list[Part]) -> Evaluated:
    """The network, which puts the first inputs that it gets into an empty list."""

    def outputs(inputs: Part) -> Tensor:
        if not seen:
            seen.append(inputs)
        return network.outputs(inputs)

    return dataclasses.replace(network, outputs=outputs)


def _utc(date: datetime) -> str:
    """ISO 8601 to the second; a date without a zone is local time."""
    return date.astimezone(timezone.utc).isoformat(timespec="seconds")


def _missing(table: Mapping[str, Any]) -> list[str]:
    """What a report must have and this one lacks, as paths."""
    default = {f.name for f in dataclasses.fields(Report) if _has_default(f)}
    names = [f.name for f in dataclasses.fields(Report)]
    missing = [name for name in names if name not in table and name not in default]
    counts = ("used_components", "effective_components")
    groups = table.get("groups", {})
    rows = groups.values() if isinstance(groups, Mapping) else [groups]
    if not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("the report's groups are no table of tables; it is damaged")
    for name, group in groups.items():
        missing += [f"groups.{name}.{key}" for key in counts if key not in group]
    return missing


def _has_default(a: dataclasses.Field) -> bool:
    nothing = dataclasses.MISSING
    return a.default is not nothing or a.default_factory is not nothing


def _measured(
    training: Mapping[str, Evaluation], scored: Mapping[str, Evaluation], name: str
) -> DataRow:
    """The data as far as it was walked through."""
    examples = scored["decoded"].examples
    return {
        "name": None,
        "training": training["decoded"].examples,
        "validation": examples if name == "validation" else None,
        "test": examples if name == "test" else None,
    }


def _description(file_bytes: int, training: Evaluation) -> Description:
    """The two-part description length at tau = 1: the file, then the targets given its network.

    The labels' part is -log2 p(training targets | decoded network, inputs): a length for labels and
    counts, a density, which can be negative, for continuous targets.
    """
    file_bits, label_bits = 8 * file_bytes, training.error_cost_nats / math.log(2)
    total_bits = file_bits + label_bits
    return {"file_bits": file_bits, "label_bits": label_bits, "total_bits": total_bits}


def _certificate(
    file_bytes: int, training: Evaluation, generalised: str | None
) -> tuple[CertificateRow | None, str | None]:
    if generalised is not None:
        return None, generalised
    if training.mistakes is None:
        return None, "the bound is for a loss of 0 or 1 an example; this score is not one"
    certificate = certificate_of_counts(
        file_bytes,
        training.mistakes,
        training.judged,
        classes=training.classes,
        side=SideInformation(),
    )
    row = {**dataclasses.asdict(certificate), "vacuous": certificate.vacuous}
    return cast(CertificateRow, row), None


def _holdout(scored: Evaluation, name: str, walk: WalkRow | None) -> HoldoutRow | None:
    """The bound of examples that had no part in training, or that chose of a walk's files alone."""
    if scored.mistakes is None or name not in ("test", "validation"):
        return None
    if name == "validation" and (walk is None or walk["judged_on"] != "validation"):
        return None  # what was chosen by it, nobody knows
    looks = walk["files"] if walk is not None and name == "validation" else 1
    certificate = holdout_certificate(scored.mistakes, scored.judged, looks=looks)
    return cast(HoldoutRow, dataclasses.asdict(certificate))


def _nonzero(quantized: Quantized, net: nn.Module) -> int:
    parameters = dict(net.named_parameters())
    raw = sum(int((a != 0).sum()) for name, a in quantized.raw.items() if name in parameters)
    return quantized.nonzero + raw


def _folded_norms(stored: Quantized) -> int:
    return len(split_raw(stored.raw, {name: s.shape for name, s in stored.symbols.items()})[1])


def _groups(
    model: Joint, fitted: Posterior, merged: Posterior, quantized: Quantized
) -> dict[str, GroupRow]:
    return {
        name: _group(model, fitted, merged, group, quantized)
        for name, group in model.groups.items()
    }


def _group(
    model: Joint, fitted: Posterior, merged: Posterior, group: Group, quantized: Quantized
) -> GroupRow:
    mixture, clusters = merged.priors[group.name].mixture, merged.merged.get(group.name, ())
    given = fitted.merged.get(group.name, ())
    before = sum(map(len, given)) or len(fitted.priors[group.name].mixture)
    kept = {j for cluster in clusters for j in cluster}
    with density_backend(model.density.way):
        part = model.ranks.weights(group.size)
        seen = math.ceil((part.stop - part.start) * (model.density.prior_subsample or 1))
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
        "density": {
            "name": way.name,
            "reason": way.reason,
            "prior_subsample": model.density.prior_subsample,
        },
        **components_in_use(quantized, group),
    }


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Package -> its version; "unknown" where it is used from a bare folder."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
