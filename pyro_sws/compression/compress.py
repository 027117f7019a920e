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
from pyro_sws.compression.walk.failure import CompressionFailed
from pyro_sws.compression.walk.frontier import Frontier
from pyro_sws.compression.walk.hyperparameters import most_probable
from pyro_sws.compression.walk.judge import judge
from pyro_sws.compression.walk.portions import cut
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.compression.walk.walk import walk
from pyro_sws.compression.weights_read import unread
from pyro_sws.inference.batches import moved, pairs
from pyro_sws.inference.density import Density
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import STAGES, device_dtype, evaluate
from pyro_sws.inference.first_batch import TargetCheck, check_first_batch, starting_weights
from pyro_sws.inference.fit import Fit, count_batches, fit, posterior_at
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.history import History
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
TAU = 0.03  # where none is given


def compress(
    net: nn.Module,
    train: Iterable,
    *,
    test: Iterable | None = None,
    validation: Iterable | None = None,
    tolerance: float | None = None,
    budget: Budget | None = None,
    prior: Prior | Sequence[Rule] | None = None,
    likelihood: str | Likelihood = "categorical",
    tau: float | None = None,
    epochs: int | None = None,
    seed: int = 0,
    guide: str | Callable[[Joint], Guide] = "delta",
    fit: Walk | Fitting | None = None,
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
    """Compress a trained network by soft weight-sharing, and keep its accuracy.

    By default a walk (see ``walk``) finds the shortest file whose score is within the tolerance of
    the network's own, in ``result.frontier`` with the other files that it met. Any of ``tau``,
    ``epochs``, ``fit=Fitting(...)``, ``refinement`` and ``guide`` asks for the paper's own
    procedure instead (Ullrich et al. 2017, alg. 1), whose tau says how much accuracy is given up.

    The network is left as it is. Scores in the report are on ``test``, else ``validation``, else
    ``train``; all that is measured on ``train`` is without the augmentation of its ``Batches``.

    Args:
        net: any module whose output for a batch of inputs is one tensor. ``torch.compile``,
            ``AveragedModel`` and ``DataParallel`` around it or its parts are taken off: names in
            the file have no prefix. A tensor that no output depends on is a warning of the report.
        train: a re-iterable of (inputs, targets) batches, which the network was trained on.
        test: the same, of data by which nothing was chosen.
        validation: the same, of data that the network was not trained on. A walk is judged on it;
            without it on a sample of ``train``, against the better of the network as it is and the
            same after some more training, since both have seen that data. A fit is scored on it
            after each epoch.
        tolerance: of a walk: by how much the score may be worse, in its own unit. By default half a
            point of an error in percent, 2 % of another score, or one standard error of it on the
            data of the judgement, whichever is larger.
        budget: of a walk; by default ``Budget()``.
        prior: a prior family for all weights, or rules (see ``Rule``). By default, in a walk
            ``Scaled`` spikes and slabs around zero in units of each tensor's own size, matrices and
            vectors apart; in a fit ``SpikeAndSlabs()``.
        likelihood: a name in LIKELIHOODS or a spec.
        tau: weight of the complexity cost: larger is smaller, in bytes; 0.03.
        epochs: passes of the fit through ``train``; short for ``fit=Fitting(epochs=...)``, 60.
        seed: of everything that is drawn.
        guide: a name in GUIDES, or a function of the joint.
        fit: a ``Walk``, with its widths and rates; or a ``Fitting``: learning rates and their
            schedule, annealing.
        refinement: how to go on with the snapped network, or None; see ``refine``.
        packing: merging, stored values, rewriting, names.
        density: how the density is computed while fitting.
        data_size: number of training examples N, where a pass through ``train`` is a sample of
            them. By default those of a pass are counted, each once, however often it is drawn.
        device, dtype: where, and in which of float32 and float64, to fit.
        start: weights by tensor name from which the fit sets out, instead of the network's own.
        ranks: the processes that work together in a fit. All call this with the same arguments and
            get the same result.
        callback: is told of each step of a walk, or of each epoch: "fit", then "refine"; its
            ``row`` is the row of history.

    Raises:
        CompressionFailed: where no file of a walk was within the tolerance; it has the best one.
        TypeError, ValueError, FloatingPointError: as ``joint``, ``fit``, ``merge``, ``refine``,
            ``quantize`` and ``rewrite``, which it calls in that order; what can be seen before the
            fit is raised before it. So is ValueError for a network of which the file would be
            wrong: one that does not compute with the parameters that a fit moves, see ``unread``,
            or computes other outputs when run again, see ``check_repeatable``, and what
            ``check_network`` refuses.
    """
    if fit is not None and not isinstance(fit, Walk):
        instance("fit", fit, Fitting)
    of_a_fit = (tau, epochs, refinement, None if guide == "delta" else guide)
    of_a_walk = isinstance(fit, Walk) or tolerance is not None or budget is not None
    given = {"tau": tau, "epochs": epochs, "fit": fit if isinstance(fit, Fitting) else None}
    for name, value in given.items():
        if of_a_walk and value is not None:
            raise ValueError(
                f"{name} = {value} is for a fit, and tolerance, budget and Walk are for a walk; "
                "leave one of the two away"
            )
    if fit is None and (of_a_walk or all(each is None for each in of_a_fit)):
        fit = Walk()
    if prior is None:
        walks = isinstance(fit, Walk) and isinstance(net, nn.Module)
        prior = default_rules(net) if walks else SpikeAndSlabs()
    fitting = fit if isinstance(fit, Fitting) else Fitting()
    plan = Plan(
        net,
        Data(train, validation, test, data_size),
        as_rules(prior),
        as_likelihood(likelihood),
        tau=TAU if tau is None else tau,
        guide=guide,
        fit=fitting if epochs is None else replace(fitting, epochs=epochs),
        refinement=refinement,
        walk=fit if isinstance(fit, Walk) else None,
        tolerance=tolerance,
        budget=budget,
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
    if plan.walk is not None:
        return _walk(given, plan.walk, ranks, stages, callback)
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
    given = replace(given, model=replace(given.model, ranks=ranks))
    return _pack(given, _merge_and_refine(given, fitted, stages, callback), stages)


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


def _walk(
    given: _Given, settings: Walk, ranks: Ranks, stages: _Stages, callback: Callback | None
) -> Run:
    """The shortest file of a walk within the tolerance. Raises CompressionFailed for none."""
    if ranks.count > 1:
        raise ValueError("a walk is of one process; give tau= for a fit of several")
    plan, data = given.plan, given.data
    train = cut(data.train)
    watch = judge(given.model, given.seen.sample, "training", plan.tolerance)
    model = replace(given.model, tau=settings.pull * given.seen.size**0.5 * watch.dispersion)
    given = replace(given, model=model)
    # The same objective over the dispersion: gradients do not depend on the units of targets.
    fitted_to = getattr(model.likelihood, "at", lambda dispersion: model.likelihood)
    scaled = replace(
        model, likelihood=fitted_to(watch.dispersion), tau=model.tau / watch.dispersion
    )
    judged = watch
    if data.validation is not None:
        judged = judge(given.model, data.validation, "validation", plan.tolerance)
    walked = walk(
        scaled,
        judged,
        watch,
        train,
        count_batches(train),
        settings,
        plan.budget or Budget(),
        codebook_dtype=plan.packing.codebook_dtype,
        seed=plan.seed,
        callback=callback,
    )
    stages.ended("walk")
    if walked.posterior is None:
        raise CompressionFailed(walked.frontier)
    reached = replace(walked.posterior, tau=model.tau)
    fitted = most_probable(model, reached, given.seen.measured)
    stages.ended("hyperparameters")
    packed = _Packed(fitted, reached, walked.history, frontier=walked.frontier)
    return _pack(given, packed, stages)


@dataclass(frozen=True, eq=False)
class _Packed:
    """What is quantised, and where it came from."""

    fitted: Posterior
    posterior: Posterior
    history: History
    bits_back_nats: float | None = None
    refined: Refined | None = None
    frontier: Frontier | None = None


def _merge_and_refine(
    given: _Given, fitted: Fit, stages: _Stages, callback: Callback | None
) -> _Packed:
    merged = _merged(given, fitted.posterior)
    stages.ended("merge")
    refined = _refine(given, merged, callback)
    if refined is not None:
        stages.ended("refine")
    packed = merged if refined is None else refined.posterior
    return _Packed(fitted.posterior, packed, fitted.history, fitted.bits_back_nats, refined)


def _pack(given: _Given, packed: _Packed, stages: _Stages) -> Run:
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
        bits_back_nats=packed.bits_back_nats,
        snapping=packed.frontier is not None,
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
        posterior=packed.fitted,
        packed=packed.posterior,
        quantized=stored,
        data=data,
        report=summary,
        history=packed.history,
        refined=refined,
        frontier=packed.frontier,
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
