"""Folders of versions that stored no densities: these are made again from recipe and report."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.assess.report.report import Report
from pyro_sws.compression.plan import Plan
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import rule_of
from pyro_sws.recipes.sources import Source
from pyro_sws.runs.posterior_file import read_tensors
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import WeightPrior

DRAWS, DEVIATIONS = "draws/", "deviations/"  # before a site's name


def posteriors(
    folder: Path, plan: Plan, report: Report, given: Mapping[str, Tensor]
) -> tuple[Posterior, Posterior]:
    """The fitted and the packed posterior. Raises ValueError for a prior of the user's own.

    The fitted densities are those of the recipe's priors at the fitted point. The packed ones have
    the mixtures of the report.
    """
    point, _ = read_tensors(folder / "posterior.safetensors")
    groups = {name: _group(name, report, given, point) for name in report.groups}
    try:
        with pyro_step(), torch.no_grad():
            priors = {
                name: poutine.condition(_prior(plan, name, folder), data=point)(group)
                for name, group in groups.items()
            }
    except RuntimeError as error:  # of a recipe that is not the one of then
        raise ValueError(
            f"{folder}: recipe.toml and posterior.safetensors differ: {error}"
        ) from None
    covered = {tensor for group in groups.values() for tensor in group.shapes}
    raw = {name: tensor for name, tensor in given.items() if name not in covered}
    fitted = _with_spread(Posterior(groups, point, priors, raw, report.tau), folder)
    refined = folder / "refined.safetensors"
    snapped = read_tensors(refined)[0] if refined.is_file() else {}
    return fitted, with_report_mixtures(fitted, snapped, report)


def with_report_mixtures(
    fitted: Posterior, point: Mapping[str, Tensor], report: Report
) -> Posterior:
    """The posterior that was quantised: at this point, with the mixtures of the report."""
    priors = {name: _with_mixture(prior, name, report) for name, prior in fitted.priors.items()}
    return replace(fitted, point={**fitted.point, **point}, priors=priors)


def architecture(report: Report, given: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the order of the network: coded tensors, then the rest."""
    coded = [row["name"] for row in report.tensors]
    names = [*coded, *(name for name in given if name not in coded)]
    return {name: tuple(given[name].shape) for name in names}


def _group(
    name: str, report: Report, given: Mapping[str, Tensor], point: Mapping[str, Tensor]
) -> Group:
    shapes = {tensor: tuple(given[tensor].shape) for tensor in report.groups[name]["tensors"]}
    return Group(name, shapes, point[f"{name}.weights"].dtype)


def _prior(plan: Plan, group: str, folder: Path) -> Prior:
    prior = rule_of(plan.prior, group).prior
    if isinstance(prior, Source):
        raise ValueError(
            f"{folder}: an older version wrote this folder, and its prior of group {group!r} is of "
            "a file of its own; make the run again"
        )
    return prior


def _with_mixture(prior: WeightPrior, name: str, report: Report) -> WeightPrior:
    row, like = report.groups[name], prior.mixture.means
    means, deviations, proportions = (
        torch.tensor(row[key], dtype=torch.float64)  # type: ignore[literal-required]
        for key in ("means", "deviations", "proportions")
    )
    values = (means, deviations**-2, proportions)
    return replace(prior, mixture=Mixture(*(v.to(like) for v in values)))  # type: ignore[type-var]


def _with_spread(posterior: Posterior, folder: Path) -> Posterior:
    path = folder / "spread.safetensors"
    if not path.is_file():
        return posterior
    tensors, metadata = read_tensors(path)
    return replace(
        posterior,
        draws=_under(DRAWS, tensors),
        deviations=_under(DEVIATIONS, tensors),
        floored={site: int(count) for site, count in metadata.items()},
    )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    values = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return values or None
