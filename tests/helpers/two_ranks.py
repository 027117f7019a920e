"""What each of two processes runs: ``torchrun two_ranks.py FOLDER`` (see test_distributed.py)."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from problems import EVERY_HYPERPRIOR, classifier
from safetensors.torch import save_file

from pyro_sws.compression.refine import Refinement, RefinementRates, refine
from pyro_sws.inference.annealing import Annealing, Ramp
from pyro_sws.inference.distributed import Ranks, join_ranks
from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.fit import fit
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.weights.merge import merge

SETTINGS = {
    "exact": Fitting(epochs=4),
    "every_third": Fitting(epochs=4, hyperparameters_every=3),
    "annealed": Fitting(epochs=4, annealing=Annealing(Ramp(0.1), Ramp(3.0), Ramp(0.5, until=1.0))),
}


def model_and_batches():
    net, inputs, targets = classifier()
    model = joint(net, EVERY_HYPERPRIOR, "categorical", 60, tau=0.3)
    # The last batch cannot be halved, and the one before has an odd number.
    return model, [(inputs[:33], targets[:33]), (inputs[33:59], targets[33:59])] + [
        (inputs[59:], targets[59:])
    ]


def gradients(ranks: Ranks, batch):
    """Of one batch at the start, by site; with several ranks through DDP."""
    model, _ = model_and_batches()
    guide = delta_guide(model)
    store: dict[str, dict] = {"params": {}, "constraints": {}}
    with pyro_step(store), torch.no_grad():
        guide(*batch)
    elbo = Elbo(replace(model, ranks=ranks), guide, store)
    parallel = ranks.parallel(elbo)  # held on to: without it the gradients are not averaged
    loss, error = parallel(*batch)
    loss.backward()
    costs = torch.tensor(ranks.mean(torch.stack([loss.detach(), error])))
    return {"costs": costs, **{site: p.grad for site, p in elbo.sites.items()}}


def fits(ranks: Ranks):
    for name, settings in SETTINGS.items():
        model, batches = model_and_batches()
        fitted = fit(model, delta_guide(model), batches, settings, ranks=ranks)
        row = fitted.history[-1]
        costs = torch.tensor([row["negative_elbo_nats"], row["error_cost_nats"]])
        yield name, {"costs": costs, **fitted.posterior.point}


def refined(ranks: Ranks):
    """The point of a refinement that has several epochs to choose from."""
    model, batches = model_and_batches()
    fitted = fit(model, delta_guide(model), batches, epochs=4, ranks=ranks)
    settings = Refinement(6, widening=3.0, rates=RefinementRates(weights=0.03))
    return refine(model, merge(fitted.posterior), batches, settings, ranks=ranks).posterior.point


def main(folder: Path) -> None:
    with join_ranks() as ranks:
        _, batches = model_and_batches()
        for i, batch in enumerate(batches):
            save_file(gradients(ranks, batch), folder / f"gradients_{i}_{ranks.rank}.safetensors")
        for name, point in [*fits(ranks), ("refined", refined(ranks))]:
            save_file(point, folder / f"{name}_{ranks.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
