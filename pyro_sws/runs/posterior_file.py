"""A posterior's spread as safetensors: its draws, deviations, and how many widths are a floor's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pyro_sws.weights.posterior import Posterior

DRAWS, DEVIATIONS = "draws/", "deviations/"  # before a site's name


def spread_bytes(posterior: Posterior) -> bytes | None:
    """The file's content; None where the posterior is a point."""
    if posterior.draws is None and posterior.deviations is None:
        return None
    tensors = {DRAWS + site: values for site, values in (posterior.draws or {}).items()}
    tensors |= {DEVIATIONS + site: values for site, values in (posterior.deviations or {}).items()}
    floored = {site: str(count) for site, count in posterior.floored.items()}
    return save({n: t.cpu().contiguous() for n, t in tensors.items()}, metadata=floored)


def with_spread(posterior: Posterior, path: Path) -> Posterior:
    """The posterior with the spread in a file; as it is, where there is no such file."""
    if not path.is_file():
        return posterior
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
        floored = {site: int(count) for site, count in (file.metadata() or {}).items()}
    return replace(
        posterior,
        draws=_under(DRAWS, tensors),
        deviations=_under(DEVIATIONS, tensors),
        floored=floored,
    )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return found or None
