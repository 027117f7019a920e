"""Shrink a checkpoint without data: the fewest bits at a relative squared error of each tensor."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch import Tensor
from torch import distributed as dist

import pyro_sws
from pyro_sws.codec.loops import expecting
from pyro_sws.compression.checkpoints.folder import Folder
from pyro_sws.compression.checkpoints.part import DECISIONS, ShrunkTensor, Unit, made, units
from pyro_sws.compression.checkpoints.source import Checkpoint, Stored, checkpoint, digest, read
from pyro_sws.compression.checkpoints.workers import each_done, processes
from pyro_sws.compression.post_training.without_data import TOLERANCE, check_tolerance
from pyro_sws.files import check_apart, check_place, write_whole
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.plain_numbers import flag, instance, real
from pyro_sws.inference.progress import Callback, Progress, check_callback, ignore
from pyro_sws.runs.lock import locked

Data: TypeAlias = bytes  # where a field is called bytes


@dataclass(frozen=True, eq=False)
class Shrunk:
    """What became of a checkpoint or a network without data. There are no scores: nobody judged."""

    bytes: int  # of the file
    weights: int  # elements of all tensors
    rows: tuple[ShrunkTensor, ...]  # by tensor, in the checkpoint's order
    seconds: float
    tolerance: float  # relative squared error that a tensor may have
    path: Path | None = None  # of the file; None: it is in ``content``
    content: Data | None = field(default=None, repr=False)

    @property
    def bits(self) -> float:
        """Of the file, a weight."""
        return 8 * self.bytes / max(1, self.weights)

    @property
    def data(self) -> Data:
        """The file's bytes."""
        if self.content is not None:
            return self.content
        assert self.path is not None
        return self.path.read_bytes()

    def to_dict(self) -> dict[str, Any]:
        """All but the file's bytes, as JSON has it."""
        return {
            "bytes": self.bytes,
            "weights": self.weights,
            "bits": self.bits,
            "seconds": self.seconds,
            "tolerance": self.tolerance,
            "path": None if self.path is None else str(self.path),
            "rows": [asdict(row) for row in self.rows],
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write the file, whole or not at all."""
        write_whole(path, self.data)


@dataclass(frozen=True)
class _Task:
    """A part to be made, by whatever process."""

    unit: Unit
    folder: Folder
    tolerance: float
    weights: int  # of the whole checkpoint
    content: bytes | None  # the tensors of a mapping, as safetensors; None: they are in files


def shrink(
    source: str | os.PathLike | Mapping[str, Tensor],
    out: str | os.PathLike,
    *,
    tolerance: float = TOLERANCE,
    workers: int | None = None,
    resume: bool = True,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
) -> Shrunk:
    """Write a checkpoint as a .sws file, without data and without its network.

    Each tensor of two dimensions or more becomes multiples of a step of its own, by as few bits as
    keep the relative squared error ||dw||^2 / ||w||^2 within the tolerance; others are float16
    where no value loses more than 2^-11 of itself, and else as they are. What the network then
    predicts is not looked at: where there are some inputs, ``compress`` does better by them.
    Tensors are read one at a time; ``expand`` gives them back in the dtypes that they had.

    A run that was ended goes on: parts that are done lie in the folder ``.<name>.parts`` beside
    ``out``, by what they were made of, until the file is written. The file's bytes depend neither
    on that nor on the number of workers and ranks.

    Args:
        source: a .safetensors file; a folder of them, those of model.safetensors.index.json where
            it is there, else all; or tensors by name. Floats of 16, 32 and 64 bits are shrunk,
            integers and booleans kept. Of coded tensors that are equal one is written.
        out: the file to write; its folder must be there.
        tolerance: of each tensor, in [1e-6, 1).
        workers: processes, each of which holds a tensor at a time; by default one a core, and this
            one alone where there is little to do. A script that starts some must be guarded by
            ``if __name__ == "__main__"``.
        resume: False makes all parts anew.
        ranks: the processes of a process group, on one machine or several with a folder in common,
            that share the parts. All call this with the same arguments and get the same result.
        callback: is told of each part, of the stage "shrink", in weights.

    Raises:
        OSError: for a file, shard or folder that is missing; as BlockingIOError, which says who
            and since when, for an ``out`` that another process is writing.
        ValueError: for a file that is no safetensors file, one of them for ``out``, a tensor that
            no file holds, such as one of 8-bit floats, and one with NaN or inf.
        TypeError: for another kind of source.
        RuntimeError: where a worker dies.
    """
    began = time.perf_counter()
    tolerance = real("tolerance", tolerance)
    check_tolerance(tolerance)
    flag("resume", resume)
    instance("ranks", ranks, Ranks)
    check_callback(callback)
    out = check_place(out)
    given = checkpoint(source)
    check_apart(out, {each.file for each in given.stored if each.file is not None})
    count = processes(workers, given.size)
    digests = {each.name: digest(given.read(each), each) for each in given.stored}
    first = _first_names(given.stored, digests)
    own = [each for each in given.stored if first[each.name] == each.name]
    parts = units(own, digests, (pyro_sws.__version__, tolerance))
    folder = Folder.beside(out)
    aliases = {name: one for name, one in first.items() if name != one}
    with locked(out.with_name(f".{out.name}.lock"), out) if ranks.first else nullcontext():
        _make(given, parts, folder, tolerance, count, resume, ranks, callback or ignore)
        rows = {row.name: row for row in folder.rows(parts)}
        if ranks.first:
            folder.assemble(parts, aliases, out)
        _meet(ranks)
        if ranks.first:
            folder.remove()
    rows |= {name: replace(rows[one], name=name, bits=0.0) for name, one in aliases.items()}
    return Shrunk(
        bytes=out.stat().st_size,
        weights=given.size,
        rows=tuple(rows[each.name] for each in given.stored),
        seconds=time.perf_counter() - began,
        tolerance=tolerance,
        path=out,
    )


def _first_names(stored: Sequence[Stored], digests: Mapping[str, bytes]) -> dict[str, str]:
    """The first of the coded tensors that each is equal to; itself for others."""
    first: dict[bytes, str] = {}
    return {
        each.name: first.setdefault(digests[each.name], each.name) if each.coded else each.name
        for each in stored
    }


def _make(
    given: Checkpoint,
    parts: Sequence[Unit],
    folder: Folder,
    tolerance: float,
    workers: int,
    resume: bool,
    ranks: Ranks,
    tell: Callback,
) -> None:
    """All parts, those of other ranks too, in the folder when this returns."""
    folder.path.mkdir(exist_ok=True)
    largest_first = sorted(parts, key=lambda unit: -unit.size)
    own = largest_first[ranks.rank :: ranks.count]
    left = [unit for unit in own if not (resume and folder.has(unit))]
    folder.drop(left)
    _meet(ranks)  # from here on a part that is there is one to be taken
    total = sum(unit.size for unit in own)
    done = total - sum(unit.size for unit in left)
    tell(Progress("shrink", done, total))
    tasks = _tasks(given, left, folder, tolerance)
    for size in each_done(_work, tasks, min(workers, max(1, len(left)))):
        done += size
        tell(Progress("shrink", done, total))
    folder.wait(parts)


def _tasks(
    given: Checkpoint, left: Sequence[Unit], folder: Folder, tolerance: float
) -> Iterator[_Task]:
    for unit in left:
        content = None
        if given.given is not None:
            tensors = {each.name: given.read(each).contiguous() for each in unit.stored}
            content = bytes_of({name: tensor.clone() for name, tensor in tensors.items()})
        yield _Task(unit, folder, tolerance, given.size, content)


def _work(task: _Task) -> int:
    """Make a part -> the elements of its tensors."""
    if task.content is None:
        tensors = {each.name: read(each) for each in task.unit.stored}
    else:
        tensors = tensors_from(task.content)
    ordered = {each.name: tensors[each.name] for each in task.unit.stored}
    with expecting(DECISIONS * task.weights):
        task.folder.put(task.unit, made(task.unit, ordered, task.tolerance))
    return task.unit.size


def _meet(ranks: Ranks) -> None:
    if ranks.count > 1:
        dist.barrier()
