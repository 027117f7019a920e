"""A plan executed: its network fitted or walked, packed into a file, and measured. A driver."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from pyro_sws.assess.report.report import report
from pyro_sws.assess.report.shapes import PostTrainingRow
from pyro_sws.codec.loops import expecting
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.declared import declared
from pyro_sws.compression.given import Given
from pyro_sws.compression.merge_by_description import merge_by_description
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import Plan
from pyro_sws.compression.post_training.agreement import (
    MOVED,
    Agreement,
    agreement,
    noise_is_unknown,
)
from pyro_sws.compression.post_training.families import values_of
from pyro_sws.compression.post_training.parted import parted
from pyro_sws.compression.post_training.refined import SOFT, STARTS, trained
from pyro_sws.compression.post_training.settings import PostTraining
from pyro_sws.compression.post_training.sweep import FAR, sweep
from pyro_sws.compression.post_training.unlabelled import Predicted
from pyro_sws.compression.refine import Refined, refine
from pyro_sws.compression.walk.failure import CompressionFailed
from pyro_sws.compression.walk.frontier import Frontier
from pyro_sws.compression.walk.hyperparameters import most_probable
from pyro_sws.compression.walk.judge import Judge, judge
from pyro_sws.compression.walk.objective import Objective
from pyro_sws.compression.walk.portions import cut
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.compression.walk.walk import walk
from pyro_sws.inference.batch_reading import behind
from pyro_sws.inference.batches import moved
from pyro_sws.inference.checkpoint import Checkpoint, Stage
from pyro_sws.inference.curvature_of import curvature
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import STAGES, evaluate
from pyro_sws.inference.fit import Fit, count_batches, fit
from pyro_sws.inference.history import History
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.plain_numbers import instance
from pyro_sws.inference.progress import Callback, check_callback
from pyro_sws.inference.teacher import Teacher
from pyro_sws.rewriting.rewrite import Rewritten, rewrite
from pyro_sws.runs.run import Run
from pyro_sws.weights.load import architecture, tensors_of
from pyro_sws.weights.merge import merge
from pyro_sws.weights.network import float_parameter
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import quantize

NOT_REFINED = (
    "refinement made no file that is both within the tolerance and shorter; those that it made are "
    "in the frontier. More epochs, and batches of fewer examples, are more steps"
)
UNKNOWN_NOISE = (
    "without targets the likelihood's noise is not known: outputs may have moved by "
    f"{100 * MOVED:g} % of their variance, which may be less or more than they are wrong by. Give "
    "the noise, as in Gaussian(noise_precision=1 / mse), or a tolerance= in nats at what was given"
)


@torch.inference_mode(False)
def execute(
    plan: Plan,
    *,
    model: Joint | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    started: str | None = None,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  (keeps nothing)
) -> Run:
    """The run of a plan whose network and data are objects; see ``compress``.

    ``model``: ``plan.joint`` of that network and data, where the caller has made it already; the
    examples are counted here. ``started``: what the network was that the fit set out from, for the
    report. ``checkpoint``: where its stages keep how far they got, and go on from.
    """
    check_callback(callback)
    instance("ranks", ranks, Ranks)
    given = Given.of(plan, model, started)
    guide = plan.guide_for(given.model)
    given = given.checked(guide)
    stages = _Stages()
    size = sum(group.size for group in given.model.groups.values())
    if plan.walk is not None:
        with expecting(plan.walk.steps * size):
            return _walk(given, plan.walk, ranks, stages, callback, checkpoint)
    if plan.post_training is not None:
        drawn = forked_rng(plan.seed, torch.device("cpu"))  # the order of a pass through batches
        with expecting(plan.post_training.files * size), drawn:
            return _post_training(given, plan.post_training, ranks, stages, callback, checkpoint)
    fitted = fit(
        given.model,
        guide,
        given.data.train,
        plan.fit,
        seed=plan.seed,
        validation=given.data.validation,
        merge_threshold=plan.packing.merge_threshold,
        ranks=ranks,
        callback=callback,
        stage=checkpoint.stage("fit"),
    )
    stages.ended("fit")
    given = replace(given, model=replace(given.model, ranks=ranks))
    packed = _merge_and_refine(given, fitted, stages, callback, checkpoint.stage("refine"))
    return _pack(given, packed, stages)


@dataclass
class _Stages:
    """Seconds by stage, each from the end of the one before."""

    began: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def ended(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self.began = now - self.began, now


def _walk(
    given: Given,
    settings: Walk,
    ranks: Ranks,
    stages: _Stages,
    callback: Callback | None,
    checkpoint: Checkpoint,
) -> Run:
    """The shortest file of a walk within the tolerance. Raises CompressionFailed for none."""
    if ranks.count > 1:
        raise ValueError("a walk is of one process; give tau= for a fit of several")
    plan, data = given.plan, given.data
    train = cut(data.train)
    own = judge(given.model, given.seen.sample, "training", plan.tolerance)
    model = replace(given.model, tau=settings.pull * given.seen.size**0.5 * own.dispersion)
    given = replace(given, model=model)
    judged: Judge | Objective = own
    if settings.objective != "bytes":
        judged = _objective(given, settings.objective)
    elif data.validation is not None:
        judged = judge(given.model, data.validation, "validation", plan.tolerance)
    if isinstance(judged, Judge):
        given = replace(given, warned=(*given.warned, *judged.doubts(learnt_from=judged is own)))
    walked = walk(
        taught(model, own.dispersion, settings),
        judged,
        train,
        count_batches(train),
        settings,
        plan.budget or Budget(),
        learnt_from=judged is own,
        sample=given.seen.sample,
        codebook_dtype=plan.packing.codebook_dtype,
        seed=plan.seed,
        callback=callback,
        stage=checkpoint.stage("walk"),
    )
    stages.ended("walk")
    if walked.posterior is None:
        raise CompressionFailed(walked.frontier)
    reached = replace(walked.posterior, tau=model.tau)
    fitted = most_probable(model, reached, given.seen.measured)
    stages.ended("hyperparameters")
    packed = _Packed(fitted, reached, walked.history, frontier=walked.frontier)
    return _pack(given, packed, stages)


def _objective(given: Given, kind: str) -> Objective:
    """Of all training examples. Raises ValueError where they are not known, or have no mistakes."""
    if given.seen.doubt is not None:
        raise ValueError(f"tau={kind!r} is of training examples: {given.seen.doubt}")
    found = Objective(given.model, given.seen.measured, kind)
    model, first = given.model, [given.seen.first]
    found.of(evaluate(model, model.exact, first, model.start(), "train", STAGES["before"]), 1)
    return found


def _post_training(
    given: Given,
    settings: PostTraining,
    ranks: Ranks,
    stages: _Stages,
    callback: Callback | None,
    checkpoint: Checkpoint,
) -> Run:
    """The shortest file within the tolerance, by curvature. Raises CompressionFailed for none."""
    if ranks.count > 1:
        raise ValueError("post-training is of one process; give tau= for a fit of several")
    plan, model, dtype = given.plan, given.model, given.plan.packing.codebook_dtype
    values = values_of(model)
    learnt, held_out = parted(given.seen.measured, settings.examples)
    held_to = _held_to(given, held_out)
    given = replace(given, warned=(*given.warned, *_doubts(given, held_to)))
    found = curvature(model, learnt, seed=plan.seed, callback=callback)
    stages.ended("curvature")
    far = FAR if plan.refinement is None else STARTS[0]
    swept = sweep(
        model, values, found, held_to, settings, codebook_dtype=dtype, far=far, callback=callback
    )
    stages.ended("post-training")
    best, refined = swept.shortest(), None
    if plan.refinement is not None:
        train, examples = given.data.train, model.data_size
        if isinstance(held_to, Agreement):  # predictions that files are judged on are not learnt
            train, examples = learnt, sum(len(inputs) for inputs, _ in learnt)
        swept, refined = trained(
            replace(model, data_size=examples),
            swept,
            train,
            plan.refinement,
            soft=1.0 if isinstance(held_to, Agreement) else SOFT,
            pull=examples / model.data_size,
            codebook_dtype=dtype,
            seed=plan.seed,
            callback=callback,
            checkpoint=checkpoint,
        )
        if refined is None:
            given = replace(given, warned=(*given.warned, NOT_REFINED))
        else:
            best = swept.found[-1]
        stages.ended("refine")
    if best is None:
        raise CompressionFailed(swept.frontier)
    given = replace(given, model=replace(model, tau=best.posterior.tau))
    fitted = most_probable(given.model, best.posterior, given.seen.measured)
    stages.ended("hyperparameters")
    packed = _Packed(
        fitted,
        best.posterior,
        swept.history,
        refined=refined,
        frontier=swept.frontier,
        post_training=swept.row(best),
    )
    return _pack(given, packed, stages)


def _held_to(given: Given, held_out: Iterable) -> Judge | Agreement:
    """The score on validation data or else on examples held out; without labels, agreement."""
    plan, model, data = given.plan, given.model, given.data
    judged, name = held_out, "held-out training"
    if data.validation is not None:
        judged, name = data.validation, "validation"
    if isinstance(behind(data.train), Predicted):
        return agreement(model, judged, name, plan.tolerance)
    return judge(model, judged, name, plan.tolerance)


def _doubts(given: Given, held_to: Judge | Agreement) -> tuple[str, ...]:
    if isinstance(held_to, Agreement):
        unknown = noise_is_unknown(given.model.likelihood)
        return (UNKNOWN_NOISE,) if unknown and given.plan.tolerance is None else ()
    refined_on = given.plan.refinement is not None and given.data.validation is None
    return tuple(held_to.doubts(learnt_from=refined_on))


def taught(model: Joint, dispersion: float, settings: Walk) -> Joint:
    """The model as a walk fits it: over the dispersion of targets, and taught by the network.

    Gradients then do not depend on the units of targets; and what a network that knows its training
    data by heart says of each class keeps more of it than labels do.
    """
    likelihood = model.likelihood
    if hasattr(likelihood, "at"):
        likelihood = likelihood.at(dispersion)
    if settings.soft_targets and hasattr(likelihood, "softened"):
        likelihood = likelihood.softened(settings.soft_targets)
    teacher = Teacher(partial(model.outputs, model.exact), model.data_size)
    return replace(model, likelihood=likelihood, teacher=teacher, tau=model.tau / dispersion)


@dataclass(frozen=True, eq=False)
class _Packed:
    """What is quantised, and where it came from."""

    fitted: Posterior
    posterior: Posterior
    history: History
    fit: Fit | None = None
    refined: Refined | None = None
    frontier: Frontier | None = None
    post_training: PostTrainingRow | None = None


def _merge_and_refine(
    given: Given, fitted: Fit, stages: _Stages, callback: Callback | None, stage: Stage
) -> _Packed:
    merged = _merged(given, fitted.posterior)
    stages.ended("merge")
    refined = _refine(given, merged, callback, stage)
    if refined is not None:
        stages.ended("refine")
    packed = merged if refined is None else refined.posterior
    return _Packed(fitted.posterior, packed, fitted.history, fitted, refined)


def _pack(given: Given, packed: _Packed, stages: _Stages) -> Run:
    """What was fitted quantised, rewritten, encoded, and measured for the report."""
    plan, model, packing, refined = given.plan, given.model, given.plan.packing, packed.refined
    quantized = quantize(packed.posterior, packing.codebook_dtype, packing.signal_to_noise)
    rewritten = _rewrite(given, quantized) if packing.rewrite else None
    stored = quantized if rewritten is None else rewritten.quantized
    names = architecture(given.net)
    data = given.encodings.of(stored, names if packing.fingerprint else None)
    stages.ended("quantize and encode")
    name, judged = given.data.judged
    summary = report(
        given.net,
        model,
        packed.fitted,
        quantized,
        data,
        given.seen.measured,
        merged=packed.posterior,
        rewritten=rewritten,
        bits_back_nats=None if packed.fit is None else packed.fit.bits_back_nats,
        bits_back_standard_error_nats=(
            None if packed.fit is None else packed.fit.bits_back_standard_error_nats
        ),
        walk=packed.frontier.summary() if packed.frontier and plan.walk is not None else None,
        post_training=packed.post_training,
        warned=given.warned,
        refinement=None if refined is None else refined.summary(),
        seconds=stages.seconds,
        test=None if name == "training" else judged,
        test_name=name,
        seed=plan.seed,
        example=given.seen.first[0],
    )
    summary = declared(
        summary,
        given.data,
        given.seen,
        given.started,
        given.broken,
        given.validation,
        based=bool(stored.base),
    )
    return Run(
        plan=plan,
        given=tensors_of(given.net),
        architecture=names,
        posterior=packed.fitted,
        packed=packed.posterior,
        quantized=stored,
        data=data,
        report=summary,
        history=packed.history,
        refined=refined,
        frontier=_with_its_file(packed.frontier, data, packing),
    )


def _with_its_file(frontier: Frontier | None, data: bytes, packing: Packing) -> Frontier | None:
    """The frontier, whose chosen point has the file that comes back: with its units rewritten."""
    if frontier is None or packing.fingerprint:  # a file without names is not like the others
        return frontier
    return frontier.with_chosen(data)


def _merged(given: Given, fitted: Posterior) -> Posterior:
    packing = given.plan.packing
    merged = merge(fitted, packing.merge_threshold)
    if packing.merge_by != "description":
        return merged
    return merge_by_description(
        given.model,
        merged,
        given.data.train,
        codebook_dtype=packing.codebook_dtype,
        sample=given.seen.sample,
        encodings=given.encodings,
        seed=given.plan.seed,
    )


def _refine(
    given: Given, merged: Posterior, callback: Callback | None, stage: Stage
) -> Refined | None:
    plan = given.plan
    if plan.refinement is None:
        return None
    return refine(
        given.model,
        merged,
        given.data.train,
        plan.refinement,
        codebook_dtype=plan.packing.codebook_dtype,
        sample=given.seen.sample,
        encodings=given.encodings,
        seed=plan.seed,
        ranks=given.model.ranks,
        callback=callback,
        stage=stage,
    )


def _rewrite(given: Given, quantized: Quantized) -> Rewritten:
    parameter = float_parameter(given.net)
    ((example, _),) = moved([given.seen.first], "train", parameter.device, parameter.dtype)
    promise = given.plan.packing.nonnegative_inputs
    with forked_rng(given.plan.seed, parameter.device):  # its networks run: threads take turns
        return rewrite(
            given.net,
            quantized,
            length=given.encodings.length,
            example=example,
            nonnegative_inputs=promise,
        )
