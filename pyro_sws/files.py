"""Files: written whole or not at all, beside the target first, then renamed; and JSON, read."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from safetensors import SafetensorError

# What reading a damaged safetensors file raises: of a shape beyond all numbers torch's own.
UNREADABLE = (SafetensorError, TypeError, RuntimeError)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError that names it for what is none, OSError as open."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def parse_json(text: str) -> Any:
    """What a JSON text of anybody's says. Raises ValueError for what is none."""
    try:
        return json.loads(text)
    except RecursionError:  # which is no ValueError: "[[[[..." would end the program
        raise ValueError("it is nested too deeply") from None


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Write ``content`` to ``path``; on any failure the old file, if any, is still there.

    Raises OSError where the folder is missing or cannot be written.
    """
    with open_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to be written, which takes the place of ``path`` at the end, unless that fails."""
    path = check_place(path)
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with open(beside, "xb") as file:
            yield file
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def check_place(path: str | os.PathLike) -> Path:
    """Raise OSError for a folder or a device, and where there is no folder for the file."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a file would take its place
        raise OSError(f"{path} is no file, but a device, pipe or socket; name a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} for {path.name}; make it first")
    return path


def check_apart(out: Path, sources: Iterable[str | os.PathLike]) -> None:
    """Raise ValueError where what is to be written is a file that is read: it would be lost."""
    for source in sources:
        if out.exists() and Path(source).exists() and out.samefile(source):
            raise ValueError(f"{out} is what is read; give another place for what is written")
