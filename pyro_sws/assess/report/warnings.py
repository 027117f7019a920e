"""What a report warns of: figures that are right, and that a reader should not miss."""

import math
from collections.abc import Iterator, Mapping

from pyro_sws.assess.report.shapes import WalkRow
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.evaluation import Evaluation
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Posterior

RAW_SHARE = 0.5  # of the file: above, it is mostly what no prior covers
STANDARD_ERRORS = 3.0  # between the scores of a network at two stages


def warnings(
    model: Joint,
    posterior: Posterior,
    stored: Quantized,
    scored: Mapping[str, Evaluation],
    bits: Mapping[str, int],
    constant: bool = False,
    snapping: bool = False,
) -> list[str]:
    """A sentence each, the most serious last: a terminal shows that one lowest.

    ``stored`` is what is in the file; ``scored`` is by stage, on what the report's score is of;
    ``bits`` by part of the file; ``constant`` says that outputs no longer depend on inputs.
    Where the network was held to a score ``snapping``, what it lost was allowed.
    """
    return [
        *_uncovered(model),
        *_raw(bits),
        *_floored(posterior),
        *(() if snapping else _got_worse(model, scored)),
        *_nothing_left(stored, constant),
    ]


def unspent(walk: WalkRow | None) -> Iterator[str]:
    """Where a walk could have gone on: before the fit's own warnings, which are more serious."""
    if walk is not None and walk.get("limited_by") == "budget":
        yield (
            f"the walk's budget was at its end, after {walk['passes']:.3g} passes, before its "
            "tolerance was: more passes or minutes, by budget=, would make a shorter file"
        )


def _uncovered(model: Joint) -> Iterator[str]:
    if model.uncovered:
        names = ", ".join(model.uncovered)
        yield f"no prior covers {names}: stored raw; add a rule that matches them"


def _raw(bits: Mapping[str, int]) -> Iterator[str]:
    whole = sum(bits.values())
    if bits["raw"] > RAW_SHARE * whole:
        yield (
            f"raw tensors are {100 * bits['raw'] / whole:.0f}% of the file "
            f"({bits['raw'] // 8:,} of {whole // 8:,} bytes): buffers, and parameters that no "
            "prior covers, are not compressed; add a rule for such parameters, and register "
            "buffers that need not be saved with persistent=False"
        )


def _floored(posterior: Posterior) -> Iterator[str]:
    """Of a posterior with spread: widths that are a floor's (see ``Posterior.floored``)."""
    for site, count in posterior.floored.items():
        if count:
            what = "weights" if site.endswith(".weights") else "directions"
            yield (
                f"posterior of {site}: {count:,} {what} have the width of a floor, not of their "
                "curvature: their deviations, and draws of them, are a bound and no estimate"
            )


# Stages that follow on each other: their keys and names, and why the second may be the worse.
STEPS = (
    (
        ("before", "before"),
        ("posterior", "retrained"),
        "the fit lost what the network had learned; lower tau or the learning rates, or take more "
        "epochs",
    ),
    (
        ("posterior", "retrained"),
        ("quantized", "quantized"),
        "snapping moved weights too far; lower tau, take more components, refine, or walk, with "
        "none of tau=, epochs= and start=",
    ),
)


def _got_worse(model: Joint, scored: Mapping[str, Evaluation]) -> Iterator[str]:
    """Where a stage's score is worse than that of the one before by more than chance."""
    likelihood = model.likelihood
    for (first, name), (second, other_name), reason in STEPS:
        one, other = scored[first], scored[second]
        if _exceeds(one, other):
            yield (
                f"the {likelihood.score_name} changed from {one.score:.4g} {name} to "
                f"{other.score:.4g} {other_name} ({likelihood.score_unit}), by more than "
                f"{STANDARD_ERRORS:.0f} standard errors: {reason}"
            )


def _exceeds(one: Evaluation, other: Evaluation) -> bool:
    """Whether the second's mean loss is larger than the first's by STANDARD_ERRORS."""
    apart = other.mean_loss - one.mean_loss
    # As if both were one sample: a network without a mistake has no spread of its own to go by.
    pooled = (one.loss_variance + other.loss_variance) / 2 + (apart / 2) ** 2
    error = math.sqrt(2 * pooled / one.examples)
    rounding = 1e-6 * max(one.mean_loss, other.mean_loss)
    return apart > max(STANDARD_ERRORS * error, rounding)


def _nothing_left(stored: Quantized, constant: bool) -> Iterator[str]:
    remedy = "give up less, by tau or tolerance, or train the network before compressing it"
    if stored.symbols and not stored.nonzero:
        yield (
            "nothing but zeros is left of the weights that a prior covers: the outputs do not "
            f"depend on them; {remedy}"
        )
    elif constant:
        zeros = [name for name, values in stored.dequantize().items() if not values.any()]
        left = f"; nothing but zeros is left of {', '.join(zeros)}" if zeros else ""
        yield f"the decoded network's outputs are the same for every input{left}; {remedy}"
