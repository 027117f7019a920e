"""A recipe's run with some changes as one row: fitted once, kept in a run folder with its row."""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import pyro_sws as sws
from pyro_sws.codec.paper_accounting import csr_huffman_bits
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import Plan
from pyro_sws.files import write_whole
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.joint import Joint
from pyro_sws.recipes.recipe import read_recipe, tomllib
from pyro_sws.runs.execute import load_network, named_parts, run_recipe
from pyro_sws.runs.inputs import Splits, first_batch, load_data, training_batches
from pyro_sws.weights.posterior import Posterior
from scripts.shared.provenance import provenance
from scripts.shared.starts import held_out, start

VALIDATION = 5000  # training images held out, where choices depend on a run
ROW = "row.json"


@dataclass(frozen=True)
class Run:
    """A recipe with some changes; ``row`` says what it gave."""

    recipe: Path
    name: str
    changes: tuple[str, ...] = ()
    seed: int = 0
    held_out: bool = False  # its row is of training images held out, and says nothing of the test
    start: str | None = None  # safetensors; else the recipe's own pre-training
    device: str = "cpu"

    @property
    def scored(self) -> str:
        """The split that its row is of."""
        return "validation" if self.held_out else "test"

    @property
    def network(self) -> str:
        """The recipe's name, which is its network's."""
        return self.recipe.stem

    @property
    def settings(self) -> dict[str, Any]:
        """What tells it from other runs of its recipe, as its row has it."""
        return {
            "network": self.network,
            "name": self.name,
            "changes": list(self.changes),
            "seed": self.seed,
            "held_out": self.held_out,
            "start": Path(self.start).name if self.start else None,
        }

    def row(self, folder: Path, data_dir: str | None = None) -> dict[str, Any]:
        """What the run gave; from its own folder in ``folder``, where it was run before."""
        path = self.path(folder)
        folder.mkdir(parents=True, exist_ok=True)  # another process may be making a run in it
        if not (path / ROW).exists():
            row = {**self.settings, "device": self.device, **self._outcome(path, data_dir)}
            row["provenance"] = provenance(self.device)
            path.mkdir(parents=True, exist_ok=True)
            write_whole(path / ROW, json.dumps(row) + "\n")
        return json.loads((path / ROW).read_text())

    def kept(self, folder: Path) -> dict[str, Any] | None:
        """Its row, if it was run."""
        return self.row(folder) if (self.path(folder) / ROW).exists() else None

    def path(self, folder: Path) -> Path:
        """Its run folder, by a name for all that it depends on."""
        recipe = tomllib.loads(self.recipe.read_text(encoding="utf-8"))
        key = json.dumps([recipe, self.settings], sort_keys=True)
        slug = re.sub(r"\W+", "-", f"{self.network} {self.name}")
        return folder / f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def _outcome(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        try:
            return self._fitted(path, data_dir)
        except FloatingPointError as error:  # a collapse is a result, too
            return {"failed": str(error)}

    def _plan(self, data_dir: str | None) -> Plan:
        """With the changes, its seed, its start and the images held out."""
        validation = VALIDATION * self.held_out
        trained = self.start or start(self.recipe, self.seed, validation, data_dir)
        given = {
            "seed": self.seed,
            "start": json.dumps(str(Path(trained).resolve())),
            "device": json.dumps(self.device),
        }
        changes = [*self.changes, *held_out(validation), *(f"{k}={v}" for k, v in given.items())]
        return read_recipe(self.recipe, changes)

    def _parts(self, data_dir: str | None) -> tuple[Plan, Splits, nn.Module, Batches]:
        """The plan, its data, its network as it was pre-trained, and the batches of training."""
        plan = self._plan(data_dir)
        _, data = named_parts(plan)
        splits, (net, _) = load_data(data, data_dir), load_network(plan)
        train = training_batches(data, splits, data.batch_size)
        assert isinstance(train, Batches)  # of models/data.py
        return plan, splits, net, train

    def _fitted(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        plan = self._plan(data_dir)
        began = time.process_time()
        result = run_recipe(plan, path, overwrite=True, data_dir=data_dir)
        data = load_data(named_parts(plan)[1], data_dir)
        split: Any = first_batch(data[self.scored], self.scored)
        cpu_seconds = round(time.process_time() - began, 1)
        return {**errors(result, *split), **measured(result), "cpu_seconds": cpu_seconds}


def joint_of(plan: Plan, net: nn.Module, train: Batches) -> Joint:
    """The plan's model of its network and data."""
    return plan.joint(net, len(train.inputs))


def packed(net: nn.Module, packing: Packing, posterior: Posterior, train: Batches) -> Quantized:
    """What a file holds of a posterior: snapped, and rewritten for the coder."""
    return sws.rewrite(
        net,
        sws.quantize(posterior, packing.codebook_dtype),
        example=train.inputs[:256],
        nonnegative_inputs=packing.nonnegative_inputs,
    ).quantized


def errors(result: sws.Run, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Of the network as given, with its retrained weights, and as decoded from the file."""
    given, decoded = result.network.cpu().eval(), result.decoded.cpu().eval()
    retrained = {name: weights.cpu() for name, weights in result.posterior.weights.items()}
    return {
        "error_before_percent": error_percent(given, {}, inputs, targets),
        "error_unsnapped_percent": error_percent(given, retrained, inputs, targets),
        "error_percent": error_percent(decoded, {}, inputs, targets),
    }


@torch.no_grad()
def error_percent(
    net: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor, targets: Tensor
) -> float:
    """Of the network with some of its tensors replaced."""
    replaced = dict(weights)
    parts = zip(inputs.split(1000), targets.split(1000), strict=True)
    wrong = [(functional_call(net, replaced, x).argmax(-1) != y).sum().item() for x, y in parts]
    return 100 * sum(wrong) / len(targets)


def code_bits(report: Mapping[str, Any]) -> dict[str, float]:
    """What the weights take by the prior's proportions, by order-0 codes, and in the file."""
    return {
        "prior": report["bounds"]["mixture_cross_entropy_bits"],
        "order0": report["bounds"]["order0_entropy_bits"],
        "symbols": report["bits"]["symbols"],
        "codebooks": report["bits"]["codebooks"],
    }


def measured(result: sws.Run) -> dict[str, Any]:
    """Lengths under both accountings, and what is left of the weights."""
    report = result.report.to_dict()
    return {
        "nonzero_percent": report["nonzero_percent"],
        "nonzero_percent_of": {
            t["name"]: 100 * t["nonzero"] / t["weights"] for t in report["tensors"]
        },
        "values": sum(group["used_components"] for group in report["groups"].values()),
        "nonzero_percent_snapped": 100 * sws.quantize(result.packed).nonzero / report["parameters"],
        "ratio_paper": report["ratio_paper"],
        "ratio_paper_rewritten": 8 * report["parameter_bytes"] / csr_huffman_bits(result.quantized),
        "file_bytes": report["file_bytes"],
        "ratio": report["ratio"],
        "code_bits": code_bits(report),
        "fit_seconds": round(report["seconds"]["fit"], 1),
    }
