"""Compression, the main job: a trained network in, a small real file out. A driver."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import nn

from pyro_sws.assess.report.report import report
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.declared import declared, equal_examples, shared_examples
from pyro_sws.compression.encodings import Encodings
from pyro_sws.compression.merge_by_description import merge_by_description
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import Data, NamedNetwork, Plan, Unnamed, Weights
from pyro_sws.compression.refine import Refined, Refinement, refine
from pyro_sws.compression.repeatable import check_repeatable
from pyro_sws.compression.survey import EXAMPLES, Survey, survey
from pyro_sws.compression.weights_read import unread
from pyro_sws.inference.batches import moved, pairs
from pyro_sws.inference.density import Density
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import STAGES, device_dtype, evaluate
from pyro_sws.inference.first_batch import TargetCheck, check_first_batch, starting_weights
from pyro_sws.inference.fit import Fit, fit, posterior_at
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import Likelihood, as_likelihood
from pyro_sws.inference.plain_numbers import instance
from pyro_sws.inference.priors import Prior, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule, as_rules
from pyro_sws.inference.progress import Callback, check_callback
from pyro_sws.inference.zero_rows import zero_divisors
from pyro_sws.rewriting.rewrite import Rewritten, rewrite
from pyro_sws.runs.run import Run
from pyro_sws.weights.load import architecture, tensors_of
from pyro_sws.weights.merge import merge
from pyro_sws.weights.network import float_parameter, plain
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, LOSS, quantize

LOGGER = logging.getLogger("pyro_sws")


def compress(
    net: nn.Module,
    train: Iterable,
    *,
    test: Iterable | None = None,
    validation: Iterable | None = None,
    prior: Prior | Sequence[Rule] = SpikeAndSlabs(),  # noqa: B008  (frozen)
    likelihood: str | Likelihood = "categorical",
    tau: float = 0.03,
    epochs: int | None = None,
    seed: int = 0,
    guide: str | Callable[[Joint], Guide] = "delta",
    fit: Fitting = Fitting(),  # noqa: B008  (frozen)
    refinement: Refinement | None = None,
    packing: Packing = Packing(),  # noqa: B008  (frozen)
    density: Density = Density(),  # noqa: B008  (frozen)
    data_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    start: Weights | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
) -> Run:
    """Compress a trained network by soft weight-sharing (Ullrich et al. 2017, alg. 1).

    The network is left as it is. Scores in the report are on ``test``, else ``validation``, else
    ``train``; all that is measured on ``train`` is without the augmentation of its ``Batches``.

    Args:
        net: any module whose output for a batch of inputs is one tensor. ``torch.compile``,
            ``AveragedModel`` and ``DataParallel`` around it or its parts are taken off: names in
            the file have no prefix. A tensor that no output depends on is a warning of the report.
        train: a re-iterable of (inputs, targets) batches.
        test: the same, of data by which nothing was chosen.
        validation: the same, scored after each epoch.
        prior: a prior family for all weights, or rules (see ``Rule``).
        likelihood: a name in LIKELIHOODS or a spec.
        tau: weight of the complexity cost: larger is smaller, in bytes.
        epochs: passes of the fit through ``train``; short for ``fit=Fitting(epochs=...)``, 60.
        seed: of everything that is drawn.
        guide: a name in GUIDES, or a function of the joint.
        fit: learning rates and their schedule, annealing.
        refinement: how to go on with the snapped network, or None; see ``refine``.
        packing: merging, stored values, rewriting, names.
        density: how the density is computed while fitting.
        data_size: number of training examples N, where a pass through ``train`` is a sample of
            them. By default those of a pass are counted, each once, however often it is drawn.
        device, dtype: where, and in which of float32 and float64, to fit.
        start: weights by tensor name from which the fit sets out, instead of the network's own.
        ranks: the processes that work together. All call this with the same arguments and get the
            same result.
        callback: is told of each epoch: "fit", then "refine"; its ``row`` is the row of history.

    Raises:
        TypeError, ValueError, FloatingPointError: as ``joint``, ``fit``, ``merge``, ``refine``,
            ``quantize`` and ``rewrite``, which it calls in that order; what can be seen before the
            fit is raised before it. So is ValueError for a network of which the file would be
            wrong: one that does not compute with the parameters that a fit moves, see ``unread``,
            or computes other outputs when run again, see ``check_repeatable``, and what
            ``check_network`` refuses.
    """
    instance("fit", fit, Fitting)
    plan = Plan(
        net,
        Data(train, validation, test, data_size),
        as_rules(prior),
        as_likelihood(likelihood),
        tau=tau,
        guide=guide,
        fit=fit if epochs is None else replace(fit, epochs=epochs),
        refinement=refinement,
        packing=packing,
        density=density,
        seed=seed,
        device=device,
        dtype=dtype,
        start=start,
    )
    return execute(plan, ranks=ranks, callback=callback)


@torch.inference_mode(False)
def execute(
    plan: Plan,
    *,
    model: Joint | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    started: str | None = None,
) -> Run:
    """The run of a plan whose network and data are objects; see ``compress``.

    ``model``: ``plan.joint`` of that network and data, where the caller has made it already; the
    examples are counted here. ``started``: what the network was that the fit set out from, for the
    report.
    """
    check_callback(callback)
    instance("ranks", ranks, Ranks)
    given = _Given.of(plan, model, started)
    guide = plan.guide_for(given.model)
    warned = (*given.warned, *_unread(given), *_check_the_end(given, guide))
    given = replace(given, warned=warned)
    stages = _Stages()
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
    )
    stages.ended("fit")
    model = replace(given.model, ranks=ranks)
    return _pack(replace(given, model=model), fitted, stages, callback)


@dataclass(frozen=True, eq=False)
class _Given:
    """A plan's objects, and what is known of them before the fit."""

    plan: Plan
    net: nn.Module
    data: Data
    seen: Survey
    model: Joint
    started: str  # what the network was that the fit set out from
    broken: Sequence[str]  # of what a certificate and scores assume
    validation: int | None  # examples of it
    encodings: Encodings = field(default_factory=Encodings)  # of networks that are tried
    warned: tuple[str, ...] = ()  # what the report is to say of it

    @staticmethod
    def of(plan: Plan, model: Joint | None, started: str | None = None) -> "_Given":
        net, data = plan.network, plan.data
        if isinstance(net, NamedNetwork | Unnamed) or not isinstance(data, Data):
            absent = net if isinstance(net, NamedNetwork | Unnamed) else data
            raise TypeError(f"a plan to execute has a module and Data, not {absent!r}")
        net = plain(net)
        seen = survey(data.train, data.size, seed=plan.seed, sampled=plan.measures_description)
        own = "the network as it was given" if plan.start is None else "weights given by start="
        model = replace(model or plan.joint(net, seen.size), data_size=seen.size)
        seen = _sampled_as_taken(model, seen, plan.seed)
        shared = shared_examples(data, seen, plan.seed, TargetCheck(model))
        broken = [*equal_examples(seen), *shared.lines]
        validation = shared.examples.get("validation")
        started, warned = started or own, shared.repeats
        return _Given(plan, net, data, seen, model, started, broken, validation, warned=warned)


def _sampled_as_taken(model: Joint, seen: Survey, seed: int) -> Survey:
    """The survey; its sample is of whole batches where the network takes no others."""
    device, first = device_dtype(model)[0], seen.sample[:1]
    try:
        with torch.no_grad(), forked_rng(seed, device), pyro_step():
            for inputs, _ in moved(first, "train", *device_dtype(model)):
                model.outputs({}, inputs)
        return seen
    except ValueError:
        share = EXAMPLES / seen.size
        with forked_rng(seed, torch.device("cpu")):
            whole = [b for b in pairs(seen.measured, "train") if float(torch.rand(())) < share]
        return replace(seen, sample=tuple(whole or [seen.first]))


@dataclass
class _Stages:
    """Seconds by stage, each from the end of the one before."""

    began: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def ended(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self.began = now - self.began, now


def _pack(given: _Given, fitted: Fit, stages: _Stages, callback: Callback | None) -> Run:
    """The fit merged, refined, quantised, rewritten, encoded, and measured for the report."""
    plan, model, packing = given.plan, given.model, given.plan.packing
    merged = _merged(given, fitted.posterior)
    stages.ended("merge")
    refined = _refine(given, merged, callback)
    packed = merged if refined is None else refined.posterior
    if refined is not None:
        stages.ended("refine")
    quantized = quantize(packed, packing.codebook_dtype, packing.signal_to_noise)
    rewritten = _rewrite(given, quantized) if packing.rewrite else None
    stored = quantized if rewritten is None else rewritten.quantized
    names = architecture(given.net)
    data = given.encodings.of(stored, names if packing.fingerprint else None)
    stages.ended("quantize and encode")
    name, judged = given.data.judged
    summary = report(
        given.net,
        model,
        fitted.posterior,
        quantized,
        data,
        given.seen.measured,
        merged=packed,
        rewritten=rewritten,
        bits_back_nats=fitted.bits_back_nats,
        warned=given.warned,
        refinement=None if refined is None else refined.summary(),
        seconds=stages.seconds,
        test=None if name == "training" else judged,
        test_name=name,
        seed=plan.seed,
        example=given.seen.first[0],
    )
    summary = declared(
        summary, given.data, given.seen, given.started, given.broken, given.validation
    )
    return Run(
        plan=plan,
        given=tensors_of(given.net),
        architecture=names,
        posterior=fitted.posterior,
        packed=packed,
        quantized=stored,
        data=data,
        report=summary,
        history=fitted.history,
        refined=refined,
    )


def _merged(given: _Given, fitted: Posterior) -> Posterior:
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


def _refine(given: _Given, merged: Posterior, callback: Callback | None) -> Refined | None:
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
    )


def _rewrite(given: _Given, quantized: Quantized) -> Rewritten:
    parameter, inputs = float_parameter(given.net), given.seen.first[0]
    example = inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)
    promise = given.plan.packing.nonnegative_inputs
    return rewrite(
        given.net,
        quantized,
        length=given.encodings.length,
        example=example,
        nonnegative_inputs=promise,
    )


def _unread(given: _Given) -> tuple[str, ...]:
    """A warning where outputs do not depend on tensors that the fit moves; see ``unread``."""
    ((inputs, _),) = moved([given.seen.first], "train", *device_dtype(given.model))
    names = unread(given.model, inputs)
    check_repeatable(given.model, inputs)  # after it: this runs the network's own weights
    if not names:
        return ()
    return (f"no output depends on {', '.join(names)}: only the prior moves them",)


def _check_the_end(given: _Given, guide: Guide) -> tuple[str, ...]:
    """Raise now what would be raised only after the fit; what may come is warned of."""
    model, packing = given.model, given.plan.packing
    if packing.signal_to_noise is not None:
        _check_signal_to_noise(model, guide, packing)
    Quantized({}, {}, {}, {name: tensor.cpu().numpy() for name, tensor in model.raw().items()})
    for batch in moved([given.seen.first], "train", *device_dtype(model)):
        check_first_batch(model, batch, "train")
    for name, batches in (("test", given.data.test), ("validation", given.data.validation)):
        if batches is not None:
            with forked_rng(0, device_dtype(model)[0]):
                first = list(islice(batches, 1))
                evaluate(model, {}, first, model.start(), f"{name}, first batch", STAGES["before"])
                for batch in moved(first, name, *device_dtype(model)):
                    check_first_batch(model, batch, name)
    _check_range(model, packing.codebook_dtype)
    warned = tuple(zero_divisors(model, given.seen.first[0]))
    for warning in warned:
        LOGGER.warning(warning)
    return warned


def _check_range(model: Joint, codebook_dtype: str) -> None:
    """Raise ValueError where a tensor's weights are all too near 0 for the codebook's dtype."""
    dtype = CODEBOOK_DTYPES[codebook_dtype]
    largest = torch.stack([w.abs().max().cpu() for w in starting_weights(model).values()])
    if ((largest.to(dtype) - largest).abs() > LOSS * largest).any():
        quantize(posterior_at(model, model.start()), codebook_dtype)


def _check_signal_to_noise(model: Joint, guide: Guide, packing: Packing) -> None:
    start, deviations = posterior_at(model, model.start()), None
    if getattr(guide, "weights_have_spread", False):
        sites = map(weights_site, model.groups)
        deviations = {site: torch.zeros_like(start.point[site]) for site in sites}
    quantize(replace(start, deviations=deviations), packing.codebook_dtype, packing.signal_to_noise)
