"""The Optuna study behind a search: storage, samplers, and its trials as plain values. Optuna."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict

from pyro_sws.recipes.search_table import Choices, Range, SearchSettings
from pyro_sws.runs.lock import Holder
from pyro_sws.tuning.pareto import Pair
from pyro_sws.tuning.plan import Meaning, Params, unlike
from pyro_sws.tuning.result import Trial

OLDEST = (5, 0)  # the first whose trials have constraints
try:
    import optuna
except ImportError as error:
    raise ImportError("search needs Optuna: pip install 'pyro-sws[search]'") from error
if tuple(map(int, optuna.__version__.split(".")[:2])) < OLDEST:
    raise ImportError(
        f"search needs Optuna {'.'.join(map(str, OLDEST))} or later, there is "
        f"{optuna.__version__}: pip install 'pyro-sws[search]'"
    )

from optuna.distributions import BaseDistribution  # noqa: E402
from optuna.storages import BaseStorage, JournalStorage, RDBStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock  # noqa: E402
from optuna.trial import FrozenTrial, TrialState  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

Space = dict[str, BaseDistribution]
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",  # by another process, or by one that was killed
    TrialState.WAITING: "waiting",
}
# Names of attributes.
RECIPE, NETWORK, RUNGS, MESSAGE, PROCESS = "recipe", "network", "rungs", "message", "process"
SQLITE_SECONDS = 60  # to wait for another process's lock
ATTEMPTS = 5  # to open a data base
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}


class ByNumber(optuna.samplers.BaseSampler):
    """A sampler made anew for each trial, seeded by the trial's number.

    A single sampler's generator would begin again whenever a study is resumed, and in every further
    process: their first trials would repeat those that are there already.
    """

    def __init__(self, settings: SearchSettings):
        self.settings = settings
        self.own = self._made(0)

    def _made(self, number: int) -> optuna.samplers.BaseSampler:
        seed = (self.settings.seed * 1_000_003 + number) % 2**32
        return SAMPLERS[self.settings.sampler](seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.own = self._made(trial.number)
        self.own.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Space:
        return self.own.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Space
    ) -> dict[str, object]:
        return self.own.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> object:
        return self.own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self.own.after_trial(study, trial, state, values)


def open_study(name: str, storage: str, settings: SearchSettings, meaning: Meaning) -> optuna.Study:
    """The study of this name, begun if it is not there.

    ``meaning`` is the recipe's. Raises ValueError for a storage that cannot be, and for a study
    that was begun with another recipe, saying what differs.
    """
    opened = _opened(storage)
    try:
        with _quiet():
            study = optuna.create_study(
                study_name=name,
                storage=opened,
                sampler=ByNumber(settings),
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
    except (ValueError, LookupError, TypeError) as error:  # as a journal is read, line by line
        raise ValueError(f"{storage}: no search's storage, or damaged: {error}") from None
    begun = study.user_attrs.get(RECIPE)
    if begun is None:
        if study.get_trials(deepcopy=False):
            raise ValueError(
                f"{storage}: study {name!r} is none of a search; choose another storage"
            )
        study.set_user_attr(RECIPE, dict(meaning))
    elif differing := unlike(meaning, begun):
        shown = "; ".join(differing[:5] + (["..."] if differing[5:] else []))
        raise ValueError(
            f"{storage}: study {name!r} was begun with another recipe: {shown}; choose another "
            "storage, or the recipe of then"
        )
    return study


def agree_on_network(study: optuna.Study, digest: str, remedy: str) -> None:
    """Raise ValueError where trials so far were of another network."""
    begun = study.user_attrs.get(NETWORK)
    if begun is None:
        study.set_user_attr(NETWORK, digest)
    elif begun != digest:
        raise ValueError(
            f"study {study.study_name!r} was begun with otherwise trained weights; {remedy}"
        )


def ask(study: optuna.Study, settings: SearchSettings) -> tuple[optuna.Trial, dict[str, object]]:
    """A new trial, and its values by path; of one whose process was killed, if there is one."""
    _retry_killed(study)
    distributions = {path: _distribution(bounds) for path, bounds in settings.space.items()}
    trial = study.ask(distributions)
    trial.set_user_attr(PROCESS, asdict(Holder.this()))
    return trial, _values(settings, trial.params)


def _retry_killed(study: optuna.Study) -> None:
    """Have trials made again whose processes have ended without a word, on this machine."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        try:
            gone = Holder(**trial.user_attrs[PROCESS]).is_gone
        except (KeyError, TypeError):  # of an earlier version, or killed before it had said so
            continue
        if not gone:
            continue
        with suppress(ValueError):  # another process was first
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)


def finished_at(study: optuna.Study, rung: float) -> list[Pair]:
    """The pairs at a rung of the trials that are finished, or were given up there or later."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    pairs = [trial.user_attrs.get(RUNGS, {}).get(str(rung)) for trial in trials]
    return [(pair[0], pair[1]) for pair in pairs if pair is not None]


def note_rung(trial: optuna.Trial, rung: float, pair: Pair) -> None:
    """Record a trial's file size and score at a rung, for ``finished_at`` of later trials."""
    trial.set_user_attr(RUNGS, {**trial.user_attrs.get(RUNGS, {}), str(rung): list(pair)})


def complete(
    study: optuna.Study, trial: optuna.Trial, settings: SearchSettings, pair: Pair
) -> None:
    """Record what a trial found."""
    _constrain(trial, settings, pair)
    study.tell(trial, pair)


def give_up(study: optuna.Study, trial: optuna.Trial, settings: SearchSettings, pair: Pair) -> None:
    """Record a trial as given up at this pair."""
    _constrain(trial, settings, pair)
    study.tell(trial, state=TrialState.PRUNED)


def _constrain(trial: optuna.Trial, settings: SearchSettings, pair: Pair) -> None:
    """Tell the sampler how far a score is above the worst useful one: it looks elsewhere."""
    if settings.worst_score is not None:
        trial.set_constraint("score", pair[1] - settings.worst_score)


def fail(study: optuna.Study, trial: optuna.Trial, error: BaseException) -> None:
    """Record a trial as failed, with what the error says."""
    trial.set_user_attr(MESSAGE, str(error) or type(error).__name__)
    study.tell(trial, state=TrialState.FAIL)


def trials_of(study: optuna.Study, settings: SearchSettings) -> tuple[Trial, ...]:
    """Every trial so far, of all processes, in order."""
    return tuple(_plain(trial, settings) for trial in study.get_trials(deepcopy=False))


def trial_of(study: optuna.Study, number: int, settings: SearchSettings) -> Trial:
    """The trial of this number, as it is now in the study's storage."""
    return _plain(study.get_trials(deepcopy=False)[number], settings)


def _plain(trial: FrozenTrial, settings: SearchSettings) -> Trial:
    file_bytes, score = trial.values or (None, None)
    return Trial(
        number=trial.number,
        state=STATES[trial.state],
        params=_values(settings, trial.params),
        file_bytes=None if file_bytes is None else int(file_bytes),
        score=score,
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        rungs={rung: (p[0], p[1]) for rung, p in trial.user_attrs.get(RUNGS, {}).items()},
        message=trial.user_attrs.get(MESSAGE),
    )


def _distribution(bounds: Range | Choices) -> BaseDistribution:
    if isinstance(bounds, Choices):
        return optuna.distributions.CategoricalDistribution(list(map(_stored, bounds.choices)))
    if bounds.whole:
        return optuna.distributions.IntDistribution(int(bounds.low), int(bounds.high), bounds.log)
    return optuna.distributions.FloatDistribution(bounds.low, bounds.high, bounds.log)


def _stored(choice: object) -> str | int | float:
    """A choice as Optuna takes it: tables and lists as JSON."""
    return choice if isinstance(choice, str | int | float) else json.dumps(choice)


def _values(settings: SearchSettings, params: Params) -> dict[str, object]:
    """Optuna's parameters as a recipe has them."""
    values = dict(params)
    for path, bounds in settings.space.items():
        if isinstance(bounds, Choices) and path in values:
            chosen = values[path]
            values[path] = next(c for c in bounds.choices if _stored(c) == chosen)
    return values


def _opened(storage: str) -> BaseStorage:
    """A journal for a path that ends in .log, a data base for a URL."""
    if "://" in storage:
        return _data_base(storage)
    if storage.endswith(".log"):
        return JournalStorage(JournalFileBackend(storage, JournalFileOpenLock(storage)))
    raise ValueError(
        f"storage {storage!r}: give the path of a file that ends in .log, or a URL such as "
        "sqlite:///search.db"
    )


def _data_base(url: str) -> BaseStorage:
    waiting = {"connect_args": {"timeout": SQLITE_SECONDS}} if url.startswith("sqlite") else {}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _quiet():
                return RDBStorage(url, engine_kwargs=dict(waiting))
        except SQLAlchemyError as error:
            # Processes that find no tables all make them, and all but one are told that they exist.
            reason = str(error).partition("\n")[0]
            time.sleep(0.1 * attempt)
    raise ValueError(f"storage {url!r} cannot be opened: {reason}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's word on each study that is begun; loggers are then as they were."""
    loggers = [logging.getLogger(name) for name in ("optuna", "alembic")]
    levels = [logger.level for logger in loggers]
    loggers[0].setLevel(max(levels[0], logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
