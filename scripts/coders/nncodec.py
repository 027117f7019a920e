"""nncodec (ISO/IEC 15938-17, DeepCABAC) as a coder, in an environment that is made on first use.

nncodec 2.1.3 wants an old numpy, and its C++ is compiled when it is installed (a C++ compiler and
some minutes). Its further requirements are of no use here, so they are not installed: what codes
arrays needs numpy alone; see nncodec_worker.py.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_sws.codec.coders import Plane
from pyro_sws.codec.errors import FormatError

WORKER = Path(__file__).with_name("nncodec_worker.py")
BUILD_PINS = ("numpy==1.26.4", "pybind11==2.13.6", "setuptools==80.9.0", "wheel==0.45.1")
PIN = "nncodec==2.1.3"
NEWEST_PYTHON = (3, 12)  # for which that numpy has wheels
CHECK = "import numpy, nncodec.extensions.deepCABAC"  # the compiled part


class Nncodec:
    """A coder as ``coders.Coder`` says, but only honest payloads are decoded: nncodec checks none.

    ``report`` is the worker's of the last call: its seconds (the median of ``rounds``, without
    starting a process and without the search for settings) and the settings that it chose.
    """

    def __init__(self, environment: Path, rounds: int = 3) -> None:
        self.python = prepared(environment)
        self.rounds = rounds
        self.report: dict[str, Any] = {}

    def encode(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
        """The shortest payload of all settings tried."""
        return self._encoded("encode", self.rounds, tensors, planes)

    def draft(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
        """A payload under settings that are mostly good, to be compared with other drafts."""
        return self._encoded("draft", 1, tensors, planes)

    def _encoded(
        self, task: str, rounds: int, tensors: Sequence[np.ndarray], planes: Sequence[Plane]
    ) -> bytes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pairs = zip(tensors, planes, strict=True)
            centred = [s.astype(np.int32) - np.int32(middle(plane)) for s, plane in pairs]
            named: dict[str, Any] = {str(i): c for i, c in enumerate(centred)}
            np.savez(folder / "tensors.npz", **named)
            self._work(task, folder, rounds)
            return (folder / "payload.bin").read_bytes()

    def decode(self, payload: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "payload.bin").write_bytes(payload)
            (folder / "shapes.json").write_text(json.dumps([plane.shape for plane in planes]))
            self._work("decode", folder, self.rounds)
            with np.load(folder / "tensors.npz") as stored:
                found = [stored[str(i)] + middle(plane) for i, plane in enumerate(planes)]
        for symbols, plane in zip(found, planes, strict=True):
            if symbols.size and not 0 <= symbols.min() <= symbols.max() < plane.levels:
                raise FormatError(f"nncodec gives symbols that are not below {plane.levels}")
        return [symbols.astype(np.uint16) for symbols in found]

    def _work(self, task: str, folder: Path, rounds: int) -> None:
        command = [str(part) for part in (self.python, WORKER, task, folder, rounds)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"nncodec failed to {task}: {done.stderr.strip()[-2000:]}")
        self.report = json.loads((folder / "report.json").read_text())


def middle(plane: Plane) -> int:
    """The symbol that nncodec sees as 0."""
    return plane.levels // 2 if plane.zero is None else plane.zero


def default_environment() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pyro-sws" / "nncodec"


def prepared(environment: Path) -> Path:
    """The environment's Python; the environment is made if it is not there."""
    python = environment.absolute() / ("Scripts" if os.name == "nt" else "bin") / "python"
    if python.exists() and _works(python):
        return python
    if environment.exists() and any(environment.iterdir()) and not _is_environment(environment):
        raise ValueError(f"{environment} is there and is no Python environment; give another")
    if sys.version_info[:2] > NEWEST_PYTHON:
        newest = ".".join(map(str, NEWEST_PYTHON))
        raise ValueError(f"{PIN} needs Python {newest} or older; make {environment} with one")
    print(f"making {environment} for {PIN}: its C++ is compiled, which takes some minutes")
    venv.create(environment, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *BUILD_PINS], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", PIN], check=True)
    if not _works(python):
        raise RuntimeError(f"{PIN} was installed in {environment}, but its compiled part is not")
    return python


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists()


def _works(python: Path) -> bool:
    return subprocess.run([python, "-c", CHECK], capture_output=True).returncode == 0
