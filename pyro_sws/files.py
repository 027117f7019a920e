"""Writing files whole or not at all: beside the target first, then renamed into place."""

import os
from pathlib import Path


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
