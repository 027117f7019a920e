"""Small checkpoints: tensors of every kind, as files, shards, mappings; ranks that share one.

torchrun small_checkpoints.py SOURCE OUT
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from pyro_sws.compression.checkpoints import part
from pyro_sws.compression.checkpoints.shrink import shrink
from pyro_sws.inference.distributed import join_ranks

SMALL_PARTS = 1500  # weights, so that a small checkpoint has several
FLOATS = ("a.weight", "b.weight", "c.weight", "d.weight", "head.weight")  # that are coded


def tensors():
    """Of every kind: four float dtypes, a tied head, vectors, numbers, nothing."""
    generator = torch.Generator().manual_seed(0)

    def weights(*shape):
        return 0.02 * torch.randn(shape, generator=generator)

    made = {
        "a.weight": weights(60, 30).half(),
        "a.bias": weights(60),
        "b.weight": weights(40, 50).bfloat16(),
        "b.norm": torch.ones(50).bfloat16(),
        "c.weight": weights(20, 30, 3, 1),
        "c.scale": torch.tensor(1e-9),
        "d.weight": weights(30, 41).double(),
        "empty": torch.zeros(0, 4).half(),
        "mask": torch.tensor([[True, False], [True, True]]),
        "positions": torch.arange(40),
        "zeros": torch.zeros(5, 6),
    }
    return {**made, "head.weight": made["a.weight"].clone()}


def write_file(folder, given=None):
    path = folder / "model.safetensors"
    save_file(tensors() if given is None else given, str(path))
    return path


def write_shards(folder, index=True):
    """Two shards, and the index that says what is where."""
    given, names = tensors(), sorted(tensors())
    where = {name: f"model-{1 + i % 2}-of-2.safetensors" for i, name in enumerate(names)}
    for shard in set(where.values()):
        save_file({n: given[n] for n in names if where[n] == shard}, str(folder / shard))
    if index:
        told = json.dumps({"weight_map": where})
        (folder / "model.safetensors.index.json").write_text(told)
    return folder


def main() -> None:
    part.TOGETHER = SMALL_PARTS
    with join_ranks() as ranks:
        found = shrink(sys.argv[1], sys.argv[2], ranks=ranks)
        told = {"bytes": found.bytes, "rows": [row.name for row in found.rows]}
        Path(f"{sys.argv[2]}.{ranks.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
