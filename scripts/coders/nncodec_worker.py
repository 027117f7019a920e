"""nncodec between files, run by the Python of its own environment: numpy and nncodec, no more.

    python nncodec_worker.py encode FOLDER ROUNDS   # tensors.npz -> payload.bin, report.json
    python nncodec_worker.py draft FOLDER ROUNDS    # the same without a search for settings
    python nncodec_worker.py decode FOLDER ROUNDS   # payload.bin, shapes.json -> tensors.npz, ...

Tensors are int32 with the zero at 0, so nncodec takes its exact path for integers. Every tensor is
tried in several layouts and under nncodec's settings for integers, one after the other, and the
shortest is kept. As the units of an NNC stream stand alone, each tensor may have settings of its
own in it. The payload is half a byte a tensor for its layout, then the NNC stream.

nncodec's framework, which only reads and trains models and needs torch, torchvision, OpenCV and
more, is left out by putting empty modules in its place.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Settings = dict[str, Any]

START_UNITS = 3  # of an NNC stream, alike for all tensors; one data unit a tensor follows
LAYOUTS = ("as it is", "transposed", "matrix", "matrix transposed", "row", "row transposed")
TOGETHER, EMPTY = len(LAYOUTS), len(LAYOUTS) + 1  # codes of vectors joined to one, of no weights
DEFAULTS = {
    "cabac_unary_length_minus1": 6,
    "row_skipping": True,
    "param_opt": True,
    "scan_order": 0,
}
UNARY_LENGTHS: list[Settings] = [{"cabac_unary_length_minus1": n} for n in range(12)]
OTHERS: list[Settings] = [
    {"row_skipping": skipping, "param_opt": optimized, "scan_order": order}
    for skipping, optimized, order in product((True, False), (True, False), range(5))
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=["encode", "draft", "decode"])
    parser.add_argument("folder", type=Path, help="where the files are read and written")
    parser.add_argument("rounds", type=int, help="that are timed")
    arguments = parser.parse_args()
    if arguments.task == "decode":
        decode_files(arguments.folder, arguments.rounds)
    else:
        choices = plain if arguments.task == "draft" else plans
        encode_files(arguments.folder, arguments.rounds, choices)


def encode_files(folder: Path, rounds: int, choices: Callable[..., "list[Plan]"]) -> None:
    with np.load(folder / "tensors.npz") as stored:
        tensors = [stored[str(i)] for i in range(len(stored.files))]
    began = time.perf_counter()
    plan = min(choices(tensors), key=lambda plan: len(encode(tensors, plan)))
    search = time.perf_counter() - began
    payload, seconds = timed(lambda: encode(tensors, plan), rounds)
    (folder / "payload.bin").write_bytes(payload)
    report = {"seconds": seconds, "search_seconds": search, "settings": described(plan)}
    (folder / "report.json").write_text(json.dumps(report))


def decode_files(folder: Path, rounds: int) -> None:
    payload = (folder / "payload.bin").read_bytes()
    shapes = [tuple(shape) for shape in json.loads((folder / "shapes.json").read_text())]
    tensors, seconds = timed(lambda: decode(payload, shapes), rounds)
    np.savez(folder / "tensors.npz", **{str(i): values for i, values in enumerate(tensors)})
    (folder / "report.json").write_text(json.dumps({"seconds": seconds}))


# A plan: each tensor's layout, and the settings of each piece, which is what nncodec is given.
Plan = tuple[list[int], list[Settings]]


def plans(tensors: Sequence[np.ndarray]) -> list[Plan]:
    """With each vector by itself, and with all of them as one, each at its shortest."""
    found = []
    for together in (False, True):
        codes: list[int] = []
        settings: list[Settings] = []
        vectors: list[np.ndarray] = []
        for values in tensors:
            if not values.size:
                codes.append(EMPTY)
            elif together and values.ndim < 2:
                codes.append(TOGETHER)
                vectors.append(values.ravel())
            else:
                code, chosen = shortest(values)
                codes.append(code)
                settings.append(chosen)
        if vectors:
            settings.append(shortest(np.concatenate(vectors))[1])
        found.append((codes, settings))
    return found


def plain(tensors: Sequence[np.ndarray]) -> list[Plan]:
    """All as they are, vectors together, under the same settings."""
    codes = [EMPTY if not v.size else TOGETHER if v.ndim < 2 else 0 for v in tensors]
    return [(codes, [DEFAULTS] * len(pieces(tensors, codes)))]


def shortest(values: np.ndarray) -> tuple[int, Settings]:
    """The layout and the settings, one chosen after the other, then the layout again."""
    layouts = [0] if values.ndim == 1 else list(range(len(LAYOUTS)))

    def length(code: int, settings: Settings) -> int:
        return len(unit(laid_out(values, code), "0", settings))

    settings: Settings = dict(DEFAULTS)
    code = min(layouts, key=lambda code: length(code, settings))
    for choices in (UNARY_LENGTHS, OTHERS):
        settings.update(min(choices, key=lambda choice: length(code, {**settings, **choice})))
    return min(layouts, key=lambda code: length(code, settings)), settings


def encode(tensors: Sequence[np.ndarray], plan: Plan) -> bytes:
    codes, settings = plan
    stream = bytearray()
    for i, (values, own) in enumerate(zip(pieces(tensors, codes), settings, strict=True)):
        whole = compress(values, str(i), own)
        stream += whole if not stream else whole[start_length(whole) :]
    nibbles = [*codes, 0]
    packed = bytes(a | b << 4 for a, b in zip(nibbles[0::2], nibbles[1::2], strict=False))
    return packed + bytes(stream)


def decode(payload: bytes, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The tensors; nncodec checks next to nothing, so neither does this."""
    head = (len(shapes) + 1) // 2
    codes = [payload[i // 2] >> 4 * (i % 2) & 15 for i in range(len(shapes))]
    stream = payload[head:]
    found = codec().decompress(bytearray(stream)) if stream else {}
    parts = [np.asarray(found[str(i)]) for i in range(len(found))]
    vectors = parts.pop() if TOGETHER in codes else np.zeros(0, dtype=np.int32)
    tensors, used, start = [], 0, 0
    for shape, code in zip(shapes, codes, strict=True):
        size = int(np.prod(shape))
        if code == EMPTY:
            tensors.append(np.zeros(shape, dtype=np.int32))
        elif code == TOGETHER:
            tensors.append(vectors[start : start + size].reshape(shape))
            start += size
        else:
            tensors.append(restored(parts[used], shape, code))
            used += 1
    return tensors


def pieces(tensors: Sequence[np.ndarray], codes: Sequence[int]) -> list[np.ndarray]:
    """What nncodec is given: the tensors in their layouts, then the vectors that go together."""
    pairs = list(zip(tensors, codes, strict=True))
    laid = [laid_out(values, code) for values, code in pairs if code < TOGETHER]
    vectors = [values.ravel() for values, code in pairs if code == TOGETHER]
    return [*laid, *([np.concatenate(vectors)] if vectors else [])]


def laid_out(values: np.ndarray, code: int) -> np.ndarray:
    values = values.reshape(1) if values.ndim == 0 else values
    matrix = values.reshape(len(values), -1)
    ways = (values, values.T, matrix, matrix.T, matrix.ravel(), matrix.T.ravel())
    return np.ascontiguousarray(ways[code], dtype=np.int32)


def restored(laid: np.ndarray, shape: tuple[int, ...], code: int) -> np.ndarray:
    """What ``laid_out`` was given."""
    name = LAYOUTS[code]
    if not name.endswith("transposed"):
        return laid.reshape(shape)
    if name == "transposed":
        return laid.reshape(shape[::-1]).T
    rows = shape[0] if shape else 1
    return laid.reshape(-1, rows).T.reshape(shape)


def unit(values: np.ndarray, name: str, settings: Settings) -> bytes:
    """The data unit of one tensor."""
    whole = compress(values, name, settings)
    return bytes(whole[start_length(whole) :])


def start_length(stream: bytes | bytearray) -> int:
    """Bytes of the units before the data: each begins with its size, in two bytes if small."""
    at = 0
    for _ in range(START_UNITS):
        at += int.from_bytes(stream[at : at + 2], "big")
    return at


def compress(values: np.ndarray, name: str, settings: Settings) -> bytearray:
    return codec().compress(
        {name: values}, bitstream_path=None, return_bitstream=True, use_dq=False, **settings
    )


def codec() -> Any:
    """The module nncodec.nnc, without what it does not need to code arrays."""
    if "nncodec.nnc" not in sys.modules:
        framework = ModuleType("nncodec.framework")
        for name in ("tensorflow_model", "pytorch_model", "use_case_init"):
            setattr(framework, name, ModuleType(f"nncodec.framework.{name}"))
        sys.modules["nncodec.framework"] = framework
    from nncodec import nnc

    return nnc


def described(plan: Plan) -> dict[str, Any]:
    codes, settings = plan
    names = [*LAYOUTS, "vectors together", "empty"]
    return {"layouts": [names[code] for code in codes], "of_each_piece": settings}


def timed(call: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """The result, and the median of the seconds."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return result, statistics.median(seconds)


if __name__ == "__main__":
    main()
