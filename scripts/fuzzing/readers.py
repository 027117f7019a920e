"""The readers that meet files of strangers: for each its seeds, its mutations, and what reads."""

import contextlib
import gzip
import io
import json
import lzma
import shutil
import sys
import tarfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from pyro_sws.assess.draws.inference_data import inference_data, load_netcdf, save_netcdf
from pyro_sws.assess.report.report import Report
from pyro_sws.codec.container import decode, inspect
from pyro_sws.compression.checkpoints import source
from pyro_sws.compression.checkpoints.expand import expand
from pyro_sws.files import read_json
from pyro_sws.recipes.recipe import read_named
from pyro_sws.runs.frontier_files import read_frontier
from pyro_sws.runs.inputs import load_tensors
from pyro_sws.runs.reading import read_folder, stored_architecture
from scripts.fuzzing.mutations import (
    BYTES,
    Mutation,
    any_of,
    json_field,
    packed,
    safetensors_field,
    sealed,
    toml_value,
)

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from finished_runs import FinishedRuns
from small_checkpoints import tensors, write_shards

from models import data, spoken_digits, tables

DOCUMENTED = (ValueError, OSError)
SEALED = tuple(sealed(mutation) for mutation in BYTES)


@dataclass(frozen=True)
class Target:
    """A file that is replaced by mutants, and what then reads it, or what is around it."""

    file: Path
    seed: bytes
    mutations: Sequence[Mutation]
    read: Callable[[Path], object]


Reader = Callable[[Path], list[Target]]  # makes the targets in an empty folder


def _file(
    folder: Path, name: str, seed: bytes, fields: Sequence[Mutation], read: Callable[[Path], object]
) -> Target:
    """Fields are edited as often as bytes."""
    file = folder / name
    file.write_bytes(seed)
    return Target(file, seed, (*BYTES, *tuple(fields) * (len(BYTES) // max(1, len(fields)))), read)


def recipes(folder: Path) -> list[Target]:
    found = [*sorted(GOLDEN.glob("runs/*/recipe.toml")), *sorted(ROOT.glob("models/**/*.toml"))]

    def read(path: Path) -> object:
        return read_named(path, trusted=False)

    return [
        _file(folder, f"{i}.toml", path.read_bytes(), [toml_value], read)
        for i, path in enumerate(found)
    ]


def reports(folder: Path) -> list[Target]:
    def read(path: Path) -> Report:
        return Report.from_dict(read_json(path))

    return [
        _file(folder, f"{i}.json", path.read_bytes(), [json_field], read)
        for i, path in enumerate(sorted(GOLDEN.glob("runs/*/report.json")))
    ]


def runs(folder: Path) -> list[Target]:
    """Folders of today and of older versions, one file of each edited; no checksums to see it."""
    made = FinishedRuns(folder / "made")
    kinds = ("mixture", "spread", "refined")
    folders = [made.copy(kind, folder / kind) for kind in kinds]
    for path in sorted(GOLDEN.glob("runs/*/report.json")):
        folders.append(folder / f"golden-{path.parent.name}")
        shutil.copytree(path.parent, folders[-1])
    return [target for each in folders for target in _of_run(each)]


def _of_run(folder: Path) -> list[Target]:
    (folder / "checksums.sha256").unlink(missing_ok=True)
    fields = {".json": json_field, ".jsonl": json_field, ".safetensors": safetensors_field}
    fields[".toml"] = toml_value
    return [
        _file(
            folder,
            path.name,
            path.read_bytes(),
            [fields[path.suffix]] if path.suffix in fields else [],
            _read_run,
        )
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in {*fields, ".sws"}
    ]


def _read_run(path: Path) -> None:
    """As all commands, and as ``inspect`` reads the names for a file with a fingerprint."""
    with contextlib.suppress(*DOCUMENTED):
        stored_architecture(path.parent)
    read_folder(path.parent)


def frontiers(folder: Path) -> list[Target]:
    (folder / "frontier").mkdir()
    measured = ("score", "width", "tau", "nonzero_percent", "passes", "seconds")
    point = {"step": 0, "bytes": 3, "within": True, "file": "000.sws"}
    point |= dict.fromkeys(measured, 0.5)
    table = {"reference": 0.1, "tolerance": 0.1, "unit": "error", "judged_on": "validation"}
    (folder / "frontier" / "000.sws").write_bytes(b"SWS")
    seed = json.dumps({**table, "points": [point]}).encode()

    def read(path: Path) -> object:
        return read_frontier(path.parent.parent)

    return [_file(folder / "frontier", "frontier.json", seed, [json_field], read)]


def checkpoints(folder: Path) -> list[Target]:
    def read(path: Path) -> list[torch.Tensor]:
        found = source.checkpoint(path)
        return [found.read(stored) for stored in found.stored]

    seed = save(tensors(), {"format": "pt"})
    return [_file(folder, "model.safetensors", seed, [safetensors_field], read)]


def shards(folder: Path) -> list[Target]:
    write_shards(folder)
    seed = (folder / source.INDEX).read_bytes()

    def read(path: Path) -> object:
        return source.checkpoint(path.parent)

    return [_file(folder, source.INDEX, seed, [json_field], read)]


def starts(folder: Path) -> list[Target]:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    pickled = io.BytesIO()
    torch.save(net.state_dict(), pickled)

    def read(path: Path) -> None:
        load_tensors(net, path)

    return [
        _file(folder, "net.safetensors", save(net.state_dict()), [safetensors_field], read),
        _file(folder, "net.pt", pickled.getvalue(), [], read),
    ]


def sws_files(folder: Path) -> list[Target]:
    def read(path: Path) -> None:
        inspect(path.read_bytes())
        decode(path.read_bytes())

    return [
        _file(folder, path.name, path.read_bytes(), SEALED, read)
        for path in sorted(GOLDEN.glob("*.sws"))
        if "fingerprint" not in path.name  # it asks for an architecture first
    ]


def expanded(folder: Path) -> list[Target]:
    out = folder / "out.safetensors"

    def read(path: Path) -> None:
        expand(path, out)

    return [
        _file(folder, path.name, path.read_bytes(), SEALED, read)
        for path in sorted(GOLDEN.glob("format[45]*.sws"))
        if "fingerprint" not in path.name
    ]


def draws(folder: Path) -> list[Target]:
    """Of a mixture, as netCDF."""
    values = np.arange(12.0).reshape(1, 4, 3)
    tree = inference_data({"posterior": {"means": values}}, inference_method="nuts")
    save_netcdf(tree, folder / "mixture.nc")
    seed = (folder / "mixture.nc").read_bytes()
    return [_file(folder, "mixture.nc", seed, [], load_netcdf)]


def idx_files(folder: Path) -> list[Target]:
    seed = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(24)

    def read(path: Path) -> object:
        return data.read_idx(path, 3)

    inside = [packed(mutation) for mutation in BYTES]
    return [
        _file(folder, "a.idx", seed, [], read),
        _file(folder, "b.idx.gz", gzip.compress(seed), inside, read),
        _file(folder, "c.idx.xz", lzma.compress(seed), [], read),
    ]


def cifar_files(folder: Path) -> list[Target]:
    return [_file(folder, "batch.bin", bytes(2 * 3073), [], data.read_records)]


def number_tables(folder: Path) -> list[Target]:
    seed = b"a,b,c\n1,2,3\n4.5,1e3,-6\n7,8,9\n"
    return [_file(folder, "a.csv", seed, [], tables.numbers)]


def recordings(folder: Path) -> list[Target]:
    sound, archive = io.BytesIO(), io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(600))
    with tarfile.open(fileobj=archive, mode="w:gz") as packing:
        for speaker in ("ann", "bob"):
            member = tarfile.TarInfo(f"set/recordings/3_{speaker}_7.wav")
            member.size = len(sound.getvalue())
            packing.addfile(member, io.BytesIO(sound.getvalue()))

    def read(path: Path) -> object:
        return [spoken_digits.samples(content) for _, content in spoken_digits.recordings(path)]

    inside = [packed(mutation) for mutation in BYTES]
    return [_file(folder, "a.tar.gz", archive.getvalue(), inside, read)]


READERS: dict[str, Reader] = {
    "recipe": recipes,
    "report": reports,
    "run folder": runs,
    "frontier": frontiers,
    "checkpoint": checkpoints,
    "shards": shards,
    "start": starts,
    "sws": sws_files,
    "expand": expanded,
    "draws": draws,
    "idx": idx_files,
    "cifar": cifar_files,
    "table": number_tables,
    "recordings": recordings,
}


def mutant(rng, targets: Sequence[Target]) -> tuple[Target, bytes]:
    """A target, and one to three edits of its seed."""
    target = any_of(rng, targets)
    made = any_of(rng, target.mutations)(rng, target.seed)
    while made and rng.integers(4) == 0:
        made = any_of(rng, BYTES)(rng, made)
    return target, made
