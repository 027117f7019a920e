"""Execute a recipe: train or load its network, compress it, write the run folder. A driver."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_sws.compression.compress import Result, compress, covered_by
from pyro_sws.compression.pretrain import pretrained
from pyro_sws.inference.batches import moved
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.fit import check_guide
from pyro_sws.inference.guides import guide_maker
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.recipes.recipe import Recipe
from pyro_sws.runs.folder import check_folder, write_folder
from pyro_sws.runs.inputs import (
    SPLITS,
    Splits,
    build_network,
    check_device,
    kind_of,
    load_data,
    load_start,
    load_tensors,
    model_settings,
    training_batches,
    unshuffled,
)
from pyro_sws.runs.run import open_run

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


Start = dict[str, Tensor] | None  # where the fit sets out, by tensor name; None: as trained


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
    modelled = model_settings(settings) | {"start": start}
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
        "test": unshuffled(data, "test"),
        "validation": unshuffled(data, "validation"),
        "prior": recipe.prior,
        "likelihood": recipe.likelihood,
        "start": start,
        "guide": recipe.guide,
        **{key: getattr(settings, key) for key in HANDED_ON},
        **model_settings(settings),
    }
    train = training_batches(recipe, data, settings.batch_size)
    return compress(net, train, **(arguments | more))


def stage_of(row: Mapping[str, Any]) -> str:
    """What a row of history that ``compress`` hands out is of: "fit" or "refine"."""
    return "refine" if "description_nats" in row else "fit"


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
        load_tensors(net, run.folder / "trained.safetensors")
        fitted = run.posterior.weights
    except ValueError as error:
        raise ValueError(f"from_run: {error}") from None
    return net, covered_by(net, recipe.prior, fitted)


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
            f"{where} returned {kind_of(found)}; it must return a tensor like its inputs"
        )
    if (found.shape, found.dtype) != (given.shape, given.dtype):
        got, wanted = (f"{tuple(t.shape)} {t.dtype}" for t in (found, given))
        raise ValueError(f"{where} made {got} of inputs {wanted}; it must leave those as they are")


@torch.no_grad()
def _check_targets(model: Joint, split: tuple[Tensor, Tensor], name: str) -> None:
    """Raise ValueError for inputs that the network, or targets that the likelihood cannot take."""
    inputs, targets = next(moved([split], name, *device_dtype(model)))
    try:
        outputs = model.outputs({}, inputs[:2])
    except RuntimeError as error:
        given, reason = tuple(inputs.shape), str(error).splitlines()[0]
        raise ValueError(f"data: the network fails on {name} inputs {given}: {reason}") from None
    if not isinstance(outputs, Tensor):
        raise ValueError(f"network: returns {kind_of(outputs)} for a batch, it must be a tensor")
    try:
        # Outputs only say what shape the targets must have: one row stands for all.
        model.likelihood.check(outputs[:1].expand(len(targets), *outputs.shape[1:]), targets)
    except ValueError as error:
        raise ValueError(f"data: {name}: {error}") from None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
