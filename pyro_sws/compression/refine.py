"""Refinement: fit on with snapped weights; assignments, values and weights still change. A driver.

The prior's cost stays in force; data and bytes decide what is kept.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.assess.report.shapes import RefinementRow
from pyro_sws.compression.description_length import Description, Measured
from pyro_sws.compression.encodings import Encodings
from pyro_sws.compression.survey import EXAMPLES, sample_of
from pyro_sws.inference.batches import Batch, moved
from pyro_sws.inference.checkpoint import Stage, StageState, on
from pyro_sws.inference.checkpoint import named as kept_as
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.fit import Inspect, check_model, fit, posterior_at
from pyro_sws.inference.fitting import Fitting, Rates
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.history import History, HistoryRow
from pyro_sws.inference.hyperpriors import free_real
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.plain_numbers import count, instance, real
from pyro_sws.inference.priors.sites import named, sample
from pyro_sws.inference.progress import Callback, check_callback, ignore
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.merge import has_fixed_levels
from pyro_sws.weights.posterior import Posterior, check_posterior
from pyro_sws.weights.quantize import CODEBOOK_DTYPES
from pyro_sws.weights.weight_prior import WeightPrior, widened

MEANS = "refined_means"


@dataclass(frozen=True)
class RefinementRates:
    """Adam's learning rates of a refinement, by kind of site; ``other`` is a learned noise's."""

    __pydantic_config__ = {"extra": "forbid"}
    weights: float = 2e-3
    means: float = 1e-3
    other: float = 1e-3

    def __post_init__(self) -> None:
        check_fields(self, "rates.")
        self.whole()

    def whole(self) -> Rates:
        return Rates(weights=self.weights, means=self.means, other=self.other)


@dataclass(frozen=True)
class Refinement:
    """How ``refine`` goes on from a fit. The defaults were found on LeNet-300-100."""

    __pydantic_config__ = {"extra": "forbid"}
    epochs: int = 30  # passes through the training data
    widening: float = 9.0  # factor on every component's deviation, 1 or more
    rates: RefinementRates = RefinementRates()  # Adam's learning rates

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", count("refinement.epochs", self.epochs))
        instance("refinement.rates", self.rates, RefinementRates)
        object.__setattr__(self, "widening", real("refinement.widening", self.widening))
        if not 1 <= self.widening < math.inf:
            raise ValueError(f"refinement.widening must be at least 1, got {self.widening}")


@dataclass(frozen=True)
class Refined:
    """The refined posterior, and a row of history an epoch: a fit's, and ``description_nats``.

    Row 0 has nothing but the description before refinement. ``epoch`` is the row that was kept. An
    epoch whose snapped network gives outputs that are not finite has None for a description.
    """

    posterior: Posterior
    history: History
    epoch: int
    widening: float  # of the components in the posterior; 1 where nothing was gained

    def summary(self) -> RefinementRow:
        """What the report says of it."""
        first, kept = (self.history[i]["description_nats"] for i in (0, self.epoch))
        assert first is not None and kept is not None  # only other epochs may have no finite one
        return {
            "epochs": len(self.history) - 1,
            "epoch_kept": self.epoch,
            "widening": self.widening,
            "description_nats_before": first,
            "description_nats": kept,
        }


@torch.inference_mode(False)
def refine(
    model: Joint,
    posterior: Posterior,
    batches: Iterable,
    settings: Refinement = Refinement(),
    *,
    codebook_dtype: str = "float16",
    examples: int = EXAMPLES,
    sample: Sequence[Batch] | None = None,
    encodings: Encodings | None = None,
    seed: int = 0,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    inspect: Inspect | None = None,
    stage: Stage = Stage(),  # noqa: B008  (keeps nothing)
) -> Refined:
    """Fit on with the network computing with snapped weights, and keep the shortest description.

    The forward pass has each weight at the value that it snaps to. Gradients go straight through to
    the weight behind it (Bengio et al. 2013) and to the values. Proportions and deviations are
    frozen; means move, unless they are 0 or fixed levels.

    The prior still pulls at the weights, but its components are ``widening`` times as wide as they
    were fitted, because narrow ones keep every weight where it is. From a component of deviation s,
    a weight leaves for a value at distance v where the error cost falls by more than about
    tau v / (2 s^2) a unit. A fall of 2 tau D / v a unit already pays for that step, where D is the
    difference of the two log proportions in nats. The two are equal at s = v / (2 sqrt D), several
    times the deviation that a fit leaves. So zeros come back where they are worth their bits, and
    other weights go.

    The description is error cost + tau ln 2 bits of the file, in nats. The error cost is that of a
    sample of the training examples, scaled to all of them. The description is never longer
    afterwards than before: where no epoch shortens it, the posterior is returned as it was.

    Args:
        model: what ``joint`` returned, and the posterior is of.
        posterior: a fitted one, merged or not.
        batches: a re-iterable of (inputs, targets), the training data.
        settings: epochs, widening and learning rates.
        codebook_dtype: of the values in the file, "float16" or "float32".
        examples: about how many training examples the sample has; it is drawn once.
        sample: the sample itself, where it is drawn already.
        encodings: where lengths of files are remembered, to share with other steps.
        seed: of shuffling, of the sample, and of networks that draw.
        ranks: the processes that work together; see ``fit``.
        callback: is told of each epoch, as in ``fit``, of the stage "refine".
        inspect: gets each row of history and the posterior that was reached, as in ``fit``.
        stage: where it keeps how far it got, and goes on from; see ``Stage``.

    Returns:
        The posterior of the shortest description. A refined one still has the fitted sites, and
        "<group>.refined_means" beside them; refining it again widens it again.

    Raises:
        ValueError: for no examples and an unknown dtype, and what ``fit`` raises.
    """
    check_model(model)
    check_posterior(posterior)
    check_callback(callback)
    instance("settings", settings, Refinement)
    instance("ranks", ranks, Ranks)
    device = device_dtype(model)[0]
    with forked_rng(seed, device), torch.no_grad():
        if sample is None:
            sample = sample_of(batches, model.data_size, seed=seed, examples=examples)
        subset = list(moved(sample, "sample", *device_dtype(model)))
        description = Description(
            model, subset, posterior.tau, codebook_dtype, seed, encodings or Encodings()
        )
        best, kept = description.first(posterior), 0
    history: History = [{"epoch": 0, "description_nats": best.nats}]

    snapping = _snapping(model, posterior, settings.widening, codebook_dtype)

    def whole_of(reached: Posterior) -> Posterior:
        point = {**posterior.point, **reached.point}
        return replace(reached, point=point, merged=posterior.merged)

    saved = stage.load()
    if saved is not None and saved.rest["kept"]:
        kept = saved.rest["kept"]
        with forked_rng(seed, device), torch.no_grad():
            reached = posterior_at(snapping, on(saved.part("kept"), device))
            best = description.measure(whole_of(reached))

    def keep_shortest(row: HistoryRow, reached: Posterior) -> None:
        nonlocal best, kept
        whole = whole_of(reached)
        measured = description.measure(whole, best)
        nats = agree_on(measured)
        row["description_nats"] = nats if math.isfinite(nats) else None
        if nats < agree_on(best):
            best, kept = measured, row["epoch"]
        if inspect is not None:
            inspect(row, whole)

    def agree_on(measured: Measured) -> float:
        """The same nats on every rank: by rounding alone they could choose different epochs."""
        (nats,) = ranks.mean(torch.tensor([measured.nats], dtype=torch.float64, device=device))
        return nats

    def best_so_far() -> StageState:
        sites = snapping.start() if kept else {}
        return StageState(
            kept_as("kept", {site: best.posterior.point[site] for site in sites}), {"kept": kept}
        )

    tell = callback or ignore
    start = {name: posterior.point[name] for name in model.likelihood.start()}
    fitted = fit(
        snapping,
        delta_guide(snapping, start),
        batches,
        Fitting(epochs=settings.epochs, rates=settings.rates.whole()),
        seed=seed,
        ranks=ranks,
        callback=lambda progress: tell(replace(progress, stage="refine")),
        inspect=keep_shortest,
        stage=stage.along(best_so_far),
    )
    widening = settings.widening if kept else 1.0
    return Refined(best.posterior, [*history, *fitted.history], kept, widening)


def _snapping(model: Joint, posterior: Posterior, widening: float, codebook_dtype: str) -> Joint:
    """The model that computes with snapped weights, under the posterior's components widened."""
    priors = {
        name: MeansOnlyPrior(widened(prior, widening), codebook_dtype)
        for name, prior in posterior.priors.items()
    }
    return replace(model, priors=priors, straight_through=True, initial_weights=posterior.weights)


@dataclass(frozen=True)
class MeansOnlyPrior:
    """A fitted density, of which only the means other than 0 still move.

    The moving means are the site "<group>.refined_means". The density has them rounded, as the file
    will store them; gradients go straight through the rounding. Without it, rounding at the end
    would move the borders between values, where weights gather: many would change at once.
    """

    density: WeightPrior
    codebook_dtype: str = "float32"

    def __call__(self, group: Group) -> WeightPrior:
        moving = int(self.moving.sum())
        return self.at(sample(group, MEANS, free_real(group, moving))) if moving else self.density

    def at(self, means: Tensor) -> WeightPrior:
        """The density where those that move are ``means``."""
        mixture = self.density.mixture
        stored = means.detach().to(CODEBOOK_DTYPES[self.codebook_dtype]).to(means.dtype)
        whole = mixture.means.masked_scatter(self.moving, stored + (means - means.detach()))
        return replace(self.density, mixture=replace(mixture, means=whole))  # type: ignore[type-var]

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        moving = self.moving
        if not moving.any():
            return {}
        return named(group, {MEANS: self.density.mixture.means[moving]})

    @property
    def moving(self) -> Tensor:
        """Which means move; (J,) bool."""
        means = self.density.mixture.means
        return (means != 0) & (not has_fixed_levels(self.density))
