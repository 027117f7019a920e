"""Rules: which tensor of a network has which prior. The first match wins."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from pyro_sws.inference.priors import Prior
from pyro_sws.weights.group import Group


@dataclass(frozen=True)
class Rule:
    """Tensors whose name matches the glob ``match`` share ``prior`` under the name ``group``."""

    prior: Prior
    match: str = "*"
    group: str = "all"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.group):
            raise ValueError(
                f"group must be letters, digits, '_' or '-' (site names hang on it by a dot), "
                f"got {self.group!r}"
            )


def as_rules(prior: Prior | Rule | Sequence[Rule]) -> tuple[Rule, ...]:
    """One prior covers every tensor; rules are taken as they are.

    Raises ValueError for what is neither a prior nor one or more rules.
    """
    rules = (prior,) if isinstance(prior, Rule) else prior
    rules = tuple(rules) if isinstance(rules, Sequence) else (Rule(rules),)
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ValueError(f"prior: a sequence must hold Rules, got {rule!r}")
        if isinstance(rule.prior, type) or not hasattr(rule.prior, "start"):
            raise ValueError(f"prior: must be a spec such as SpikeAndSlabs(), got {rule.prior!r}")
    if not rules:
        raise ValueError("prior: there is no rule; give a prior, or at least one Rule")
    return rules


def apply_rules(
    net: nn.Module, rules: Sequence[Rule]
) -> tuple[dict[str, Group], dict[str, Prior], tuple[str, ...]]:
    """Groups and priors by group name, and the float parameters that no rule covers.

    Tied parameters count once, under their first name. Raises ValueError for a network without
    float parameters, a rule that matches nothing, and two rules that share a group name.
    """
    names = [n for n, p in net.named_parameters() if p.is_floating_point() and p.numel()]
    if not names:
        kind = type(net).__name__
        raise ValueError(
            f"{kind} has no float parameters to compress; give a network that has some"
        )
    owner = {
        name: next((i for i, r in enumerate(rules) if fnmatchcase(name, r.match)), None)
        for name in names
    }
    groups: dict[str, Group] = {}
    priors: dict[str, Prior] = {}
    parameters = dict(net.named_parameters())
    for i, rule in enumerate(rules):
        covered = [name for name in names if owner[name] == i]
        if not covered:
            raise ValueError(f"prior[{i}]: {_unmatched(rule, rules[:i], names)}")
        if rule.group in groups:
            raise ValueError(f"prior[{i}]: group {rule.group!r} is taken; give each rule its own")
        groups[rule.group] = _group(rule.group, {n: parameters[n] for n in covered})
        priors[rule.group] = rule.prior
    return groups, priors, tuple(name for name in names if owner[name] is None)


def _group(name: str, parameters: Mapping[str, nn.Parameter]) -> Group:
    first = next(iter(parameters.values()))
    dtype = first.dtype
    for parameter in parameters.values():
        dtype = torch.promote_types(dtype, parameter.dtype)
    shapes = {n: tuple(p.shape) for n, p in parameters.items()}
    return Group(name, shapes, dtype, first.device)


def _unmatched(rule: Rule, earlier: Sequence[Rule], names: Sequence[str]) -> str:
    taken = [n for n in names if fnmatchcase(n, rule.match)]
    if taken:
        return (
            f"match {rule.match!r} finds only tensors that an earlier rule has: {', '.join(taken)}"
        )
    return f"match {rule.match!r} matches no tensor; the network has {', '.join(names)}"
