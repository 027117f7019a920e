"""``certify``: what a file on the disk proves about its network's error. A driver."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn

from pyro_sws.assess.report.certificate import (
    HoldoutCertificate,
    SideInformation,
    certificate_of_counts,
    holdout_certificate,
)
from pyro_sws.certification.agreement import agreement_on
from pyro_sws.certification.assumptions import (
    check_base,
    check_buffers,
    check_examples,
    check_fresh,
    check_function,
    check_likelihood,
    check_unseen,
)
from pyro_sws.certification.certified import Certified
from pyro_sws.certification.label_bits import smoothed_bits_bound
from pyro_sws.certification.refusal import NotCertifiable
from pyro_sws.compression.declared import FIXED, INDEPENDENT
from pyro_sws.compression.network_reading import reading_of
from pyro_sws.compression.survey import survey
from pyro_sws.inference.batch_reading import Reading, Targets, read_by
from pyro_sws.inference.evaluation import Evaluated, Evaluation, evaluate_network
from pyro_sws.inference.finite import NotFiniteError
from pyro_sws.inference.isolation import forked_rng, undisturbed
from pyro_sws.inference.joint import outputs_of
from pyro_sws.inference.likelihoods import Likelihood, as_likelihood
from pyro_sws.weights.load import file_bytes, load
from pyro_sws.weights.network import float_parameter, plain
from pyro_sws.weights.structures import Forward


@undisturbed()
def certify(
    file: str | os.PathLike | bytes,
    into: nn.Module,
    train: Iterable | None = None,
    *,
    holdout: Iterable | None = None,
    unlabelled: Iterable | None = None,
    likelihood: str | Likelihood | Callable[..., object] = "categorical",
    forward: Forward | None = None,
    targets: Targets | None = None,
    data_size: int | None = None,
    delta: float = 0.05,
    side: SideInformation = SideInformation(),  # noqa: B008  (frozen)
    looks: int = 1,
    fixed: Sequence[str] = (),
    base: nn.Module | None = None,
    base_saw: Iterable | None = None,
    seed: int = 0,
) -> Certified:
    """Decode a file, evaluate its network, and say what that proves about unseen data.

    With probability 1 - delta over the n training examples, the error of the decoded network on new
    data is at most the bound: the largest r with P[Bin(n, r) <= k] >= delta 2^-L, k being its
    mistakes on all n of them and L the bits of the file and of the side information (Langford
    2005, thm. 3.3; docs/theory.md, eq. 11). It holds for all files at once, so that neither the
    search for this one nor the choice of it costs anything.

    Args:
        file: a .sws file, or its bytes.
        into: the network whose file it is; its weights do not matter, for all are in the file.
        train: a re-iterable of batches: all that the network was trained on, each example once and
            as it is, without augmentation.
        holdout: the same of examples that had no part in training: another bound, with L = 0.
        unlabelled: inputs, a tensor or batches, that had no part in training: a bound on how often
            the file's network answers otherwise than ``into``, whose weights then do matter; and
            with ``train`` one on the error of ``into`` itself, at 1 - 2 delta.
        likelihood, forward, targets, data_size: as in ``compress``. ``data_size`` settles what
            equal examples are.
        delta: the probability that one bound fails.
        side: what the decoder needs beside the file, in bits.
        looks: how many files were compared on ``holdout``; its bound holds for all of them.
        fixed: names of buffers that no file has (non-persistent ones) and that were not computed
            from the data, such as a mask.
        base: the network that the file is a difference to; it was fixed before ``train`` was seen.
        base_saw: a re-iterable of what ``base`` was trained on, none of which may be in ``train``;
            with a base it must be given, ``()`` for none.
        seed: of batches that draw their order.

    Raises:
        NotCertifiable: a ValueError, for an assumption that does not hold.
        FormatError: for a damaged file.
        ValueError: for a file of another network, and numbers that cannot be.
    """
    if train is None and holdout is None and unlabelled is None:
        raise TypeError("give train, holdout or unlabelled: nothing is proved without examples")
    data = file_bytes(file)
    net = load(data, into, base)
    check_buffers(plain(into), fixed)
    likelihood = as_likelihood(likelihood)
    check_likelihood(likelihood)
    given = next((each for each in (train, holdout) if each is not None), None)
    reading = Reading(forward, targets)
    if given is not None:
        reading = reading_of(net, reading, given)
    found = Certified(network=type(plain(into)).__name__, file_bytes=len(data), side=side)
    evaluated = _evaluated(net, likelihood)
    if train is not None:
        found = _on_training(found, evaluated, likelihood, train, reading, data_size, delta, seed)
        found = replace(
            found, assumes=(*found.assumes, *check_base(base, base_saw, train, reading))
        )
    if holdout is not None:
        found = _on_holdout(
            found, evaluated, likelihood, holdout, train, reading, delta, looks, seed
        )
    if unlabelled is not None:
        if train is not None:
            with forked_rng(seed, torch.device("cpu")):
                check_fresh(read_by(train, reading), unlabelled)
        answers = agreement_on(plain(into), net, unlabelled, likelihood, delta, seed)
        found = replace(found, agreement=answers)
    return found


def _on_training(
    found: Certified,
    evaluated: Evaluated,
    likelihood: Likelihood,
    train: Iterable,
    reading: Reading,
    data_size: int | None,
    delta: float,
    seed: int,
) -> Certified:
    """With the certificate of the training examples, and that of their bits."""
    train = read_by(train, reading)
    seen = survey(train, data_size, seed=seed, sampled=False)
    equal = check_examples(seen, train, data_size)
    check_function(evaluated, seen.first[0])
    measured = _measured(evaluated, likelihood, seen.measured, "train", seed)
    assert measured.mistakes is not None
    certificate = certificate_of_counts(
        found.file_bytes, measured.mistakes, measured.judged, delta, measured.classes, found.side
    )
    with forked_rng(seed, evaluated.device_dtype[0]):
        bits = smoothed_bits_bound(
            evaluated, likelihood, seen.measured, certificate.description_bits, delta
        )
    return replace(
        found,
        certificate=certificate,
        bits=bits,
        assumes=(*found.assumes, INDEPENDENT, FIXED, *equal, found.side_text()),
    )


def _on_holdout(
    found: Certified,
    evaluated: Evaluated,
    likelihood: Likelihood,
    holdout: Iterable,
    train: Iterable | None,
    reading: Reading,
    delta: float,
    looks: int,
    seed: int,
) -> Certified:
    """With the certificate of examples that had no part in training."""
    holdout = read_by(holdout, reading)
    seen = survey(holdout, seed=seed, sampled=False)
    equal = check_examples(seen, holdout, None, "holdout")
    if train is not None:
        equal += check_unseen(read_by(train, reading), seen, seed)
    check_function(evaluated, seen.first[0])
    measured = _measured(evaluated, likelihood, seen.measured, "holdout", seed)
    assert measured.mistakes is not None
    own: HoldoutCertificate = holdout_certificate(measured.mistakes, measured.judged, delta, looks)
    chose = f"chose among more than {looks} files" if looks > 1 else "chose this file"
    unseen = (
        f"the held-out examples are independent draws that neither trained the network nor {chose}"
    )
    return replace(found, holdout=own, assumes=(*found.assumes, unseen, *equal))


def _evaluated(net: nn.Module, likelihood: Likelihood) -> Evaluated:
    parameter = float_parameter(net)
    point = {site: torch.as_tensor(value) for site, value in likelihood.start().items()}
    return Evaluated(
        lambda inputs: outputs_of(net, {}, inputs, likelihood),
        (parameter.device, parameter.dtype),
        point,
    )


def _measured(
    evaluated: Evaluated, likelihood: Likelihood, batches: Iterable, what: str, seed: int
) -> Evaluation:
    """Mistakes on the batches. Raises NotCertifiable where they cannot be counted."""
    with forked_rng(seed, evaluated.device_dtype[0]):
        try:
            measured = evaluate_network(
                evaluated.outputs, likelihood, batches, evaluated.device_dtype, evaluated.point,
                what, "decoded",
            )  # fmt: skip
        except NotFiniteError as error:
            raise NotCertifiable(f"outputs that are not finite are no answers: {error}") from error
    if measured.mistakes is None:
        raise NotCertifiable(
            f"{type(likelihood).__name__} has no loss of 0 or 1 an example; the bound is for "
            "classifiers, one answer an example, right or wrong"
        )
    return measured
