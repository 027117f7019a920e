"""Whether labels belong to the outputs before them: a model's own loss tells, where it has one."""

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
    """The same reading, with ``next_tokens`` as the loss of a Hugging Face model has it.

    A causal model shifts its labels, one with an encoder or for masked tokens does not, and the
    names of classes do not tell: so the loss that it returns for labels (B, T) is compared with the
    cross-entropies of both. Where it is neither, the reading stays as it was. Network and
    generators are as they were; raises TypeError for batches that are no re-iterable.
    """
    if reading != Reading() or not isinstance(net, nn.Module) or not hasattr(net, "config"):
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
