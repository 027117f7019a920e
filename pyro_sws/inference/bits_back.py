"""-ELBO as a code length, where it is one: that of a bits-back code for targets and weights."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from pyro_sws.inference.classification import SoftCategorical
from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.inference.optimizer import examples_of

DRAWS = 32  # of the posterior, at least, over all batches; two a batch at least


@dataclass(frozen=True)
class BitsBack:
    """A bits-back code's expected length, estimated from draws of the posterior."""

    nats: float
    standard_error_nats: float  # over the draws; every example is counted, and adds nothing to it


def has_code_length(model: Joint, guide: Guide) -> bool:
    """Whether -ELBO is a length (Hinton & van Camp 1993): E_q[-log p(targets)] + KL(q || p).

    At tau = 1 alone; if every latent has spread, and a density under the prior; and if the fit
    counts the probability of the targets themselves: not mixed with a teacher's or smoothed ones,
    no generalised likelihood, and no cross-entropy with soft labels. Of a curvature -ELBO lacks a
    constant. Of real targets it is the length to a precision of one unit: to a precision of d, log
    1 / d nats a target come on top.
    """
    counted = model.reads_data and counts_targets(model.likelihood)
    return model.tau == 1 and counted and bool(getattr(guide, "kl_is_finite", False))


def counts_targets(likelihood: Likelihood) -> bool:
    """Whether what a fit counts is the probability, or density, of the targets as they are."""
    smoothed = hasattr(likelihood, "fitted") and getattr(likelihood, "label_smoothing", 1) != 0
    softened = hasattr(likelihood, "taught") or isinstance(likelihood, SoftCategorical)
    return not (smoothed or softened or hasattr(likelihood, "generalised"))


@torch.no_grad()
def bits_back(elbo: Elbo, guide: Guide, batches: Iterable, count: int) -> BitsBack:
    """The length, with every batch under draws of its own; ``count`` is about how many there are.

    The batches' errors are independent, and each batch's is known from how its draws differ: what
    batches differ in among themselves is data, and no error. Raises FloatingPointError for a draw
    whose -ELBO is not finite.
    """
    exact = replace(elbo.model, density=replace(elbo.model.density, prior_subsample=None))
    elbo = Elbo(exact, guide, elbo.store)
    draws = max(2, math.ceil(DRAWS / max(count, 1)))
    means, variances, sizes = [], [], []
    for number, batch in enumerate(batches, 1):
        drawn = torch.stack([elbo(*batch)[0] for _ in range(draws)]).double()
        values = torch.tensor(exact.ranks.mean(drawn), dtype=torch.float64)
        if not values.isfinite().all():
            raise FloatingPointError(
                f"-ELBO is not finite in batch {number} under {int((~values.isfinite()).sum())} of "
                f"{draws} draws of the fitted posterior; lower rates.deviations"
            )
        means.append(float(values.mean()))
        variances.append(float(values.var()) / draws)
        sizes.append(examples_of(batch))
    shares = [size / sum(sizes) for size in sizes]
    return BitsBack(
        math.fsum(s * mean for s, mean in zip(shares, means, strict=True)),
        math.sqrt(math.fsum(s**2 * v for s, v in zip(shares, variances, strict=True))),
    )
