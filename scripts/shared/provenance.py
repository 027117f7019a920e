"""Where, when and how a result was measured: what every script writes beside its figures."""

import datetime
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch


def provenance(device: str = "cpu") -> dict[str, Any]:
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {
        "machine": {
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "architecture": platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "device": device,
            **gpu,
        },
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": datetime.date.today().isoformat(),
        "command": command(),
    }


def command() -> str:
    """The command without the places of one machine; files by their names."""
    kept = list(sys.argv[1:])
    for option in ("--out", "--data-dir", "--folder", "--nncodec-env"):
        if option in kept:
            at = kept.index(option)
            del kept[at : at + 2]
    return " ".join(["python", _script(), *map(_without_place, kept)])


def _script() -> str:
    """The script's path in the repository."""
    root, script = Path(__file__).parents[2], Path(sys.argv[0]).resolve()
    return script.relative_to(root).as_posix() if script.is_relative_to(root) else script.name


def _without_place(word: str) -> str:
    """A file, or NAME=FILE, by the file's name."""
    name, equals, file = word.rpartition("=")
    place = Path(file).is_absolute() or ".." in file
    return f"{name}{equals}{Path(file).name}" if place else word
