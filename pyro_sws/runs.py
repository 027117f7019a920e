"""A run folder: what ``pyro-sws run`` writes from a recipe, and how to read it back. A driver."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pyro_sws.assess import figures
from pyro_sws.assess.page import page
from pyro_sws.codec.container import decode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.files import write_whole
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.steps import forked_rng
from pyro_sws.pipeline import Result, compress
from pyro_sws.pretraining import pretrained
from pyro_sws.recipe import Recipe, read_recipe
from pyro_sws.weights.load import fill, load
from pyro_sws.weights.posterior import weights_site

Callback = Callable[[str, Mapping[str, Any]], None]  # stage ("pretrain" or "fit"), row


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
        return decode(self.data)

    @cached_property
    def point(self) -> dict[str, Tensor]:
        """Posterior point estimates by site: weights and hyperparameters, before merging."""
        return load_file(self.folder / "posterior.safetensors")

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """The network's tensors as they were before compression."""
        return load_file(self.folder / "trained.safetensors")

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
    callback: Callback | None = None,
) -> Result:
    """Train or load a network, compress it, and write the folder. See ``Run`` for what is in it.

    ``data_dir`` is handed to the recipe's data function. Raises ValueError for a folder that holds
    a run (unless ``overwrite``), and whatever ``compress`` raises; OSError for a folder that cannot
    be written. Nothing is written to the folder before all of it is known.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"{folder} is not empty; choose another --out, or --overwrite")
    writable = _make_writable(folder)
    settings = recipe.settings
    notify = callback or (lambda stage, row: None)
    data = load_data(recipe, data_dir)
    train = Batches(*data["train"], settings.batch_size)
    net = build_network(recipe)
    if settings.start is not None:
        load_start(net, recipe.folder / settings.start)
    else:
        net = pretrained(
            net,
            Batches(*data["train"], settings.pretraining.batch_size),
            recipe.likelihood,
            settings.pretraining,
            seed=settings.seed,
            device=settings.device,
            callback=lambda row: notify("pretrain", row),
        )
    result = compress(
        net,
        train,
        test=_unshuffled(data, "test"),
        validation=_unshuffled(data, "validation"),
        prior=recipe.prior,
        likelihood=recipe.likelihood,
        tau=settings.tau,
        epochs=settings.epochs,
        seed=settings.seed,
        guide=settings.guide,
        rates=settings.rates,
        schedule=settings.schedule,
        merge_threshold=settings.merge_threshold,
        codebook_dtype=settings.codebook_dtype,
        device=settings.device,
        dtype=None if settings.dtype is None else getattr(torch, settings.dtype),
        callback=lambda row: notify("fit", row),
    )
    _write(result, recipe, writable)
    return result


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network, with weights drawn under its seed. Raises ValueError for no module."""
    with forked_rng(recipe.settings.seed, torch.device("cpu")):
        net = recipe.network(recipe.folder)
    if not isinstance(net, nn.Module):
        kind = type(net).__name__
        raise ValueError(f"network: {recipe.network.path} returned {kind}, not a torch.nn.Module")
    return net


def load_data(recipe: Recipe, data_dir: str | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """ "train", and where there are any "test" and "validation": (inputs, targets) pairs."""
    more = {} if data_dir is None else {"data_dir": data_dir}
    data = recipe.data(recipe.folder, **more)
    if not isinstance(data, Mapping) or "train" not in data:
        kind = type(data).__name__
        raise ValueError(
            f"data: {recipe.data.path} returned {kind}; it must return a mapping with 'train', and "
            "optionally 'test' and 'validation', each a pair (inputs, targets)"
        )
    return dict(data)


def load_start(net: nn.Module, path: Path) -> None:
    """Fill the network with trained weights. Raises ValueError where they are not its own."""
    try:
        tensors = load_file(path)
        fill(net, {name: tensor.numpy() for name, tensor in tensors.items()})
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"start: {path}: {error}") from None


def _unshuffled(data: Mapping[str, tuple[Tensor, Tensor]], name: str) -> Batches | None:
    return Batches(*data[name], 1000, shuffle=False) if name in data else None


def _make_writable(folder: Path) -> Path:
    """The folder, made and tried before hours are spent. Raises OSError where it cannot be."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / ".writable", b"")
    (folder / ".writable").unlink()
    if made:
        folder.rmdir()
    return folder


def _write(result: Result, recipe: Recipe, folder: Path) -> None:
    """Everything beside the folder first; then each file is moved to its place."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    (beside / "figures").mkdir(parents=True)
    try:
        report = result.report.to_dict()
        toml = recipe.to_toml(folder)
        drawn = _figures(result)
        for name, (figure, _) in drawn.items():
            write_whole(beside / "figures" / f"{name}.png", figures.as_png(figure))
        write_whole(beside / "recipe.toml", toml)
        write_whole(beside / "trained.safetensors", save(_tensors(result.network)))
        write_whole(beside / "posterior.safetensors", save(_contiguous(result.posterior.point)))
        lines = [json.dumps(row) for row in result.history]
        write_whole(beside / "history.jsonl", "\n".join(lines) + "\n")
        write_whole(beside / "model.sws", result.data)
        write_whole(beside / "report.html", page(report, drawn, toml))
        write_whole(beside / "report.json", json.dumps(report, indent=2) + "\n")
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        # report.json last: where it stands, the run is whole.
        for path in sorted(beside.rglob("*"), key=lambda p: p.name == "report.json"):
            if path.is_file():
                os.replace(path, folder / path.relative_to(beside))
    finally:
        shutil.rmtree(beside)


def _figures(result: Result) -> dict[str, tuple[Any, str]]:
    drawn: dict[str, tuple[Any, str]] = {}
    trained = dict(result.network.named_parameters())
    for name, group in result.posterior.groups.items():
        before = group.flatten(trained).cpu()
        after = result.posterior.point[weights_site(name)].cpu()
        mixture = result.merged.priors[name].mixture
        books = [result.quantized.codebooks[result.quantized.codebook_of[t]] for t in group.shapes]
        drawn[f"{name}_weights"] = (
            figures.weight_histogram(before, after, mixture, books[0], f"Weights of {name}"),
            "Trained and retrained weights, with the fitted components over them.",
        )
        drawn[f"{name}_before_after"] = (
            figures.before_after(before, after, mixture),
            "Each weight before and after retraining; bands are the components.",
        )
        drawn[f"{name}_components"] = (
            figures.component_history(result.history, name, mixture),
            "Means and deviations of the components over training.",
        )
    drawn["training"] = (
        figures.training_curves(result.history),
        "Costs and scores over training.",
    )
    return drawn


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return _contiguous({name: tensor.detach().cpu() for name, tensor in own.items()})


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
