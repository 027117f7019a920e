"""A file's network for other programs: its weights, a torch.export program, or ONNX."""

import inspect
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
from torch.utils._pytree import tree_map

from pyro_sws.codec.container import decode
from pyro_sws.compression.plan import Data
from pyro_sws.files import write_whole
from pyro_sws.inference.batch_reading import LABELS, without_labels
from pyro_sws.inference.batches import pairs
from pyro_sws.inference.joint import NETWORK_ERRORS, computed
from pyro_sws.runs.inputs import as_array
from pyro_sws.runs.run import Run
from pyro_sws.runs.tensor_files import tensor_writer
from pyro_sws.weights.load import load
from pyro_sws.weights.network import float_parameter
from pyro_sws.weights.structures import Structure, arguments_of, shape_of, tensors_in, value_of

LOGGER = logging.getLogger("pyro_sws")
TOLERANCE = 1e-4  # of the largest output: other kernels add in another order
ONNX_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")

Runner = Callable[[Structure], Any]  # inputs -> outputs in any structure, of what was written


@torch.inference_mode(False)
@torch.no_grad()
def export(
    source: Run | str | os.PathLike | bytes,
    path: str | os.PathLike,
    *,
    into: nn.Module | None = None,
    example: Any = None,
    dynamic_batch: bool = True,
) -> None:
    """Write the network of a file for other programs; what is written is by the name's ending.

    ``.safetensors``: the weights; of a network that is at hand its whole state dict, a tied tensor
    under each of its names. ``.npz``: the weights for NumPy. ``.pt2``: a program that
    ``torch.export.load`` reads. ``.onnx``: the same in ONNX. Before a program is left there, the
    bytes are read back and run on ``example``: their outputs, each tensor of them, are those of the
    quantised network to 1e-4 of the largest. On any failure an older file stays.

    Args:
        source: what ``compress`` returned, a .sws file's path, or its bytes.
        path: the file to write.
        into: the network that was compressed; by default the run's own. A program needs it.
        example: a batch of all inputs, for a program: a tensor (B, ...), a tuple or list of
            positional arguments, or a mapping of keywords, whose "labels" are left out as they are
            in a fit. A program takes no others. All tensors in it have the examples in their first
            dimension. None of their values are in the file; what is no tensor is a part of the
            program.
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
    net = _network(source, into, path)
    inputs = _moved(_example(net, example, path), float_parameter(net).dtype)
    _warn_of_fewer(source, inputs, path)
    expected = computed(net, {}, inputs)
    with _quiet():
        content = program_of(_exported(net, inputs, dynamic_batch))
        run = runner_of(content)
        _check_equal(run(inputs), expected, path)
        if dynamic_batch:
            _check_equal(run(inputs[:1]), computed(net, {}, inputs[:1]), path)
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


def _example(net: nn.Module, example: Any, path: Path) -> Structure:
    """What the network is given. Raises ValueError for what has no examples."""
    value = value_of(example)
    if isinstance(value, Mapping) and LABELS in value:
        value = without_labels(net, value)
    if not any(tensor.dim() and len(tensor) for tensor in tensors_in(value)):
        given = repr(value) if not tensors_in(value) else f"shape {shape_of(value)}"
        raise ValueError(
            f"{path}: a program is traced on inputs; give example=, a batch (B, ...) as a tensor, "
            f"a tuple of positional arguments or a dict of keywords, got {given}"
        )
    return Structure(value, f"{path}: example=")


def _warn_of_fewer(source: object, inputs: Structure, path: Path) -> None:
    """Say so where the network was given more in its batches, such as a mask: a program takes none.

    Which inputs it has are those of the example.
    """
    if not isinstance(source, Run) or not isinstance(source.plan.data, Data):
        return
    given, _ = next(iter(pairs(source.plan.data.train, "train")))
    count, of_example = len(tensors_in(given)), len(inputs.tensors)
    if of_example < count:
        LOGGER.warning(
            "%s: example= has %d of the %d tensors that the network was given, of shapes %s; a "
            "program takes no other inputs than the example's. Give a whole batch's inputs",
            *(path, of_example, count, shape_of(value_of(given))),
        )


def _moved(inputs: Structure, dtype: torch.dtype) -> Structure:
    """On the CPU, floats in the network's dtype."""
    return inputs.mapped(lambda x: x.to("cpu", dtype if x.is_floating_point() else None))


def _exported(net: nn.Module, inputs: Structure, dynamic_batch: bool) -> Any:
    """The torch.export program, traced on zeros: the file keeps what it was traced on."""
    rows = max(len(inputs), 2) if dynamic_batch else len(inputs)  # 1 would be taken for a constant
    zeros = inputs.mapped(lambda x: x.new_zeros((rows, *x.shape[1:]) if x.dim() else ()))
    args, kwargs = arguments_of(zeros.value)
    shapes = _shapes(net, args, kwargs) if dynamic_batch else None
    try:
        return torch.export.export(net, args, kwargs, dynamic_shapes=shapes)
    except (*NETWORK_ERRORS, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        remedy = "; if it takes batches of one size, give dynamic_batch=False"
        raise ValueError(
            f"torch.export cannot express {type(net).__name__}: {reason}"
            f"{remedy if dynamic_batch else ''}"
        ) from error


def _shapes(net: nn.Module, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The first dimension of every tensor is free, and the same, by the forward's own names."""
    batch = torch.export.Dim("batch")
    named = inspect.signature(net.forward).bind(*args, **kwargs).arguments
    return tree_map(lambda x: {0: batch} if isinstance(x, Tensor) and x.dim() else None, named)


def _as_program(program: Any) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _run_program(content: bytes) -> Runner:
    """It reads back what this call has just written, and no other file."""
    program = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: Structure) -> Any:
        args, kwargs = arguments_of(inputs.value)
        return program(*args, **kwargs)

    return run


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
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Structure) -> Any:
        given = [x.numpy() for x in tensors_in(inputs.value)]
        outputs = session.run(None, dict(zip(names, given, strict=True)))
        return [torch.from_numpy(np.asarray(x)) for x in outputs]

    return run


# By a file's ending: what writes a program as bytes, and what runs these.
PROGRAMS: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Runner]]] = {
    ".pt2": (_as_program, _run_program),
    ".onnx": (_as_onnx, _run_onnx),
}


def _check_equal(outputs: Any, expected: Any, path: Path) -> None:
    """Raise ValueError unless each tensor is the network's: they come in the same order."""
    found, wanted = tensors_in(outputs), tensors_in(expected)
    shapes = [tuple(map(tuple, (x.shape for x in tensors))) for tensors in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{path}: the program's outputs have shapes {shapes[0]}, the network's {shapes[1]}; "
            "nothing was written"
        )
    for own, right in zip(found, wanted, strict=True):
        _check_tensor(own, right, path)


def _check_tensor(outputs: Tensor, expected: Tensor, path: Path) -> None:
    outputs, expected = outputs.detach().double(), expected.double()
    if torch.equal(outputs, expected):  # none, or infinite ones
        return
    largest = float(expected.abs().max())
    difference = float((outputs - expected).abs().max())
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
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
