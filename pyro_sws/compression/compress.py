"""The main job: a trained network in, a small real file out. A driver over the zones."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_sws.assess.report.report import Report, report
from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.merge_by_description import merge_by_description
from pyro_sws.compression.refine import Refined, Refinement, refine
from pyro_sws.files import write_whole
from pyro_sws.inference.annealing import Annealing
from pyro_sws.inference.batches import check_reiterable, count_examples, unaugmented
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import device_dtype, evaluate
from pyro_sws.inference.fit import Fit, History, fit, posterior_at
from pyro_sws.inference.guides import Guide, guide_maker
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.inference.optimizer import Rates
from pyro_sws.inference.priors import Prior, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule, apply_rules, as_rules
from pyro_sws.rewriting.rewrite import rewrite as rewriting
from pyro_sws.suggestions import nearest
from pyro_sws.weights.load import architecture, load
from pyro_sws.weights.merge import MERGE_THRESHOLD, check_threshold, merge
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import check_codebook_dtype, quantize

MERGE_BY = ("divergence", "description")


@dataclass(frozen=True, eq=False)
class Result:
    """What a compression leaves: the file's bytes, the report on it, and all that led there."""

    network: nn.Module  # as given
    posterior: Posterior  # as fitted
    merged: Posterior  # after merging components, and after refinement where there was any
    quantized: Quantized  # what the file holds
    data: bytes  # the file
    report: Report
    history: History
    refined: Refined | None = None  # what refinement did
    call: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the arguments of compress

    def save(self, path: str | os.PathLike) -> None:
        """Write the .sws file, whole or not at all."""
        write_whole(path, self.data)

    @cached_property
    def decoded(self) -> nn.Module:
        """A new network, with the weights read back from the file's bytes."""
        return load(self.data, into=self.network)

    def to_arviz(self, **options: Any) -> dict[str, Any]:
        """Draws of the mixture given the weights and of the network; see ``sws.to_arviz``."""
        import pyro_sws  # by its name: what makes the draws stands on this file

        return pyro_sws.to_arviz(self, **options)

    def with_prior(self, prior: Prior | Sequence[Rule], **changes: Any) -> "Result":
        """The same call of ``compress`` under another prior, starting at the fitted weights.

        Those are the posterior's, before snapping; "before" is still the network as given. What is
        not among ``changes``, keywords of ``compress``, is as it was: data, tau, epochs, rates and
        all. Tensors that the new prior does not cover are stored as the network has them. Raises
        TypeError for a change that ``compress`` does not know, and what ``compress`` raises.
        """
        known = sorted(self.call.keys() - {"net", "prior"})
        for name in changes:
            if name not in known:
                raise TypeError(
                    f"unknown change {name!r}{nearest(name, known)}; known are {', '.join(known)}"
                )
        start = covered_by(self.network, prior, self.posterior.weights)
        return compress(**{**self.call, "prior": prior, "start": start, **changes})


def compress(
    net: nn.Module,
    train: Iterable,
    *,
    test: Iterable | None = None,
    validation: Iterable | None = None,
    prior: Prior | Sequence[Rule] = SpikeAndSlabs(),  # noqa: B008  (frozen)
    likelihood: str | Likelihood = "categorical",
    tau: float = 0.03,
    epochs: int = 60,
    seed: int = 0,
    guide: str | Callable[[Joint], Guide] = "delta",
    rates: Rates = Rates(),  # noqa: B008  (frozen)
    schedule: str | Callable[[float], float] = "cosine",
    annealing: Annealing = Annealing(),  # noqa: B008  (frozen)
    merge_threshold: float = MERGE_THRESHOLD,
    merge_by: str = "divergence",
    refinement: Refinement | None = None,
    codebook_dtype: str = "float16",
    signal_to_noise: float | None = None,
    rewrite: bool = True,
    nonnegative_inputs: bool = False,
    fingerprint: bool = False,
    data_size: int | None = None,
    density: str = "auto",
    prior_subsample: float | None = None,
    hyperparameters_every: int = 1,
    autocast: torch.dtype | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    start: Mapping[str, Tensor | np.ndarray] | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Result:
    """Compress a trained network by soft weight-sharing (Ullrich et al. 2017, alg. 1).

    ``net`` is left as it is. ``train``, ``validation`` and ``test`` are re-iterables of (inputs,
    targets) batches; the report's scores are on ``test``, else ``validation``, else ``train``, and
    all that is measured on ``train`` is without the augmentation of its ``Batches``.
    ``tau`` trades error for bytes: larger is smaller. Several ``ranks`` all call it with the same
    arguments and get the same result. With ``rewrite`` the file holds a shorter network of the same
    outputs, up to float rounding; with ``fingerprint`` no names and shapes, for ``load`` into this
    architecture alone. ``merge_by``: "divergence" merges components that are close, "description"
    goes on with ``merge_by_description``. ``refinement``: go on with the snapped network as in
    ``refine``. ``guide``: a name in GUIDES or a function of the joint. ``start``: weights by tensor
    name from which the fit sets out, instead of the network's own (see ``Result.with_prior``).
    ``callback`` gets each row of history, the refinement's too. The rest is as in ``joint``,
    ``fit``, ``merge``, ``refine``, ``quantize`` and ``rewrite``, which it calls in that order, and
    which say what they raise.
    """
    call = dict(locals())  # before anything else is local
    size = count_examples(train, "train") if data_size is None else data_size
    model = joint(
        net,
        prior,
        likelihood,
        size,
        tau=tau,
        density=density,
        prior_subsample=prior_subsample,
        autocast=autocast,
        device=device,
        dtype=dtype,
        start=start,
    )
    scored, name = (test, "test") if test is not None else (validation, "validation")
    packing = Packing(
        merge_threshold,
        merge_by,
        refinement,
        codebook_dtype,
        rewrite,
        nonnegative_inputs,
        fingerprint,
        signal_to_noise,
    )
    family = guide_maker(guide)(model)
    _check_the_end(model, family, {"test": test, "validation": validation}, packing)
    started = time.perf_counter()
    fitted = fit(
        model,
        family,
        train,
        epochs=epochs,
        rates=rates,
        schedule=schedule,
        annealing=annealing,
        seed=seed,
        validation=validation,
        merge_threshold=merge_threshold,
        hyperparameters_every=hyperparameters_every,
        ranks=ranks,
        callback=callback,
    )
    seconds = {"fit": time.perf_counter() - started}
    data = {"test": scored, "test_name": name, "seed": seed}
    model = replace(model, ranks=ranks)
    result = _packed(net, model, fitted, train, packing, seconds, data, callback)
    return replace(result, call=call)


def covered_by(
    net: nn.Module, prior: Prior | Sequence[Rule], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Those of the weights, by tensor name, that the prior covers: a start for a fit under it."""
    groups, _, _ = apply_rules(net, as_rules(prior))
    covered = {name for group in groups.values() for name in group.shapes}
    return {name: tensor for name, tensor in weights.items() if name in covered}


@dataclass(frozen=True)
class Packing:
    """How a fit becomes a file; see ``compress``."""

    merge_threshold: float
    merge_by: str
    refinement: Refinement | None
    codebook_dtype: str
    rewrite: bool
    nonnegative_inputs: bool
    fingerprint: bool
    signal_to_noise: float | None = None


def _packed(
    net: nn.Module,
    model: Joint,
    fitted: Fit,
    train: Iterable,
    packing: Packing,
    seconds: Mapping[str, float],
    reported: Mapping[str, Any],
    callback: Callable[[dict[str, Any]], None] | None,
) -> Result:
    """The fit merged, refined, quantised, rewritten, encoded, and measured for the report."""
    judged: dict[str, Any] = {"codebook_dtype": packing.codebook_dtype, "seed": reported["seed"]}
    started = time.perf_counter()
    merged = merge(fitted.posterior, packing.merge_threshold)
    if packing.merge_by == "description":
        merged = merge_by_description(model, merged, train, **judged)
    seconds = {**seconds, "merge": time.perf_counter() - started}
    started, refined = time.perf_counter(), None
    if packing.refinement is not None:
        ranks = model.ranks
        refined = refine(
            model, merged, train, packing.refinement, ranks=ranks, callback=callback, **judged
        )
        merged = refined.posterior
        seconds = {**seconds, "refine": time.perf_counter() - started}
    started = time.perf_counter()
    quantized = quantize(merged, packing.codebook_dtype, packing.signal_to_noise)
    rewritten = None
    if packing.rewrite:
        example = _example(net, train, reported["seed"])
        promise = packing.nonnegative_inputs
        rewritten = rewriting(net, quantized, example=example, nonnegative_inputs=promise)
    held = quantized if rewritten is None else rewritten.quantized
    data = encode(held, architecture=architecture(net) if packing.fingerprint else None)
    summary = report(
        net,
        model,
        fitted.posterior,
        quantized,
        data,
        unaugmented(train),
        merged=merged,
        rewritten=rewritten,
        bits_back_nats=fitted.bits_back_nats,
        refinement=None if refined is None else refined.summary(),
        seconds={**seconds, "quantize and encode": time.perf_counter() - started},
        **reported,
    )
    return Result(net, fitted.posterior, merged, held, data, summary, fitted.history, refined)


def _example(net: nn.Module, train: Iterable, seed: int) -> torch.Tensor:
    """A batch of inputs, where the network given is."""
    parameter = next(net.parameters())
    with forked_rng(seed, parameter.device):
        inputs, _ = next(iter(unaugmented(train)))
    return inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)


def _check_the_end(
    model: Joint, guide: Guide, scored: Mapping[str, Iterable | None], packing: Packing
) -> None:
    """Raise now what would be raised after the fit: for what is needed only then."""
    check_threshold(packing.merge_threshold)
    check_codebook_dtype(packing.codebook_dtype)
    if not isinstance(packing.refinement, Refinement | None):
        raise TypeError(f"refinement must be a Refinement or None, got {packing.refinement!r}")
    if packing.merge_by not in MERGE_BY:
        raise ValueError(
            f"unknown merge_by {packing.merge_by!r}; choose from {', '.join(MERGE_BY)}"
        )
    if packing.signal_to_noise is not None:
        _check_signal_to_noise(model, guide, packing)
    Quantized({}, {}, {}, {name: tensor.cpu().numpy() for name, tensor in model.raw().items()})
    for name, batches in scored.items():
        if batches is not None:
            check_reiterable(batches, name)
            with forked_rng(0, device_dtype(model)[0]):
                evaluate(model, {}, islice(batches, 1), model.start(), name)


def _check_signal_to_noise(model: Joint, guide: Guide, packing: Packing) -> None:
    if packing.refinement is not None:
        raise ValueError(
            "signal_to_noise and refinement: give one of them; a refined network's weights have no "
            "posterior deviations"
        )
    start, deviations = posterior_at(model, model.start()), None
    if getattr(guide, "weights_have_spread", False):
        sites = map(weights_site, model.groups)
        deviations = {site: torch.zeros_like(start.point[site]) for site in sites}
    quantize(replace(start, deviations=deviations), packing.codebook_dtype, packing.signal_to_noise)
