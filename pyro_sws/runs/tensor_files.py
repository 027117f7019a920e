"""Tensors by name as the bytes of a safetensors or a .npz file."""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

Arrays = Mapping[str, np.ndarray]


def tensor_writer(path: str | os.PathLike) -> Callable[[Arrays], bytes]:
    """What makes a file of arrays by name, by the path's ending: .safetensors or .npz.

    Raises ValueError for any other ending, but not for a folder, which write_whole refuses.
    """
    path = Path(path)
    writers = {".safetensors": _as_safetensors, ".npz": _as_npz}
    if path.suffix.lower() in writers:
        return writers[path.suffix.lower()]
    if path.is_dir():
        return _as_safetensors
    raise ValueError(f"{path}: weights are written as .safetensors or .npz; name the file so")


def _as_safetensors(arrays: Arrays) -> bytes:
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _as_npz(arrays: Arrays) -> bytes:
    """What numpy.load reads. numpy.savez has a parameter ``file``, which a tensor's name may be."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
