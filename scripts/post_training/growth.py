"""Time and memory of shrinking checkpoints without data as they grow, from 10^5 to 10^8 weights.

    python scripts/post_training/growth.py                # up to 10^8: minutes
    python scripts/post_training/growth.py --sizes 1e5    # this alone, beside rows that are there
    python scripts/post_training/growth.py --quick        # seconds, 10^5; prints only

A checkpoint has the tensors of a GPT, in float16: Gaussian weights, each row with a scale of its
own, and a few outliers. The command line is timed from its start to its end, as a process of its
own, and its memory is the resident memory of it and all its workers together, looked at twenty
times a second; where processes share pages of a file, these count in each. The baseline is the same
for a checkpoint of one small tensor: what is imported and compiled. Errors are measured from what
``expand`` gives back.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.results import RESULTS, ROOT, earlier_rows, with_row, write_json
from scripts.shared.timing import about, significant

LOOKS = 20  # at the memory, a second
SPREAD = 0.3  # of the logarithms of rows' scales
OUTLIERS, FARTHER = 1e-4, 20.0
SIZE = 0.02  # of a weight
MEGABYTE = 1e6
NOTE = (
    "Seconds are on a machine that others used, too, whose load is beside them; processor-seconds "
    "are the program's own. The command is that of the rows that were made last."
)


class Gpt(NamedTuple):
    """Sizes of a transformer whose output layer is its embedding."""

    vocabulary: int
    width: int
    layers: int


GPTS = {
    "1e5": Gpt(1000, 48, 2),
    "1e6": Gpt(1600, 128, 4),
    "1e7": Gpt(8000, 384, 4),
    "1e8": Gpt(20000, 768, 12),
}


def tensors(gpt: Gpt, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Names and values, as GPT-2 has them."""
    generator = torch.Generator().manual_seed(seed)
    width = gpt.width
    yield "wte.weight", matrix(gpt.vocabulary, width, generator)
    for i in range(gpt.layers):
        for norm in ("ln_1", "ln_2"):
            yield f"h.{i}.{norm}.weight", torch.ones(width).half()
            yield f"h.{i}.{norm}.bias", matrix(1, width, generator)[0]
        shapes = {"attn.c_attn": (3, 1), "attn.c_proj": (1, 1), "mlp.c_fc": (4, 1)}
        for name, (rows, columns) in {**shapes, "mlp.c_proj": (1, 4)}.items():
            yield f"h.{i}.{name}.weight", matrix(rows * width, columns * width, generator)
            yield f"h.{i}.{name}.bias", matrix(1, rows * width, generator)[0]


def matrix(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    scales = (SPREAD * torch.randn(rows, 1, generator=generator)).exp()
    values = SIZE * scales * torch.randn(rows, columns, generator=generator)
    far = torch.rand(rows, columns, generator=generator) < OUTLIERS
    return torch.where(far, FARTHER * values, values).half()


def measured(size: str, workers: int, folder: Path) -> dict[str, Any]:
    """A row of the results."""
    tiny, source = folder / "tiny.safetensors", folder / f"{size}.safetensors"
    if not tiny.exists():
        save_file({"w": torch.randn(500, 500).half()}, str(tiny))
    if not source.exists():
        save_file(dict(tensors(GPTS[size])), str(source))
    out, back = folder / f"{size}.sws", folder / "back.safetensors"
    baseline = watched(shrinking(tiny, folder / "tiny.sws", workers))
    load = os.getloadavg()[0]
    done = watched(shrinking(source, out, workers))
    expanded = watched(["expand", str(out), "--out", str(back)])
    told = json.loads(done.printed)
    return {
        "size": size,
        "workers": workers,
        "weights": told["weights"],
        "given_bytes": source.stat().st_size,
        "bytes": out.stat().st_size,
        "bits": significant(8 * out.stat().st_size / told["weights"]),
        "largest_error": significant(largest_error(source, back)),
        "seconds": significant(done.seconds, 3),
        "processor_seconds": significant(done.processor, 3),
        "weights_per_processor_second": significant(told["weights"] / done.processor, 3),
        "expand_processor_seconds": significant(expanded.processor, 3),
        "memory_mb": round(done.peak / MEGABYTE),
        "baseline_mb": round(baseline.peak / MEGABYTE),
        "load": significant(load, 2),  # of the machine, by others, just before
    }


def shrinking(source: Path, out: Path, workers: int) -> list[str]:
    return ["shrink", str(source), "--out", str(out), "--workers", str(workers), "--json"]


class Watched(NamedTuple):
    """What a command printed, what it took, and the most memory that was seen, in bytes."""

    printed: str
    seconds: float
    processor: float  # seconds of processors, its workers' too
    peak: int


def watched(words: Sequence[str]) -> Watched:
    """Run the command line, and look at its memory meanwhile."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pyro_sws.cli", *words]
    began, before, peak = time.perf_counter(), processor_seconds(), 0
    with tempfile.TemporaryFile("w+") as printed:
        with subprocess.Popen(command, stdout=printed, env=environment) as process:
            while process.poll() is None:
                peak = max(peak, sum(map(resident, family(process.pid))))
                time.sleep(1 / LOOKS)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
        printed.seek(0)
        return Watched(printed.read(), seconds, processor_seconds() - before, peak)


def processor_seconds() -> float:
    """Of all processes that ended and were started here, or by those."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(process: int) -> Iterator[int]:
    """A process and all that it started, theirs too."""
    yield process
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:  # it has ended
        return
    for child in children.split():
        yield from family(int(child))


def resident(process: int) -> int:
    """Bytes; 0 where the process has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def largest_error(given: Path, back: Path) -> float:
    """The largest relative squared error of a tensor that has two dimensions or more."""
    errors = []
    with safe_open(str(given), "pt") as one, safe_open(str(back), "pt") as other:
        for name in one.keys():
            own = one.get_tensor(name)
            if own.dim() > 1:
                lost = (other.get_tensor(name).float() - own.float()).double().square().sum()
                errors.append(float(lost / own.double().square().sum()))
    return max(errors)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=list(GPTS))
    parser.add_argument("--workers", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--quick", action="store_true", help="10^5 weights, once; prints only")
    parser.add_argument("--out", type=Path, default=RESULTS / "growth_post_training.json")
    arguments = parser.parse_args()
    if unknown := [size for size in arguments.sizes if size not in GPTS]:
        parser.error(f"no size {', '.join(unknown)}; choose from {', '.join(GPTS)}")
    return arguments


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = [] if arguments.quick else earlier_rows(arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        for size in ["1e5"] if arguments.quick else arguments.sizes:
            for workers in arguments.workers:
                row = measured(size, workers, Path(folder))
                print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
                rows = with_row(rows, row, ("size", "workers"))
                rows = sorted(rows, key=lambda row: (float(row["size"]), row["workers"]))
                if not arguments.quick:
                    told = {**about(time.perf_counter() - began, arguments), "note": NOTE}
                    write_json(arguments.out, {"_about": told, "rows": rows})


if __name__ == "__main__":
    main()
