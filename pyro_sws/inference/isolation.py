"""Leave no trace: Pyro's store and settings and torch's generators are as they were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pyro
import torch
from pyro.params.param_store import StateDict

# Pyro's handler stack and parameter store are one per process: two threads inside crash it.
# Reentrant: a prior's start may be asked for inside a step.
_LOCK = threading.RLock()


@contextmanager
def pyro_step(store: dict | None = None, validate: bool = False) -> Iterator[StateDict]:
    """Hold Pyro, with ``store`` as its parameter store; afterwards ``store`` has what was added.

    Distribution arguments are checked only where ``validate``: the checks cost as much as a step.
    """
    given = cast("StateDict | None", store)
    with _LOCK, pyro.get_param_store().scope(given) as state, pyro.validation_enabled(validate):
        try:
            yield state
        except ValueError as error:
            # Pyro appends the shapes of its trace, over many lines, to what a model raises.
            raise ValueError(str(error).partition("\n")[0]) from None


@contextmanager
def forked_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Generators seeded inside; outside, the caller's are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(seed, device)
        yield


def reseed(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and this device's; torch.manual_seed would seed every device's."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
