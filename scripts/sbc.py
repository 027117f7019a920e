"""Whether NUTS and Laplace have the mixture's posterior: simulation-based calibration of both.

    python scripts/sbc.py run --method nuts --part 0/2
    python scripts/sbc.py run --method laplace
    python scripts/sbc.py run --method laplace --planted 1.5
    python scripts/sbc.py run --method laplace --planted 1
    python scripts/sbc.py collect

A simulation draws hyperparameters from ``PRIOR``, weights from the mixture that they make, and
then the hyperparameters' posterior given the weights. ``--planted F`` simulates under ``PRIOR`` and
infers under Gamma rates F times as large, over ten seeds: an error that has to be caught; F = 1 is
none, and has to pass. Simulations are kept in --folder and not run again; with --part i/n, n
processes share them. ``collect`` writes docs/results/sbc.json and sbc.png.

Inference starts from the weights alone, at ``PRIOR.start``, as a user's does, and not at the truth.
The truth is a draw of the posterior already: of a chain that starts there every state is another,
even if it never leaves one of several modes, and ranks would look right that are not. So what is
tested is all of it: that the start leads to the mode, and that there is but one, up to the
components' labels. That is a matter of the prior. Where slabs are 1/20 as wide as their means are
spread, some 2 % of these starts end in a lesser mode, in which a slab under the spike is not found;
neither method can tell, and the log-likelihood's highest rank shows it. Under ``PRIOR`` slabs are
1/100 as wide, and it is 1 % or less. In a few percent of the simulations components overlap, and
labels may swap; draws and truth alike have theirs put in order of the means.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.assess.draws.simulation_based_calibration import (
    SimulationCalibration,
    rank_among,
    simulation_calibration,
    thinned,
)
from pyro_sws.assess.figures.draws import save_figure
from pyro_sws.assess.figures.simulation_based_calibration import simulation_calibration_figure
from pyro_sws.files import write_whole
from pyro_sws.inference.hyperposterior.draws import HyperDraws
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters
from pyro_sws.inference.hyperposterior.nuts import sample_hyperparameters
from pyro_sws.inference.hyperposterior.target import Hyperposterior, hyperposterior
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.weights.component_draws import ComponentDraws, ordered
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json

WEIGHTS = 300
# Proper, every site of it. About 180 weights are the spike's and 60 each slab's. A Gamma of shape
# 20 counts as 40 weights, and beside 60 that matters: rates times 1.5 move a slab's log-precision
# by log(1 + 0.5 * 20 / (20 + 30)) = 0.18, where the posterior's deviation is (20 + 30)^-1/2 = 0.14,
# and the spike's by 0.09, where it is 0.10.
PRIOR = SpikeAndSlabs(
    slabs=2,
    zero_proportion=Beta(12.0, 8.0),
    spike_precision=Gamma(20.0, 0.00032),  # a deviation of about 0.004
    slab_precision=Gamma(20.0, 0.002),  # 0.01
    slab_shares=Dirichlet(5.0),
    slab_means=Normal(1.0),
    initialization="em",
)
SIMULATIONS = 500
ALPHA = 0.01  # how often a right method would be taken for wrong, over all quantities
DRAWS = 99  # ranks are in 0 .. 99
WARMUP, THINNED = 100, 2  # NUTS: every second draw is kept, of correlations up to about 0.1
# Of an error of one posterior deviation, ranks are at about 0.76 of the draws on average. Of 50
# simulations that is six standard errors from one half.
PLANTED_SIMULATIONS = 50
SEEDS = tuple(range(1, 11))  # of the planted; the calibration itself has seed 0


@dataclass(frozen=True)
class Trial:
    """Simulations by one method, of one seed, inferred under Gamma rates ``factor`` times right."""

    method: str
    factor: float = 1.0
    seed: int = 0

    def path(self, folder: Path, simulation: int) -> Path:
        """Where a simulation is kept: a name for all that it depends on."""
        settings = [
            WEIGHTS,
            repr(PRIOR),
            DRAWS,
            *([WARMUP, THINNED] if self.method == "nuts" else []),
        ]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
        place = folder / f"{self.method}-{key}" / f"rates-{self.factor:g}-seed-{self.seed}"
        return place / f"{simulation:04}.json"

    def run(self, simulation: int) -> dict[str, Any]:
        """Each quantity's rank, and the correlation of its successive draws; how the draws went."""
        began = time.process_time()
        truth, weights = simulated(self.seed, simulation)
        target = target_of(rates_times(self.factor), weights)
        seed = int(np.random.SeedSequence((self.seed, simulation, 1)).generate_state(1)[0])
        draws = METHODS[self.method](target, seed)
        # The truth is one more draw of it, before the others, so that both are relabelled alike.
        found = quantities(with_truth(truth, draws.components), weights)
        generator = np.random.default_rng(seed)
        kept = {name: thinned(values[1:], DRAWS) for name, values in found.items()}
        ranks = {name: rank_among(found[name][0], kept[name], generator) for name in found}
        return {
            "simulation": simulation,
            "ranks": {name: int(rank) for name, rank in ranks.items()},
            "lag_one": {name: round(lag_one(values), 4) for name, values in kept.items()},
            "binning_error": float(f"{draws.binning_error:.3g}"),
            "diverging": int(draws.stats.get("diverging", torch.zeros(1)).sum()),
            "cpu_seconds": round(time.process_time() - began, 2),
        }


def simulated(seed: int, simulation: int) -> tuple[Mixture, Tensor]:
    """A mixture drawn from the prior, and weights (WEIGHTS,) from it."""
    state = int(np.random.SeedSequence((seed, simulation)).generate_state(1)[0])
    group = group_of(WEIGHTS)
    with forked_rng(state, group.device), torch.no_grad(), pyro_step(), poutine.block():
        density = PRIOR(group)
        return density.mixture, density.sample(WEIGHTS)


def target_of(prior: SpikeAndSlabs, weights: Tensor) -> Hyperposterior:
    """p(hyperparameters | weights), from a start that knows the weights alone."""
    group = group_of(len(weights))
    return hyperposterior(prior, group, {**prior.start(group, weights), "all.weights": weights})


def group_of(size: int) -> Group:
    return Group("all", {"w": (size,)}, torch.float64)


def rates_times(factor: float) -> SpikeAndSlabs:
    """The prior with all Gamma rates ``factor`` times as large: precisions that much smaller."""
    spike, slab = PRIOR.spike_precision, PRIOR.slab_precision
    assert isinstance(spike, Gamma) and isinstance(slab, Gamma)
    return replace(
        PRIOR,
        spike_precision=replace(spike, rate=factor * spike.rate),
        slab_precision=replace(slab, rate=factor * slab.rate),
    )


def nuts(target: Hyperposterior, seed: int) -> HyperDraws:
    return sample_hyperparameters(target, chains=1, warmup=WARMUP, draws=THINNED * DRAWS, seed=seed)


def laplace(target: Hyperposterior, seed: int) -> HyperDraws:
    return laplace_hyperparameters(target, draws=DRAWS, seed=seed)


METHODS = {"nuts": nuts, "laplace": laplace}


def with_truth(truth: Mixture, components: ComponentDraws) -> ComponentDraws:
    """One chain's components with the truth as the first draw."""

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(truth, name).view(1, 1, -1), getattr(components, name)], 1)

    means, deviations, proportions = map(joined, ("means", "deviations", "proportions"))
    return ComponentDraws(means, deviations, proportions, components.fixed)


def quantities(components: ComponentDraws, weights: Tensor) -> dict[str, np.ndarray]:
    """Quantity -> its value in each draw of the one chain; the spike comes first."""
    found = ordered(components)
    means, deviations, shares = found.means[0], found.deviations[0], found.proportions[0]
    mean = (shares * means).sum(1)
    log_likelihoods = [
        Mixture(m, d**-2, p).total_log_prob(weights)
        for m, d, p in zip(means, deviations, shares, strict=True)
    ]
    values = {
        "lower mean": means[:, 1],
        "higher mean": means[:, 2],
        "spike's deviation": deviations[:, 0],
        "lower one's deviation": deviations[:, 1],
        "higher one's deviation": deviations[:, 2],
        "mixture's variance": (shares * (deviations**2 + means**2)).sum(1) - mean**2,
        "lower one's proportion": shares[:, 1],
        "higher one's proportion": shares[:, 2],
        "log-likelihood": torch.stack(log_likelihoods),
    }
    return {name: value.numpy() for name, value in values.items()}


def lag_one(values: np.ndarray) -> float:
    """Correlation of successive draws (n,)."""
    return float(np.corrcoef(values[1:], values[:-1])[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["run", "collect"])
    parser.add_argument("--method", choices=METHODS, default="nuts")
    parser.add_argument("--simulations", type=int, help="a seed; see SIMULATIONS")
    parser.add_argument("--planted", type=float, help="factor of the Gamma rates in inference")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="of the planted")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th one, from the i-th on")
    parser.add_argument("--folder", type=Path, default=Path("runs/sbc"), help="where they are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "sbc.json")
    arguments = parser.parse_args()
    if arguments.stage == "run":
        run(arguments)
    else:
        collect(arguments.folder, arguments.out)


def run(arguments: argparse.Namespace) -> None:
    """A process's share of the simulations, on one thread."""
    torch.set_num_threads(1)
    first, step = map(int, arguments.part.split("/"))
    for trial, simulation in list(wanted(arguments))[first::step]:
        path = trial.path(arguments.folder, simulation)
        if not path.exists():
            row = trial.run(simulation)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(row) + "\n")
            print(json.dumps({**vars(trial), **row}), flush=True)


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[Trial, int]]:
    if arguments.planted is None:
        trials, simulations = [Trial(arguments.method)], SIMULATIONS
    else:
        trials = [Trial(arguments.method, arguments.planted, seed) for seed in arguments.seeds]
        simulations = PLANTED_SIMULATIONS
    for trial in trials:
        for simulation in range(arguments.simulations or simulations):
            yield trial, simulation


def collect(folder: Path, out: Path) -> None:
    """The JSON and the picture of what has been run."""
    content: dict[str, Any] = {}
    figures = {}
    for method in METHODS:
        rows = kept(Trial(method), folder)
        if rows:
            figures[method] = calibrated(rows)
            content[method] = {**figures[method].to_dict(), **how(rows)}
            content[method]["planted"] = planted(method, folder)
    if not content:
        raise SystemExit(f"nothing to collect in {folder}: run simulations first")
    about = {**provenance(), "weights": WEIGHTS, "prior": repr(PRIOR), "alpha": ALPHA}
    write_json(out, {**content, "_about": about})
    names = {"nuts": "NUTS", "laplace": "Laplace"}
    title = ", ".join(f"{names[m]}: {f.simulations} simulations" for m, f in figures.items())
    picture = simulation_calibration_figure({names[m]: f for m, f in figures.items()}, title)
    save_figure(picture, out.with_suffix(".png"), dpi=110)


def kept(trial: Trial, folder: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(trial.path(folder, 0).parent.glob("*.json"))]


def calibrated(rows: list[dict[str, Any]]) -> SimulationCalibration:
    ranks = {name: [row["ranks"][name] for row in rows] for name in rows[0]["ranks"]}
    return simulation_calibration(ranks, DRAWS, alpha=ALPHA)


def how(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How the draws went, over the simulations."""
    names = rows[0]["lag_one"]
    lag = {name: float(np.mean([row["lag_one"][name] for row in rows])) for name in names}
    return {
        "lag_one": {name: round(value, 3) for name, value in lag.items()},
        "largest_binning_error": max(row["binning_error"] for row in rows),
        "diverging_draws": sum(row["diverging"] for row in rows),
        "cpu_seconds": round(float(np.mean([row["cpu_seconds"] for row in rows])), 2),
    }


def planted(method: str, folder: Path) -> dict[str, Any]:
    """Factor of the rates -> in how many seeds a quantity leaves its band, and which do."""
    places = sorted(Trial(method).path(folder, 0).parent.parent.glob("rates-*-seed-*"))
    trials: dict[float, list[int]] = {}
    for place in places:
        _, its_factor, _, its_seed = place.name.split("-")
        if its_seed != "0":
            trials.setdefault(float(its_factor), []).append(int(its_seed))
    found: dict[str, Any] = {}
    for factor, seeds in sorted(trials.items()):
        by_seed = {
            seed: calibrated(kept(Trial(method, factor, seed), folder)) for seed in sorted(seeds)
        }
        found[f"{factor:g}"] = {
            "seeds": len(seeds),
            "caught": sum(bool(calibration.leaving) for calibration in by_seed.values()),
            "simulations": [calibration.simulations for calibration in by_seed.values()],
            "leaving": {str(seed): calibration.leaving for seed, calibration in by_seed.items()},
        }
    return found


if __name__ == "__main__":
    main()
