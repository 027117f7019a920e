"""A plan's objects, and all that can be seen wrong with them before the fit. A driver."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import nn

from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.declared import equal_examples, shared_examples
from pyro_sws.compression.encodings import Encodings
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import Data, NamedNetwork, Plan, Unnamed
from pyro_sws.compression.repeatable import check_repeatable
from pyro_sws.compression.survey import EXAMPLES, Survey, survey
from pyro_sws.compression.weights_read import unread
from pyro_sws.inference.batches import moved, pairs, rounding
from pyro_sws.inference.evaluation import STAGES, device_dtype, evaluate
from pyro_sws.inference.first_batch import TargetCheck, check_first_batch, starting_weights
from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.zero_rows import zero_divisors
from pyro_sws.rewriting.rewrite import SAME, apart
from pyro_sws.weights.batch_norm import foldable
from pyro_sws.weights.network import plain
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, LOSS, quantize

LOGGER = logging.getLogger("pyro_sws")


@dataclass(frozen=True, eq=False)
class Given:
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
    def of(plan: Plan, model: Joint | None, started: str | None = None) -> "Given":
        net, data = plan.network, plan.data
        if isinstance(net, NamedNetwork | Unnamed) or not isinstance(data, Data):
            absent = net if isinstance(net, NamedNetwork | Unnamed) else data
            raise TypeError(f"a plan to execute has a module and Data, not {absent!r}")
        net = plain(net)
        seen = survey(data.train, data.size, seed=plan.seed, sampled=plan.measures_description)
        model = replace(model or plan.joint(net, seen.size), data_size=seen.size)
        moved = bool(model.initial_weights)
        own = "weights given by start=" if moved else "the network as it was given"
        seen = _sampled_as_taken(model, seen, plan.seed)
        shared = shared_examples(data, seen, plan.seed, TargetCheck(model))
        broken = [*equal_examples(seen), *shared.lines]
        validation = shared.examples.get("validation")
        started, warned = started or own, shared.repeats
        return Given(plan, net, data, seen, model, started, broken, validation, warned=warned)

    def checked(self, guide: Guide) -> "Given":
        """The same with what is to be warned of. Raises ValueError for what cannot end well."""
        _check_folding(self)
        warned = (*self.warned, *_unread(self), *_check_the_end(self, guide))
        return replace(self, warned=warned)


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


@torch.no_grad()
def _check_folding(given: Given) -> None:
    """Raise ValueError where the network computes otherwise once its batch norms are folded."""
    if not given.plan.packing.fold or next(foldable(given.net), None) is None:
        return
    unfolded = replace(given.plan, packing=replace(given.plan.packing, fold=False), start=None)
    outputs = []
    for model in (unfolded.joint(given.net, given.seen.size), given.model):
        device, dtype = device_dtype(model)
        ((inputs, _),) = moved([given.seen.first], "train", device, dtype)
        with forked_rng(given.plan.seed, device), pyro_step():
            outputs.append(model.outputs(model.exact, inputs).double())
    difference, _ = apart(*outputs)
    largest = apart(outputs[0], outputs[0])[1]
    if difference > SAME * largest:
        raise ValueError(
            f"{type(given.net).__name__} computes other outputs once its batch norms are folded: "
            f"they differ by {difference:g}, where the largest is {largest:g}; its code may run "
            "norms in train mode, or read their statistics. Give packing=Packing(fold=False)"
        )


def _unread(given: Given) -> tuple[str, ...]:
    """A warning where outputs do not depend on tensors that the fit moves; see ``unread``."""
    ((inputs, _),) = moved([given.seen.first], "train", *device_dtype(given.model))
    # A buffer that is a copy of a weight is found by its being equal, which rounding would end.
    names = unread(given.model.unrounded_raw(), inputs)
    check_repeatable(given.model, inputs)  # after it: this runs the network's own weights
    if not names:
        return ()
    return (f"no output depends on {', '.join(names)}: only the prior moves them",)


def _check_the_end(given: Given, guide: Guide) -> tuple[str, ...]:
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
    example = given.seen.first[0]
    warned = (*zero_divisors(model, example), *rounding(example, device_dtype(model)[1]))
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
