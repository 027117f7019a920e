"""What a certificate assumes, as far as it can be looked at: each check refuses in one line."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from pyro_sws.assess.report.stages import draws, unsteady
from pyro_sws.certification.agreement import input_parts
from pyro_sws.certification.refusal import NotCertifiable
from pyro_sws.compression.counting import CHANCE
from pyro_sws.compression.survey import Survey
from pyro_sws.inference.batch_reading import Reading, behind, read_by
from pyro_sws.inference.batches import Part, pairs, unaugmented
from pyro_sws.inference.evaluation import Evaluated
from pyro_sws.inference.examples import Seen, digests
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.inference.loaders import augments
from pyro_sws.weights.network import listed

CPU = torch.device("cpu")


def check_buffers(net: nn.Module, fixed: Sequence[str]) -> None:
    """Buffers that no file has must be said to be fixed: they may be made of the data."""
    saved = net.state_dict().keys()
    outside = [name for name, _ in net.named_buffers() if name not in saved]
    if unknown := [name for name in fixed if name not in outside]:
        raise ValueError(
            f"fixed names {listed(unknown)}, which is no buffer outside the file; those are "
            f"{listed(outside) if outside else 'none'}"
        )
    if left := [name for name in outside if name not in fixed]:
        raise NotCertifiable(
            f"{type(net).__name__} computes with {listed(left)}, buffers that are not in the file "
            f"(persistent=False); say fixed={left[:8]} if they were made without the data, or make "
            "them persistent"
        )


def check_likelihood(likelihood: Likelihood) -> None:
    """Losses must be of labels, one answer an example."""
    if reason := getattr(likelihood, "generalised", None):
        raise NotCertifiable(str(reason))


def check_examples(
    seen: Survey, batches: Iterable, size: int | None, what: str = "train"
) -> tuple[str, ...]:
    """Examples must be drawn once each and as they are; what is assumed of equal ones."""
    own = behind(batches)
    if isinstance(own, DataLoader) and isinstance(own.sampler, WeightedRandomSampler):
        raise NotCertifiable(
            f"{what} is drawn with weights, and the bound is for draws that are all alike; give "
            "the same examples without the sampler, each once"
        )
    if isinstance(own, DataLoader) and augments(own):
        raise NotCertifiable(
            f"the dataset of {what} changes its examples each time; give them as they are"
        )
    if seen.anew[0]:
        raise NotCertifiable(
            f"{seen.anew[0]:,} of the first {seen.anew[1]:,} examples of another pass through "
            f"{what} are not among those of one pass: they are changed, or others are drawn; give "
            "the same examples in each pass"
        )
    if seen.doubt is not None:
        raise NotCertifiable(seen.doubt)
    if seen.draws > seen.size:
        raise NotCertifiable(
            f"a pass through {what} draws {seen.draws:,} times from {seen.size:,} examples; "
            "repeats prove nothing: give each example once"
        )
    repeats = len(seen.seen) - len(seen.seen.counts())
    if repeats and size is None:
        raise NotCertifiable(
            f"{repeats:,} of the {seen.size:,} examples of {what} are equal to another one; "
            "give each once, or, where they are independent draws that happen to be equal, say "
            f"data_size={seen.size}"
        )
    if not repeats:
        return ()
    return (f"{repeats:,} examples that are equal to another one are independent draws",)


def check_function(evaluated: Evaluated, inputs: Part) -> None:
    """The decoded network must answer the same each time."""
    if unsteady(evaluated, inputs):
        raise NotCertifiable(
            "the network computes other outputs when it is run again on the same inputs: it keeps "
            "state between passes, which is not in the file"
        )
    if draws(evaluated, inputs):
        raise NotCertifiable(
            "the network draws as it computes, in eval mode, too: nothing is certified of one "
            "drawing; let its layers, such as F.dropout, draw in training alone"
        )


def check_unseen(train: Iterable, held_out: Survey, seed: int) -> tuple[str, ...]:
    """Held-out examples must not be training examples; what is assumed of a few that are."""
    theirs = Seen()
    with forked_rng(seed, CPU):
        for batch in pairs(unaugmented(train), "train"):
            theirs.add(batch)
    shared, of = held_out.seen.among(theirs), len(held_out.seen)
    if shared > CHANCE * of:
        raise NotCertifiable(
            f"{shared:,} of the {of:,} held-out examples are training examples; give examples that "
            "had no part in training"
        )
    if not shared:
        return ()
    return (f"{shared:,} of the {of:,} held-out examples are equal to training ones by chance",)


def check_fresh(train: Iterable, unlabelled: Iterable) -> None:
    """Inputs without labels must not be those of training examples, whatever their labels are."""
    theirs = [bytes(d) for batch in pairs(unaugmented(train), "train") for d in _inputs(batch[0])]
    known, shared, count = set(theirs), 0, 0
    for part in input_parts(unlabelled):
        ours = [bytes(d) for d in _inputs(part)]
        shared, count = shared + sum(d in known for d in ours), count + len(ours)
    if shared > CHANCE * count:
        raise NotCertifiable(
            f"{shared:,} of the {count:,} unlabelled inputs are training inputs, on which networks "
            "agree more than elsewhere; give fresh ones"
        )


def _inputs(part: Part) -> np.ndarray:
    return digests((part, torch.zeros(len(part), 0)))


def check_base(
    base: nn.Module | None, saw: Iterable | None, train: Iterable, reading: Reading
) -> tuple[str, ...]:
    """A base must not have seen the certified examples; what is assumed of it."""
    if base is None:
        return ()
    if saw is None:
        raise NotCertifiable(
            "the file is a difference to a base, which must not have seen the certified examples: "
            "give base_saw=, what it was trained on, and they are compared; or base_saw=() if "
            "nothing of where these come from"
        )
    seen, examples = Seen(), 0
    with forked_rng(0, CPU):
        for batch in pairs(unaugmented(read_by(train, reading)), "train"):
            seen.add(batch)
        shared = 0
        if not (isinstance(saw, tuple) and not saw):
            shared, theirs = seen.shared(unaugmented(read_by(saw, reading)), "base_saw")
            examples = len(theirs)
    if shared:
        raise NotCertifiable(
            f"the base saw {shared:,} of the certified examples: certify on those that it did not"
        )
    return (
        f"the base was fixed before the certified examples were seen; of the {examples:,} "
        "that it was trained on, none is among them",
    )
