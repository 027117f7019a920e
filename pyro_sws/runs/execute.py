"""Execute a recipe: train or load its network, compress it, write the run folder. A driver."""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_sws.assess.report.shapes import DataRow
from pyro_sws.compression.execute import execute
from pyro_sws.compression.plan import NamedData, NamedNetwork, Plan, Weights
from pyro_sws.compression.post_training.unlabelled import predicted
from pyro_sws.compression.pretrain import pretrain
from pyro_sws.compression.walk.failure import CompressionFailed
from pyro_sws.inference.batch_reading import Reading
from pyro_sws.inference.batches import Part, check_no_nan, moved
from pyro_sws.inference.checkpoint import Checkpoint, Stage
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.first_batch import check_first_batch
from pyro_sws.inference.fit import check_guide
from pyro_sws.inference.isolation import forked_rng, undisturbed
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.placement import check_device
from pyro_sws.inference.progress import Callback, check_callback
from pyro_sws.recipes.recipe import to_toml
from pyro_sws.recipes.validation import at_key
from pyro_sws.runs.checkpoint import FOLDER as CHECKPOINT
from pyro_sws.runs.checkpoint import (
    PRETRAINED,
    FolderCheckpoint,
    check_room,
    digests,
    discard,
    ending_at_a_step,
)
from pyro_sws.runs.folder import holds_run, write_folder, writing
from pyro_sws.runs.frontier_files import FAILED, write_failed
from pyro_sws.runs.inputs import (
    Batch,
    Splits,
    as_data,
    build_network,
    first_batch,
    fitted_start,
    is_pair,
    kind_of,
    load_data,
    load_tensors,
    training_batches,
)
from pyro_sws.runs.run import Run
from pyro_sws.runs.swap import whole
from pyro_sws.weights.load import tensors_of
from pyro_sws.weights.network import plain
from pyro_sws.weights.structures import shape_of, value_of


@undisturbed()
def run_recipe(
    plan: Plan,
    folder: str | os.PathLike,
    *,
    overwrite: bool = False,
    resume: bool = False,
    checkpoint_seconds: float | None = None,
    data_dir: str | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    command: str | None = None,
    signals: bool = False,
) -> Run:
    """Train or load the network that a recipe names, compress it, and write the folder.

    Nothing but a lock and checkpoints is written to the folder before everything is known. Of
    several ranks the first one locks it and writes; each of them pre-trains the whole network.

    Args:
        plan: what ``read_recipe`` returns.
        folder: the run folder; ``Run.open`` reads it.
        overwrite: whether a run that is there may go; and, without ``resume``, a checkpoint.
        resume: go on from the checkpoint that a run of the same recipe left in the folder, if it
            did, and end as that would have. Post-training, merging and packing begin anew. Where
            it had ended, the run that is there comes back.
        checkpoint_seconds: from one state that is written to the next, 60 by default.
        data_dir: handed to the recipe's data function.
        ranks: the processes that work together.
        callback: is told of each epoch: "pretrain", "fit", "refine".
        command: how all this was asked for, for the report.
        signals: whether SIGINT and SIGTERM end it as ``Interrupted`` after the step that it is in,
            with its state kept; for programs, in their main thread, and without other ranks.

    Raises:
        CompressionFailed: where no file of a walk was within the tolerance. What there was, and the
            trained network, is in the folder's own ``failed``.
        ValueError: for a folder that holds a run, and whatever ``compress`` raises.
        OSError: for a folder that cannot be written, or has no room for what will be; as
            BlockingIOError, which says who and since when, for one that another process is writing.
    """
    check_callback(callback)
    folder, _ = Path(folder), named_parts(plan)
    if resume and not overwrite and _is_whole(plan, folder):
        return Run.open(folder)
    # Whatever would fail at the end fails here, before hours are spent on training.
    hold = writing(folder, overwrite=overwrite, resume=resume) if ranks.first else nullcontext()
    with hold:
        if ranks.first and not resume:
            discard(folder / CHECKPOINT)
        keeper = partial(_checkpoint, folder, ranks, checkpoint_seconds)
        run = _in_folder(plan, folder, data_dir, ranks, callback, keeper, signals)
        run = replace(run, report=replace(run.report, command=command))
        if ranks.first:
            _write(run, folder)
            discard(folder / CHECKPOINT)
    return run


def _with_targets(plan: Plan, splits: Splits, net: nn.Module) -> Splits:
    """Splits of inputs alone with what the network itself predicts of them."""
    alone = [name for name, split in splits.items() if isinstance(split, Tensor)]
    if not alone:
        return splits
    network, data = named_parts(plan)
    if network.trains:
        raise ValueError(
            f"data: {data.source.path} returned inputs alone for {alone[0]!r}, by which no network "
            "is trained: name its trained weights, start = ..., or return pairs (inputs, targets)"
        )
    assert plan.post_training is not None  # or they were refused
    stand_in = Reading(), plan.likelihood, plan.post_training.examples
    own = plain(net)
    return {n: predicted(own, s, *stand_in) if n in alone else s for n, s in splits.items()}


def _is_whole(plan: Plan, folder: Path) -> bool:
    """Whether the folder has the run of this recipe, with nothing left to do."""
    if (folder / CHECKPOINT).exists() or not holds_run(folder):
        return False
    own = to_toml(plan.with_prior(load_network(plan)[0]), folder)
    return (whole(folder) / "recipe.toml").read_text(encoding="utf-8") == own


def _write(run: Run, folder: Path) -> None:
    """The folder's files. Raises OSError, which says that nothing is lost."""
    try:
        write_folder(run, folder)
    except OSError as error:
        raise OSError(
            f"cannot write to {folder}: {error.strerror or error}; what was fitted is kept in "
            f"{folder / CHECKPOINT}: make room, and go on by --resume"
        ) from None


def _checkpoint(
    folder: Path, ranks: Ranks, seconds: float | None, of: Mapping[str, str]
) -> FolderCheckpoint:
    place = folder / CHECKPOINT
    return FolderCheckpoint(place, of, every_seconds=seconds, writes=ranks.first)


def _in_folder(
    plan: Plan,
    folder: Path,
    data_dir: str | None,
    ranks: Ranks,
    callback: Callback | None,
    keeper: Callable[[Mapping[str, str]], FolderCheckpoint],
    signals: bool,
) -> Run:
    """The recipe's run, whose folder is held; only what is left of a failed one is written."""
    network, data = named_parts(plan)
    if network.from_run is not None and _same(network.source.folder / network.from_run, folder):
        raise ValueError(f"from_run: {folder} would be written over; choose another --out")
    to_toml(plan, folder)
    check_device(plan.device)
    alone = plan.post_training is not None
    loaded = load_data(data, data_dir, chosen=plan.makes_files, alone=alone)
    net, start = load_network(plan)
    plan = plan.with_prior(net)
    splits = _with_targets(plan, loaded, net)
    checked = check_recipe(plan, splits, net, start)
    check_room(folder, sum(p.nbytes for p in net.parameters()))
    seen = first_batch(splits["train"], "train")
    first = network.pretraining, plan.likelihood, data.batch_size, data.augmentation
    checkpoint = keeper(digests(to_toml(plan, folder), net, seen, plan.seed, first))
    with ending_at_a_step(checkpoint) if signals and ranks.count == 1 else nullcontext():
        if network.trains:
            stage = checkpoint.stage(PRETRAINED)
            net = pretrain_network(plan, splits, net, callback, stage)
            ranks.agree(net)
        model = _refill(plan, checked, net) if network.trains else checked
        try:
            return execute_named(
                plan,
                splits,
                net,
                start,
                model=model,
                ranks=ranks,
                callback=callback,
                checkpoint=checkpoint,
            )
        except CompressionFailed as failed:
            if ranks.first:
                write_failed(failed.frontier, tensors_of(net), folder / FAILED)
                checkpoint.remove()
            raise


def execute_named(
    plan: Plan,
    splits: Splits,
    net: nn.Module,
    start: Weights | None,
    *,
    model: Joint | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    callback: Callback | None = None,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  (keeps nothing)
) -> Run:
    """The run of a recipe's plan on the loaded network and data; its plan still names both.

    ``model``: of the plan and the network, where the caller has made it already.
    """
    network, data = named_parts(plan)
    plan = plan.with_prior(net)
    loaded = replace(plan, network=net, data=as_data(data, splits), start=start)
    run = execute(
        loaded,
        model=model,
        ranks=ranks,
        callback=callback,
        started=_started(network),
        checkpoint=checkpoint,
    )
    # The function's name says more than "Sequential".
    row = _data_row(data, splits, run.report.data)
    report = replace(run.report, network=network.source.name, data=row)
    return replace(run, plan=plan, report=report)


def _started(network: NamedNetwork) -> str:
    """What the network was that the fit set out from, for the report."""
    if network.start is not None:
        return f"weights from {Path(network.start).name}"
    if network.from_run is not None:
        return f"the network and the fitted weights of the run {Path(network.from_run).name}"
    return "a network pre-trained on these training examples"


def _data_row(named: NamedData, splits: Splits, counted: DataRow | None) -> DataRow:
    """What was read, for the report; of batches, what was counted of them."""
    if counted is not None and not all(map(is_pair, splits.values())):
        return {**counted, "name": named.source.path}
    sizes = {name: len(split[0]) for name, split in splits.items() if is_pair(split)}
    return {
        "name": named.source.path,
        "training": sizes["train"],
        "validation": sizes.get("validation"),
        "test": sizes.get("test"),
    }


def named_parts(plan: Plan) -> tuple[NamedNetwork, NamedData]:
    """A recipe's network and data. Raises TypeError for a plan that has objects in their place."""
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be what read_recipe returns, got {type(plan).__name__}")
    if not (isinstance(plan.network, NamedNetwork) and isinstance(plan.data, NamedData)):
        raise TypeError("a plan to run in a folder names its network and data; see read_recipe")
    return plan.network, plan.data


def load_network(plan: Plan) -> tuple[nn.Module, dict[str, Tensor] | None]:
    """A recipe's network, with the trained weights that it names, if any; and the fit's start.

    The start is None, for the network's own weights, or an earlier run's fitted ones by tensor
    name, as far as the recipe's prior covers them. Raises ValueError for weights that are not of
    this network.
    """
    named, _ = named_parts(plan)
    net, folder = build_network(named, plan.seed), named.source.folder
    if named.start is not None:
        load_checkpoint(net, folder / named.start)
    if named.from_run is None:
        return net, None
    with at_key("from_run"):
        run = Run.open(folder / named.from_run)
        load_tensors(net, whole(folder / named.from_run) / "trained.safetensors")
    folded, fold = run.plan.packing.fold, plan.packing.fold
    rules = plan.with_prior(net).prior
    return net, fitted_start(net, rules, run.posterior.weights, folded=folded, fold=fold)


def load_checkpoint(net: nn.Module, path: Path) -> None:
    """Fill the network with trained weights. Raises ValueError where they are not its own."""
    with at_key("start"):
        load_tensors(net, path)


def pretrain_network(
    plan: Plan,
    splits: Splits,
    net: nn.Module,
    callback: Callback | None = None,
    stage: Stage = Stage(),  # noqa: B008  (keeps nothing)
) -> nn.Module:
    """A copy of the network, trained as the recipe says, for one that names no trained weights."""
    network, data = named_parts(plan)
    return pretrain(
        net,
        training_batches(data, splits, network.pretraining.batch_size),
        plan.likelihood,
        network.pretraining,
        seed=plan.seed,
        device=plan.device,
        callback=callback,
        stage=stage,
    )


def check_recipe(plan: Plan, splits: Splits, net: nn.Module, start: Weights | None) -> Joint:
    """The model of the network as it is; raises now what the fit would raise after training.

    Of batches of the data function's own the first is looked at, and counted.
    """
    batches = {name: first_batch(split, name) for name, split in splits.items()}
    training_batches(named_parts(plan)[1], splits, 1)  # may refuse the augmentation
    inputs, _ = batches["train"]
    model = replace(plan.with_prior(net), start=start).joint(net, len(inputs))
    check_guide(plan.guide_for(model), model.tau)
    _check_augmentation(plan, inputs)
    for name, batch in batches.items():
        _check_targets(model, batch, name)
    return model


def _refill(plan: Plan, model: Joint, net: nn.Module) -> Joint | None:
    """The model of the network that is trained now; None where a rule may look at the weights."""
    if any(rule.where is not None for rule in plan.prior):
        return None
    model.refill(plan.fitted_network(net))
    return model


def _check_augmentation(plan: Plan, inputs: Part) -> None:
    """Raise ValueError for an augmentation that makes no batch like the one that it is given."""
    _, data = named_parts(plan)
    if data.augmentation is None or not isinstance(inputs, Tensor):  # then batches are its own
        return
    where, given = f"augmentation: {data.augmentation.path}", inputs[:2]
    augment = data.augmentation.bound()
    try:
        with forked_rng(plan.seed, inputs.device):
            made = augment(given)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{where} fails on inputs {tuple(given.shape)}: {reason}") from None
    if not isinstance(made, Tensor):
        raise ValueError(
            f"{where} returned {kind_of(made)}; it must return a tensor like its inputs"
        )
    if (made.shape, made.dtype) != (given.shape, given.dtype):
        got, wanted = (f"{tuple(t.shape)} {t.dtype}" for t in (made, given))
        raise ValueError(f"{where} made {got} of inputs {wanted}; it must leave those as they are")


@torch.no_grad()
def _check_targets(model: Joint, split: Batch, name: str) -> None:
    """Raise ValueError for inputs that the network, or targets that the likelihood cannot take."""
    inputs, targets = next(moved([split], name, *device_dtype(model)))
    with at_key("data"):
        check_no_nan(targets, name)
    try:
        outputs = model.outputs({}, inputs[:2])
    except ValueError as error:
        if error.__cause__ is None:
            raise ValueError(f"network: {error}") from None
        given, reason = shape_of(inputs), str(error.__cause__).partition("\n")[0]
        raise ValueError(f"data: the network fails on {name} inputs {given}: {reason}") from None
    with at_key(f"data: {name}"):
        # Outputs only say what shape the targets must have: one row stands for all.
        rows = outputs[:1].expand(len(targets), *outputs.shape[1:])
        model.likelihood.check(rows, value_of(targets))
        check_first_batch(model, (inputs, targets), name)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
