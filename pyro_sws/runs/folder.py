"""A run's folder: written by one process, whole or not at all, with its figures and page."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from matplotlib.figure import Figure
from safetensors.torch import save

from pyro_sws.assess.figures import run as figures
from pyro_sws.assess.figures.codebook import codebook_values
from pyro_sws.assess.figures.frontier import frontier_points
from pyro_sws.assess.figures.style import as_png
from pyro_sws.assess.figures.training import training_caption, training_curves
from pyro_sws.assess.report.lengths import value_counts
from pyro_sws.compression.walk.frontier import Frontier
from pyro_sws.files import read_json, write_whole
from pyro_sws.inference.history import History
from pyro_sws.recipes.recipe import to_toml
from pyro_sws.runs.checkpoint import FOLDER as CHECKPOINT
from pyro_sws.runs.checksums import CHECKSUMS, write_checksums
from pyro_sws.runs.frontier_files import FAILED, FOLDER, frontier_files, write_frontier
from pyro_sws.runs.lock import locked
from pyro_sws.runs.page import CAPTIONS, DIAGNOSTICS, FIGURES, write_page, write_pictures
from pyro_sws.runs.parts import RunParts
from pyro_sws.runs.posterior_file import packed_bytes, posterior_bytes
from pyro_sws.runs.swap import REPORT, finish, staged, swap, whole
from pyro_sws.weights.batch_norm import as_fitted
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import unscaled

# Files that not every run has, the last two as versions before a run could be opened wrote them.
SOME = ("refinement.jsonl", CHECKSUMS, "refined.safetensors", "spread.safetensors")
# Among the metadata of the trained tensors: their order in the network, which safetensors has not,
# and names and shapes of what the file holds. One key: several would be written in any order.
NETWORK = "network"


# What a process that was killed leaves: folders that it staged, files that it had not renamed yet.
LOCK, LEFTOVER = ".lock", re.compile(r"\..+\.[0-9a-f]{32}")


@contextmanager
def writing(folder: Path, *, overwrite: bool, resume: bool = False) -> Iterator[None]:
    """No other process writes to the folder in the context, and what killed ones left is put right.

    ``resume``: a run whose checkpoint is there may go on, and write over what is there at its end.
    Raises ValueError where something is there that is not to be written over, BlockingIOError where
    another process is at it, OSError where none can write. Leaves nothing behind of its own.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_made(folder))
            stack.enter_context(locked(folder / LOCK, folder))
            settle(folder)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _unwritable(folder, error) from None
        _check_there(folder, overwrite, resume)
        yield


def check_folder(folder: Path) -> None:
    """Raise OSError where no file can be written; leaves nothing behind."""
    try:
        with _made(folder):
            write_whole(folder / ".writable", b"")
            (folder / ".writable").unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None


def settle(folder: Path) -> None:
    """Finish what a killed process had begun to write over; the lock is the caller's."""
    finish(folder)
    parts = [folder / name for name in (FIGURES, DIAGNOSTICS, FAILED)]
    for part in (folder, *parts):
        for path in part.iterdir() if part.is_dir() else ():
            if not LEFTOVER.fullmatch(path.name):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_folder(run: RunParts, folder: Path) -> None:
    """Write everything, which then takes the place of an older run; the lock is the caller's."""
    with staged(folder) as new:
        (new / FIGURES).mkdir()
        if run.diagnostics is not None and _diagnosed(folder) == run.diagnostics:
            _copy_pictures_and_draws(folder / DIAGNOSTICS, new / DIAGNOSTICS)
        _write_files(run, to_toml(run.plan, folder), new)
        swap(folder, new, _older_files(folder))


def _check_there(folder: Path, overwrite: bool, resume: bool) -> None:
    """Raise ValueError for what is there and is not to be lost."""
    left = (folder / CHECKPOINT).is_dir()
    if overwrite or (left and resume) or _is_empty(folder):
        return
    if resume:
        raise ValueError(
            f"{folder} has no checkpoint to resume from, and is not empty; choose another --out, "
            "or --overwrite"
        )
    if left:
        raise ValueError(
            f"{folder} has the checkpoint of a run that was ended; --resume it, or --overwrite it "
            "to begin anew"
        )
    raise ValueError(f"{folder} is not empty; choose another --out, or --overwrite")


def _unwritable(folder: Path, error: OSError) -> OSError:
    return OSError(f"cannot write to {folder}: {error.strerror}; choose another --out")


def _is_empty(folder: Path) -> bool:
    """But for the lock, and the folders of processes that try to take it."""
    return all(path.name == LOCK or LEFTOVER.fullmatch(path.name) for path in folder.iterdir())


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder exists inside the context; if it was made here and stays empty, it is removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def holds_run(folder: Path) -> bool:
    """Whether a run was finished there, of this version or another."""
    place = whole(folder)
    try:
        report = read_json(place / REPORT)
    except (OSError, ValueError):
        return False
    files = ("model.sws", "recipe.toml", "trained.safetensors")
    return isinstance(report, dict) and all((place / name).is_file() for name in files)


def _older_files(folder: Path) -> list[Path]:
    """Those of an older run that a new one may not have: they go, and nothing else does."""
    if not holds_run(folder):
        return []
    some = [folder / name for name in SOME if (folder / name).is_file()]
    files = [*some, *frontier_files(folder / FOLDER)]
    for part in (folder / FIGURES, folder / DIAGNOSTICS):
        files += [*_pictures(part), *_draws(part)]
        files += [part / name for name in (CAPTIONS, "diagnostics.json")]
    return files


def _diagnosed(folder: Path) -> object:
    """What the diagnostics.json says that is there; None where there is none."""
    try:
        return read_json(folder / DIAGNOSTICS / "diagnostics.json")
    except (OSError, ValueError):
        return None


def _copy_pictures_and_draws(folder: Path, to: Path) -> None:
    to.mkdir()
    for path in (*_pictures(folder), *_draws(folder), folder / CAPTIONS):
        if path.is_file():
            shutil.copyfile(path, to / path.name)


def _pictures(folder: Path) -> list[Path]:
    """Those with a caption: of a run, where another picture may be anyone's."""
    try:
        captions = read_json(folder / CAPTIONS)
    except (OSError, ValueError):  # a version before captions had files wrote pictures alone
        return sorted(folder.glob("*.png"))
    return [path for name in captions if (path := folder / f"{name}.png").is_file()]


def _draws(folder: Path) -> list[Path]:
    return [*folder.glob("mixture*.nc"), *folder.glob("network.nc")]


def _write_files(run: RunParts, toml: str, folder: Path) -> None:
    drawn = {name: (as_png(figure), text) for name, (figure, text) in _figures(run).items()}
    write_pictures(folder / FIGURES, drawn)
    write_whole(folder / "recipe.toml", toml)
    table = {"order": list(run.given), "architecture": list(run.architecture.items())}
    named = {NETWORK: json.dumps(table)}
    write_whole(folder / "trained.safetensors", save(dict(run.given), named))
    write_whole(folder / "posterior.safetensors", posterior_bytes(run.posterior))
    write_whole(folder / "packed.safetensors", packed_bytes(run.packed, run.posterior))
    write_whole(folder / "history.jsonl", _lines(run.history))
    if run.refined is not None:
        write_whole(folder / "refinement.jsonl", _lines(run.refined.history))
    if run.frontier is not None:
        write_frontier(run.frontier, folder)
    if run.diagnostics is not None:
        (folder / DIAGNOSTICS).mkdir(exist_ok=True)
        text = json.dumps(run.diagnostics, indent=2) + "\n"
        write_whole(folder / DIAGNOSTICS / "diagnostics.json", text)
    write_whole(folder / "model.sws", run.data)
    write_checksums(folder)
    write_whole(folder / REPORT, json.dumps(run.report.to_dict(), indent=2) + "\n")
    write_page(folder)


def _lines(history: History) -> str:
    return "".join(json.dumps(row) + "\n" for row in history)


def _figures(run: RunParts) -> dict[str, tuple[Figure, str]]:
    drawn: dict[str, tuple[Figure, str]] = {}
    wider = _wider(run)
    given = as_fitted(run.given, run.posterior.raw)
    for name, group in run.posterior.groups.items():
        prior = run.packed.priors[name]
        before = unscaled(prior, group, group.flatten(given))
        after = unscaled(prior, group, run.packed.point[weights_site(name)])
        mixture = prior.mixture
        books = [run.quantized.codebooks[run.quantized.codebook_of[t]] for t in group.shapes]
        drawn[f"{name}_weights"] = (
            figures.weight_histogram(before, after, mixture, books[0], f"Weights of group {name}"),
            f"Trained and retrained weights, with the fitted components over them{wider}.",
        )
        drawn[f"{name}_before_after"] = (
            figures.before_after(before, after, mixture),
            f"Each weight before and after retraining; bands are the components{wider}.",
        )
        if run.frontier is None:  # on a walk components come to an end, and widths are set
            drawn[f"{name}_components"] = (
                figures.component_history(run.history, name, mixture),
                "Means and deviations of the components over the fit; right, on an axis of its "
                f"own, what is left at the end{wider}.",
            )
        drawn[f"{name}_values"] = (
            codebook_values(value_counts(run.quantized, group), f"Group {name}"),
            "The weights as they are in the file: how many have which value.",
        )
    if run.frontier is not None:
        drawn["frontier"] = _frontier(run, run.frontier)
    refinement = [] if run.refined is None else run.refined.history
    drawn["training"] = (
        training_curves(run.history, refinement),
        training_caption(run.history, refinement),
    )
    return drawn


def _frontier(run: RunParts, frontier: Frontier) -> tuple[Figure, str]:
    score, best = run.report.score, frontier.smallest()
    figure = frontier_points(
        [(point.bytes, point.score, point.within) for point in frontier],
        frontier.reference,
        frontier.tolerance,
        f"{score['name']} ({score['unit']}), {frontier.judged_on} data",
        (best.bytes, best.score),
    )
    return figure, (
        "The files that the walk met, from right to left, before their units were put in order; "
        "dashed, the score up to which one is within the tolerance."
    )


def _wider(run: RunParts) -> str:
    """What a caption adds where refinement has widened the components."""
    refined = run.refined
    if refined is None or refined.epoch == 0:
        return ""
    return f", {refined.widening:g} times as wide as fitted, as refinement has them"
