"""Compression, the main job: a trained network in, a small real file out. A driver."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import overload

import torch
from torch import nn

from pyro_sws.compression.checkpoints.of_network import shrink_network
from pyro_sws.compression.checkpoints.shrink import Shrunk
from pyro_sws.compression.execute import execute
from pyro_sws.compression.network_reading import reading_of
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import Data, Plan, Unnamed, Weights
from pyro_sws.compression.post_training.settings import PostTraining
from pyro_sws.compression.post_training.unlabelled import Predicted, with_targets
from pyro_sws.compression.refine import Refinement
from pyro_sws.compression.walk.objective import OBJECTIVES
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.inference.batch_reading import Reading, Targets, read_by
from pyro_sws.inference.checkpoint import Checkpoint
from pyro_sws.inference.density import Density
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.isolation import undisturbed
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import Likelihood, as_likelihood
from pyro_sws.inference.plain_numbers import instance
from pyro_sws.inference.prior_cost import PriorState
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule, as_rules
from pyro_sws.inference.progress import Callback
from pyro_sws.runs.checkpoint import FolderCheckpoint, checkpoint_in, digests
from pyro_sws.runs.inputs import first_batch
from pyro_sws.runs.run import Run
from pyro_sws.weights.around import around
from pyro_sws.weights.network import plain
from pyro_sws.weights.structures import Forward

TAU = 0.03  # of a fit, where none is given


@overload
def compress(
    net: nn.Module,
    train: None,
    *,
    fit: PostTraining,
    tolerance: float | None = None,
    packing: Packing = ...,
    callback: Callback | None = None,
) -> Shrunk: ...


@overload
def compress(
    net: nn.Module,
    train: Iterable,
    *,
    forward: Forward | None = ...,
    targets: Targets | None = ...,
    test: Iterable | None = ...,
    validation: Iterable | None = ...,
    tolerance: float | None = ...,
    budget: Budget | None = ...,
    prior: Prior | Sequence[Rule] | None = ...,
    likelihood: str | Likelihood | Callable[..., object] = ...,
    tau: float | str | None = ...,
    epochs: int | None = ...,
    seed: int = ...,
    guide: str | Callable[[Joint], Guide] = ...,
    fit: Walk | Fitting | PostTraining | None = ...,
    refinement: Refinement | None = ...,
    packing: Packing = ...,
    density: Density = ...,
    data_size: int | None = ...,
    device: torch.device | str | None = ...,
    dtype: torch.dtype | None = ...,
    start: Weights | PriorState | None = ...,
    ranks: Ranks = ...,
    callback: Callback | None = ...,
    checkpoint: str | os.PathLike | None = ...,
    base: nn.Module | None = ...,
) -> Run: ...


@undisturbed()
def compress(
    net: nn.Module,
    train: Iterable | None,
    *,
    forward: Forward | None = None,
    targets: Targets | None = None,
    test: Iterable | None = None,
    validation: Iterable | None = None,
    tolerance: float | None = None,
    budget: Budget | None = None,
    prior: Prior | Sequence[Rule] | None = None,
    likelihood: str | Likelihood | Callable[..., object] = "categorical",
    tau: float | str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    guide: str | Callable[[Joint], Guide] = "delta",
    fit: Walk | Fitting | PostTraining | None = None,
    refinement: Refinement | None = None,
    packing: Packing = Packing(),  # noqa: B008  (frozen)
    density: Density = Density(),  # noqa: B008  (frozen)
    data_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    start: Weights | PriorState | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    base: nn.Module | None = None,
) -> Run | Shrunk:
    """Compress a trained network by soft weight-sharing, and keep its accuracy.

    By default a walk (see ``walk``) finds the shortest file whose score is within the tolerance of
    the network's own, in ``result.frontier`` with the other files that it met. Any of ``tau``,
    ``epochs``, ``fit=Fitting(...)``, ``refinement`` and ``guide`` asks for the paper's own
    procedure instead (Ullrich et al. 2017, alg. 1), whose tau says how much accuracy is given up.

    The network is left as it is. Scores in the report are on ``test``, else ``validation``, else
    ``train``; all that is measured on ``train`` is without the augmentation of its ``Batches``.

    Args:
        net: any module whose output for a batch of inputs is one tensor, or has one by the name
            of "logits". ``torch.compile``,
            ``AveragedModel`` and ``DataParallel`` around it or its parts are taken off: names in
            the file have no prefix. A tensor that no output depends on is a warning of the report.
        train: a re-iterable of batches, which the network was trained on. A batch is a pair
            (inputs, targets), whose inputs are a tensor, a tuple or list of a network's positional
            arguments or a mapping of its keywords; a longer tuple, whose last part is the targets;
            or a mapping with "labels", as those of Hugging Face. All tensors have the examples in
            their first dimension.
        forward: where that does not say it, ``forward(net, batch)`` returns the outputs for a
            batch of any structure that torch's pytree knows, a tensor (B, ...).
        targets: a function of the batch that returns its targets, or their name in a mapping, whose
            other entries are then the inputs.
        test: the same, of data by which nothing was chosen.
        validation: the same, of data that the network was not trained on. A walk is judged on it;
            without it on a sample of ``train``, against the better of the network as it is and the
            same after some more training, since both have seen that data. A fit is scored on it
            after each epoch.
        tolerance: of a walk: by how much the score may be worse, in its own unit. By default half a
            point of an error in percent, 2 % of another score, or one standard error of it on the
            data of the judgement, whichever is larger.
        budget: of a walk; by default ``Budget()``.
        prior: a prior family for all weights, or rules (see ``Rule``). By default, in a walk
            ``Scaled`` spikes and slabs around zero in units of each tensor's own size, matrices and
            vectors apart, and so in post-training; in a fit ``SpikeAndSlabs()``.
        likelihood: a name in LIKELIHOODS, a spec, or a function of outputs that returns a Pyro
            distribution (see ``FromDistribution``); of a loss function say ``Loss(function)``.
        tau: weight of the complexity cost: larger is smaller, in bytes; 0.03. Or what a walk is to
            make least, in the place of a tolerance: "certificate", the bound on the error that the
            file's length and its mistakes on all training examples prove, or "mdl", the bits of the
            file and of the training targets given its network. Both hold for all files at once:
            nothing is paid for how many were compared.
        epochs: passes of the fit through ``train``; short for ``fit=Fitting(epochs=...)``, 60.
        seed: of everything that is drawn.
        guide: a name in GUIDES, or a function of the joint.
        fit: a ``Walk``, with its widths and rates; a ``Fitting``: learning rates and their
            schedule, annealing; or ``PostTraining()``, which trains nothing: ``train`` is then a
            few hundred to a few thousand inputs, a tensor (n, ...) or a re-iterable of batches of
            them, labelled or not. Without labels ``tolerance`` is of the expected divergence from
            the network's own predictions, 0.01 nats, and scores are of disagreement with those.
            With None in the place of ``train``, nothing is known but the weights, and the file is
            two to six times as long at the same loss: ``tolerance`` is then the relative squared
            error of each tensor, 0.005, and nobody looks at what the network predicts. What comes
            back is ``Shrunk``, which has no scores; see ``shrink``. Of all arguments only
            ``tolerance``, ``packing`` and ``callback`` say something then.
        refinement: how to go on with the snapped network, or None; see ``refine``.
        packing: merging, stored values, rewriting, folding of batch norm, names.
        density: how the density is computed while fitting.
        data_size: number of training examples N, where a pass through ``train`` is a sample of
            them. By default those of a pass are counted, each once, however often it is drawn.
        device, dtype: where, and in which of float32 and float64, to fit. By default where and as
            the network is, in float32 where it or a part is in half precision.
        start: weights by tensor name, and hyperparameters by site name, from which the fit sets out
            instead of the network's and the prior's own; weights as in a run's
            ``posterior.weights``, those of batch norms folded unless ``packing`` says otherwise. Or
            the state of the prior that ``net`` was trained under (see ``prior_cost``): its prior is
            then the prior, and its hyperparameters are where the fit starts. That has no epochs by
            default: the network is snapped as it is, to the mixture that was learned with it.
        ranks: the processes that work together in a fit. All call this with the same arguments and
            get the same result.
        callback: is told of each step of a walk, or of each epoch: "fit", then "refine"; its
            ``row`` is the row of history.
        checkpoint: a folder, made if it is not there, where a fit, a refinement and a walk keep how
            far they got, once a minute and where they end. The same call with the same folder goes
            on from there, and on the CPU ends with the same bytes, unless it is limited by minutes.
            It is removed when all is done, and stays where something was raised. Post-training
            itself, merging and packing begin anew.
        base: a network of the same form, of which whoever decodes the file has a copy. The prior is
            then around its weights: the file holds the differences of ``net`` to it, names it by a
            fingerprint and is read by ``load(file, into, base=base)``. Units keep their places, and
            batch norms are not folded, whatever ``packing`` says.

    Raises:
        CompressionFailed: where no file of a walk was within the tolerance; it has the best one.
        RuntimeError: inside Pyro's handlers, such as a trace or a plate.
        TypeError, ValueError, FloatingPointError: as ``joint``, ``fit``, ``merge``, ``refine``,
            ``quantize`` and ``rewrite``, which it calls in that order; what can be seen before the
            fit is raised before it. So is ValueError for a network of which the file would be
            wrong: one that does not compute with the parameters that a fit moves, see ``unread``,
            or computes other outputs when run again, see ``check_repeatable``, and what
            ``check_network`` refuses.
    """
    if isinstance(tau, str):
        fit, tau = _seeking(tau, fit), None
    if fit is not None and not isinstance(fit, Walk | PostTraining):
        instance("fit", fit, Fitting)
    if train is None:
        if not isinstance(fit, PostTraining):
            raise TypeError(
                "train is None; give batches of what the network was trained on, some inputs with "
                "fit=PostTraining(), or that fit and None: a file without data"
            )
        ignored = {
            "forward": forward, "targets": targets, "test": test, "validation": validation,
            "budget": budget, "prior": prior, "tau": tau, "epochs": epochs,
            "refinement": refinement, "data_size": data_size, "start": start, "base": base,
            "fit.rate": fit.rate,
        }  # fmt: skip
        _check_ignored(ignored)
        return shrink_network(net, tolerance, packing, callback)
    if isinstance(start, PriorState):
        start.check_network(net)
        prior, start = _of_state(start, prior)
        if fit is None and epochs is None and tolerance is None and budget is None:
            epochs = 0
    if base is not None:
        net, packing = around(net, base), replace(packing, rewrite=False, fold=False)
    of_a_fit = (tau, epochs, refinement, None if guide == "delta" else guide)
    post_training = fit if isinstance(fit, PostTraining) else None
    of_a_walk = isinstance(fit, Walk) or tolerance is not None or budget is not None
    of_a_walk = of_a_walk or post_training is not None
    given = {"tau": tau, "epochs": epochs, "fit": fit if isinstance(fit, Fitting) else None}
    for name, value in given.items():
        if of_a_walk and value is not None:
            raise ValueError(
                f"{name} = {value} is for a fit, and tolerance, budget, Walk and PostTraining "
                "are not; leave one of the two away"
            )
    if fit is None and (of_a_walk or all(each is None for each in of_a_fit)):
        fit = Walk()
    fitting = fit if isinstance(fit, Fitting) else Fitting()
    reading, likelihood = Reading(forward, targets), as_likelihood(likelihood)
    if post_training is not None:
        stand_in = reading, likelihood, post_training.examples, seed
        own = plain(net)
        train = with_targets(own, train, *stand_in)
        validation, test = (
            None if each is None else with_targets(own, each, *stand_in)
            for each in (validation, test)
        )
    if not isinstance(train, Predicted):
        reading = reading_of(net, reading, train)
    train, validation, test = (read_by(each, reading) for each in (train, validation, test))
    plan = Plan(
        net,
        Data(train, validation, test, data_size),
        () if prior is None else as_rules(prior),
        likelihood,
        tau=TAU if tau is None else tau,
        guide=guide,
        fit=fitting if epochs is None else replace(fitting, epochs=epochs),
        refinement=refinement,
        walk=fit if isinstance(fit, Walk) else None,
        post_training=post_training,
        tolerance=tolerance,
        budget=budget,
        packing=packing,
        density=density,
        seed=seed,
        device=device,
        dtype=dtype,
        start=start,
    )
    plan = plan.with_prior(net)
    if checkpoint is None:
        return execute(plan, ranks=ranks, callback=callback)
    with _kept_in(checkpoint, plan, net, ranks) as keeper:
        return execute(plan, ranks=ranks, callback=callback, checkpoint=keeper)


def _seeking(objective: str, fit: object) -> Walk:
    """The walk that seeks the least of an objective. Raises ValueError for none of that name."""
    if objective not in OBJECTIVES:
        known = ", ".join(map(repr, OBJECTIVES))
        raise ValueError(f"tau must be a number, or {known} of a walk; got {objective!r}")
    if not isinstance(fit, Walk | None):
        raise ValueError(
            f"tau = {objective!r} is of a walk, and fit is {type(fit).__name__}; leave one away"
        )
    return replace(fit or Walk(), objective=objective)  # type: ignore[arg-type]


@contextmanager
def _kept_in(
    folder: str | os.PathLike, plan: Plan, net: nn.Module, ranks: Ranks
) -> Iterator[Checkpoint]:
    """A checkpoint of this call; on ranks other than the first one, to read from."""
    assert isinstance(plan.data, Data)
    seen = first_batch(plan.data.train, "train")
    said = replace(plan, network=Unnamed("network"), data=Unnamed("data"), device=None)
    of = digests(said, net, seen, plan.seed)
    if not ranks.first:
        yield FolderCheckpoint(Path(folder), of, writes=False)
        return
    with checkpoint_in(folder, of, sum(p.nbytes for p in net.parameters())) as keeper:
        yield keeper


def _check_ignored(given: Mapping[str, object]) -> None:
    """Raise ValueError for what would say nothing, as there is no data."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name} says nothing of a network without data; leave it away, or give some "
                "inputs: a tensor (n, ...), or batches"
            )


def _of_state(
    state: PriorState, prior: Prior | Sequence[Rule] | None
) -> tuple[Sequence[Rule], Weights]:
    """The prior of a state, and its hyperparameters. Raises ValueError for another prior."""
    if prior is not None:
        raise ValueError(
            "start is a PriorState, which has its own prior; leave prior= away, or give "
            "start=state.hyperparameters() for a prior of the same sites"
        )
    return state.rules, state.hyperparameters()
