"""Does the certificate fail no more often than delta? Where the truth is known, many times over.

    python scripts/certificates/simulation.py                      # some minutes

``codes``: classifiers of few points under a random prefix-free code. In each repetition data is
drawn, and the classifier whose certificate is best is chosen on that very data, which is the worst
that a search can do. ``walks``: files of real networks by compress(tau="certificate") on data whose
every possible input is known, so that the decoded network's true error is a sum. Writes
docs/results/certificate_simulation.json: failures, and the most that chance explains at delta.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

import pyro_sws as sws
from pyro_sws.bounds.occam import occam_bound
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json

DELTA = 0.05
POINTS = 12  # inputs that there are, in the simulation of codes
NOISE = 0.1  # of labels


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--codes", type=int, default=2000, help="repetitions")
    parser.add_argument("--walks", type=int, default=200, help="repetitions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "certificate_simulation.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        codes(arguments.codes, samples=30, classifiers=400, seed=arguments.seed),
        codes(arguments.codes, samples=200, classifiers=400, seed=arguments.seed),
        walks(arguments.walks, arguments.seed),
    ]
    for row in rows:
        print(row)
    write_json(arguments.out, {"_about": provenance(), "delta": DELTA, "rows": rows})


def codes(repetitions: int, samples: int, classifiers: int, seed: int) -> dict[str, Any]:
    """Random labellings of POINTS inputs, lengths drawn so that Kraft's sum is 1."""
    draw = np.random.default_rng(seed)
    failures, looked = 0, []
    for _ in range(repetitions):
        answers = draw.random((classifiers, POINTS)) < 0.5
        lengths = -np.log2(draw.dirichlet(np.full(classifiers, 0.3)) + 1e-300)
        truth, inputs = draw.random(POINTS), draw.dirichlet(np.ones(POINTS))
        at = draw.choice(POINTS, samples, p=inputs)
        labels = draw.random(samples) < truth[at]
        mistakes = (answers[:, at] != labels).sum(1)
        order = np.argsort(lengths * np.log(2) / samples + 2 * (mistakes / samples) ** 2)[:20]
        bounds = [occam_bound(int(mistakes[h]), samples, lengths[h], DELTA) for h in order]
        best = order[int(np.argmin(bounds))]
        risk = float(np.where(answers[best], 1 - truth, truth) @ inputs)
        failures += risk > min(bounds)
        looked.append(min(bounds) - risk)
    return _row(f"codes, {samples} samples", repetitions, failures, looked)


def walks(repetitions: int, seed: int) -> dict[str, Any]:
    """A network of two inputs on a grid, labels noisy: the true error is a sum over the grid."""
    side = torch.linspace(-1, 1, 21)
    grid = torch.cartesian_prod(side, side)
    right = (grid[:, 0] + 0.5 * grid[:, 1] > 0).long()
    failures, looked = 0, []
    for k in range(repetitions):
        generator = torch.Generator().manual_seed(1_000_003 * seed + k)
        at = torch.randint(len(grid), (1000,), generator=generator)
        flipped = torch.rand(1000, generator=generator) < NOISE
        labels = torch.where(flipped, 1 - right[at], right[at])
        run = sws.compress(
            trained(grid[at], labels, k),
            sws.Batches(grid[at], labels, 100),
            tau="certificate",
            budget=sws.Budget(passes=6, minutes=None),
            data_size=1000,  # equal points are independent draws of the grid
            packing=sws.Packing(fingerprint=True),
            seed=k,
        )
        certificate = run.report.certificate
        assert certificate is not None
        with torch.no_grad():
            wrong = (run.decoded(grid).argmax(1) != right).double().mean().item()
        risk = wrong * (1 - NOISE) + (1 - wrong) * NOISE
        failures += 100 * risk > certificate["bound_percent"]
        looked.append(certificate["bound_percent"] / 100 - risk)
    return _row("walks by the certificate", repetitions, failures, looked)


def trained(inputs: torch.Tensor, labels: torch.Tensor, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    optimiser = torch.optim.Adam(net.parameters(), 3e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimiser.step()
    return net.eval()


def _row(name: str, repetitions: int, failures: int, looked: list[float]) -> dict[str, Any]:
    allowed = int(stats.binom.ppf(0.999, repetitions, DELTA))
    return {
        "name": name,
        "repetitions": repetitions,
        "failures": int(failures),
        "allowed": allowed,  # at DELTA, with probability 0.999
        "median_slack_percent": 100 * float(np.median(looked)),
        "least_slack_percent": 100 * float(np.min(looked)),
    }


if __name__ == "__main__":
    main()
