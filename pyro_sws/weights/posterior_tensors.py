"""A posterior as named tensors and a table of plain values, and back: for files. Torch only.

No code of a prior runs on the way back: a density is one of a few kinds of values.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from pyro_sws.files import parse_json
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.tilted_prior import TiltedPrior
from pyro_sws.weights.weight_prior import MixturePrior, UniformlyQuantized, WeightPrior

FORMAT = 1
DTYPES = {"float32": torch.float32, "float64": torch.float64}
KEY = "posterior"  # of the table among a file's metadata
Tensors = Mapping[str, Tensor]


class GroupTable(TypedDict):
    """A group, but for its name."""

    dtype: str
    shapes: list[tuple[str, list[int]]]


class DensityTable(TypedDict):
    """What is left of a density without its tensors, by field."""

    kind: str  # among KINDS
    values: dict[str, object]  # plain ones
    expanded: dict[str, int]  # of a tensor with one number for all weights: how many they are


@dataclass(frozen=True)
class ForeignPrior:
    """What is kept of a density of somebody's own class: its mixture, codebooks and scales.

    It is for looking at. Raises TypeError where its class would be needed.
    """

    mixture: Mixture
    scales: Tensor | None
    kind: str  # the class it was of
    fixed_levels: bool = False

    def scale(self, part: slice) -> Tensor | None:
        return None if self.scales is None else self.scales[part]

    def codebook(self, part: slice) -> Tensor:
        return self.mixture.levels

    def proportions(self, part: slice) -> Tensor:
        return self.mixture.level_proportions

    def log_prob(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        raise self._absent("its density")

    def assign(self, flat: Tensor) -> Tensor:
        raise self._absent("which value a weight takes")

    def sample(self, size: int) -> Tensor:
        raise self._absent("a draw of it")

    def _absent(self, what: str) -> TypeError:
        return TypeError(
            f"{what} needs the class {self.kind}, which a folder does not hold; name the recipe"
        )


KINDS: dict[str, type] = {
    "mixture": MixturePrior,
    "tilted": TiltedPrior,
    "uniformly_quantized": UniformlyQuantized,
    "foreign": ForeignPrior,
}


def to_tensors(posterior: Posterior) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What a file holds of a posterior: tensors by name, and metadata as safetensors has it.

    A point's values are under their sites' names, all else under names with a "/" in them.
    """
    tensors: dict[str, Tensor] = dict(posterior.point)
    densities: dict[str, DensityTable] = {}
    table = {
        "format": FORMAT,
        "tau": posterior.tau,
        "groups": {name: _group_table(group) for name, group in posterior.groups.items()},
        "densities": densities,
        "point": list(posterior.point),
        "raw": list(posterior.raw),
        "draws": None if posterior.draws is None else list(posterior.draws),
        "deviations": None if posterior.deviations is None else list(posterior.deviations),
        "floored": dict(posterior.floored),
        "merged": {name: list(map(list, sets)) for name, sets in posterior.merged.items()},
        "base": posterior.base.hex(),
    }
    for name, prior in posterior.priors.items():
        kept = _known(prior, posterior.groups[name])
        fields, densities[name] = _parts(kept)
        tensors |= {f"densities/{name}/{field}": value for field, value in fields.items()}
    for part in ("raw", "draws", "deviations"):
        values = getattr(posterior, part) or {}
        tensors |= {f"{part}/{key}": value for key, value in values.items()}
    return _stored(tensors), {KEY: json.dumps(table)}


def from_tensors(tensors: Tensors, metadata: Mapping[str, str]) -> Posterior:
    """The posterior that ``to_tensors`` was given, on the CPU.

    Raises ValueError for tensors without the table, or with that of a later format.
    """
    if KEY not in metadata:
        raise ValueError("the tensors are no posterior's: their table is missing")
    table = parse_json(metadata[KEY])
    if table["format"] > FORMAT:
        raise ValueError(f"posterior is format {table['format']}; this build reads up to {FORMAT}")
    return Posterior(
        groups={name: _group(name, row) for name, row in table["groups"].items()},
        point={site: tensors[site] for site in table["point"]},
        priors={
            name: _density(row, _under(f"densities/{name}/", tensors))
            for name, row in table["densities"].items()
        },
        raw=_listed("raw", table, tensors) or {},
        tau=table["tau"],
        draws=_listed("draws", table, tensors),
        deviations=_listed("deviations", table, tensors),
        floored=table["floored"],
        merged={name: tuple(map(tuple, sets)) for name, sets in table["merged"].items()},
        base=bytes.fromhex(table.get("base", "")),
    )


def _stored(tensors: Tensors) -> dict[str, Tensor]:
    """On the CPU and contiguous, each in memory of its own: a mixture may be made of sites."""
    stored: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in taken:
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        stored[name] = own
    return stored


def _listed(
    part: str, table: Mapping[str, list[str] | None], tensors: Tensors
) -> dict[str, Tensor] | None:
    """A part's tensors in their order, which safetensors has not; None where there was no part."""
    names = table[part]
    return None if names is None else {name: tensors[f"{part}/{name}"] for name in names}


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _group_table(group: Group) -> GroupTable:
    dtype = str(group.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shapes": [(name, list(s)) for name, s in group.shapes.items()]}


def _group(name: str, row: GroupTable) -> Group:
    shapes = {tensor: tuple(shape) for tensor, shape in row["shapes"]}
    return Group(name, shapes, DTYPES[row["dtype"]])


def _known(prior: WeightPrior, group: Group) -> WeightPrior:
    """The density itself where it is of a kind that is known, else what is kept of it."""
    if type(prior) in KINDS.values():
        return prior
    parts = [(part, prior.scale(part)) for part in group.slices.values()]
    scales = None
    if any(scale is not None for _, scale in parts):
        ones = torch.ones(group.size, dtype=group.dtype)
        scales = torch.cat([ones[part] if s is None else s.cpu() for part, s in parts])
    fixed = getattr(prior, "fixed_levels", False)
    return ForeignPrior(prior.mixture, scales, type(prior).__name__, fixed)


def _parts(prior: WeightPrior) -> tuple[dict[str, Tensor], DensityTable]:
    """A density's tensors, and the rest of it. One number for all weights is kept as one."""
    kind = next(name for name, cls in KINDS.items() if cls is type(prior))
    tensors: dict[str, Tensor] = {}
    assert dataclasses.is_dataclass(prior)
    row: DensityTable = {"kind": kind, "values": {}, "expanded": {}}
    for field in dataclasses.fields(prior):
        value = getattr(prior, field.name)
        if isinstance(value, Mixture):
            tensors |= {f"{field.name}.{name}": part for name, part in vars(value).items()}
        elif not isinstance(value, Tensor):
            row["values"][field.name] = value
        elif value.dim() == 1 and len(value) > 1 and not any(value.stride()):
            tensors[field.name], row["expanded"][field.name] = value[:1].clone(), len(value)
        else:
            tensors[field.name] = value
    return tensors, row


def _density(row: DensityTable, tensors: Tensors) -> WeightPrior:
    fields = dict(row["values"])
    mixtures = {name.partition(".")[0] for name in tensors if "." in name}
    for name in mixtures:
        fields[name] = Mixture(**_under(f"{name}.", tensors))
    for name, value in tensors.items():
        if "." not in name:
            size = row["expanded"].get(name)
            fields[name] = value if size is None else value.expand(size)
    return KINDS[row["kind"]](**fields)
