"""What a plan names, loaded and checked: its network, its data, the weights to start from."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pyro_sws.codec.container import MAGIC
from pyro_sws.compression.plan import Data, NamedData, NamedNetwork, Plan, Unnamed
from pyro_sws.files import UNREADABLE
from pyro_sws.inference.batches import NO_BATCHES, Batch, Batches, pairs
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule, apply_rules, as_rules
from pyro_sws.weights.batch_norm import folded_weights, unfolded_weights
from pyro_sws.weights.load import fill, first_names
from pyro_sws.weights.network import plain

SPLITS = ("train", "test", "validation")
SCORED_BATCH = 1000  # examples a batch of data that is only scored

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how torch.save's files begin, since 1.6 and before

Split = Batch | Iterable  # whole, or a re-iterable of batches such as a DataLoader
Splits = Mapping[str, Split]  # those of SPLITS that there are


def build_network(named: NamedNetwork, seed: int) -> nn.Module:
    """The network that is named, its weights drawn under the seed. ValueError for no module."""
    with forked_rng(seed, torch.device("cpu")):
        net = named.source()
    if not isinstance(net, nn.Module):
        kind = type(net).__name__
        raise ValueError(f"network: {named.source.path} returned {kind}, not a torch.nn.Module")
    return net


def load_data(
    named: NamedData,
    data_dir: str | None = None,
    *,
    chosen: bool = False,
    alone: bool = False,
) -> dict[str, Split]:
    """ "train", and "validation" or else "test", where there are any.

    Each is a pair (inputs, targets), or batches of those in the order and size that they have.
    With a validation split, choices are made by it. The test split is for what was chosen in the
    end, and is then not even looked at, unless what is ``chosen`` by the validation split is then
    scored, as of a walk. ``data_dir`` is handed to the function that is named. ``alone``: inputs
    may be alone, as one tensor.
    """
    more = {} if data_dir is None else {"data_dir": data_dir}
    data, path = named.source(**more), named.source.path
    if not isinstance(data, Mapping) or "train" not in data:
        kind = type(data).__name__
        raise ValueError(
            f"data: {path} returned {kind}; it must return a mapping with 'train', and "
            "optionally 'test' and 'validation', each a pair (inputs, targets) or batches of those"
        )
    left_out = "test" if "validation" in data and not chosen else None
    splits = {name: data[name] for name in SPLITS if name in data and name != left_out}
    for name, split in splits.items():
        if not (alone and isinstance(split, Tensor)):
            _check_split(split, f"data: {path} returned for {name!r}")
    return splits


def as_data(named: NamedData, splits: Splits) -> Data:
    """The splits in batches; training data is shuffled, and augmented if the recipe says so."""
    return Data(
        training_batches(named, splits, named.batch_size),
        validation=_unshuffled(splits, "validation"),
        test=_unshuffled(splits, "test"),
    )


def training_batches(named: NamedData, splits: Splits, size: int) -> Iterable:
    """The training split in shuffled batches of ``size``, augmented where that is named.

    Batches of the data function's own are as they are. Raises ValueError for an augmentation of
    those.
    """
    augment = None if named.augmentation is None else named.augmentation.bound()
    train = splits["train"]
    if is_pair(train):
        return Batches(*train, size, augment=augment)
    if named.augmentation is not None:
        raise ValueError(
            f"augmentation: {named.source.path} returns 'train' in batches of its own, and "
            "augmentation is for a pair of tensors; augment in the loader's dataset"
        )
    return train


def measured_batches(split: Split, size: int = SCORED_BATCH) -> Iterable:
    """A split to be measured on: in its order, in batches of ``size`` unless it has its own."""
    return Batches(*split, size, shuffle=False) if is_pair(split) else split


def first_batch(split: Split, what: str) -> Batch:
    """The whole of a pair, else the first of its batches, checked. Raises ValueError for none."""
    if is_pair(split):
        return split
    with forked_rng(0, torch.device("cpu")):  # a loader draws its order
        first = next(pairs(split, what), None)
    if first is None:
        raise ValueError(f"data: {what} is empty; give at least one batch, in each pass anew")
    return first


def is_pair(split: object) -> TypeGuard[Batch]:
    """Whether it is inputs and targets, not batches of those."""
    if not isinstance(split, tuple | list) or len(split) != 2:
        return False
    return not all(map(_is_batch, split))


def _is_batch(part: object) -> bool:
    """Whether it has inputs and targets of its own."""
    if isinstance(part, tuple | list) and len(part) > 2:
        return all(isinstance(each, Tensor) for each in part)
    return isinstance(part, Mapping) or (isinstance(part, tuple | list) and len(part) == 2)


def given_network(plan: Plan, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The plan's network, or the one that it names with these tensors. ValueError for neither."""
    if isinstance(plan.network, nn.Module):
        return plan.network
    if isinstance(plan.network, Unnamed):
        raise ValueError(
            f"the network, {plan.network.what}, was given in Python and is not in the folder; give "
            "it to load(file, into=net)"
        )
    net = build_network(plan.network, plan.seed)
    fill(net, {name: as_array(tensor) for name, tensor in tensors.items()})
    return net


def given_data(plan: Plan, data_dir: str | None = None) -> Data:
    """The plan's data, or what it names. Raises ValueError for neither."""
    if isinstance(plan.data, Data):
        return plan.data
    if isinstance(plan.data, Unnamed):
        raise ValueError("the data was given in Python and is not in the folder; give train=...")
    return as_data(plan.data, load_data(plan.data, data_dir))


def fitted_start(
    net: nn.Module,
    prior: Prior | Sequence[Rule],
    weights: Mapping[str, Tensor],
    *,
    folded: bool,
    fold: bool,
) -> dict[str, Tensor]:
    """An earlier run's fitted weights of this network that a fit under the prior can start from.

    By tensor name. ``folded``: whether batch norms were in that run; ``fold``: whether they are to
    be in this one. Where the two differ, the norms' weights are put in this one's terms.
    """
    net = plain(net)
    groups, _, _ = apply_rules(net, as_rules(prior))
    if folded != fold:
        weights = (unfolded_weights if folded else folded_weights)(net, weights)
    covered = {name for group in groups.values() for name in group.shapes}
    return {name: tensor for name, tensor in weights.items() if name in covered}


def load_tensors(net: nn.Module, path: Path) -> None:
    """Fill the network with a file's weights.

    Raises ValueError where they are not its own, FileNotFoundError where there is no file.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a safetensors file (a run folder: from_run)")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if (other := _other_kind(path)) is not None:
        raise ValueError(f"{path}: {other}")
    try:
        tensors = load_file(path)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: this is no safetensors file ({reason})") from None
    try:
        own = first_names(net, {name: as_array(tensor) for name, tensor in tensors.items()})
        fill(net, own)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _other_kind(path: Path) -> str | None:
    """What a file is instead of safetensors, and what to do; None where it may be that."""
    with open(path, "rb") as file:
        begins = file.read(len(ZIP))
    if begins.startswith(MAGIC):
        return "this is a .sws file, not safetensors; pyro-sws decode writes its weights as such"
    pickled = begins.startswith(PICKLE)
    if begins == ZIP:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError):  # the latter: of a later version
            return None
        if all(name.endswith(".npy") for name in names):
            return (
                "this is a numpy .npz file, not safetensors; safetensors.numpy.save_file writes it"
            )
        pickled = any(name.endswith(".pkl") for name in names)
    if not pickled:
        return None
    return (
        "this is a torch checkpoint, not safetensors; write its state dict as such: "
        "safetensors.torch.save_file(torch.load(path, weights_only=True), 'net.safetensors')"
    )


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor as a numpy array; bfloat16, which numpy lacks, becomes float32."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def kind_of(value: object) -> str:
    """ "a Tensor", for messages."""
    return f"a {type(value).__name__}"


def _unshuffled(splits: Splits, name: str) -> Iterable | None:
    return measured_batches(splits[name]) if name in splits else None


def _check_split(split: object, where: str) -> None:
    if not is_pair(split):
        _check_batches(split, where)
        return
    if not all(isinstance(part, Tensor) for part in split):
        kinds = " and ".join(map(kind_of, split))
        raise ValueError(f"{where} {kinds}; inputs and targets must be tensors")
    counts = [len(part) for part in split]
    if counts[0] != counts[1] or not counts[0]:
        given = f"{counts[0]} inputs and {counts[1]} targets"
        raise ValueError(f"{where} {given}; give as many, and at least one")


def _check_batches(split: object, where: str) -> None:
    wanted = "it must be a pair (inputs, targets), or batches of those, such as a DataLoader"
    if isinstance(split, NO_BATCHES) or not isinstance(split, Iterable):
        raise ValueError(f"{where} {kind_of(split)}; {wanted}")
    if isinstance(split, Iterator):
        raise ValueError(
            f"{where} {kind_of(split)}, which is empty after one pass; {wanted}, or an object "
            "whose __iter__ begins anew"
        )
