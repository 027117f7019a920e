"""Checksums of a run folder's files, as ``sha256sum -c checksums.sha256`` reads them.

A file of tensors has none of its own: one that is damaged, or of another run, reads as well.
"""

import hashlib
from pathlib import Path

from pyro_sws.files import write_whole

CHECKSUMS = "checksums.sha256"
# What nobody edits, and one run wrote together; recipe and report are text, and may be.
FILES = (
    *("model.sws", "trained.safetensors", "posterior.safetensors", "packed.safetensors"),
    *("history.jsonl", "refinement.jsonl"),
)


def write_checksums(folder: Path) -> None:
    """Write those of the files that are there."""
    there = [folder / name for name in FILES if (folder / name).is_file()]
    write_whole(folder / CHECKSUMS, "".join(f"{_sha256(path)}  {path.name}\n" for path in there))


def check_checksums(folder: Path) -> None:
    """Raise ValueError for a file that is not as it was written; the reader names missing ones.

    A folder of a version before there were checksums has none to check.
    """
    if not (folder / CHECKSUMS).is_file():
        return
    for line in (folder / CHECKSUMS).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if name in FILES and path.is_file() and _sha256(path) != digest:
            raise ValueError(
                f"{path}: it is not as this run wrote it, by {CHECKSUMS}: it is damaged, or of "
                "another run; copy the whole folder again, or make the run again"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
