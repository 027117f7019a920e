"""A run's folder read back, without running anything that its recipe names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from pyro_sws.assess.report.report import Report
from pyro_sws.codec.container import decode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.plan import Plan
from pyro_sws.compression.refine import Refined
from pyro_sws.files import parse_json, read_json
from pyro_sws.inference.history import History
from pyro_sws.recipes.changes import read_table
from pyro_sws.recipes.recipe import read_named
from pyro_sws.runs import legacy
from pyro_sws.runs.checksums import check_checksums
from pyro_sws.runs.folder import DIAGNOSTICS, NETWORK
from pyro_sws.runs.frontier_files import read_frontier
from pyro_sws.runs.parts import RunParts
from pyro_sws.runs.posterior_file import read_posteriors, read_tensors
from pyro_sws.runs.swap import REPORT, whole
from pyro_sws.weights.posterior import Posterior


def read_folder(folder: Path) -> RunParts:
    """All that the folder holds. Raises ValueError for no finished run, and for damaged files."""
    place = check_finished(folder)
    with _fitting(folder):
        return _parts(place, folder)


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Files that are well-formed, but not of one run, raise ValueError."""
    try:
        yield
    except FileNotFoundError as error:
        missing = error.filename or error
        raise ValueError(f"{folder}: its files do not fit together: no {missing}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{folder}: its files do not fit together: {error!r}") from None


def _parts(folder: Path, named: Path) -> RunParts:
    """``named``: the folder that names in the recipe are relative to."""
    report = _report(folder)
    check_checksums(folder)
    plan = _plan(folder / "recipe.toml", named)
    given, metadata = read_tensors(folder / "trained.safetensors")
    if NETWORK in metadata:  # else of a version before a run could be opened
        posterior, packed = read_posteriors(
            folder / "posterior.safetensors", folder / "packed.safetensors"
        )
        given = {name: given[name] for name in parse_json(metadata[NETWORK])["order"]}
        names = _architecture(metadata)
        _check_shapes(folder / "posterior.safetensors", posterior, given)
        _check_shapes(folder / "packed.safetensors", packed, given)
    else:
        posterior, packed = legacy.posteriors(folder, plan, report, given)
        names = legacy.architecture(report, given)
    data = (folder / "model.sws").read_bytes()
    diagnosed = folder / DIAGNOSTICS / "diagnostics.json"
    return RunParts(
        plan=plan,
        given=given,
        architecture=names,
        posterior=posterior,
        packed=packed,
        quantized=_decoded(folder / "model.sws", data, given, names),
        data=data,
        report=report,
        history=_rows(folder / "history.jsonl"),
        refined=_refined(folder, report, packed),
        frontier=read_frontier(folder),
        diagnostics=read_json(diagnosed) if diagnosed.is_file() else None,
    )


def _plan(path: Path, folder: Path) -> Plan:
    """The recipe's, which has every key: without ``fold``, or ``raw``, its version did neither."""
    plan, table = read_named(path, trusted=False, folder=folder), read_table(path)
    own, packing = {**table, **table.get("packing", {})}, plan.packing
    if "fold" not in own:
        packing = replace(packing, fold=False)
    if "raw" not in own:
        packing = replace(packing, raw="exact")
    return replace(plan, packing=packing)


def _check_shapes(path: Path, posterior: Posterior, given: Mapping[str, Tensor]) -> None:
    for group in posterior.groups.values():
        for name, shape in group.shapes.items():
            if name not in given or tuple(given[name].shape) != tuple(shape):
                raise ValueError(f"{path}: {name} is not as in trained.safetensors")


def _decoded(
    path: Path, data: bytes, given: Mapping[str, Tensor], names: Mapping[str, tuple[int, ...]]
) -> Quantized:
    try:
        return decode(data, max_weights=_size(given), architecture=names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _report(folder: Path) -> Report:
    try:
        return Report.from_dict(read_json(folder / REPORT))
    except ValueError as error:
        again = f"pyro-sws run {folder / 'recipe.toml'} --out {folder} --overwrite"
        reason = str(error).removesuffix("; make the run again")
        where = "" if reason.startswith(str(folder)) else f"{folder}: "
        raise ValueError(f"{where}{reason}; make the run again: {again}") from None


def check_finished(folder: Path) -> Path:
    """Where the folder's run is to be read. Raises ValueError where none was finished in it."""
    place = whole(folder)
    if not (place / REPORT).is_file():
        raise ValueError(f"{folder} holds no finished run: it has no report.json")
    return place


def stored_architecture(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a run's file holds. Raises ValueError for no finished run."""
    place = check_finished(folder)
    with _fitting(folder):
        given, metadata = read_tensors(place / "trained.safetensors")
        if NETWORK in metadata:
            return _architecture(metadata)
        return legacy.architecture(_report(place), given)


def _architecture(metadata: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in parse_json(metadata[NETWORK])["architecture"]}


def _refined(folder: Path, report: Report, packed: Posterior) -> Refined | None:
    if report.refinement is None:
        return None
    rows = _rows(folder / "refinement.jsonl")
    return Refined(
        packed, rows, report.refinement["epoch_kept"], float(report.refinement["widening"])
    )


def _rows(path: Path) -> History:
    try:
        return [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{path}: its lines are not JSON: {error}") from None


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
