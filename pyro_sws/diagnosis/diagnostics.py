"""Diagnostics of a finished compression: its draws for ArviZ, and what holds for a point. A driver.

A delta guide has no spread, and nothing here pretends that it has: the draws are those of the
mixture given the weights, by Laplace or NUTS, of the guide where it has spread, or of which value
each weight snaps to.
"""

import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from pyro_sws.assess.draws.inference_data import as_arviz
from pyro_sws.assess.draws.mixture_tree import mixture_tree
from pyro_sws.assess.draws.network_tree import network_tree
from pyro_sws.assess.draws.prior_sensitivity import prior_posterior_overlap, prior_sensitivity
from pyro_sws.assess.draws.psis import FEWEST_DRAWS, good_k, loo, psis_khat
from pyro_sws.assess.draws.summary import summary
from pyro_sws.assess.point.assignment_certainty import assignment_certainty
from pyro_sws.assess.point.calibration import Predictions, calibration, difference
from pyro_sws.assess.point.occupancy import occupancy, occupancy_warnings
from pyro_sws.assess.point.predictive import compression_stages, weight_draws
from pyro_sws.assess.point.quantization_cost import quantization_costs
from pyro_sws.assess.prior.conflict import check_trained_weights, hyperparameter_tails
from pyro_sws.compression.compress import Result
from pyro_sws.diagnosis.subject import Examined, of_result, of_run
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters
from pyro_sws.inference.hyperposterior.nuts import sample_hyperparameters
from pyro_sws.inference.hyperposterior.sampled_mixture import sampled_mixture
from pyro_sws.inference.likelihoods import Bernoulli, Categorical, Distilled
from pyro_sws.runs.run import Run, open_run

Progress = Callable[[str, int, int, int], None]  # group, chain, draws done, of how many
VERSIONED = ("pyro-sws", "torch", "pyro-ppl", "arviz")


@dataclass(frozen=True)
class Nuts:
    """How the mixture is sampled; see ``sample_hyperparameters``.

    Raises ValueError for no chain, no warm-up or no draw, and for too few draws in all.
    """

    chains: int = 4
    warmup: int = 300
    draws: int = 500
    seed: int = 0
    # None: as many as there are chains and cores; 1 for a prior that cannot go to other processes.
    processes: int | None = None

    def __post_init__(self) -> None:
        for name in ("chains", "warmup", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.chains * self.draws < FEWEST_DRAWS:
            raise ValueError(
                f"{self.chains} chains of {self.draws} draws are too few for diagnostics; give "
                f"{FEWEST_DRAWS} draws or more in all"
            )


def to_arviz(
    subject: Result | Run | str | os.PathLike,
    *,
    nuts: Nuts | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """ "mixture" and "network" -> ArviZ's InferenceData, from ArviZ 1 on an xarray.DataTree.

    ``mixture``: the weights were observed (see ``mixture_tree``), by Laplace's approximation or by
    ``nuts``; of several groups, "mixture.<group>" each; groups whose prior has no mixture to draw
    are left out. ``network``: the targets were observed (see ``network_tree``). ``data_dir`` is for
    a run's data function. Raises what ``open_run`` and ``load_data`` raise.
    """
    found = examined(subject, data_dir)
    trees, _ = mixtures(found, nuts)
    return {name: as_arviz(tree) for name, tree in {**trees, "network": network(found)}.items()}


def examined(subject: Result | Run | str | os.PathLike, data_dir: str | None = None) -> Examined:
    """A result, a run, or a run's folder, as diagnostics take it."""
    if isinstance(subject, Result):
        return of_result(subject)
    return of_run(subject if isinstance(subject, Run) else open_run(subject), data_dir)


def mixtures(
    found: Examined,
    nuts: Nuts | None = None,
    *,
    kept: Mapping[str, xr.DataTree] | None = None,
    progress: Progress | None = None,
    made: Callable[[str, xr.DataTree], None] | None = None,
) -> tuple[dict[str, xr.DataTree], dict[str, str]]:
    """A tree for each group's mixture; and of the groups that have none, why.

    ``kept``: trees that are there already, and are taken as they are. ``made(name, tree)`` is
    called for each other one as soon as it is there.
    """
    trees, without = {}, {}
    for name in found.fitted.groups:
        key = "mixture" if len(found.fitted.groups) == 1 else f"mixture.{name}"
        if kept is not None and key in kept:
            trees[key] = kept[key]
            continue
        try:
            trees[key] = _mixture(found, name, nuts, progress)
        except ValueError as error:
            without[name] = str(error)
            continue
        if made is not None:
            made(key, trees[key])
    return trees, without


def _mixture(
    found: Examined, name: str, nuts: Nuts | None, progress: Progress | None
) -> xr.DataTree:
    """Raises ValueError where the group has no mixture to draw."""
    sampled = sampled_mixture(found.model.priors[name], found.merged, name)
    if nuts is None:
        draws: Any = laplace_hyperparameters(sampled.target, seed=found.seed)
        more: dict[str, Any] = {"floored": draws.floored}
    else:
        draws = sample_hyperparameters(
            sampled.target,
            chains=nuts.chains,
            warmup=nuts.warmup,
            draws=nuts.draws,
            seed=nuts.seed,
            processes=nuts.processes or _processes(nuts.chains, sampled.target.prior),
            progress=None if progress is None else partial(progress, name),
        )
        more = {"seconds": draws.seconds, "warmup": nuts.warmup, "seed": nuts.seed}
    tree = mixture_tree(sampled, draws, seed=found.seed, versions=versions())
    notes = "\n".join(sampled.notes)
    tree.attrs.update({"notes": notes, "binning_error": draws.binning_error, **more})
    return tree


def _processes(chains: int, prior: Any) -> int:
    """One where the prior is of a file that other processes could not import."""
    try:
        pickle.dumps(prior)
    except (pickle.PicklingError, AttributeError, ImportError, TypeError):
        return 1
    return min(chains, os.cpu_count() or 1)


def network(found: Examined, of_training: bool = False) -> xr.DataTree:
    """The network's tree, on the data that it is judged on or on those of the fit."""
    return network_tree(
        found.model,
        found.fitted,
        found.snapped,
        found.training if of_training else found.batches,
        guide=found.guide,
        codebook_dtype=found.codebook_dtype,
        prior_draws=0 if of_training else 20,
        what="training" if of_training else found.what,
        seed=found.seed,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    return {name.replace("-", "_"): version(name) for name in VERSIONED}


def point_diagnostics(found: Examined) -> dict[str, Any]:
    """What holds for a point, as JSON: snaps, values, their costs, and prior against weights."""
    snaps = assignment_certainty(found.snapped, found.codebook_dtype, widening=found.widening)
    placed = hyperparameter_tails(found.model, found.fitted.point)
    trained = check_trained_weights(found.model, seed=found.seed)
    # A refined network's weights before snapping were never fitted as a network.
    costs = quantization_costs(
        found.model, found.fitted, found.quantized, found.batches, found.what, found.seed
    )
    return {
        "data": found.what,
        "certainty": snaps.to_dict(),
        "occupancy": occupancy(snaps),
        "warnings": occupancy_warnings(snaps, found.snapped, found.codebook_dtype),
        "snapping": costs.to_dict(),
        "placed": {
            name: [asdict(p) | {"far": p.far} for p in rows] for name, rows in placed.items()
        },
        "trained_weights": {name: [asdict(c) for c in rows] for name, rows in trained.items()},
    }


def stages(found: Examined) -> dict[str, Predictions] | None:
    """The predictions before and after compression; None where they are not of classes."""
    if not isinstance(found.model.likelihood, Categorical | Bernoulli | Distilled):
        return None
    return compression_stages(
        found.model,
        found.snapped,
        found.quantized,
        found.batches,
        fitted=found.fitted,
        weights=weight_draws(found.fitted) or None,
        what=found.what,
        seed=found.seed,
    )


def calibrations(found: Mapping[str, Predictions]) -> dict[str, Any]:
    """By stage, and what each changes against the first; as JSON."""
    first = next(iter(found.values()))
    return {
        stage: {**calibration(each).to_dict(), "change": difference(first, each)}
        for stage, each in found.items()
    }


def described(tree: xr.DataTree) -> dict[str, Any]:
    """A mixture's tree in numbers, as JSON: a row a scalar, k-hat or the chains' agreement."""
    table = summary(tree)
    table = table.join(prior_sensitivity(tree))
    if "prior" in tree.children:
        table = table.join(prior_posterior_overlap(tree))
    varied = table[table["sd"] > 1e-9 * table["mean"].abs()]
    stats = tree["sample_stats"].to_dataset()
    method = tree.attrs["inference_method"]
    found: dict[str, Any] = {
        "method": method,
        "chains": int(stats.sizes["chain"]),
        "draws": int(stats.sizes["draw"]),
        "notes": [note for note in tree.attrs["notes"].splitlines() if note],
        "binning_error_nats": float(tree.attrs["binning_error"]),
        "rows": [_row(name, row) for name, row in varied.iterrows()],
    }
    if method == "nuts":
        found |= {
            "largest_r_hat": _largest(varied["r_hat"]),
            "least_ess": _number(varied[["ess_bulk", "ess_tail"]].min().min()),
            "divergences": int(stats["diverging"].sum()),
            "relabelled": stats["relabelled"].mean("draw").values.tolist(),
            "seconds": float(tree.attrs["seconds"]),
        }
    else:
        found |= {
            **_distance((stats["log_p"] - stats["log_q"]).values),
            "floored": int(tree.attrs["floored"]),
        }
    return found


def leave_one_out_score(found: Examined) -> dict[str, Any] | None:
    """Of the training targets, as JSON, or a reason; None where weights are a point.

    Draws of a tempered posterior, tau other than 1, are not of the one that the score is about.
    """
    draws = min(map(len, weight_draws(found.fitted).values()), default=0)
    if not draws:
        return None
    if found.fitted.tau != 1:
        return {"reason": f"the draws are of the posterior at tau = {found.fitted.tau:g}, not 1"}
    if draws < FEWEST_DRAWS:
        return {
            "reason": f"it needs {FEWEST_DRAWS} draws of the weights, and the guide has {draws}"
        }
    score = loo(network(found, of_training=True), "targets")
    return {
        "elpd": score.elpd,
        "se": score.se,
        "p_loo": score.p_loo,
        "unreliable": score.unreliable,
        "good_k": float(score.good_k),
    }


def _distance(log_weights: np.ndarray) -> dict[str, Any]:
    """k-hat, or None where it is infinite or all weights are alike; and if it is near enough."""
    limit = float(good_k(log_weights.size))
    if np.ptp(log_weights) == 0:
        return {"khat": None, "good_k": limit, "near": True}
    khat = psis_khat(log_weights)
    return {"khat": _number(khat), "good_k": limit, "near": khat < limit}


def _row(name: Any, row: Any) -> dict[str, Any]:
    return {"name": str(name), **{column: _number(value) for column, value in row.items()}}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _largest(values: Sequence[float]) -> float | None:
    return _number(np.nanmax(values)) if np.isfinite(values).any() else None
