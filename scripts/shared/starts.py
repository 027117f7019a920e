"""Pre-trained networks that a study's runs share, trained once a seed and kept as safetensors.

    python scripts/shared/starts.py models/plain/lenet_300_100.toml --seeds 0 1 2

With ``--validation N`` the last N training images are held out of the pre-training.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from pyro_sws.files import write_whole
from pyro_sws.recipes.recipe import read_recipe, tomllib
from pyro_sws.runs.execute import named_parts, pretrain_network
from pyro_sws.runs.inputs import build_network, load_data
from pyro_sws.tuning.plan import TRAINED_BY

FOLDER = Path("runs/starts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--validation", type=int, default=0)
    parser.add_argument("--data-dir", help="folder with the data")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        print(start(arguments.recipe, seed, arguments.validation, arguments.data_dir), flush=True)


def start(recipe: Path, seed: int, validation: int = 0, data_dir: str | None = None) -> Path:
    """The recipe's network, pre-trained with this seed, as safetensors; trained where missing."""
    name = f"{_name(recipe)}-{seed}{f'-{validation}' if validation else ''}-{_digest(recipe)}"
    path = FOLDER / f"{name}.safetensors"
    if path.exists():
        return path
    plan = read_recipe(recipe, [f"seed={seed}", *held_out(validation)])
    network, data = named_parts(plan)
    trained = pretrain_network(plan, load_data(data, data_dir), build_network(network, seed))
    tensors = {name: tensor.contiguous() for name, tensor in trained.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(tensors))
    return path


def _name(recipe: Path) -> str:
    """Its file's name, after its folder's where that is not models: paper-lenet_5_caffe, say."""
    folder = recipe.resolve().parent.name
    return recipe.stem if folder == "models" else f"{folder}-{recipe.stem}"


def _digest(recipe: Path) -> str:
    """Of all that the recipe says of the pre-training; an edit of that makes another start."""
    written = tomllib.loads(recipe.read_text(encoding="utf-8"))
    by = {key: written[key] for key in TRAINED_BY if key in written}
    return hashlib.sha256(json.dumps(by, sort_keys=True).encode()).hexdigest()[:8]


def held_out(validation: int) -> list[str]:
    """What a recipe's ``--set`` says to hold so many training images out."""
    return [f"data.validation={validation}"] if validation else []


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
