"""The main job: a trained network in, a small real file out. A driver over the zones."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import nn

from pyro_sws.assess.report import Report, report
from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.files import write_whole
from pyro_sws.inference.batches import check_reiterable, count_examples
from pyro_sws.inference.descent import Rates
from pyro_sws.inference.fit import Fit, History, fit
from pyro_sws.inference.guides import GUIDES, Guide
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.inference.priors import Prior, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.inference.ranks import Ranks
from pyro_sws.inference.scoring import evaluate, placement
from pyro_sws.inference.steps import forked_rng
from pyro_sws.weights.load import architecture, load
from pyro_sws.weights.merge import MERGE_THRESHOLD, check_threshold, merge
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import check_codebook_dtype, quantize
from pyro_sws.weights.rewrite import rewrite as rewriting


@dataclass(frozen=True, eq=False)
class Result:
    """What a compression leaves: the file's bytes, the report on it, and all that led there."""

    network: nn.Module  # as given
    posterior: Posterior  # as fitted
    merged: Posterior  # after merging components
    quantized: Quantized  # what the file holds
    data: bytes  # the file
    report: Report
    history: History

    def save(self, path: str | os.PathLike) -> None:
        """Write the .sws file, whole or not at all."""
        write_whole(path, self.data)

    @cached_property
    def decoded(self) -> nn.Module:
        """A new network, with the weights read back from the file's bytes."""
        return load(self.data, into=self.network)


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
    merge_threshold: float = MERGE_THRESHOLD,
    codebook_dtype: str = "float16",
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
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Result:
    """Compress a trained network by soft weight-sharing (Ullrich et al. 2017, alg. 1).

    ``net`` is left as it is. ``train``, ``validation`` and ``test`` are re-iterables of (inputs,
    targets) batches; the report's scores are on ``test``, else ``validation``, else ``train``.
    ``tau`` trades error for bytes: larger is smaller. Several ``ranks`` all call it with the same
    arguments and get the same result. With ``rewrite`` the file holds a shorter network of the same
    outputs, up to float rounding; with ``fingerprint`` no names and shapes, for ``load`` into this
    architecture alone. The rest is as in ``joint``, ``fit``, ``merge``, ``quantize`` and
    ``rewrite``, which it calls in that order, and which say what they raise.
    """
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
    )
    scored, name = (test, "test") if test is not None else (validation, "validation")
    _check_the_end(model, {"test": test, "validation": validation}, merge_threshold, codebook_dtype)
    started = time.perf_counter()
    fitted = fit(
        model,
        _guide(guide)(model),
        train,
        epochs=epochs,
        rates=rates,
        schedule=schedule,
        seed=seed,
        validation=validation,
        merge_threshold=merge_threshold,
        hyperparameters_every=hyperparameters_every,
        ranks=ranks,
        callback=callback,
    )
    seconds = {"fit": time.perf_counter() - started}
    packing = Packing(merge_threshold, codebook_dtype, rewrite, nonnegative_inputs, fingerprint)
    data = {"test": scored, "test_name": name, "seed": seed}
    return _packed(net, replace(model, ranks=ranks), fitted, train, packing, seconds, data)


@dataclass(frozen=True)
class Packing:
    """How a fit becomes a file; see ``compress``."""

    merge_threshold: float
    codebook_dtype: str
    rewrite: bool
    nonnegative_inputs: bool
    fingerprint: bool


def _packed(
    net: nn.Module,
    model: Joint,
    fitted: Fit,
    train: Iterable,
    packing: Packing,
    seconds: Mapping[str, float],
    reported: Mapping[str, Any],
) -> Result:
    """The fit merged, quantised, rewritten, encoded, measured; ``reported`` goes to the report."""
    started = time.perf_counter()
    merged = merge(fitted.posterior, packing.merge_threshold)
    quantized = quantize(merged, packing.codebook_dtype)
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
        train,
        merged=merged,
        rewritten=rewritten,
        seconds={**seconds, "quantize and encode": time.perf_counter() - started},
        **reported,
    )
    return Result(net, fitted.posterior, merged, held, data, summary, fitted.history)


def _example(net: nn.Module, train: Iterable, seed: int) -> torch.Tensor:
    """A batch of inputs, where the network given is."""
    parameter = next(net.parameters())
    with forked_rng(seed, parameter.device):
        inputs, _ = next(iter(train))
    return inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)


def _check_the_end(
    model: Joint, scored: Mapping[str, Iterable | None], threshold: float, codebook_dtype: str
) -> None:
    """Raise now what would be raised after the fit: for what is needed only then."""
    check_threshold(threshold)
    check_codebook_dtype(codebook_dtype)
    Quantized({}, {}, {}, {name: tensor.cpu().numpy() for name, tensor in model.raw().items()})
    for name, batches in scored.items():
        if batches is not None:
            check_reiterable(batches, name)
            with forked_rng(0, placement(model)[0]):
                evaluate(model, {}, islice(batches, 1), model.start(), name)


def _guide(guide: str | Callable[[Joint], Guide]) -> Callable[[Joint], Guide]:
    if callable(guide):
        return guide
    if guide not in GUIDES:
        raise ValueError(f"unknown guide {guide!r}; choose from {', '.join(sorted(GUIDES))}")
    return GUIDES[guide]
