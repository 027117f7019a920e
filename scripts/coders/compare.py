"""Compare coders on the same indices: bytes of whole files, and seconds.

    python scripts/coders/compare.py              # all; writes docs/results/coders.json
    python scripts/coders/compare.py --networks lenet_300_100 --coders context xz --out results
    python scripts/coders/compare.py --networks --file mine=net.sws

The data: indices/*.npz, pretrained/*.safetensors and mnist/ in --data-dir or $PYRO_SWS_DATA. Needs
scikit-learn, and for nncodec a C++ compiler: it is installed in an environment of its own.

Every network is coded as it is, and rewritten to one that computes the same, idle hidden units
dropped and the others in the order that makes the package's own file short. A coder's ``bytes`` are
the smaller file of the two, everything in it; ``bytes_rewritten_for_it`` is what another coder
takes where units are dropped and ordered for its own file's sake. A coder that is no part of the
format gets a file of the format with another payload. Each result is decoded again and compared.
Seconds are medians of three: of the whole file for the format's own coders, of the payload for the
others, of nncodec without starting its process and without searching for its settings.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pyro_sws.codec.coders import CODERS, Plane
from pyro_sws.codec.container import decode, encode, inspect
from pyro_sws.codec.symbols import Quantized, zero_symbol
from pyro_sws.weights.load import fill

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.coders.baselines import BASELINES
from scripts.coders.networks import PRUNED, TRAINED, Network, network, stored
from scripts.coders.nncodec import BUILD_PINS, PIN, Nncodec, default_environment
from scripts.shared.results import RESULTS, write_json
from scripts.shared.timing import about, interleaved, seconds_of, significant

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

NNCODEC = "nncodec"
ALL_CODERS = ("context", "order0", "csr_huffman_2017", NNCODEC, "xz", "zlib")
ROUNDS = 3
CPU = torch.device("cpu")
AS_THEY_ARE, REWRITTEN, FOR_IT = "as_they_are", "rewritten", "rewritten_for_it"
OWN = "context"  # the coder that networks are rewritten for


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    began = time.perf_counter()
    coders = chosen_coders(arguments)
    found: dict[str, Any] = {}
    for name, given in chosen_networks(arguments).items():
        found[name] = measure(given, coders, arguments)
        show(name, found[name], coders)
    found["_about"] = about(time.perf_counter() - began, arguments) | {
        "outside": {NNCODEC: f"{PIN}, {BUILD_PINS[0]}"} if NNCODEC in coders else {},
    }
    place = arguments.out or RESULTS
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "coders.json", found)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = [*TRAINED, *PRUNED]
    parser.add_argument("--networks", nargs="*", choices=known, default=known)
    parser.add_argument("--coders", nargs="+", choices=ALL_CODERS, default=list(ALL_CODERS))
    parser.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="a .sws")
    parser.add_argument("--as-they-are", action="store_true", help="rewrite no network")
    parser.add_argument("--data-dir", type=Path, help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--nncodec-env", type=Path, default=default_environment())
    parser.add_argument("--out", type=Path, help="folder for the JSON (default: docs/results)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.device = "cpu"
    return arguments


def chosen_coders(arguments: argparse.Namespace) -> dict[str, Any]:
    """Name -> an outside coder, or None for one of the format's own."""
    coders: dict[str, Any] = {}
    for name in arguments.coders:
        if name == NNCODEC:
            coders[name] = Nncodec(arguments.nncodec_env, ROUNDS)
        else:
            coders[name] = None if name in CODERS else BASELINES[name]
    return coders


def chosen_networks(arguments: argparse.Namespace) -> dict[str, Network]:
    given = arguments.data_dir or os.environ.get("PYRO_SWS_DATA")
    if arguments.networks and not given:
        raise SystemExit("give the folder with the data: --data-dir or PYRO_SWS_DATA")
    networks = {name: network(name, Path(given or ".")) for name in arguments.networks}
    for entry in arguments.file:
        name, _, path = entry.partition("=")
        networks[name] = stored(Path(path))
    return networks


# One network.


def measure(
    given: Network, coders: Mapping[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Coder -> figures, and what is the same for all coders."""
    entropy = order0_entropy_bytes(given.quantized)
    tested = tester(given, arguments.data_dir)
    row: dict[str, Any] = {}
    variants = {AS_THEY_ARE: given.quantized}
    rewrites = given.structure is not None and not arguments.as_they_are
    if rewrites:
        variants[REWRITTEN] = rewritten(given, partial(file_bytes, OWN, None))
    for name, coder in coders.items():
        row[name] = compared(variants, name, coder, entropy, tested)
        if rewrites and name != OWN:
            own = rewritten(given, partial(file_bytes, name, coder))
            row[name][f"bytes_{FOR_IT}"] = result_of(own, name, coder).bytes
    row["order0_entropy_bytes"] = round(entropy, 1)
    row["weights"] = given.quantized.size
    row["nonzero"] = given.quantized.nonzero
    row["test_error_percent"] = tested(given.quantized)
    return row


def rewritten(given: Network, length: Callable[[Quantized], int]) -> Quantized:
    """The network of the least length found that computes the same."""
    from pyro_sws.rewriting.rewrite import rewrite

    assert given.structure is not None
    images = torch.rand((16, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    found = rewrite(given.structure(), given.quantized, length=length, example=images)
    return found.quantized


def order0_entropy_bytes(quantized: Quantized) -> float:
    """Of the empirical distribution of each tensor's symbols."""
    bits = 0.0
    for symbols in quantized.symbols.values():
        counts = np.bincount(symbols.ravel())
        seen = counts[counts > 0]
        bits += float((seen * np.log2(symbols.size / seen)).sum())
    return bits / 8


def tester(given: Network, data_dir: Path | None) -> Callable[[Quantized], float | None]:
    """The error on MNIST's test set, in percent, of the network as a file gives it back."""
    if given.structure is None or given.input_scale is None:
        return lambda quantized: None
    from data import mnist

    net = given.structure().eval()
    inputs, targets = mnist(given.input_scale, data_dir=data_dir)["test"]

    def tested(quantized: Quantized) -> float:
        with torch.no_grad():
            fill(net, decode(encode(quantized)).tensors())
            guesses = torch.cat([net(part).argmax(1) for part in inputs.split(1000)])
        return round(100 * float((guesses != targets).double().mean()), 2)

    return tested


# One coder.


class Result(NamedTuple):
    """What one coder does with one Quantized."""

    bytes: int
    payload_bytes: int
    encode_seconds: float
    decode_seconds: float
    settings: Any = None


def compared(
    variants: Mapping[str, Quantized],
    name: str,
    coder: Any,
    entropy: float,
    tested: Callable[[Quantized], float | None],
) -> dict[str, Any]:
    results = {which: result_of(quantized, name, coder) for which, quantized in variants.items()}
    best = min(results, key=lambda which: results[which].bytes)
    result = results[best]
    row = {
        "bytes": result.bytes,
        "of": best,
        **{f"bytes_{which}": other.bytes for which, other in results.items()},
        "payload_bytes": result.payload_bytes,
        "ratio_to_order0_entropy": significant(result.payload_bytes / entropy) if entropy else None,
        "nonzero": variants[best].nonzero,
        "test_error_percent": tested(variants[best]),
        "encode_seconds": significant(result.encode_seconds),
        "decode_seconds": significant(result.decode_seconds),
    }
    return row if result.settings is None else row | {"settings": result.settings}


def result_of(quantized: Quantized, name: str, coder: Any) -> Result:
    return own_result(quantized, name) if coder is None else outside_result(quantized, coder)


def own_result(quantized: Quantized, name: str) -> Result:
    """A coder of the format: the whole file."""
    data = encode(quantized, coder=name)
    if decode(data) != quantized:
        raise RuntimeError(f"{name} gives other tensors back")
    seconds = interleaved(
        {
            "encode": lambda: [seconds_of(lambda: encode(quantized, coder=name), CPU)],
            "decode": lambda: [seconds_of(lambda: decode(data), CPU)],
        },
        ROUNDS,
    )
    return Result(
        len(data), inspect(data).bits["symbols"] // 8, *map(float, map(np.median, seconds.values()))
    )


def outside_result(quantized: Quantized, coder: Any) -> Result:
    """A coder behind the same border: the file with its payload in the place of the file's own."""
    indices = in_order_of_values(quantized)
    payload = coder.encode(indices.tensors, indices.planes)
    report = dict(getattr(coder, "report", {}))
    found = coder.decode(payload, indices.planes)
    if not all(map(np.array_equal, found, indices.tensors)):
        raise RuntimeError(f"{type(coder).__name__} gives other symbols back")
    size = bytes_without_symbols(quantized) + len(payload)
    if report:
        return Result(
            size, len(payload), report["seconds"], coder.report["seconds"], report["settings"]
        )
    seconds = interleaved(
        {
            "encode": lambda: [
                seconds_of(lambda: coder.encode(indices.tensors, indices.planes), CPU)
            ],
            "decode": lambda: [seconds_of(lambda: coder.decode(payload, indices.planes), CPU)],
        },
        ROUNDS,
    )
    return Result(size, len(payload), *map(float, map(np.median, seconds.values())))


def file_bytes(name: str, coder: Any, quantized: Quantized) -> int:
    """Of the whole file, as one of many to choose from: without nncodec's search for settings."""
    if coder is None:
        return len(encode(quantized, coder=name))
    indices = in_order_of_values(quantized)
    write = coder.draft if isinstance(coder, Nncodec) else coder.encode
    payload = write(indices.tensors, indices.planes)
    return bytes_without_symbols(quantized) + len(payload)


@dataclass(frozen=True)
class Indices:
    tensors: Sequence[np.ndarray]
    planes: Sequence[Plane]


def in_order_of_values(quantized: Quantized) -> Indices:
    """Symbols as ranks in their sorted codebooks, as the format's own coders get them."""
    tensors, planes = [], []
    for name, symbols in quantized.symbols.items():
        book = quantized.codebooks[quantized.codebook_of[name]]
        order = np.argsort(book)
        ranks = np.empty(len(book), dtype=np.uint16)
        ranks[order] = np.arange(len(book))
        tensors.append(ranks[symbols])
        planes.append(Plane(symbols.shape, len(book), zero_symbol(book[order])))
    return Indices(tensors, planes)


def bytes_without_symbols(quantized: Quantized) -> int:
    """Of the file: header, codebooks, raw tensors and checksum."""
    data = encode(quantized, coder="order0")
    return len(data) - inspect(data).bits["symbols"] // 8


# What is written.


def show(name: str, row: Mapping[str, Any], coders: Mapping[str, Any]) -> None:
    print(f"\n{name}: {row['weights']} weights, test error {row['test_error_percent']} %")
    print(f"{'order-0 entropy':18}{row['order0_entropy_bytes']:8.0f}")
    for coder in coders:
        found = row[coder]
        sizes = ", ".join(f"{k[6:]} {v}" for k, v in found.items() if k.startswith("bytes_"))
        seconds = f"{found['encode_seconds']:.3f} s, {found['decode_seconds']:.3f} s"
        print(f"{coder:18}{found['bytes']:8}  {seconds}  ({sizes})")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
