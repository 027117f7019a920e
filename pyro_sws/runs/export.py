"""A file's network for other programs: its weights, a torch.export program, or ONNX."""

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from pyro_sws.codec.container import decode
from pyro_sws.files import write_whole
from pyro_sws.inference.joint import NETWORK_ERRORS, outputs_of
from pyro_sws.runs.inputs import as_array
from pyro_sws.runs.run import Run
from pyro_sws.runs.tensor_files import tensor_writer
from pyro_sws.weights.load import load
from pyro_sws.weights.network import float_parameter

TOLERANCE = 1e-4  # of the largest output: other kernels add in another order
ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")

Runner = Callable[[Tensor], Tensor]  # inputs -> outputs, of what was written


@torch.inference_mode(False)
@torch.no_grad()
def export(
    source: Run | str | os.PathLike | bytes,
    path: str | os.PathLike,
    *,
    into: nn.Module | None = None,
    example: Tensor | None = None,
    dynamic_batch: bool = True,
) -> None:
    """Write the network of a file for other programs; what is written is by the name's ending.

    ``.safetensors``: the weights; of a network that is at hand its whole state dict, a tied tensor
    under each of its names. ``.npz``: the weights for NumPy. ``.pt2``: a program that
    ``torch.export.load`` reads. ``.onnx``: the same in ONNX. Before a program is left there, the
    bytes are read back and run on ``example``: their outputs are those of the quantised network to
    1e-4 of the largest. On any failure an older file stays.

    Args:
        source: what ``compress`` returned, a .sws file's path, or its bytes.
        path: the file to write.
        into: the network that was compressed; by default the run's own. A program needs it.
        example: a batch of inputs (B, ...), for a program. None of its values are in the file.
        dynamic_batch: whether a program takes any number of examples, not B alone.

    Raises:
        ValueError: for another ending, a program without ``into`` or ``example``, a network that
            torch.export or ONNX cannot express, and outputs that are not the network's.
        ImportError: for ONNX where the libraries of ``pip install 'pyro-sws[onnx]'`` are not there.
    """
    path = Path(path)
    if path.suffix.lower() not in PROGRAMS:
        write_whole(path, _weights(source, path, into))
        return
    program_of, runner_of = PROGRAMS[path.suffix.lower()]
    if path.suffix.lower() == ".onnx":
        _check_onnx()
    net, inputs = _network(source, into, path), _example(example, path)
    parameter = float_parameter(net)
    inputs = inputs.to("cpu", parameter.dtype if inputs.is_floating_point() else None)
    expected = outputs_of(net, {}, inputs)
    with _quiet():
        content = program_of(_exported(net, inputs, dynamic_batch))
        run = runner_of(content)
        _check_equal(run(inputs), expected, path)
        if dynamic_batch:
            _check_equal(run(inputs[:1]), outputs_of(net, {}, inputs[:1]), path)
    write_whole(path, content)


def _weights(source: Run | str | os.PathLike | bytes, path: Path, into: nn.Module | None) -> bytes:
    """The weights as the bytes of a file of this ending. Raises ValueError for another one."""
    if path.suffix.lower() not in (".safetensors", ".npz"):
        known = ", ".join((".safetensors", ".npz", *PROGRAMS))
        raise ValueError(f"{path}: a network is exported to {known}; name the file so")
    if into is None and isinstance(source, Run) and isinstance(source.plan.network, nn.Module):
        into = source.plan.network
    as_bytes = tensor_writer(path)
    if into is None:
        return as_bytes(_tensors(source))
    state = load(_data(source), into=into).state_dict()
    state = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}
    if path.suffix.lower() == ".npz":
        return as_bytes({name: as_array(tensor) for name, tensor in state.items()})
    return save(state)


def _tensors(source: Run | str | os.PathLike | bytes) -> Mapping[str, np.ndarray]:
    if isinstance(source, Run):
        return decode(source.data, architecture=dict(source.architecture)).tensors()
    data = _data(source)
    return decode(data if isinstance(data, bytes) else Path(data).read_bytes()).tensors()


def _data(source: Run | str | os.PathLike | bytes) -> str | os.PathLike | bytes:
    return source.data if isinstance(source, Run) else source


def _network(
    source: Run | str | os.PathLike | bytes, into: nn.Module | None, path: Path
) -> nn.Module:
    """The quantised network on the CPU. Raises ValueError where there is no module to fill."""
    if into is None and isinstance(source, Run):
        into = source.network
    if into is None:
        raise ValueError(
            f"{path}: a program is of a network; give into=, the module that was compressed"
        )
    return load(_data(source), into=into).cpu()


def _example(example: Tensor | None, path: Path) -> Tensor:
    if not isinstance(example, Tensor) or not example.dim() or not len(example):
        given = f"shape {tuple(example.shape)}" if isinstance(example, Tensor) else repr(example)
        raise ValueError(
            f"{path}: a program is traced on inputs; give example=, a batch (B, ...) as a tensor, "
            f"got {given}"
        )
    return example


def _exported(net: nn.Module, inputs: Tensor, dynamic_batch: bool) -> Any:
    """The torch.export program, traced on zeros: the file keeps what it was traced on."""
    rows = max(len(inputs), 2) if dynamic_batch else len(inputs)  # 1 would be taken for a constant
    zeros = inputs.new_zeros((rows, *inputs.shape[1:]))
    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    try:
        return torch.export.export(net, (zeros,), dynamic_shapes=shapes)
    except (*NETWORK_ERRORS, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        remedy = "; if it takes batches of one size, give dynamic_batch=False"
        raise ValueError(
            f"torch.export cannot express {type(net).__name__}: {reason}"
            f"{remedy if dynamic_batch else ''}"
        ) from error


def _as_program(program: Any) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _run_program(content: bytes) -> Runner:
    """It reads back what this call has just written, and no other file."""
    return torch.export.load(io.BytesIO(content)).module()


def _as_onnx(program: Any) -> bytes:
    try:
        made = torch.onnx.export(program, (), dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise ValueError(f"torch.onnx cannot express the network: {reason}") from error
    assert made is not None  # it is of dynamo
    return made.model_proto.SerializeToString()


def _run_onnx(content: bytes) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])


# By a file's ending: what writes a program as bytes, and what runs these.
PROGRAMS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Runner]]] = {
    ".pt2": (_as_program, _run_program),
    ".onnx": (_as_onnx, _run_onnx),
}


def _check_equal(outputs: Tensor, expected: Tensor, path: Path) -> None:
    if outputs.shape != expected.shape:
        shapes = f"{tuple(outputs.shape)}, and the network's {tuple(expected.shape)}"
        raise ValueError(f"{path}: the program's outputs have shape {shapes}; nothing was written")
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    difference = float((outputs - expected).abs().max()) if expected.numel() else 0.0
    if not difference <= TOLERANCE * largest:
        raise ValueError(
            f"{path}: the program's outputs differ from the quantised network's by {difference:.3g}"
            f", where the largest is {largest:.3g}; nothing was written"
        )


def _check_onnx() -> None:
    if missing := [name for name in ONNX_LIBRARIES if find_spec(name) is None]:
        raise ImportError(
            f"writing ONNX needs {', '.join(missing)}; install them by pip install 'pyro-sws[onnx]'"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters say of libraries that are not there and of their own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
