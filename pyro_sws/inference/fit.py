"""Fit a guide to a model by stochastic variational inference: gradient steps on -ELBO."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat

import numpy as np
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta
from torch import Tensor

from pyro_sws.inference.batches import Batch, check_reiterable, moved, unaugmented
from pyro_sws.inference.bits_back import BitsBack, bits_back, has_code_length
from pyro_sws.inference.checkpoint import Stage
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.evaluation import (
    STAGES,
    Evaluated,
    device_dtype,
    evaluations_or_not_finite,
    not_finite,
)
from pyro_sws.inference.examples import check_data_size
from pyro_sws.inference.finite import NotFinite
from pyro_sws.inference.finite_steps import NotFiniteStepError, check_values
from pyro_sws.inference.first_batch import check_first_batch, starting_weights
from pyro_sws.inference.fit_state import FitState
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.guides.names import loaded_for
from pyro_sws.inference.history import History, HistoryRow, MixtureRow, ValidationScores
from pyro_sws.inference.isolation import forked_rng, pyro_step, reseed
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import noise_trace
from pyro_sws.inference.optimizer import REMEDY, Descent
from pyro_sws.inference.plain_numbers import count, instance, seed_number, shown
from pyro_sws.inference.progress import Callback, Progress, check_callback
from pyro_sws.inference.zero_rows import zero_rows
from pyro_sws.weights.around import base_of
from pyro_sws.weights.merge import MERGE_THRESHOLD, check_threshold, merge
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import CodebookRangeError, quantize
from pyro_sws.weights.weight_prior import WeightPrior

NO_DATA = (None, None)  # a step's batch, where the likelihood is of weights
STEPS = 100  # an epoch without data
Inspect = Callable[[HistoryRow, Posterior], None]


@dataclass(frozen=True)
class Fit:
    """The fitted posterior, and one row of history an epoch (see ``fit``).

    ``bits_back``: -ELBO where it is a code length, see ``has_code_length``, estimated from draws of
    the posterior, and its standard error over them.
    """

    posterior: Posterior
    history: History
    bits_back: BitsBack | None = None

    @property
    def bits_back_nats(self) -> float | None:
        """Its expected length, or None."""
        return None if self.bits_back is None else self.bits_back.nats

    @property
    def bits_back_standard_error_nats(self) -> float | None:
        """Of that estimate, over its draws."""
        return None if self.bits_back is None else self.bits_back.standard_error_nats


@torch.inference_mode(False)
def fit(
    model: Joint,
    guide: Guide,
    batches: Iterable | None = None,
    settings: Fitting = Fitting(),  # noqa: B008  (frozen)
    *,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    validation: Iterable | None = None,
    merge_threshold: float = MERGE_THRESHOLD,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    inspect: Inspect | None = None,
    stage: Stage = Stage(),  # noqa: B008  (keeps nothing)
) -> Fit:
    """Minimise -ELBO = E[error cost] + tau complexity cost, in nats, by gradient steps.

    A row of history has ``epoch``, ``negative_elbo_nats`` and ``error_cost_nats`` (means over the
    epoch's examples, scaled to the whole data), ``complexity_cost_nats`` (unweighted, at the
    epoch's end), ``mixtures`` (means, precisions, proportions by group), ``seconds``, and
    ``validation_posterior`` and ``validation_quantized`` scores where ``validation`` is given. An
    epoch whose snapped network gives outputs that are not finite does not end the fit: its
    ``validation_quantized`` is None, and ``validation_note`` says how many there were.
    Only the posterior that is returned has the guide's spread. With no epochs, nothing moves, and
    the one row, of epoch 0, is of where a fit would set out from.

    Annealing puts factors on the objective that end at 1: until then ``negative_elbo_nats`` is of
    the annealed objective, ``complexity_cost_nats`` always of the true one. With
    ``hyperparameters_every`` = m the mixture's hyperparameters move in every m-th step only, m
    times as fast; in between they are constants, and the weights' gradient is exact given them. It
    needs a delta guide, and a prior without plates.

    Where the likelihood is a ``Curvature`` there are no batches: an epoch is so many ``steps``, all
    of them with the gradient of the whole objective, which is exact under a delta guide. Then
    ``error_cost_nats`` is what the curvature says, 0 at the trained weights.

    The caller's generator, network and Pyro state are left as they were. A guide that was fitted
    before goes on from where it is. Fits in several threads take turns.

    Args:
        model: what ``joint`` returns.
        guide: a guide of this model, such as ``delta_guide(model)``.
        batches: a re-iterable of (inputs, targets); None of a model that reads no data.
        settings: passes, rates and their schedule, annealing.
        steps: of an epoch without batches, 100 by default; with batches there is one a batch.
        epochs: the settings' epochs, for short.
        seed: of shuffling, and of whatever the guide and the network draw.
        validation: a re-iterable of (inputs, targets) to score after each epoch.
        merge_threshold: in nats; components closer than this are merged before that scoring.
        ranks: the processes that fit this model together, each calling ``fit`` with the same
            arguments and the same batches. Gradients are those of one process, and every rank
            returns the same fit.
        callback: is told of each epoch; its ``row`` is the row of history.
        inspect: gets each row, to which it may add, and the posterior that was reached; before
            the callback.
        stage: where it keeps how far it got, and goes on from; see ``Stage``.

    Raises:
        TypeError: for a one-shot iterator, a model or guide inside Pyro's handlers, batches or
            validation of a model that reads no data and no batches of one that does, and, unless
            tau is 1, a guide whose spread does not carry it.
        ValueError: for empty batches, targets that cannot be, and a network none of whose weights
            a gradient reaches; one that does not reach some is logged as a warning. After the first
            pass, for a data_size of the model that is not the number of the batches' examples.
        NotFiniteError: a ValueError, for examples that are not finite under the network as it is
            given, or as a refinement snaps it, or of which its gradient is not.
        FloatingPointError: for any other loss, gradient or value of a site that is not finite, with
            the site, its tensors, the epoch, the step and its batch.
    """
    instance("settings", settings, Fitting)
    settings = settings if epochs is None else replace(settings, epochs=epochs)
    seed = seed_number("seed", seed)
    check_model(model)
    check_guide(guide, model.tau)
    check_callback(callback)
    check_threshold(merge_threshold)
    instance("ranks", ranks, Ranks)
    check_reiterable(() if validation is None else validation, "validation")
    steps = _steps(model, batches, steps, validation)
    store = loaded_for(guide)
    history: History = []
    device, dtype = device_dtype(model)
    with forked_rng(seed, device), torch.enable_grad():
        if batches is not None:
            steps = count_batches(batches)
        reseed(_epoch_seed(seed, 0), device)
        walk = _pass(model, batches, steps)
        first = next(walk, None)
        if first is None:
            raise ValueError(
                "batches is empty; give at least one (inputs, targets) pair, in each pass anew"
            )
        with forked_rng(seed, device):  # takes nothing from the first epoch's numbers
            if model.reads_data:
                _check_first(model, first)
            _run_once(guide, first, store)
            elbo = Elbo(replace(model, ranks=ranks), guide, store)
            epochs = max(settings.epochs, 1)
            _check_freezing(elbo, guide, settings.hyperparameters_every, epochs * steps)
            descent = Descent(elbo, settings)
        state = FitState(stage, descent, history)
        state.resume()
        walk = chain([first], walk)
        for epoch in range(state.epoch, epochs):
            started = time.perf_counter()
            if epoch:
                reseed(_epoch_seed(seed, epoch), device)
                walk = _pass(model, batches, steps)
            try:
                if settings.epochs:
                    rest = state.rest_of(walk)
                    costs = descent.epoch(rest, epoch, steps, state.taken, state.step)
                else:
                    costs = descent.costs(walk)
            except NotFiniteStepError as error:
                if batches is not None:
                    with forked_rng(seed, device):
                        _check_finite(model, guide, store, batches, error.where)
                raise  # neither the data nor the network that was given: the steps
            if epoch == 0 and batches is not None:
                with forked_rng(seed, device):
                    check_data_size(batches, model.data_size, costs.examples)
            posterior = read_posterior(model, guide, store)
            reached = f"epoch {epoch + 1}, step {steps} (batch {steps}), its last"
            check_values(posterior.point, reached, REMEDY, model.groups)
            done = min(epoch + 1, settings.epochs)
            row: HistoryRow = {
                "epoch": done,
                "negative_elbo_nats": costs.negative_elbo_nats,
                "error_cost_nats": costs.error_cost_nats,
                "complexity_cost_nats": complexity_cost(model, posterior.point),
                "mixtures": mixtures(posterior.priors),
                "seconds": time.perf_counter() - started,
            }
            row.update(_validate(model, posterior, validation, merge_threshold, done))
            if inspect is not None:
                inspect(row, posterior)
            history.append(row)
            if settings.epochs:
                state.epoch_ended()
            if callback is not None:
                callback(Progress("fit", done, settings.epochs, row))
        posterior = read_posterior(model, guide, store)
        reseed(_epoch_seed(seed, settings.epochs), device)
        plain = () if batches is None else unaugmented(batches)
        posterior = _with_spread(guide, posterior, plain, store)
        if not has_code_length(model, guide):
            return Fit(posterior, history)
        return Fit(posterior, history, bits_back(elbo, guide, _pass(model, plain, steps), steps))


def _steps(
    model: Joint, batches: Iterable | None, steps: int | None, validation: Iterable | None
) -> int:
    """Of an epoch without data; with data, not yet known: 0. Raises TypeError as ``fit`` says."""
    if model.reads_data:
        if batches is None:
            raise TypeError("the likelihood is of targets: give batches of (inputs, targets)")
        check_reiterable(batches, "batches")
        if steps is not None:
            raise TypeError(f"an epoch has a step a batch; leave steps = {shown(steps)} out")
        return 0
    for name, given in {"batches": batches, "validation": validation}.items():
        if given is not None:
            raise TypeError(
                f"the likelihood is a curvature, which has no outputs and reads no data; leave "
                f"{name} out"
            )
    return count("steps", STEPS if steps is None else steps, 1)


def _pass(model: Joint, batches: Iterable | None, steps: int) -> Iterator:
    """An epoch's batches where the model is; so many steps without data where there are none."""
    if batches is None:
        return repeat(NO_DATA, steps)
    return moved(batches, "batches", *device_dtype(model))


def _check_first(model: Joint, batch: Batch) -> None:
    if model.straight_through:  # refinement's data was seen by its fit
        _check_snapped(model, model.start(), [batch])
    else:
        check_first_batch(model, batch, "batches", fitted=True)


def complexity_cost(model: Joint, point: Mapping[str, Tensor]) -> float:
    """-log p(weights, hyperparameters) in nats at the point, exact, not multiplied by tau."""
    exact = replace(model.density, prior_subsample=None)
    whole = replace(model, density=exact, ranks=Ranks())
    conditioned = poutine.condition(whole.sample_weights, data=dict(point))
    with pyro_step(), torch.no_grad():
        trace = poutine.trace(conditioned).get_trace()
        cost = -float(trace.log_prob_sum())
        like = next(iter(point.values()))
        return cost - float(noise_trace(model.likelihood, like, point).log_prob_sum())


def read_posterior(model: Joint, guide: Guide, store: dict | None = None) -> Posterior:
    """The point estimates in a guide, and the densities that they define."""
    with pyro_step(store), torch.no_grad():
        point = {name: value.detach().clone() for name, value in guide.median().items()}
    return posterior_at(model, point, store)


def posterior_at(model: Joint, point: dict[str, Tensor], store: dict | None = None) -> Posterior:
    """The posterior that has its mass at a point, a value for each site; replays each prior."""
    with pyro_step(store), torch.no_grad():
        priors = {
            name: poutine.condition(model.priors[name], data=point)(group)
            for name, group in model.groups.items()
        }
    return Posterior(model.groups, point, priors, model.raw(), model.tau, base=base_of(model.net))


def _with_spread(guide: Guide, posterior: Posterior, batches: Iterable, store: dict) -> Posterior:
    """The posterior with draws and deviations, of a guide that has them."""
    if not hasattr(guide, "spread"):
        return posterior
    with pyro_step(store):
        spread = guide.spread(posterior, batches)
    return posterior if spread is None else replace(posterior, **vars(spread))


def check_model(model: Joint) -> None:
    """Raise TypeError for what is no joint, such as one inside Pyro's handlers."""
    if not isinstance(model, Joint):
        raise TypeError(
            f"fit takes what joint(...) returns, got a {type(model).__name__}; a model inside "
            "Pyro's handlers, such as pyro.condition, is fitted by pyro.infer.SVI with its guide"
        )


def check_guide(guide: Guide, tau: float) -> None:
    """Raise TypeError for a guide whose spread does not carry tau, or of a model in handlers.

    At tau = 1 there is nothing to carry.
    """
    if getattr(guide, "handled", False):
        raise TypeError(
            "this guide is of a model inside Pyro's handlers, which fit does not see; make it of "
            "the joint itself, or fit both by pyro.infer.SVI"
        )
    if not callable(guide) or not hasattr(guide, "median"):
        raise TypeError(
            f"a guide must have the model's sites and their median(), got {shown(guide)}; make it "
            "with one of GUIDES, such as delta_guide(model)"
        )
    carries = isinstance(guide, AutoDelta) or getattr(guide, "carries_tau", False)
    if not carries and tau != 1:
        kind = type(guide).__name__
        raise TypeError(
            f"{kind} does not scale its sites by tau, so -ELBO would not be E[error] + tau KL; "
            f"use one of GUIDES, a guide that does and says carries_tau = True, or tau=1, not {tau}"
        )


def _check_finite(model: Joint, guide: Guide, store: dict, batches: Iterable, met: str) -> None:
    """Raise NotFiniteError where the network that a fit sets out from is not finite.

    In a refinement, where the one that the guide's weights snap to is not.
    """
    if model.straight_through:
        with pyro_step(store), torch.no_grad():
            point = {name: value.detach() for name, value in guide.median().items()}
        return _check_snapped(model, point, batches, met)
    if found := not_finite(model, starting_weights(model), batches, model.start()):
        raise found.error("batches", STAGES["before"], met=met)


def _check_snapped(
    model: Joint, point: dict[str, Tensor], batches: Iterable, met: str = ""
) -> None:
    if not all(value.isfinite().all() for value in point.values()):
        return
    with pyro_step(), torch.no_grad():
        weights = poutine.condition(model.sample_weights, data=point)()
    if found := not_finite(model, weights, batches, point):
        remedy = "; lower the refinement's widening, or tau, or leave the refinement out"
        raise found.error("batches", STAGES["refined"], zero_rows(weights) + remedy, met)


def _run_once(guide: Guide, batch: Batch, store: dict) -> None:
    """Run the guide on a batch, so that its parameters exist; with Pyro's checks."""
    with pyro_step(store, validate=True), torch.no_grad():
        guide(*batch)


def count_batches(batches: Iterable) -> int:
    """How many batches a pass has."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except Exception:  # a loader over a stream has a __len__ that raises
        return sum(1 for _ in batches)


def mixtures(priors: Mapping[str, WeightPrior]) -> dict[str, MixtureRow]:
    """A row of history's mixtures, by group."""
    return {
        name: {
            "means": prior.mixture.means.tolist(),
            "precisions": prior.mixture.precisions.tolist(),
            "proportions": prior.mixture.proportions.tolist(),
        }
        for name, prior in priors.items()
    }


def _validate(
    model: Joint, posterior: Posterior, validation: Iterable | None, threshold: float, epoch: int
) -> ValidationScores:
    """Scores of the posterior's weights, and of the same weights quantised; none without data.

    A snapped network may be no network in one epoch and one again in the next: where its outputs
    are not finite its score is None, and ``validation_note`` says why. Raises ValueError where
    those of the posterior are not.
    """
    if validation is None:
        return {}
    snapped = _snapped(model, merge(posterior, threshold))
    networks = {
        name: Evaluated(partial(model.outputs, weights), device_dtype(model), posterior.point)
        for name, weights in {"posterior": posterior.weights, "quantized": snapped}.items()
    }
    what = f"validation after epoch {epoch}"
    told = evaluations_or_not_finite(networks, model.likelihood, validation, what)
    posterior_score, snapped_score = told["posterior"], told["quantized"]
    if isinstance(posterior_score, NotFinite):
        raise posterior_score.error(what, STAGES["posterior"])
    scores: ValidationScores = {"validation_posterior": posterior_score.score}
    if isinstance(snapped_score, NotFinite):
        error = snapped_score.error(what, STAGES["quantized"])
        if snapped_score.of_data:
            raise error
        scores |= {"validation_quantized": None, "validation_note": str(error)}
    else:
        scores |= {"validation_quantized": snapped_score.score}
    return scores


def _snapped(model: Joint, posterior: Posterior) -> dict[str, Tensor]:
    """The weights quantised in float16, or in float32 where that cannot hold the values."""
    try:
        quantized = quantize(posterior)
    except CodebookRangeError:
        quantized = quantize(posterior, "float32")
    return as_weights(model, quantized.dequantize())


def as_weights(model: Joint, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays by tensor name as tensors where the model computes, in its dtype."""
    device, dtype = device_dtype(model)
    return {name: torch.from_numpy(a.copy()).to(device, dtype) for name, a in arrays.items()}


def _check_freezing(elbo: Elbo, guide: Guide, every: int, steps: int) -> None:
    if every > 1 and not elbo.can_freeze:
        raise ValueError(
            f"hyperparameters_every must be 1 for a {type(guide).__name__} on this model; it needs "
            "delta_guide(model) and a prior that samples nothing inside a plate"
        )
    if every > steps:
        raise ValueError(
            f"hyperparameters_every = {every} is more than the {steps} steps of the whole fit: the "
            "mixture would never move"
        )


def _epoch_seed(seed: int, epoch: int) -> int:
    """A function of both, so that a resumed epoch draws what it would have drawn."""
    return (seed * 1_000_003 + epoch + 1) % 2**63
