"""Search for hyperparameters: trials of a recipe, for fewer bytes and a lower score. A driver."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from pyro_sws.files import write_whole
from pyro_sws.inference.placement import check_device
from pyro_sws.inference.plain_numbers import whole
from pyro_sws.inference.progress import Callback, Progress, check_callback, ignore, part_of
from pyro_sws.runs.execute import (
    check_recipe,
    load_network,
    named_parts,
    pretrain_network,
)
from pyro_sws.runs.inputs import Splits
from pyro_sws.tuning.pareto import Pair, is_hopeless
from pyro_sws.tuning.plan import TRAINED_BY, SearchPlan, read_plan
from pyro_sws.tuning.result import SearchResult, Trial
from pyro_sws.tuning.trial import SharedInputs, held_out, run_trial
from pyro_sws.weights.load import tensors_of

if TYPE_CHECKING:
    import optuna


def search(
    recipe: str | os.PathLike,
    trials: int,
    folder: str | os.PathLike,
    *,
    storage: str | None = None,
    changes: Sequence[str] = (),
    data_dir: str | None = None,
    callback: Callback | None = None,
) -> SearchResult:
    """Make ``trials`` more trials of a recipe over its [search.space], and write ``folder``.

    A trial is a call of ``compress`` as the recipe says, at a point that the sampler chooses. The
    search wants few bytes of the file and a low score of the decoded file on the data's validation
    split; the test split is never looked at. The network is trained once, and kept in the folder,
    unless the space varies what training depends on. A hopeless trial is given up early (see
    ``is_hopeless``). FloatingPointError and ValueError fail a trial, with their message, and the
    search goes on; anything else is recorded likewise and raised.

    Called again, it adds trials to those that are there; any number of processes may do so at once.
    One process makes the same trials from the same seed, in however many calls.

    Args:
        recipe: a TOML file with a [search.space].
        trials: how many more to make; with 0, what was found so far is written anew.
        folder: for the results, the trained network, and the journal.
        storage: where trials are kept: the path of a file that ends in .log, or the URL of a data
            base; by default a journal in the folder.
        changes: "key=value" each, made in the recipe first.
        data_dir: handed to the recipe's data function.
        callback: is told of each epoch within its trial, and at each trial's end of the stage
            "trial", with that trial as its row.

    Raises:
        ValueError: before the first trial, for a recipe without a search, a space that the recipe
            does not take, data without a validation split, and a study that was begun with another
            recipe or network.
        OSError: likewise, for a folder that cannot be written.
        ImportError: without Optuna.
    """
    from pyro_sws.tuning import study as search_study
    from pyro_sws.tuning.importances import importances

    check_callback(callback)
    trials = whole("trials", trials)
    if trials < 0:
        raise ValueError(f"trials must be at least 0, got {trials}")
    folder, plan = Path(folder), read_plan(Path(recipe), tuple(changes))
    tell = callback or ignore
    splits = _checked(plan, data_dir) if trials else {}
    _make(folder)
    place = storage or str(folder / "study.log")
    study = search_study.open_study(plan.name, place, plan.settings, plan.meaning())
    if trials:
        shared = _shared(plan, splits, data_dir, folder, study, tell)
        for made in range(trials):
            ended = _add_trial(study, plan, shared, tell)
            tell(Progress("trial", made + 1, trials, ended.to_dict()))
    so_far = search_study.trials_of(study, plan.settings)
    result = SearchResult(plan, so_far, importances(study, plan.settings.worst_score))
    result.save(folder)
    return result


def _checked(plan: SearchPlan, data_dir: str | None) -> Splits:
    """The recipe's data; raises now what would fail every trial."""
    trial = plan.trial({})
    check_device(trial.device)
    splits = held_out(trial, data_dir)
    check_recipe(trial, splits, *load_network(trial))
    return splits


def _make(folder: Path) -> None:
    """The folder, in which other processes may be at work. Raises OSError where none can write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None


def _shared(
    plan: SearchPlan,
    splits: Splits,
    data_dir: str | None,
    folder: Path,
    study: "optuna.Study",
    callback: Callback,
) -> SharedInputs:
    """Read and train what all trials share. Raises ValueError for a network not the study's."""
    from pyro_sws.tuning.study import agree_on_network

    own = None if plan.varies("data") else splits
    if plan.varies(*TRAINED_BY):
        return SharedInputs(data_dir, own, None)
    trains = named_parts(plan.base)[0].trains
    weights = _trained_once(plan, splits, folder, callback) if trains else None
    shared = SharedInputs(data_dir, own, weights)
    _, net, _ = shared.of(plan.base, callback)
    remedy = "give every process the same weights to start from"
    if weights is not None:
        remedy = f"copy {weights.name} from the folder that it was begun in to {folder}"
    agree_on_network(study, hashlib.sha256(save(tensors_of(net))).hexdigest(), remedy)
    return shared


def _trained_once(plan: SearchPlan, splits: Splits, folder: Path, callback: Callback) -> Path:
    """The file of the recipe's trained network, named by all that its training depends on."""
    by = {key: v for key, v in plan.meaning().items() if key.split(".")[0] in TRAINED_BY}
    digest = hashlib.sha256(json.dumps(by, sort_keys=True).encode()).hexdigest()
    path = folder / f"trained-{digest[:8]}.safetensors"
    if not path.is_file():
        net = pretrain_network(plan.base, splits, load_network(plan.base)[0], callback)
        if not path.is_file():  # else another process was faster, and has begun with its network
            write_whole(path, save(tensors_of(net)))
    return path


def _add_trial(
    study: "optuna.Study", plan: SearchPlan, shared: SharedInputs, callback: Callback
) -> Trial:
    """Make one trial and record what became of it."""
    import optuna

    from pyro_sws.tuning import study as trials

    trial, params = trials.ask(study, plan.settings)
    refines, pruning = plan.base.refinement is not None, plan.settings.pruning

    def judge(rung: float, pair: Pair) -> None:
        trials.note_rung(trial, rung, pair)
        others = trials.finished_at(study, rung)
        # Refinement brings back what snapping would lose at the rung.
        worst = None if refines else plan.settings.worst_score
        if is_hopeless(pair, others, pruning, worst):
            raise optuna.TrialPruned(pair)

    try:
        recipe = plan.trial(params)
        refines = recipe.refinement is not None
        tell = part_of(f"trial {trial.number}", callback)
        pair = run_trial(recipe, shared, pruning, judge, tell)
    except optuna.TrialPruned as given_up:
        trials.give_up(study, trial, plan.settings, given_up.args[0])
    except (FloatingPointError, ValueError) as error:
        trials.fail(study, trial, error)
    except BaseException as error:  # recorded, lest the trial should seem to run for ever
        trials.fail(study, trial, error)
        raise
    else:
        trials.complete(study, trial, plan.settings, pair)
    return trials.trial_of(study, trial.number, plan.settings)
