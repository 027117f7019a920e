"""Diagnostics of a finished compression: its draws for ArviZ, and what holds for a point. A driver.

A delta guide has no spread, and nothing here pretends that it has. The draws are of the mixture
given the weights, by Laplace or NUTS; of the guide, where it has spread; or of the value that each
weight snaps to.
"""

import math
import os
import pickle
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from pyro_sws.assess.diagnostics import (
    MixtureDiagnostics,
    MixtureRow,
    Nearness,
    NoScore,
    PointDiagnostics,
)
from pyro_sws.assess.draws.inference_data import as_arviz
from pyro_sws.assess.draws.mixture_tree import mixture_tree
from pyro_sws.assess.draws.network_tree import network_tree
from pyro_sws.assess.draws.prior_sensitivity import prior_posterior_overlap, prior_sensitivity
from pyro_sws.assess.draws.psis import FEWEST_DRAWS, LeaveOneOutSummary, good_k, loo, psis_khat
from pyro_sws.assess.draws.summary import summary
from pyro_sws.assess.draws.trees import Trees
from pyro_sws.assess.point.assignment_certainty import assignment_certainty
from pyro_sws.assess.point.calibration import CalibrationStage, Predictions, calibration, difference
from pyro_sws.assess.point.occupancy import occupancy, occupancy_warnings
from pyro_sws.assess.point.predictive import compression_stages, weight_draws
from pyro_sws.assess.point.quantization_cost import QuantizationCostSummary, quantization_costs
from pyro_sws.assess.prior.conflict import check_trained_weights, hyperparameter_tails
from pyro_sws.assess.report.report import versions_of
from pyro_sws.diagnosis.subject import NO_NETWORK, Subject, subject_of
from pyro_sws.inference.hyperposterior.draws import HyperDraws
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters
from pyro_sws.inference.hyperposterior.nuts import sample_hyperparameters
from pyro_sws.inference.hyperposterior.sampled_mixture import sampled_mixture
from pyro_sws.inference.likelihoods import Bernoulli, Categorical, Distilled
from pyro_sws.inference.plain_numbers import seed_number
from pyro_sws.inference.progress import Callback, part_of
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.runs.run import Run

VERSIONED = ("pyro-sws", "torch", "pyro-ppl", "arviz")
OF_A_WALK = (
    "a walk sets values, shares and widths of its own, not by the prior: the file's are in the "
    "report; what is here is the prior's mixture given the weights behind those values"
)


@dataclass(frozen=True)
class Nuts:
    """How the mixture is sampled; see ``sample_hyperparameters``.

    Raises ValueError for no chain, no warm-up or no draw, for too few draws in all, and for a seed
    that cannot be.
    """

    chains: int = 4  # from different starting points
    warmup: int = 300  # steps of each chain that adapt and are dropped
    draws: int = 500  # of each chain, after warm-up
    seed: int = 0  # of everything that is drawn
    # None: as many as there are chains and cores; 1 for a prior that cannot go to other processes.
    processes: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("chains", "warmup", "draws", "processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        seed_number("seed", self.seed)
        if self.chains * self.draws < FEWEST_DRAWS:
            raise ValueError(
                f"{self.chains} chains of {self.draws} draws are too few for diagnostics; give "
                f"{FEWEST_DRAWS} draws or more in all"
            )


def to_arviz(
    run: Run | str | os.PathLike,
    *,
    recipe: str | os.PathLike | None = None,
    nuts: Nuts | None = None,
    data_dir: str | None = None,
) -> Trees:
    """ "mixture" and "network" -> ArviZ's InferenceData, from ArviZ 1 on an xarray.DataTree.

    ``mixture``: the weights were observed (see ``mixture_tree``); of several groups,
    "mixture.<group>" each, and ``.mixtures`` has them by group in either case. ``network``: the
    targets were observed (see ``network_tree``); it is there where network and data are. What is
    not there, such as the mixture of a group whose prior has none to draw, is in ``.without``, with
    the reason.

    Args:
        run: what ``compress`` returned, or a run folder.
        recipe: of a folder: the recipe whose network and data may be run.
        nuts: how to sample the mixture; by default it is Laplace's approximation.
        data_dir: for the recipe's data function.

    Raises:
        ValueError: for a folder without a finished run, and what ``load_data`` raises.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    subject = subject_of(opened, None if recipe is None else Path(recipe), data_dir)
    trees, missing = mixtures(subject, nuts)
    names = {group: _mixture_name(subject, group) for group in subject.fitted.groups}
    without = {names[group]: reason for group, reason in missing.items()}
    if reason := without_network(subject):
        without["network"] = reason
    else:
        trees |= {"network": network(subject)}
    return Trees({name: as_arviz(tree) for name, tree in trees.items()}, names, without)


def _mixture_name(subject: Subject, group: str) -> str:
    """Of the tree of a group's mixture."""
    return "mixture" if len(subject.fitted.groups) == 1 else f"mixture.{group}"


def mixtures(
    subject: Subject,
    nuts: Nuts | None = None,
    *,
    kept: Mapping[str, xr.DataTree] | None = None,
    progress: Callback | None = None,
    made: Callable[[str, xr.DataTree], None] | None = None,
) -> tuple[dict[str, xr.DataTree], dict[str, str]]:
    """A tree for each group's mixture; and of the groups that have none, why.

    ``kept``: trees that are there already, and are taken as they are. ``made(name, tree)`` is
    called for each other one as soon as it is there.
    """
    trees, without = {}, dict(subject.unknown)
    for name in subject.model.groups:
        key = _mixture_name(subject, name)
        if kept is not None and key in kept:
            trees[key] = kept[key]
            continue
        try:
            trees[key] = _mixture(subject, name, nuts, progress)
        except ValueError as error:
            without[name] = str(error)
            continue
        if made is not None:
            made(key, trees[key])
    return trees, without


def _mixture(
    subject: Subject, name: str, nuts: Nuts | None, progress: Callback | None
) -> xr.DataTree:
    """Raises ValueError where the group has no mixture to draw."""
    sampled = sampled_mixture(subject.model.priors[name], subject.merged, name)
    if nuts is None:
        approximate = laplace_hyperparameters(sampled.target, seed=subject.seed)
        draws: HyperDraws = approximate
        more: dict[str, float] = {"floored": approximate.floored}
    else:
        chains = draws = sample_hyperparameters(
            sampled.target,
            chains=nuts.chains,
            warmup=nuts.warmup,
            draws=nuts.draws,
            seed=nuts.seed,
            processes=nuts.processes or _processes(nuts.chains, sampled.target.prior),
            progress=part_of(name, progress),
        )
        more = {"seconds": chains.seconds, "warmup": nuts.warmup, "seed": nuts.seed}
    tree = mixture_tree(sampled, draws, seed=subject.seed, versions=versions())
    notes = "\n".join([*([OF_A_WALK] if subject.walked else []), *sampled.notes])
    tree.attrs.update({"notes": notes, "binning_error": draws.binning_error, **more})
    return tree


def _processes(chains: int, prior: object) -> int:
    """One where the prior is of a file that other processes could not import."""
    try:
        pickle.dumps(prior)
    except (pickle.PicklingError, AttributeError, ImportError, TypeError):
        return 1
    return min(chains, os.cpu_count() or 1)


def without_network(subject: Subject) -> str | None:
    """Why there is no tree of the network; None where there is one."""
    if not subject.has_network:
        return NO_NETWORK
    return getattr(subject.model.likelihood, "generalised", None)


def network(subject: Subject, of_training: bool = False) -> xr.DataTree:
    """The network's tree, on the data that it is judged on or on those of the fit."""
    return network_tree(
        subject.model,
        subject.fitted,
        subject.packed,
        subject.training if of_training else subject.batches,
        guide=subject.guide,
        codebook_dtype=subject.codebook_dtype,
        prior_draws=0 if of_training else 20,
        what="training" if of_training else str(subject.what),
        seed=subject.seed,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Installed versions of what the numbers come from, by distribution."""
    return {name.replace("-", "_"): own for name, own in versions_of(VERSIONED).items()}


def point_diagnostics(subject: Subject) -> PointDiagnostics:
    """What holds for a point, as JSON: assignments, values, costs, and prior against weights."""
    assignments = assignment_certainty(
        subject.packed, subject.codebook_dtype, widening=subject.widening
    )
    known = bool(subject.model.groups)  # if none, all priors are code that may not be run
    tails = hyperparameter_tails(subject.model, subject.fitted.point) if known else {}
    trained = check_trained_weights(subject.model, seed=subject.seed) if known else {}
    return {
        "data": subject.what,
        "certainty": assignments.to_dict(),
        "occupancy": occupancy(assignments),
        "warnings": occupancy_warnings(
            assignments, subject.packed, subject.codebook_dtype, annealed=subject.walked
        ),
        "snapping": _costs(subject),
        "placed": {name: [tail.to_dict() for tail in rows] for name, rows in tails.items()},
        "trained_weights": {
            name: [row.to_dict() for row in rows] for name, rows in trained.items()
        },
    }


def _costs(subject: Subject) -> QuantizationCostSummary | None:
    """What snapping costs, as JSON; None without the network, and of a walk, which always snaps."""
    if not subject.has_network or subject.walked:
        return None
    # A refined network's weights before snapping were never fitted as a network.
    return quantization_costs(
        subject.model,
        subject.fitted,
        subject.quantized,
        subject.batches,
        str(subject.what),
        subject.seed,
    ).to_dict()


def stages(subject: Subject) -> dict[str, Predictions] | None:
    """The predictions before and after compression; None where they are not of classes.

    None, too, without the network.
    """
    if not subject.has_network or not isinstance(
        subject.model.likelihood, Categorical | Bernoulli | Distilled
    ):
        return None
    return compression_stages(
        subject.model,
        subject.packed,
        subject.quantized,
        subject.batches,
        fitted=subject.fitted,
        weights=weight_draws(subject.fitted) or None,
        what=str(subject.what),
        seed=subject.seed,
        snapping=subject.walked,
    )


def calibrations(predicted: Mapping[str, Predictions]) -> dict[str, CalibrationStage]:
    """By stage, and what each changes against the first; as JSON."""
    first = next(iter(predicted.values()))
    return {
        stage: {**calibration(each).to_dict(), "change": difference(first, each)}
        for stage, each in predicted.items()
    }


def describe_mixture(tree: xr.DataTree) -> MixtureDiagnostics:
    """A mixture's tree in numbers, as JSON: a row a scalar, k-hat or the chains' agreement."""
    table = summary(tree)
    table = table.join(prior_sensitivity(tree))
    if "prior" in tree.children:
        table = table.join(prior_posterior_overlap(tree))
    varied = table[table["sd"] > 1e-9 * table["mean"].abs()]
    stats = tree["sample_stats"].to_dataset()
    method = tree.attrs["inference_method"]
    told: MixtureDiagnostics = {
        "method": method,
        "chains": int(stats.sizes["chain"]),
        "draws": int(stats.sizes["draw"]),
        "notes": [note for note in tree.attrs["notes"].splitlines() if note],
        "binning_error_nats": float(tree.attrs["binning_error"]),
        "rows": [_row(name, row) for name, row in varied.iterrows()],
    }
    if method == "nuts":
        told |= {
            "largest_r_hat": _largest(varied["r_hat"]),
            "least_ess": _number(varied[["ess_bulk", "ess_tail"]].min().min()),
            "divergences": int(stats["diverging"].sum()),
            "relabelled": stats["relabelled"].mean("draw").values.tolist(),
            "seconds": float(tree.attrs["seconds"]),
        }
    else:
        told |= _distance((stats["log_p"] - stats["log_q"]).values)
        told |= {"floored": int(tree.attrs["floored"])}
    return told


def leave_one_out_score(subject: Subject) -> LeaveOneOutSummary | NoScore | None:
    """PSIS-LOO of the training targets, as JSON, or why there is none; None if weights are a point.

    The score is about the posterior at tau = 1; draws of a tempered one do not give it.
    """
    draws = min(map(len, weight_draws(subject.fitted).values()), default=0)
    if not draws or not subject.has_network:
        return None
    if reason := without_network(subject):
        return {"reason": reason}
    if subject.fitted.tau != 1:
        return {"reason": f"the draws are of the posterior at tau = {subject.fitted.tau:g}, not 1"}
    if draws < FEWEST_DRAWS:
        return {
            "reason": f"it needs {FEWEST_DRAWS} draws of the weights, and the guide has {draws}"
        }
    return loo(network(subject, of_training=True), "targets").to_dict()


def _distance(log_weights: np.ndarray) -> Nearness:
    """k-hat, or None where it is infinite or all weights are alike; and if it is near enough."""
    limit = float(good_k(log_weights.size))
    if np.ptp(log_weights) == 0:
        return {"khat": None, "good_k": limit, "near": True}
    khat = psis_khat(log_weights)
    return {"khat": _number(khat), "good_k": limit, "near": khat < limit}


def _row(name: Hashable, row: pd.Series) -> MixtureRow:
    values = {str(column): _number(value) for column, value in row.items()}
    return MixtureRow(name=str(name), **values)  # type: ignore[typeddict-item]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _largest(values: Sequence[float]) -> float | None:
    return _number(np.nanmax(values)) if np.isfinite(values).any() else None
