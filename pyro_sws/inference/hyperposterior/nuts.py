"""NUTS on a mixture's hyperparameters given the weights: Pyro's sampler from the fitted point."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from pyro import poutine
from pyro.infer import NUTS
from torch import Tensor

from pyro_sws.inference.hyperposterior.chain_processes import in_processes
from pyro_sws.inference.hyperposterior.draws import HyperDraws, at_vectors
from pyro_sws.inference.hyperposterior.laplace import FLOOR, mode_of
from pyro_sws.inference.hyperposterior.target import Hyperposterior
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.progress import Callback, Progress, ignore


@dataclass(frozen=True, eq=False)
class ChainDraws(HyperDraws):
    """Draws by chain, each of which moved by the gradient; after warm-up."""

    energy: Tensor  # (chains, draws) of each trajectory: -log density plus kinetic energy
    gradients: Tensor  # (chains, draws) int64: evaluations that a draw took
    diverging: Tensor  # (chains, draws) bool
    step_sizes: Tensor  # (chains,) in posterior deviations at the mode
    seconds: float
    method: ClassVar[str] = "nuts"

    @property
    def stats(self) -> dict[str, Tensor]:
        own = {"energy": self.energy, "n_steps": self.gradients, "diverging": self.diverging}
        return {"lp": self.log_density, **own}


def sample_hyperparameters(
    target: Hyperposterior,
    *,
    chains: int = 4,
    warmup: int = 300,
    draws: int = 1000,
    seed: int = 0,
    processes: int = 1,
    dense_mass: bool = False,
    target_acceptance: float = 0.8,
    max_depth: int = 10,
    dispersion: float = 1.5,
    progress: Callback | None = None,
) -> ChainDraws:
    """``chains`` x ``draws`` draws after ``warmup`` each, by the no-U-turn sampler.

    Newton's steps lead from the fitted point to the mode near it, and the chains move in
    coordinates in which the curvature there is 1: hyperparameters' deviations differ by factors of
    hundreds. The mass matrix is adapted on top of that, ``dense_mass`` or diagonal. A chain starts
    ``dispersion`` of those deviations from the mode at random, but not in directions that are flat.

    ``processes``: how many chains run at a time, each in a process of its own; a script that asks
    for more than one must be guarded by ``if __name__ == "__main__"``. Seed and chain decide the
    draws, whatever the processes. ``progress`` is told of each draw, at the stage "chain 0", ...

    Successive draws lie on opposite sides of the mode, so that means are known better than widths:
    with half as many draws, the R-hat of widths comes near 1.01 by chance where chains agree.
    Hoffman & Gelman 2014; Betancourt 2017.

    Raises ValueError for settings that cannot be, where the density is not finite at a start, and
    for a start too far from the mode (see ``mode_of``).
    """
    counts = {
        "chains": chains,
        "warmup": warmup,
        "draws": draws,
        "processes": processes,
        "max_depth": max_depth,
    }
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must be in (0, 1), got {target_acceptance}")
    if not dispersion >= 0:
        raise ValueError(f"dispersion must be at least 0 deviations, got {dispersion}")
    began = time.perf_counter()
    mode, curvatures, directions = mode_of(target)
    widths = curvatures.clamp_min(FLOOR).rsqrt()
    tasks = [
        Chain(
            number=chain,
            target=target,
            mode=mode,
            basis=directions * widths,
            spread=torch.where(curvatures >= FLOOR, dispersion, 0.0),
            seed=int(np.random.SeedSequence((seed, chain)).generate_state(1)[0]),
            warmup=warmup,
            draws=draws,
            dense_mass=dense_mass,
            target_acceptance=target_acceptance,
            max_depth=max_depth,
        )
        for chain in range(chains)
    ]
    tell = progress or ignore
    if min(processes, chains) == 1:
        drawn = [run_chain(task, tell) for task in tasks]
    else:
        drawn = in_processes(run_chain, tasks, min(processes, chains), tell)
    return _gather(target, drawn, began)


@dataclass(frozen=True, eq=False)
class Chain:
    """All that one chain needs; z is the vector in which the mode's curvature is 1."""

    number: int  # among the chains
    target: Hyperposterior
    mode: Tensor  # (D,)
    basis: Tensor  # (D, D): u = mode + basis z
    spread: Tensor  # (D,) of z at the start
    seed: int
    warmup: int
    draws: int
    dense_mass: bool
    target_acceptance: float
    max_depth: int


@dataclass(frozen=True, eq=False)
class Drawn:
    """One chain's draws: u (draws, D), the rest (draws,)."""

    u: Tensor
    log_density: Tensor
    energy: Tensor
    gradients: Tensor
    diverging: Tensor
    step_size: float


def run_chain(task: Chain, tell: Callback) -> Drawn:
    """Warm up and draw, and tell of each draw; torch has one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a sum's last digit, and so the chain, may depend on their number
    try:
        with forked_rng(task.seed, task.mode.device), torch.enable_grad():
            return _run(task, tell)
    finally:
        torch.set_num_threads(threads)


def _run(task: Chain, tell: Callback) -> Drawn:
    evaluations, steps = 0, task.warmup + task.draws

    def potential(z: Mapping[str, Tensor]) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return task.target.potential(task.mode + task.basis @ z["z"])

    kernel = _Nuts(
        potential_fn=potential,
        full_mass=task.dense_mass,
        target_accept_prob=task.target_acceptance,
        max_tree_depth=task.max_depth,
    )
    position = {"z": task.spread * torch.randn_like(task.mode)}
    with pyro_step(), poutine.block():
        if not potential(position).isfinite():
            raise ValueError(
                "the density is not finite where a chain starts; choose a smaller dispersion"
            )
        kernel.initial_params = position
        kernel.setup(task.warmup)
    kept: list[tuple[Tensor, float, float, int]] = []
    for step in range(steps):
        before = evaluations
        with pyro_step(), poutine.block():
            position = kernel.sample(position)
        if step >= task.warmup:
            z = position["z"].detach().clone()
            kept.append((z, kernel.log_density, kernel.energy, evaluations - before))
        tell(Progress(f"chain {task.number}", step + 1, steps))
    diverging = torch.zeros(task.draws, dtype=torch.bool)
    diverging[kernel.diagnostics()["divergences"]] = True
    u = task.mode + torch.stack([z for z, *_ in kept]) @ task.basis.T
    return Drawn(
        u=u,
        log_density=u.new_tensor([log_density for _, log_density, _, _ in kept]),
        energy=u.new_tensor([energy for _, _, energy, _ in kept]),
        gradients=torch.tensor([gradients for *_, gradients in kept]),
        diverging=diverging,
        step_size=kernel.step_size,
    )


class _Nuts(NUTS):
    """Pyro's, which lets the energies be seen."""

    energy = 0.0

    def _sample_r(self, name):
        momentum, unscaled = super()._sample_r(name)
        self.energy = float(self._kinetic_energy(unscaled)) - self.log_density
        return momentum, unscaled

    @property
    def log_density(self) -> float:
        """Of the last draw."""
        return -float(self._potential_energy_last)


def _gather(target: Hyperposterior, chains: list[Drawn], began: float) -> ChainDraws:
    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(drawn, name) for drawn in chains])

    u = stacked("u")
    return ChainDraws(
        **at_vectors(target, u),
        log_density=stacked("log_density"),
        energy=stacked("energy"),
        gradients=stacked("gradients"),
        diverging=stacked("diverging"),
        step_sizes=torch.tensor([drawn.step_size for drawn in chains], dtype=u.dtype),
        seconds=time.perf_counter() - began,
    )
