"""nncodec's whole line from float weights to a stream and back, in its own environment.

    python nncodec_runner.py     # a request a line on stdin, an answer a line on stdout

A request is a JSON object: "weights", an npz of float32 tensors by name; "settings", arguments of
``nncodec.nnc.compress``; "blocks", which tensors are a layer's weight, bias and batch norm, or null
(they are needed for nncodec's own folding, "bnf": true in the settings); and "decoded", the npz to
be written: the tensors as nncodec decodes them from the stream. The answer has the stream's bytes,
seconds and memory. With "ioq": true in the settings, nncodec's inference-optimised quantization
asks for the score of candidate weights by a line {"candidate": npz}, answered by a line
{"score": number}, more being better. Standard library, numpy and nncodec.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.coders.nncodec_worker import codec
from scripts.post_training.memory import peak_megabytes


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    # nncodec prints what it does: answers alone go to stdout.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), answers)), file=answers, flush=True)


def answer(request: dict[str, Any], answers: Any) -> dict[str, Any]:
    with np.load(request["weights"]) as stored:
        tensors = {name: stored[name] for name in stored.files}
    settings = dict(request["settings"])
    if settings.get("ioq"):
        settings["model_executer"] = asking(Path(request["decoded"]).parent, answers)
    began = time.perf_counter()
    stream, megabytes = peak_megabytes(
        lambda: codec().compress(
            tensors,
            bitstream_path=None,
            return_bitstream=True,
            block_id_and_param_type=request["blocks"],
            **settings,
        )
    )
    seconds = time.perf_counter() - began
    decoded = codec().decompress(bytearray(stream), block_id_and_param_type=request["blocks"])
    np.savez(request["decoded"], **decoded)
    return {"bytes": len(stream), "seconds": round(seconds, 3), "peak_megabytes": megabytes}


def asking(folder: Path, answers: Any) -> Any:
    """What nncodec calls for the score of weights, which are scored by who asked."""
    from nncodec.nnc_core.nnr_model import ModelExecute

    class Asking(ModelExecute):
        def eval_model(self, parameters: Any, verbose: bool = False) -> dict[str, float]:
            candidate = folder / "candidate.npz"
            np.savez(candidate, **parameters)
            print(json.dumps({"candidate": str(candidate)}), file=answers, flush=True)
            return {"score": json.loads(sys.stdin.readline())["score"]}

        def has_eval(self) -> bool:
            return True

        def has_test(self) -> bool:
            return False

        def has_tune_ft(self) -> bool:
            return False

        def has_tune_lsa(self) -> bool:
            return False

    return Asking()


if __name__ == "__main__":
    main()
