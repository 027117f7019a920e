"""Rules: which tensor of a network has which prior. The first match wins."""

import difflib
import re
import reprlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from pyro_sws.inference.plain_numbers import flag, shown
from pyro_sws.inference.priors import PRIORS, Prior
from pyro_sws.inference.priors.shared import SHARED
from pyro_sws.suggestions import nearest
from pyro_sws.weights.group import Group

Where = Callable[[str, nn.Parameter], bool]
MOST_LETTERS = 100  # of a rule's group, and of one with its tensor's name: a run's files are named
MOST_WITH_TENSOR = 180  # by them, and names of files have 255 at most


@dataclass(frozen=True)
class Rule:
    """Tensors for which every condition holds share ``prior`` under the name ``group``.

    ``match``: a glob on the tensor's whole name. ``module``: the module that owns the tensor is of
    this class, given itself or by its name, or of one derived from it: "_ConvNd" is every
    convolution. ``where(name, parameter)`` is True; it is asked only about tensors that fulfil the
    other conditions and that no earlier rule has. With ``each``, every tensor is a group of its own
    under hyperparameters of its own, named "<group>-<tensor>" with "_" for its dots; a long name is
    cut, and ends in a checksum of it.
    """

    prior: Prior
    match: str = "*"
    group: str = "all"
    module: str | type | None = None
    where: Where | None = None
    each: bool = False

    def __post_init__(self) -> None:
        for name in ("match", "group"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a text, got {shown(getattr(self, name))}")
        object.__setattr__(self, "each", flag("each", self.each))
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.group):
            raise ValueError(
                f"group must be letters, digits, '_' or '-' (site names follow it after a dot), "
                f"got {self.group!r}"
            )
        if len(self.group) > MOST_LETTERS:
            raise ValueError(
                f"group must have at most {MOST_LETTERS} characters, as files are named by it; "
                f"got {len(self.group)}: {self.group[:MOST_LETTERS]!r}..."
            )
        if self.group == SHARED:
            raise ValueError(f"group must not be {SHARED!r}: so the sites of all groups are named")
        if not isinstance(self.module, str | type | None):
            raise ValueError(f"module must be a class or its name, got {self.module!r}")
        if self.where is not None and not callable(self.where):
            raise ValueError(f"where must be a function (name, parameter), got {self.where!r}")

    @property
    def module_name(self) -> str | None:
        """The name of the class that ``module`` asks for."""
        return self.module.__name__ if isinstance(self.module, type) else self.module


def rule_of(rules: Sequence[Rule], group: str) -> Rule:
    """The rule that made a group of this name. Raises ValueError where there is none."""
    whole = [rule for rule in rules if rule.group == group and not rule.each]
    parts = [rule for rule in rules if rule.each and group.startswith(f"{rule.group}-")]
    if not whole and not parts:
        raise ValueError(f"no rule has a group {group!r}")
    return (whole or parts)[0]


def as_rules(prior: Prior | Rule | Sequence[Rule]) -> tuple[Rule, ...]:
    """One prior covers every tensor; rules are taken as they are.

    Raises ValueError for what is neither a prior nor one or more rules.
    """
    _check_no_name(prior)
    rules = (prior,) if isinstance(prior, Rule) else prior
    rules = tuple(rules) if isinstance(rules, Sequence) else (Rule(rules),)
    for rule in rules:
        _check_no_name(rule.prior if isinstance(rule, Rule) else rule)
        if not isinstance(rule, Rule):
            raise ValueError(f"prior: a sequence must hold Rules, got {rule!r}")
        if hasattr(rule.prior, "losses"):
            raise ValueError(
                f"prior: {rule.prior!r} is a likelihood; a prior is a family such as "
                "SpikeAndSlabs() or GaussianPrior()"
            )
        if isinstance(rule.prior, type) or not hasattr(rule.prior, "start"):
            own = callable(rule.prior) and not isinstance(rule.prior, type)
            spec = "Custom(function)" if own else "SpikeAndSlabs()"
            raise ValueError(f"prior: must be a spec such as {spec}, got {rule.prior!r}")
    if not rules:
        raise ValueError("prior: there is no rule; give a prior, or at least one Rule")
    return rules


def _check_no_name(prior: object) -> None:
    """Raise ValueError for the name of a family, which only a recipe takes."""
    if not isinstance(prior, str):
        return
    if prior in PRIORS:
        example = PRIORS[prior].__name__
        raise ValueError(f"prior: got the name {prior!r}; give the family, sws.{example}()")
    classes = ", ".join(f"sws.{family.__name__}()" for family in PRIORS.values())
    raise ValueError(f"prior: got {prior!r}{nearest(prior, list(PRIORS))}; give one of {classes}")


def apply_rules(
    net: nn.Module, rules: Sequence[Rule]
) -> tuple[dict[str, Group], dict[str, Prior], tuple[str, ...]]:
    """Groups and priors by group name, and the float parameters that no rule covers.

    Tied parameters count once, under their first name and the module that it lies in. Raises
    ValueError for a network without float parameters, a rule that matches nothing, a ``where`` that
    fails or returns no bool, and two groups of one name.
    """
    tensors = {n: p for n, p in net.named_parameters() if p.is_floating_point() and p.numel()}
    if not tensors:
        kind = type(net).__name__
        raise ValueError(
            f"{kind} has no float parameters to compress; give a network that has some"
        )
    owners = {name: net.get_submodule(name.rpartition(".")[0]) for name in tensors}
    left = dict(tensors)
    groups: dict[str, Group] = {}
    priors: dict[str, Prior] = {}
    for i, rule in enumerate(rules):
        fitting = [n for n in tensors if _matches(rule, n) and _in_module(rule, owners[n])]
        asked = [n for n in fitting if n in left]
        covered = {n: left[n] for n in asked if _where(rule, n, left[n], i)}
        if not covered:
            raise ValueError(f"prior[{i}]: {_unmatched(rule, owners, fitting, asked)}")
        for name, members in _named(rule, covered, i):
            if name in groups:
                raise ValueError(f"prior[{i}]: group {name!r} is taken; give each rule its own")
            groups[name], priors[name] = _group(name, members), rule.prior
        left = {n: p for n, p in left.items() if n not in covered}
    return groups, priors, tuple(left)


def _matches(rule: Rule, name: str) -> bool:
    return fnmatchcase(name, rule.match)


def _in_module(rule: Rule, owner: nn.Module) -> bool:
    if isinstance(rule.module, type):
        return isinstance(owner, rule.module)
    return rule.module is None or rule.module in _class_names(owner)


def _class_names(owner: nn.Module) -> list[str]:
    return [cls.__name__ for cls in type(owner).__mro__]


@torch.no_grad()
def _where(rule: Rule, name: str, parameter: nn.Parameter, i: int) -> bool:
    if rule.where is None:
        return True
    try:
        answer = rule.where(name, parameter)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"prior[{i}]: {_called(rule)} fails for {name!r}: {reason}") from error
    if not isinstance(answer, bool):
        got = f"{reprlib.repr(answer)} ({type(answer).__name__})"
        raise ValueError(
            f"prior[{i}]: {_called(rule)} must return True or False, got {got} for {name!r}"
        )
    return answer


def _called(rule: Rule) -> str:
    return f"where {getattr(rule.where, '__name__', None) or repr(rule.where)}"


def _named(
    rule: Rule, covered: Mapping[str, nn.Parameter], i: int
) -> Iterator[tuple[str, dict[str, nn.Parameter]]]:
    """The groups that a rule makes of what it covers, by name."""
    if not rule.each:
        yield rule.group, dict(covered)
        return
    names: dict[str, str] = {}
    for tensor, parameter in covered.items():
        name = _short(f"{rule.group}-{re.sub(r'[^A-Za-z0-9_-]', '_', tensor)}")
        if name in names:
            raise ValueError(
                f"prior[{i}]: {names[name]!r} and {tensor!r} would both be group {name!r}; "
                "give one of them a rule of its own"
            )
        names[name] = tensor
        yield name, {tensor: parameter}


def _short(name: str) -> str:
    """The name, or as much of it as there is room for, and a checksum of the whole."""
    if len(name) <= MOST_WITH_TENSOR:
        return name
    checksum = f"-{zlib.crc32(name.encode()):08x}"
    return name[: MOST_WITH_TENSOR - len(checksum)] + checksum


def _group(name: str, parameters: Mapping[str, nn.Parameter]) -> Group:
    first = next(iter(parameters.values()))
    dtype = first.dtype
    for parameter in parameters.values():
        dtype = torch.promote_types(dtype, parameter.dtype)
    shapes = {n: tuple(p.shape) for n, p in parameters.items()}
    return Group(name, shapes, dtype, first.device)


def _unmatched(
    rule: Rule, owners: Mapping[str, nn.Module], fitting: Sequence[str], asked: Sequence[str]
) -> str:
    """Why a rule covers nothing: the condition that is at fault, and what is there."""
    if asked:
        return f"{_called(rule)} is False for every tensor it is asked about: {', '.join(asked)}"
    match, module = f"match {rule.match!r}", f"module {rule.module_name!r}"
    if fitting:
        pattern = module if rule.match == "*" and rule.module is not None else match
        return f"{pattern} finds only tensors that an earlier rule has: {', '.join(fitting)}"
    matched = [n for n in owners if _matches(rule, n)]
    if not matched:
        return f"{match} matches no tensor; the network has {', '.join(owners)}"
    in_module = [n for n in owners if _in_module(rule, owners[n])]
    if in_module:
        theirs = f"{match} finds {', '.join(matched)}, {module} {', '.join(in_module)}"
        return f"no tensor fulfils both conditions: {theirs}"
    known = {name.lower(): name for owner in owners.values() for name in _class_names(owner)}
    close = difflib.get_close_matches(str(rule.module_name).lower(), known, 1)
    hint = f", did you mean {known[close[0]]!r}?" if close else ""
    kinds = ", ".join(sorted({type(owner).__name__ for owner in owners.values()}))
    return f"{module} owns no tensor{hint}; the network's tensors are in {kinds}"
