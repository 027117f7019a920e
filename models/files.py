"""Files of data sets: found in a folder, unpacked, or downloaded once. Standard library only.

A folder that is given, or $PYRO_SWS_DATA, has a set's files in a folder of its own or in itself,
each as it is or packed with gzip or xz; then nothing is downloaded. Without either they are in the
user's cache, to where they are downloaded, each checked first.
"""

import gzip
import hashlib
import io
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

TIMEOUT_SECONDS = 30.0  # without a byte received
# By suffix: its kind, and what opens it.
PACKED: dict[str, tuple[str, Callable[[Path], io.BufferedIOBase]]] = {
    ".gz": ("gzip", gzip.GzipFile),
    ".xz": ("xz", lzma.LZMAFile),
}
UNPACKED = 1 << 28  # bytes at most; the largest set, MNIST, has a sixth of that
# MemoryError: an xz file may ask for a dictionary of 4 GB.
DAMAGED = (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error, MemoryError)


def md5(content: bytes) -> str:
    """Hexadecimal; it finds accidents, and is what most data sets publish."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Download(NamedTuple):
    """Where a file is served, and how it is known to be the right one."""

    url: str
    digest: str
    digest_of: Callable[[bytes], str] = md5  # of the file as it is served


class DataSet(NamedTuple):
    """The files of a data set."""

    wanted: str  # what a user is asked for, such as "the four mnist files"
    folders: tuple[str, ...]  # any of which may have them; in the cache it is the first
    files: Mapping[str, Download]  # by their names here, without the suffix of packing


def locate(data_set: DataSet, data_dir: str | Path | None) -> dict[str, Path]:
    """The path of each file, all in one folder; downloads to the cache alone.

    Raises FileNotFoundError for a folder that is given and has them not, ConnectionError without a
    network, ValueError for a download with another digest.
    """
    given = given_folder(data_dir)
    if given is not None:
        return files_in(given, data_set.folders, tuple(data_set.files), data_set.wanted)
    folder = cache_folder() / data_set.folders[0]
    return {
        name: existing(folder, name) or downloaded(each, folder / name, data_set.wanted)
        for name, each in data_set.files.items()
    }


def given_folder(data_dir: str | Path | None) -> Path | None:
    """The folder that is given, else $PYRO_SWS_DATA; None where neither says one."""
    given = data_dir or os.environ.get("PYRO_SWS_DATA")
    return Path(given).expanduser() if given else None


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyro-sws"


def files_in(
    given: Path, names: Sequence[str], files: Sequence[str], wanted: str
) -> dict[str, Path]:
    """The files in given/NAME, or in ``given`` itself, whichever has any of them."""
    folders = [*(given / name for name in names), given]
    candidates = [{file: existing(folder, file) for file in files} for folder in folders]
    found = next((paths for paths in candidates if any(paths.values())), candidates[0])
    missing = [file for file, path in found.items() if path is None]
    if missing:
        places = " or ".join(str(folder) for folder in reversed(folders))
        raise FileNotFoundError(
            f"no {missing[0]} (or {', '.join(PACKED)}) in {places}; set PYRO_SWS_DATA or "
            f"--data-dir to a folder with {wanted}, or neither to download"
        )
    return {file: path for file, path in found.items() if path is not None}


def existing(folder: Path, name: str) -> Path | None:
    """The file, as it is or packed."""
    candidates = (folder / f"{name}{suffix}" for suffix in ("", *PACKED))
    return next((path for path in candidates if path.is_file()), None)


def read(path: Path) -> bytes:
    """A file's content, unpacked. ValueError where it is damaged, or unpacks to too much."""
    if path.suffix not in PACKED:
        return path.read_bytes()
    kind, opened = PACKED[path.suffix]
    try:
        with opened(path) as file:
            content = file.read(UNPACKED + 1)
    except DAMAGED as error:
        told = str(error) or type(error).__name__
        raise ValueError(f"{path}: not a whole {kind} file ({told}); fetch it again") from error
    if len(content) > UNPACKED:
        raise ValueError(
            f"{path}: it unpacks to more than {UNPACKED} bytes; unpack it yourself if it is no bomb"
        )
    return content


def downloaded(download: Download, path: Path, wanted: str) -> Path:
    """The file at ``path``, with the suffix that it has at its source."""
    suffix = next((suffix for suffix in PACKED if download.url.endswith(suffix)), "")
    kept = path.with_name(path.name + suffix)
    keep(fetch(download, wanted), kept)
    return kept


def unpacked(download: Download, names: Sequence[str], folder: Path, wanted: str) -> None:
    """Files out of an archive, put into ``folder`` under these names. ValueError for others."""
    left = set(names)
    with tarfile.open(fileobj=io.BytesIO(fetch(download, wanted))) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in left and (file := archive.extractfile(member)) is not None:
                keep(file.read(), folder / name)
                left.remove(name)
    if left:
        raise ValueError(f"{download.url}: there is no {', '.join(sorted(left))} in this archive")


def fetch(download: Download, wanted: str) -> bytes:
    """What is served there, checked."""
    try:
        with urlopen(download.url, timeout=TIMEOUT_SECONDS) as response:
            content = response.read()
    except (OSError, HTTPException) as error:  # URLError and time-outs are OSErrors
        raise ConnectionError(
            f"cannot download {download.url} ({error}); set PYRO_SWS_DATA or --data-dir to a "
            f"folder with {wanted}, or connect to the network once"
        ) from error
    digest = download.digest_of(content)
    if digest != download.digest:
        kind = download.digest_of.__name__
        raise ValueError(
            f"{download.url}: the {len(content)} bytes received have {kind} {digest}, not "
            f"{download.digest}; nothing was kept: try again, or set PYRO_SWS_DATA to a good copy"
        )
    return content


def keep(content: bytes, path: Path) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two runs downloading at once do not write into one file.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
