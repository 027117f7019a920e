"""A run folder: what ``pyro-sws run`` writes from a recipe, and how to read it back. A driver."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.batches import Batches, moved
from pyro_sws.inference.fit import check_guide, posterior_at
from pyro_sws.inference.guides import guide_maker
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.inference.ranks import Ranks
from pyro_sws.inference.scoring import placement
from pyro_sws.inference.steps import forked_rng
from pyro_sws.pipeline import Result, compress, covered_by
from pyro_sws.pretraining import pretrained
from pyro_sws.recipe import Recipe, Settings, read_recipe
from pyro_sws.run_folder import check_folder, write_folder
from pyro_sws.spread_file import with_spread
from pyro_sws.weights.load import decode_for, fill, load
from pyro_sws.weights.posterior import Posterior

SPLITS = ("train", "test", "validation")
HANDED_ON = (  # settings that ``compress`` takes under the same name
    "epochs",
    "seed",
    "rates",
    "schedule",
    "annealing",
    "merge_threshold",
    "merge_by",
    "refinement",
    "codebook_dtype",
    "signal_to_noise",
    "rewrite",
    "nonnegative_inputs",
    "fingerprint",
    "hyperparameters_every",
)
Callback = Callable[[str, Mapping[str, Any]], None]  # stage ("pretrain", "fit", "refine"), row
Splits = Mapping[str, tuple[Tensor, Tensor]]  # those of SPLITS that there are: inputs, targets
Start = dict[str, Tensor] | None  # where the fit sets out, by tensor name; None: as trained


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder; each part is loaded when first asked for."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.folder / "recipe.toml")

    @cached_property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text())

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @cached_property
    def data(self) -> bytes:
        """The .sws file."""
        return (self.folder / "model.sws").read_bytes()

    @cached_property
    def quantized(self) -> Quantized:
        return decode_for(build_network(self.recipe), self.data)

    @cached_property
    def point(self) -> dict[str, Tensor]:
        """Posterior point estimates by site: weights and hyperparameters, before merging."""
        return load_file(self.folder / "posterior.safetensors")

    @cached_property
    def snapped_point(self) -> dict[str, Tensor]:
        """The same as they were snapped: after refinement, where the run had any."""
        path = self.folder / "refined.safetensors"
        return load_file(path) if path.is_file() else self.point

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """The network's tensors as they were before compression."""
        return load_file(self.folder / "trained.safetensors")

    @cached_property
    def posterior(self) -> Posterior:
        """As fitted, before merging: the densities at the point, and the weights by tensor name."""
        found = posterior_at(self.model(), self.point)
        return with_spread(found, self.folder / "spread.safetensors")

    def model(self, data_size: int = 1) -> Joint:
        """The network as trained, under the recipe's prior and likelihood; on the CPU."""
        net = build_network(self.recipe)
        _load(net, self.folder / "trained.safetensors")
        settings = {**_model_settings(self.recipe.settings), "device": None}
        return joint(net, self.recipe.prior, self.recipe.likelihood, data_size, **settings)

    def network(self) -> nn.Module:
        """The compressed network, decoded from the file."""
        return load(self.data, into=build_network(self.recipe))


def open_run(folder: str | os.PathLike) -> Run:
    """A run by its folder. Raises ValueError where no run was finished there."""
    run = Run(Path(folder))
    if not (run.folder / "report.json").is_file():
        raise ValueError(f"{folder} holds no finished run: it has no report.json")
    return run


def run_recipe(
    recipe: Recipe,
    folder: str | os.PathLike,
    *,
    overwrite: bool = False,
    data_dir: str | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
) -> Result:
    """Train or load a network, compress it, and write the folder. See ``Run`` for what is in it.

    ``data_dir`` is handed to the recipe's data function. Raises ValueError for a folder that holds
    a run (unless ``overwrite``), and whatever ``compress`` raises; OSError for a folder that cannot
    be written. Nothing is written to the folder before all of it is known. Of several ``ranks``,
    each of which pre-trains the whole network, the first one writes.
    """
    folder = Path(folder)
    settings = recipe.settings
    # Whatever would fail at the end fails here, before hours are spent on training.
    if ranks.first:
        check_folder(folder, overwrite)
    if settings.from_run is not None and _same(recipe.folder / settings.from_run, folder):
        raise ValueError(f"from_run: {folder} would be written over; choose another --out")
    toml = recipe.to_toml(folder)
    check_device(settings.device)
    notify = callback or (lambda stage, row: None)
    data = load_data(recipe, data_dir)
    net, start = given_network(recipe)
    check_recipe(recipe, data, net, start)
    if settings.trains:
        net = trained(recipe, data, net, lambda row: notify("pretrain", row))
        ranks.agree(net)
    more = {"ranks": ranks, "callback": lambda row: notify(stage_of(row), row)}
    result = compressed(recipe, data, net, start, **more)
    name = recipe.network.path.rpartition(":")[2]  # says more than "Sequential"
    result = replace(result, report=replace(result.report, network=name))
    if ranks.first:
        write_folder(result, toml, folder)
    return result


def check_recipe(recipe: Recipe, data: Splits, net: nn.Module, start: Start) -> None:
    """Raise what the fit would raise only after training: for network, prior, guide and data."""
    settings = recipe.settings
    modelled = _model_settings(settings) | {"start": start}
    model = joint(net, recipe.prior, recipe.likelihood, len(data["train"][0]), **modelled)
    check_guide(guide_maker(recipe.guide)(model))
    _check_augmentation(recipe, data["train"][0])
    for name in [name for name in SPLITS if name in data]:
        _check_targets(model, data[name], name)


def trained(
    recipe: Recipe, data: Splits, net: nn.Module, callback: Callable[[Mapping[str, Any]], None]
) -> nn.Module:
    """A copy of the network, trained as the recipe says, for one that names no trained weights."""
    settings = recipe.settings
    return pretrained(
        net,
        training_batches(recipe, data, settings.pretraining.batch_size),
        recipe.likelihood,
        settings.pretraining,
        seed=settings.seed,
        device=settings.device,
        callback=callback,
    )


def compressed(recipe: Recipe, data: Splits, net: nn.Module, start: Start, **more: Any) -> Result:
    """``compress`` as the recipe says; ``more`` are arguments of it that override the recipe's."""
    settings = recipe.settings
    arguments: dict[str, Any] = {
        "test": _unshuffled(data, "test"),
        "validation": _unshuffled(data, "validation"),
        "prior": recipe.prior,
        "likelihood": recipe.likelihood,
        "start": start,
        "guide": recipe.guide,
        **{key: getattr(settings, key) for key in HANDED_ON},
        **_model_settings(settings),
    }
    train = training_batches(recipe, data, settings.batch_size)
    return compress(net, train, **(arguments | more))


def training_batches(recipe: Recipe, data: Splits, size: int) -> Batches:
    """What is trained on: the training split, shuffled, augmented where the recipe says so."""
    return Batches(*data["train"], size, augment=recipe.augment)


def stage_of(row: Mapping[str, Any]) -> str:
    """What a row of history that ``compress`` hands out is of: "fit" or "refine"."""
    return "refine" if "description_nats" in row else "fit"


def _model_settings(settings: Settings) -> dict[str, Any]:
    """What ``joint`` takes, and ``compress`` hands on to it."""
    return {
        "tau": settings.tau,
        "density": settings.density,
        "prior_subsample": settings.prior_subsample,
        "autocast": None if settings.autocast is None else getattr(torch, settings.autocast),
        "device": settings.device,
        "dtype": None if settings.dtype is None else getattr(torch, settings.dtype),
    }


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network, with weights drawn under its seed. Raises ValueError for no module."""
    with forked_rng(recipe.settings.seed, torch.device("cpu")):
        net = recipe.network(recipe.folder)
    if not isinstance(net, nn.Module):
        kind = type(net).__name__
        raise ValueError(f"network: {recipe.network.path} returned {kind}, not a torch.nn.Module")
    return net


def load_data(recipe: Recipe, data_dir: str | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """ "train", and "validation" or else "test", where there are any: (inputs, targets) pairs.

    Who holds data out is choosing by it; the test split, which is for what was chosen, is then not
    even looked at.
    """
    more = {} if data_dir is None else {"data_dir": data_dir}
    data = recipe.data(recipe.folder, **more)
    if not isinstance(data, Mapping) or "train" not in data:
        kind = type(data).__name__
        raise ValueError(
            f"data: {recipe.data.path} returned {kind}; it must return a mapping with 'train', and "
            "optionally 'test' and 'validation', each a pair (inputs, targets)"
        )
    left_out = "test" if "validation" in data else None
    found = {name: data[name] for name in SPLITS if name in data and name != left_out}
    for name, split in found.items():
        _check_split(split, f"data: {recipe.data.path} returned for {name!r}")
    return found


def given_network(recipe: Recipe) -> tuple[nn.Module, Start]:
    """The recipe's network, with the trained weights that it names, if any; and the fit's start.

    The start is None, for the network's own weights, or an earlier run's fitted ones by tensor
    name, as far as the recipe's prior covers them. Raises ValueError for weights that are not of
    this network.
    """
    net, settings = build_network(recipe), recipe.settings
    if settings.start is not None:
        load_start(net, recipe.folder / settings.start)
    if settings.from_run is None:
        return net, None
    try:
        run = open_run(recipe.folder / settings.from_run)
        _load(net, run.folder / "trained.safetensors")
        fitted = run.posterior.weights
    except ValueError as error:
        raise ValueError(f"from_run: {error}") from None
    return net, covered_by(net, recipe.prior, fitted)


def load_start(net: nn.Module, path: Path) -> None:
    """Fill the network with trained weights. Raises ValueError where they are not its own."""
    try:
        _load(net, path)
    except ValueError as error:
        raise ValueError(f"start: {error}") from None


def _load(net: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
        fill(net, {name: _as_array(tensor) for name, tensor in tensors.items()})
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _unshuffled(data: Mapping[str, tuple[Tensor, Tensor]], name: str) -> Batches | None:
    return Batches(*data[name], 1000, shuffle=False) if name in data else None


def _check_split(split: Any, where: str) -> None:
    if not (isinstance(split, tuple | list) and len(split) == 2):
        raise ValueError(f"{where} {_kind(split)}; it must be a pair (inputs, targets)")
    if not all(isinstance(part, Tensor) for part in split):
        kinds = " and ".join(map(_kind, split))
        raise ValueError(f"{where} {kinds}; inputs and targets must be tensors")
    counts = [len(part) for part in split]
    if counts[0] != counts[1] or not counts[0]:
        given = f"{counts[0]} inputs and {counts[1]} targets"
        raise ValueError(f"{where} {given}; give as many, and at least one")


def _check_augmentation(recipe: Recipe, inputs: Tensor) -> None:
    """Raise ValueError for an augmentation that makes no batch like the one that it is given."""
    if recipe.augmentation is None:
        return
    where, given = f"augmentation: {recipe.augmentation.path}", inputs[:2]
    augment = recipe.augmentation.bound(recipe.folder)
    try:
        with forked_rng(recipe.settings.seed, inputs.device):
            found = augment(given)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{where} fails on inputs {tuple(given.shape)}: {reason}") from None
    if not isinstance(found, Tensor):
        raise ValueError(
            f"{where} returned {_kind(found)}; it must return a tensor like its inputs"
        )
    if (found.shape, found.dtype) != (given.shape, given.dtype):
        got, wanted = (f"{tuple(t.shape)} {t.dtype}" for t in (found, given))
        raise ValueError(f"{where} made {got} of inputs {wanted}; it must leave those as they are")


@torch.no_grad()
def _check_targets(model: Joint, split: tuple[Tensor, Tensor], name: str) -> None:
    """Raise ValueError for inputs that the network, or targets that the likelihood cannot take."""
    inputs, targets = next(moved([split], name, *placement(model)))
    try:
        outputs = model.outputs({}, inputs[:2])
    except RuntimeError as error:
        given, reason = tuple(inputs.shape), str(error).splitlines()[0]
        raise ValueError(f"data: the network fails on {name} inputs {given}: {reason}") from None
    if not isinstance(outputs, Tensor):
        raise ValueError(f"network: returns {_kind(outputs)} for a batch, it must be a tensor")
    try:
        # Outputs only say what shape the targets must have: one row stands for all.
        model.likelihood.check(outputs[:1].expand(len(targets), *outputs.shape[1:]), targets)
    except ValueError as error:
        raise ValueError(f"data: {name}: {error}") from None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _as_array(tensor: Tensor) -> np.ndarray:
    """As numpy has it, which knows no bfloat16."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def check_device(device: str | None) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: cannot compute on {device!r} ({reason}); use 'cpu', or leave it out"
        ) from None
