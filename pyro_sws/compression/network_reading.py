"""How batches are read, as far as the network tells: its arguments' names, and its own loss."""

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pyro_sws.inference.batch_reading import IGNORED, LABELS, Reading
from pyro_sws.inference.batches import check_reiterable, moved, unaugmented
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import NETWORK_ERRORS
from pyro_sws.rewriting.restored import restored
from pyro_sws.weights.network import float_parameter, plain
from pyro_sws.weights.structures import Structure, fed

BATCHES = 8  # that are looked at, until one tells
TELLING = 0.1  # how near the one loss is to the model's own, relative to the other


def reading_of(net: nn.Module, reading: Reading, train: Iterable) -> Reading:
    """The same reading, with the network's ``keywords``, or ``next_tokens`` as its loss has it.

    Of Hugging Face's models a causal one shifts its labels, and one with an encoder or for masked
    tokens does not. Names of classes do not tell: so the loss that it returns for labels (B, T) is
    compared with the cross-entropies of both. Where it is neither, the reading stays as it was.
    Network and generators are as they were; raises TypeError for batches that are no re-iterable.
    """
    if not isinstance(net, nn.Module):
        return reading  # it is refused where it is used
    if isinstance(reading.targets, str):
        return replace(reading, keywords=_keywords(plain(net)))
    if reading != Reading() or not hasattr(net, "config"):
        return reading
    check_reiterable(train, "train")
    own = plain(net)
    parameter = float_parameter(own)
    with forked_rng(0, parameter.device):
        for batch in islice(unaugmented(train), BATCHES):
            if not _has_token_labels(batch):
                return reading
            with restored(own), torch.no_grad():
                found = _shifts(own.eval(), batch, parameter)
            if found is not None:
                return replace(reading, next_tokens=found)
    return reading


def _keywords(net: nn.Module) -> frozenset[str]:
    """The arguments that it takes by name, but for the first where that has a place, too."""
    parameters = list(inspect.signature(net.forward).parameters.values())
    if parameters and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        parameters = parameters[1:]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return frozenset(each.name for each in parameters if each.kind not in variable)


def _has_token_labels(batch: Any) -> bool:
    labels = batch.get(LABELS) if isinstance(batch, Mapping) else None
    return isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.dim() == 2


def _shifts(net: nn.Module, batch: Mapping, like: Tensor) -> bool | None:
    """Whether its loss is of the labels after each output; None where that cannot be told."""
    given = [(Structure(batch), batch[LABELS])]
    ((inputs, _),) = moved(given, "train", like.device, like.dtype)
    labels = batch[LABELS].to(like.device)
    try:
        outputs = fed(net, inputs)
    except NETWORK_ERRORS:
        return None  # what is wrong is said where it is read
    if not isinstance(outputs, Mapping) or not isinstance(outputs.get("loss"), Tensor):
        return None
    logits, loss = outputs["logits"].float(), outputs["loss"].item()
    if logits.shape[:-1] != labels.shape:
        return None
    here = abs(_mean_loss(logits, labels) - loss)
    after = abs(_mean_loss(logits[:, :-1], labels[:, 1:]) - loss)
    if not math.isfinite(here + after) or max(here, after) * TELLING < min(here, after):
        return None
    return after < here


def _mean_loss(logits: Tensor, labels: Tensor) -> float:
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED).item()
