"""Search for hyperparameters: trials of a recipe, for fewer bytes and a lower score. A driver."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from pyro_sws.files import write_whole
from pyro_sws.recipes.recipe import Settings
from pyro_sws.runs.execute import check_recipe, given_network, trained
from pyro_sws.runs.folder import tensors_of
from pyro_sws.runs.inputs import Splits, check_device
from pyro_sws.tuning.pareto import Pair, is_hopeless
from pyro_sws.tuning.plan import TRAINED_BY, Plan, read_plan
from pyro_sws.tuning.result import SearchResult
from pyro_sws.tuning.trial import Material, Notify, held_out, run_trial

if TYPE_CHECKING:
    import optuna

# Trial (None: before the first), its settings, stage ("pretrain", "fit", "refine" or "end"), row.
Callback = Callable[[int | None, Settings, str, Mapping[str, Any]], None]


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

    Each is a call of ``compress`` as the recipe says, at a point that the sampler chooses, for few
    bytes of the file and a low score of the decoded file on the data's validation split. The test
    split is never looked at. The network is trained once, and kept in the folder, unless the space
    varies what training depends on. A hopeless trial is given up early (see ``is_hopeless``).
    FloatingPointError and ValueError fail a trial, with their message, and the search goes on;
    anything else is recorded likewise and raised. ``changes``, "key=value", are made in the recipe
    first, ``data_dir`` is handed to its data function. ``callback`` gets each row of history with
    the trial that it belongs to, and at a trial's end that trial.

    Trials are kept in ``storage``, by default a journal in the folder: the path of a file that ends
    in .log, or the URL of a data base. Called again it adds trials to those that are there; any
    number of processes may do so at once. One process makes the same trials from the same seed, in
    however many calls. With 0 trials it writes anew what has been found.

    Raises, before the first trial, ValueError for a recipe without a search, a space that the
    recipe does not take, data without a validation split, and a study that was begun with another
    recipe or network; OSError for a folder that cannot be written; ImportError without Optuna.
    """
    from pyro_sws.tuning import study as search_study
    from pyro_sws.tuning.importances import importances

    if trials < 0:
        raise ValueError(f"trials must be at least 0, got {trials}")
    folder, plan = Path(folder), read_plan(Path(recipe), tuple(changes))
    tell = callback or (lambda number, settings, stage, row: None)
    data = _checked(plan, data_dir) if trials else {}
    _make(folder)
    place = storage or str(folder / "study.log")
    study = search_study.open_study(plan.name, place, plan.settings, plan.meaning())
    if trials:
        settings = plan.base.settings
        material = _material(plan, data, data_dir, folder, study, _at(tell, None, settings))
        for _ in range(trials):
            _add_trial(study, plan, material, tell)
    found = search_study.trials_of(study, plan.settings)
    result = SearchResult(plan, found, importances(study, plan.settings.worst_score))
    result.save(folder)
    return result


def _checked(plan: Plan, data_dir: str | None) -> Splits:
    """The recipe's data; raises now what would fail every trial."""
    recipe = plan.trial({})
    check_device(recipe.settings.device)
    data = held_out(recipe, data_dir)
    check_recipe(recipe, data, *given_network(recipe))
    return data


def _make(folder: Path) -> None:
    """The folder, in which other processes may be at work. Raises OSError where none can write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None


def _material(
    plan: Plan,
    data: Splits,
    data_dir: str | None,
    folder: Path,
    study: "optuna.Study",
    notify: Notify,
) -> Material:
    """Read and train what all trials share. Raises ValueError for a network not the study's."""
    from pyro_sws.tuning.study import agree_on_network

    shared = None if plan.varies("data") else data
    if plan.varies(*TRAINED_BY):
        return Material(data_dir, shared, None)
    weights = _trained_once(plan, data, folder, notify) if plan.base.settings.trains else None
    material = Material(data_dir, shared, weights)
    _, net, _ = material.parts(plan.base, notify)
    remedy = "give every process the same weights to start from"
    if weights is not None:
        remedy = f"copy {weights.name} from the folder that it was begun in to {folder}"
    agree_on_network(study, hashlib.sha256(save(tensors_of(net))).hexdigest(), remedy)
    return material


def _trained_once(plan: Plan, data: Splits, folder: Path, notify: Notify) -> Path:
    """Where the trained network of the recipe lies, in a file named by what it was trained by."""
    by = {key: v for key, v in plan.meaning().items() if key.split(".")[0] in TRAINED_BY}
    digest = hashlib.sha256(json.dumps(by, sort_keys=True).encode()).hexdigest()
    path = folder / f"trained-{digest[:8]}.safetensors"
    if not path.is_file():
        base = plan.base
        net = trained(base, data, given_network(base)[0], lambda row: notify("pretrain", row))
        if not path.is_file():  # else another process was faster, and has begun with its network
            write_whole(path, save(tensors_of(net)))
    return path


def _add_trial(study: "optuna.Study", plan: Plan, material: Material, tell: Callback) -> None:
    """Make one trial and record what became of it."""
    import optuna

    from pyro_sws.tuning import study as search_study

    trial, params = search_study.ask(study, plan.settings)
    settings, pruning = plan.base.settings, plan.settings.pruning

    def judge(rung: float, pair: Pair) -> None:
        search_study.note_rung(trial, rung, pair)
        others = search_study.finished_at(study, rung)
        # Refinement brings back what snapping would lose at the rung.
        worst = None if settings.refinement else plan.settings.worst_score
        if is_hopeless(pair, others, pruning, worst):
            raise optuna.TrialPruned(pair)

    try:
        recipe = plan.trial(params)
        settings = recipe.settings
        pair = run_trial(recipe, material, pruning, judge, _at(tell, trial.number, settings))
    except optuna.TrialPruned as given_up:
        search_study.give_up(study, trial, plan.settings, given_up.args[0])
    except (FloatingPointError, ValueError) as error:
        search_study.fail(study, trial, error)
    except BaseException as error:  # recorded, lest the trial should seem to run for ever
        search_study.fail(study, trial, error)
        raise
    else:
        search_study.complete(study, trial, plan.settings, pair)
    ended = search_study.trial_of(study, trial.number, plan.settings)
    tell(trial.number, settings, "end", ended.to_dict())


def _at(tell: Callback, number: int | None, settings: Settings) -> Notify:
    return lambda stage, row: tell(number, settings, stage, row)
