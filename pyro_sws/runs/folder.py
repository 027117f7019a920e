"""What ``pyro-sws run`` writes: a run folder, whole or not at all. A driver."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from pyro_sws.assess.figures import run as figures
from pyro_sws.assess.figures.codebook import codebook_values
from pyro_sws.assess.figures.style import as_png
from pyro_sws.assess.figures.training import training_caption, training_curves
from pyro_sws.assess.report.lengths import value_counts
from pyro_sws.compression.compress import Result
from pyro_sws.files import write_whole
from pyro_sws.runs.page import DIAGNOSTICS, write_page, write_pictures
from pyro_sws.runs.posterior_file import spread_bytes
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import unscaled

SOME = ("refinement.jsonl", "refined.safetensors", "spread.safetensors")  # not every run has them


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise where a run is there, or no file can be written; leaves nothing behind."""
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ValueError(f"{folder} is not empty; choose another --out, or --overwrite")
    try:
        with _made(folder):
            write_whole(folder / ".writable", b"")
            (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None


def write_folder(result: Result, toml: str, folder: Path) -> None:
    """Everything to a hidden place in the folder first; then each file is moved to its own."""
    with _made(folder):
        # In the folder, not beside it: a mounted folder's parent is another file system.
        hidden = folder / f".{os.getpid()}"
        (hidden / "figures").mkdir(parents=True, exist_ok=True)
        try:
            _write_files(result, toml, hidden)
            # An older run goes first and report.json comes last: where it is, the run is whole.
            (folder / "report.json").unlink(missing_ok=True)
            for name in SOME:
                (folder / name).unlink(missing_ok=True)
            for old in (folder / "figures").glob("*.png"):
                old.unlink()
            shutil.rmtree(folder / DIAGNOSTICS, ignore_errors=True)  # of the older run
            (folder / "figures").mkdir(exist_ok=True)
            for path in sorted(hidden.rglob("*"), key=lambda p: p.name == "report.json"):
                if path.is_file():
                    os.replace(path, folder / path.relative_to(hidden))
        finally:
            shutil.rmtree(hidden)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Inside there is the folder; if it was made for this and is empty at the end, it goes."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _write_files(result: Result, toml: str, folder: Path) -> None:
    report = result.report.to_dict()
    drawn = {name: (as_png(figure), text) for name, (figure, text) in _figures(result).items()}
    write_pictures(folder / "figures", drawn)
    write_whole(folder / "recipe.toml", toml)
    write_whole(folder / "trained.safetensors", save(tensors_of(result.network)))
    write_whole(folder / "posterior.safetensors", save(_contiguous(result.posterior.point)))
    spread = spread_bytes(result.posterior)
    if spread is not None:
        write_whole(folder / "spread.safetensors", spread)
    lines = [json.dumps(row) for row in result.history]
    write_whole(folder / "history.jsonl", "\n".join(lines) + "\n")
    if result.refined is not None:
        rows = [json.dumps(row) for row in result.refined.history]
        write_whole(folder / "refinement.jsonl", "\n".join(rows) + "\n")
        refined = save(_contiguous(result.refined.posterior.point))
        write_whole(folder / "refined.safetensors", refined)
    write_whole(folder / "model.sws", result.data)
    write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n")
    write_page(folder)


def _figures(result: Result) -> dict[str, tuple[Any, str]]:
    drawn: dict[str, tuple[Any, str]] = {}
    trained = dict(result.network.named_parameters())
    wider = _wider(result)
    for name, group in result.posterior.groups.items():
        prior = result.merged.priors[name]
        before = unscaled(prior, group, group.flatten(trained))
        after = unscaled(prior, group, result.merged.point[weights_site(name)])
        mixture = prior.mixture
        books = [result.quantized.codebooks[result.quantized.codebook_of[t]] for t in group.shapes]
        drawn[f"{name}_weights"] = (
            figures.weight_histogram(before, after, mixture, books[0], f"Weights of group {name}"),
            f"Trained and retrained weights, with the fitted components over them{wider}.",
        )
        drawn[f"{name}_before_after"] = (
            figures.before_after(before, after, mixture),
            f"Each weight before and after retraining; bands are the components{wider}.",
        )
        drawn[f"{name}_components"] = (
            figures.component_history(result.history, name, mixture),
            "Means and deviations of the components over the fit; right, on an axis of its own, "
            f"what is left at the end{wider}.",
        )
        drawn[f"{name}_values"] = (
            codebook_values(value_counts(result.quantized, group), f"Group {name}"),
            "The weights as they are in the file: how many have which value.",
        )
    refinement = [] if result.refined is None else result.refined.history
    drawn["training"] = (
        training_curves(result.history, refinement),
        training_caption(result.history, refinement),
    )
    return drawn


def _wider(result: Result) -> str:
    """What a caption adds where refinement has widened the components."""
    if result.refined is None or result.refined.epoch == 0:
        return ""
    return f", {result.refined.widening:g} times as wide as fitted, as refinement has them"


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return _contiguous({name: tensor.detach().cpu() for name, tensor in own.items()})


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
