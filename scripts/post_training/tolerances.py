"""What networks lose without data, at several tolerances: bytes, divergence and test score.

    python scripts/post_training/tolerances.py --data-dir data    # minutes
    python scripts/post_training/tolerances.py --networks lenet_300_100

Divergence is from the network's own predictions, on training inputs; the default tolerance was
chosen on the two LeNets, with ResNet-20 as the judge.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

import pyro_sws as sws

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.post_training.networks import CACHE, NETWORKS, Case
from scripts.shared.results import RESULTS, earlier_rows, with_row, write_json
from scripts.shared.timing import about, significant

DEFAULT = ("lenet_300_100", "lenet_5_caffe", "resnet_20")
TOLERANCES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def measured(network: str, case: Case, tolerance: float, before: float) -> dict[str, Any]:
    """A row of the results."""
    found = sws.compress(case.net, None, fit=sws.PostTraining(), tolerance=tolerance)
    net = sws.load(found.data, into=case.net)
    return {
        "network": network,
        "tolerance": tolerance,
        "weights": found.weights,
        "given_bytes": case.parameter_bytes,
        "bytes": found.bytes,
        "bits": significant(found.bits, 3),
        "kl_nats": significant(case.judge.of(net).kl_nats, 3),
        "test_before": before,
        "test": case.test(net, None),
        "seconds": significant(found.seconds, 3),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(DEFAULT))
    parser.add_argument("--data-dir", type=Path, help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of trained networks")
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("--out", type=Path, default=RESULTS / "tolerances.json")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.networks if name not in NETWORKS]:
        parser.error(f"no networks {', '.join(unknown)}; choose from {', '.join(NETWORKS)}")
    return arguments


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    began, rows = time.perf_counter(), earlier_rows(arguments.out)
    for name in arguments.networks:
        case = NETWORKS[name].case(arguments.data_dir, arguments.cache)
        before = case.test(case.net, None)
        for tolerance in TOLERANCES:
            row = measured(name, case, tolerance, before)
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
            rows = with_row(rows, row, ("network", "tolerance"))
        about_it = about(time.perf_counter() - began, arguments)
        write_json(arguments.out, {"_about": about_it, "rows": rows})


if __name__ == "__main__":
    main()
