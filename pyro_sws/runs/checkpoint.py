"""Checkpoints in a folder: how far each stage of a run got, in a file a stage, whole or not at all.

A file is of safetensors, with all that is no tensor as JSON in its metadata. It says what it is of:
settings, network and data. Nothing is unpickled.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pyro_sws.files import UNREADABLE, read_json, write_whole
from pyro_sws.inference.batches import Batch
from pyro_sws.inference.checkpoint import Checkpoint, Stage, StageState
from pyro_sws.runs.lock import locked
from pyro_sws.weights.structures import tensors_in

LOGGER = logging.getLogger("pyro_sws")
FOLDER, LOCK = ".checkpoint", ".lock"
PRETRAINED, SETTINGS = "pretraining", "settings"  # a stage, and what it does not depend on
OF = "of.json"  # what the checkpoint is of
EVERY_SECONDS = 60.0
SHARE = 0.05  # of the time, at most, that goes into writing
MARGIN = 1.2  # free space that a file must have, in its own size
COPIES = 4  # of the weights that the largest file holds: these, two moments, and the best so far


class Interrupted(BaseException):
    """A run was asked to end, by Ctrl-C or a signal, and its state is kept. No error: no
    ``except Exception`` takes it.
    """

    def __init__(self, signum: int):
        super().__init__(f"ended by {signal.Signals(signum).name}")
        self.signum = signum


class FolderCheckpoint(Checkpoint):
    """States of stages, in a folder of their own.

    A state is written where the last one is ``every_seconds`` old, 60 by default, and where a stage
    ends; less often where writing would take more than a twentieth of the time, but for 0 seconds,
    which are after each step. One that cannot be written is warned of, and the one before stays.
    The folder is made with the first one.
    """

    def __init__(
        self,
        folder: Path,
        of: Mapping[str, str],
        *,
        every_seconds: float | None = None,
        writes: bool = True,
    ):
        """``of``: digests by what they are of, such as "data"; another checkpoint is refused.

        ``writes``: False of all but one of several processes, which only read.

        Raises:
            ValueError: for a checkpoint of something else, naming what.
            OSError: for a folder that cannot be written.
        """
        self.folder, self.of, self.writes = folder, dict(of), writes
        self.every_seconds = EVERY_SECONDS if every_seconds is None else every_seconds
        self.asked_by: int | None = None  # the signal by which an end was asked for
        self.in_steps = False  # whether a stage asks, after each step, if it is time
        self._last = time.monotonic()
        self._warned = False
        if writes and folder.exists():
            _sweep(folder)
            _check_of(folder, of)

    def stage(self, name: str) -> Stage:
        return _FolderStage(self, self.folder / f"{name}.safetensors")

    def kept(self) -> dict[str, str]:
        """How far each stage is kept, such as "12 of 60"."""
        return kept_in(self.folder) if self.folder.exists() else {}

    def remove(self) -> None:
        """Once what it was for is whole."""
        discard(self.folder)

    def _take(self, path: Path, state: Callable[[], StageState], ended: bool) -> None:
        due = time.monotonic() - self._last >= self.every_seconds
        if self.writes and (due or ended or self.asked_by is not None):
            self._write(path, state())
        self.in_steps = not ended
        if self.asked_by is not None:
            raise Interrupted(self.asked_by)

    def _write(self, path: Path, state: StageState) -> None:
        began = time.monotonic()
        try:
            self.folder.mkdir(exist_ok=True)
            if not (self.folder / OF).exists():
                write_whole(self.folder / OF, json.dumps(self.of))
            _write_state(path, state)
        except OSError as error:
            if not self._warned:
                LOGGER.warning(
                    "a checkpoint could not be written to %s: %s; the one before stays, and the "
                    "run goes on",
                    path,
                    error.strerror or error,
                )
            self._warned = True
        now = time.monotonic()
        # As if it had been written later, so that writing takes no more than its share.
        late = (now - began) / SHARE - self.every_seconds if self.every_seconds else 0.0
        self._last = now + max(0.0, late)


class _FolderStage(Stage):
    def __init__(self, checkpoint: FolderCheckpoint, path: Path):
        self.checkpoint, self.path = checkpoint, path

    def load(self) -> StageState | None:
        return read_state(self.path) if self.path.is_file() else None

    def reached(self, state: Callable[[], StageState], *, ended: bool = False) -> None:
        self.checkpoint._take(self.path, state, ended)


def read_state(path: Path) -> StageState:
    """A stage's state. Raises ValueError, which names the file, for what is none."""
    try:
        with safe_open(str(path), "pt") as file:
            rest = json.loads((file.metadata() or {})["rest"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (*UNREADABLE, KeyError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no checkpoint that is whole: {error}; delete {path.parent} to begin anew"
        ) from None
    if not isinstance(rest, dict):
        raise ValueError(f"{path} is no checkpoint; delete {path.parent} to begin anew")
    return StageState(tensors, rest)


def discard(folder: Path) -> None:
    """Remove a checkpoint, if there is one: at once, so that a kill leaves no part of it."""
    gone = folder.with_name(f".{folder.name}.{uuid4().hex}")
    with suppress(FileNotFoundError):
        os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def kept_in(folder: Path) -> dict[str, str]:
    """How far each stage is kept in a checkpoint's folder, in the order of their files' dates."""
    kept = {}
    for path in sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime):
        with suppress(ValueError, KeyError):
            rest = read_state(path).rest
            kept[path.stem] = f"{rest['done']} of {rest['total']}"
    return kept


def check_room(folder: Path, weights_bytes: int) -> None:
    """Raise OSError where a disk has no room for the checkpoints and files of such a network."""
    needed = int(MARGIN * COPIES * weights_bytes)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"{there} has {free / 1e6:,.0f} MB free, and checkpoints and files of this network "
            f"take up to {needed / 1e6:,.0f} MB; make room, or choose another folder"
        )


def digests(
    settings: object, net: nn.Module, batch: Batch, seed: int, pretraining: object = None
) -> dict[str, str]:
    """What a checkpoint is of: how a run goes, and the network and first batch it sets out from."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        "network": _digest(*tensors, *tensors.values()),
        "data": _digest(*(tensor for part in batch for tensor in tensors_in(part))),
        PRETRAINED: _digest(described(pretraining), str(seed)),
        SETTINGS: _digest(described(settings), str(seed)),
    }


def described(value: object) -> str:
    """A value in words that are the same in every process."""
    if isinstance(value, Tensor):
        return f"tensor {_digest(value)}"
    if is_dataclass(value) and not isinstance(value, type):
        own = ((field.name, getattr(value, field.name)) for field in fields(value))
        inside = ", ".join(f"{name}={described(each)}" for name, each in own)
        return f"{type(value).__qualname__}({inside})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {described(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(map(described, value)) + "]"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _digest(*parts: object) -> str:
    seen = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            seen.update(f"{part.dtype} {tuple(part.shape)}".encode())
            flat = part.detach().cpu().contiguous().reshape(-1)
            seen.update(flat.view(torch.uint8).numpy().data)
        else:
            seen.update(str(part).encode())
    return seen.hexdigest()


@contextmanager
def checkpoint_in(
    folder: str | os.PathLike, of: Mapping[str, str], weights_bytes: int
) -> Iterator[FolderCheckpoint]:
    """A checkpoint in a folder of the caller's, which no other process uses; gone if all went well.

    Raises OSError, as BlockingIOError for a folder that another process is at, and ValueError for
    one that holds something else.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise OSError(f"no checkpoint can be in {folder}: {reason}; name a folder") from None
    with locked(folder / LOCK, folder):
        check_room(folder, weights_bytes)
        checkpoint = FolderCheckpoint(folder, of)
        yield checkpoint
        checkpoint.remove()


def _sweep(folder: Path) -> None:
    """Remove what a process was writing when it was killed."""
    for path in folder.iterdir():
        if re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _check_of(folder: Path, of: Mapping[str, str]) -> None:
    """Raise ValueError for a checkpoint of something else.

    Where only what comes after pre-training is set otherwise, the trained network is still good:
    all else is removed.
    """
    anew = f"go on with what it was of, or delete {folder} to begin anew"
    try:
        there = read_json(folder / OF)
    except FileNotFoundError:
        if all(path.name == LOCK for path in folder.iterdir()):
            return
        raise ValueError(f"{folder} is no checkpoint: it has no {OF}; {anew}") from None
    if not isinstance(there, dict):
        raise ValueError(f"{folder / OF} is not whole; {anew}")
    other = [name for name, digest in of.items() if there.get(name) != digest]
    if other == [SETTINGS] and (folder / f"{PRETRAINED}.safetensors").is_file():
        LOGGER.warning("%s is of other settings: of it the trained network is taken", folder)
        for path in folder.glob("*.safetensors"):
            if path.stem != PRETRAINED:
                path.unlink()
        write_whole(folder / OF, json.dumps(dict(of)))
    elif other:
        raise ValueError(f"{folder} is a checkpoint of other {' and '.join(other)}; {anew}")


def _write_state(path: Path, state: StageState) -> None:
    """Write beside, wait until it is on the disk, rename. On OSError the old one is still there."""
    tensors = {name: _own(tensor) for name, tensor in state.tensors.items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    free = shutil.disk_usage(path.parent).free
    if free < MARGIN * size:
        raise OSError(f"{size / 1e6:,.0f} MB to write, and {free / 1e6:,.0f} MB free")
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        save_file(tensors, beside, {"rest": json.dumps(state.rest)})
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except SafetensorError as error:  # it says so of a full disk, too
        raise OSError(str(error)) from None
    finally:
        beside.unlink(missing_ok=True)


def _own(tensor: Tensor) -> Tensor:
    """The tensor alone in its memory: files hold no two views of one."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


@contextmanager
def ending_at_a_step(checkpoint: FolderCheckpoint) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM end the run as ``Interrupted``, after the step that it is in.

    At once where no stage is taking steps, and at the second signal. For programs: it changes the
    handlers of signals, which must be done in the main thread. They are put back.
    """

    def ask(signum: int, frame: FrameType | None) -> None:
        if checkpoint.asked_by is not None or not checkpoint.in_steps:
            raise Interrupted(signum)
        checkpoint.asked_by = signum

    before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
