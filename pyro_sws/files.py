"""Files: written whole or not at all, beside the target first, then renamed; and JSON, read."""

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError that names it for what is none, OSError as open."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Write ``content`` to ``path``; on any failure the old file, if any, is still there.

    Raises OSError where the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} for {path.name}; make it first")
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "xb") as file:
            file.write(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
