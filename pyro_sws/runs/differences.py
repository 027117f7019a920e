"""What differs between runs, in words: their priors field by field, and all else. A driver."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pyro_sws.compression.plan import Data, NamedData, Plan, Unnamed
from pyro_sws.inference.likelihoods import Gaussian, HeteroscedasticGaussian, Laplace, StudentT
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.custom import Custom
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.recipes.recipe import SECTIONS
from pyro_sws.recipes.sources import Source
from pyro_sws.recipes.tables import top_key
from pyro_sws.runs.run import Run

# Likelihoods of targets that have a density.
CONTINUOUS = (Gaussian, HeteroscedasticGaussian, StudentT, Laplace)
# Fields of a plan that have notes of their own, or whose effects are compared instead.
TOLD_ELSEWHERE = ("network", "data", "prior", "likelihood", "start")


def prior_texts(priors: Sequence[Sequence[Rule]]) -> list[str]:
    """Each prior in a few words: its rules' families, and the fields that are not as in the others.

    A field is told where another prior has rules of the same family, but none of them has the same
    value. If one of those rules is for the same group, only that one counts.
    """
    return [
        _described(rules, [other for j, other in enumerate(priors) if j != i])
        for i, rules in enumerate(priors)
    ]


def differences(runs: Mapping[str, Run]) -> list[str]:
    """A note on each thing that is not the same in all runs, by name, other than the prior."""
    plans = {name: run.plan for name, run in runs.items()}
    first = next(iter(plans.values()))
    notes = [*_networks(runs), *_data_read(runs)]
    if any(plan.likelihood != first.likelihood for plan in plans.values()):
        told = {name: _told(plan.likelihood) for name, plan in plans.items()}
        notes.append(f"the likelihoods differ: {_each(told)}")
    settings = {name: _settings(plan) for name, plan in plans.items()}
    for key in dict.fromkeys(key for own in settings.values() for key in own):
        values = {name: own.get(key) for name, own in settings.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            notes.append(f"{key} differs: {_each({n: _told(v) for n, v in values.items()})}")
    later = [name for name, plan in plans.items() if getattr(plan.network, "from_run", None)]
    if later:
        notes.append(
            f"started at an earlier run's fitted weights, and timed from there: {', '.join(later)}"
        )
    for name, run in runs.items():
        notes += [f"{name}: {warning}" for warning in run.report.warnings]
    if any(isinstance(plan.likelihood, CONTINUOUS) for plan in plans.values()):
        notes.append("bits of continuous labels are a density: only their differences tell")
    return notes


def _settings(plan: Plan) -> dict[str, object]:
    """A plan's other values by a recipe's keys: those of a section are at the top there."""
    settings: dict[str, object] = {}
    for name in (f.name for f in dataclasses.fields(plan) if f.name not in TOLD_ELSEWHERE):
        value = getattr(plan, name)
        own = _fields(value) if name in SECTIONS else {}
        settings |= {top_key(name, key): part for key, part in own.items()} or {name: value}
    if isinstance(plan.data, NamedData):
        settings["batch_size"] = plan.data.batch_size
    return settings


def _described(rules: Sequence[Rule], others: Sequence[Sequence[Rule]]) -> str:
    texts = []
    for rule in rules:
        alike = [[_fields(r.prior) for r in _counterparts(rule, prior)] for prior in others]
        told = [
            f"{key} {_told(value)}"
            for key, value in _fields(rule.prior).items()
            if any(all(own.get(key) != value for own in fields) for fields in alike if fields)
        ]
        text = ", ".join([_family(rule.prior), *told])
        texts.append(text if len(rules) == 1 and _whole(rule) else f"{_owner(rule)}: {text}")
    return "; ".join(texts)


def _whole(rule: Rule) -> bool:
    """Whether it is for every tensor."""
    return rule == Rule(rule.prior, group=rule.group)


def _owner(rule: Rule) -> str:
    """weights (*.weight, Linear, each)."""
    where = rule.where and _told(rule.where)
    conditions = [rule.match, rule.module_name, where, "each" if rule.each else None]
    return f"{rule.group} ({', '.join(filter(None, conditions))})"


def _counterparts(rule: Rule, prior: Sequence[Rule]) -> list[Rule]:
    family = [other for other in prior if _family(other.prior) == _family(rule.prior)]
    return [other for other in family if other.group == rule.group] or family


def _fields(prior: object) -> dict[str, object]:
    """By name; those of a prior inside it as "shape.slabs"."""
    if isinstance(prior, Custom | Source):
        return dict(prior.arguments)
    assert dataclasses.is_dataclass(prior)
    fields: dict[str, object] = {}
    for name in (f.name for f in dataclasses.fields(prior)):
        value = getattr(prior, name)
        inner = _fields(value) if hasattr(value, "start") else {}
        fields[name] = _family(value) if inner else value
        fields |= {f"{name}.{key}": part for key, part in inner.items()}
    return fields


def _family(prior: object) -> str:
    """As a recipe names it, but for the file that it is in."""
    names: dict[type, str] = {cls: name for name, cls in PRIORS.items()}
    own = prior.name if isinstance(prior, Custom | Source) else type(prior).__name__
    return names.get(type(prior), own)


def _told(value: object) -> str:
    """0.999, or Gamma(250, 0.1)."""
    if isinstance(value, Source):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = (_told(getattr(value, f.name)) for f in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(inner)})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_told, value))})"
    return f"{value:.6g}" if isinstance(value, float) else getattr(value, "__name__", str(value))


def _networks(runs: Mapping[str, Run]) -> list[str]:
    """Whether their forms differ, or else their trained weights."""
    given = [run.given for run in runs.values()]
    shapes = {name: tensor.shape for name, tensor in given[0].items()}
    if any({n: t.shape for n, t in tensors.items()} != shapes for tensors in given):
        reports = {name: run.report for name, run in runs.items()}
        told = {n: f"{r.network}, {r.parameters:,} parameters" for n, r in reports.items()}
        return [f"the networks differ: {_each(told)}"]
    if all(torch.equal(tensors[name], given[0][name]) for tensors in given for name in shapes):
        return []
    return ["the networks have one form, but were not compressed from the same trained weights"]


def _data_read(runs: Mapping[str, Run]) -> list[str]:
    """Whether the scores are on different data, by the recipe's source and the report's counts."""
    told, sources, unknown = {}, [], False
    for name, run in runs.items():
        score, data = run.report.score, run.plan.data
        told[name] = f"{score['examples']:,} {score['data']} examples of {_data_told(run.plan)}"
        unknown |= isinstance(data, Unnamed)
        scored = score["name"], score["unit"], score["data"], score["examples"]
        sources.append((scored, _identity(data)))
    if all(source == sources[0] for source in sources):
        return []
    if unknown and all(scored == sources[0][0] for scored, _ in sources):
        return [f"whether the scores are on the same data is not known: {_each(told)}"]
    return [f"the scores are on different data: {_each(told)}"]


def _identity(data: Data | NamedData | Unnamed) -> object:
    """Equal for the same data: what a recipe names, or the very batches that are scored."""
    if isinstance(data, NamedData):
        return data.source.table(Path.cwd())
    return data if isinstance(data, Unnamed) else id(data.judged[1])


def _data_told(plan: Plan) -> str:
    if not isinstance(plan.data, NamedData):
        return plan.data.what if isinstance(plan.data, Unnamed) else "data given in Python"
    source = plan.data.source
    return source.path + "".join(f", {key} = {v!r}" for key, v in source.arguments.items())


def _each(told: Mapping[str, str]) -> str:
    return "; ".join(f"{text} in {name}" for name, text in told.items())
