"""How much each key of a search space mattered, for bytes, score and both together. Optuna."""

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import optuna
from optuna.trial import TrialState

from pyro_sws.assess.figures.search import Importances
from pyro_sws.tuning.pareto import log_excess

ENOUGH = 10  # complete trials; a forest over fewer is noise


def importances(study: optuna.Study, worst_score: float | None = None) -> Importances | None:
    """Shares that sum to 1, by key, for each of three objectives; None for too few trials.

    ``log_bytes`` and ``score`` are a trial's own; ``log_excess`` is ln(bytes / the fewest bytes at
    a score no worse), which says what makes a better network rather than one elsewhere on the
    trade-off (see the function of that name). Complete trials of a score no worse than
    ``worst_score`` count: otherwise the shares would show what makes a network collapse. The trials
    are where the sampler went, so regions that it soon left are judged by few of them.

    By fANOVA (Hutter et al. 2014), the share of a forest's variance that a key explains by itself;
    without scikit-learn by PED-ANOVA (Watanabe et al. 2023), how much the best tenth of the trials
    differ from all in that key.
    """
    worst = math.inf if worst_score is None else worst_score
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in complete if trial.values[1] <= worst]
    if len(trials) < ENOUGH:
        return None
    pairs = [(trial.values[0], trial.values[1]) for trial in trials]
    objectives = {
        "log_bytes": [math.log(pair[0]) for pair in pairs],
        "score": [pair[1] for pair in pairs],
        "log_excess": log_excess(pairs),
    }
    # A study of its own: other processes may be adding trials to the shared one.
    apart = optuna.create_study(directions=study.directions)
    apart.add_trials(trials)
    forest = find_spec("sklearn") is not None
    shares = {name: _shares(apart, values, forest) for name, values in objectives.items()}
    return {
        "evaluator": "fanova" if forest else "ped_anova",
        "trials": len(trials),
        "log_bytes": shares["log_bytes"],
        "score": shares["score"],
        "log_excess": shares["log_excess"],
    }


def _shares(study: optuna.Study, values: Sequence[float], forest: bool) -> dict[str, float]:
    """By key; ``values`` (trials,) are of the study's trials, in the order of their numbers."""
    if len(set(values)) == 1:  # a forest over a constant has no variance to share
        return {}
    with warnings.catch_warnings():  # PED-ANOVA says each time that it takes low for good
        warnings.simplefilter("ignore")
        evaluator: optuna.importance.BaseImportanceEvaluator = (
            optuna.importance.FanovaImportanceEvaluator(seed=0)
            if forest
            else optuna.importance.PedAnovaImportanceEvaluator()
        )
        by_path = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: values[trial.number]
        )
    return {path: float(share) for path, share in by_path.items()}
