"""Leave no trace: Pyro's store and settings and torch's generators are as they were."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import cast

import pyro
import torch
from pyro.nn import PyroModule
from pyro.params.param_store import StateDict
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

# Pyro's handler stack and parameter store are one per process: two threads inside crash it.
# Reentrant: a prior's start may be asked for inside a step.
_LOCK = threading.RLock()
PLAIN_MODULE = (
    "in its forward; give a plain torch module, whose weights get their prior from prior="
)


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
            raise ValueError(str(error).partition("\n")[0]) from _root(error)


class RefusedInTrace(ValueError):
    """What a model raises inside Pyro's handlers, which append the shapes of their trace to it."""

    def __init__(self, message: str):
        super().__init__(message.partition("\n")[0])


def _root(error: BaseException) -> BaseException | None:
    """What a network itself raised, where it did: its traceback says where."""
    while error.__cause__ is not None:
        error = error.__cause__
    return None if isinstance(error, ValueError) else error


class NoSites(Messenger):
    """Inside, pyro.sample and pyro.param raise ValueError: a network's sites would be no one's.

    A guide would not have its draws, and the file would lack them; a parameter in Pyro's store
    takes the place of the weights that are exchanged.
    """

    def __init__(self, net: str, remedy: str = PLAIN_MODULE):
        super().__init__()
        self.net, self.remedy = net, remedy

    def __enter__(self) -> "NoSites":
        _LOCK.acquire()  # the handler stack is the process's, also where no step holds it
        return super().__enter__()

    def __exit__(self, *error) -> None:
        try:
            super().__exit__(*error)
        finally:
            _LOCK.release()

    def _process_message(self, msg) -> None:
        if msg["type"] not in ("sample", "param") or msg["infer"].get("_deterministic"):
            return
        raise ValueError(
            f"{self.net} has the Pyro {msg['type']} site {msg['name']!r} {self.remedy}"
        )


def check_no_pyro_module(net: nn.Module) -> None:
    """Raise ValueError for a PyroModule: its weights are sites of Pyro's, no plain parameters."""
    for name, module in net.named_modules():
        if isinstance(module, PyroModule):
            samples = sorted(getattr(module, "_pyro_samples", ()))
            theirs = f" that samples {', '.join(samples)}" if samples else ""
            raise ValueError(
                f"{f'module {name!r}' if name else 'the network'} is a PyroModule{theirs}; give a "
                "plain torch module, whose weights get their prior from prior="
            )


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, autocast and a default device of the caller's say nothing. Also a decorator.

    Raises RuntimeError inside Pyro's handlers: a trace would have all sites of all steps, and a
    condition or a mask would change what is fitted.
    """
    with _LOCK:  # sites of a step in another thread are not the caller's
        handlers = [type(handler).__name__ for handler in _PYRO_STACK]
    if handlers:
        raise RuntimeError(
            f"called inside Pyro's {', '.join(handlers)}; call it outside of all of Pyro's handlers"
        )
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def forked_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Generators seeded inside; outside, the caller's are as before.

    Threads take turns: torch has one generator for all, of which each would get another's numbers,
    and give the caller another's state back.
    """
    with _LOCK, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(seed, device)
        yield


@contextmanager
def kept_rng(device: torch.device) -> Iterator[None]:
    """The caller's generators are as before; threads take turns, as in ``forked_rng``."""
    with _LOCK, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def reseed(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and this device's; torch.manual_seed would seed every device's."""
    seed = int(seed)  # numpy's are refused
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
