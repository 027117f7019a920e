"""``pyro-sws certify``: a file's certificates, on a recipe's network and data. A driver."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pyro_sws.assess.report.certificate import SideInformation
from pyro_sws.certification.certified import Certified
from pyro_sws.certification.certify import certify
from pyro_sws.certification.refusal import NotCertifiable
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import named_parts
from pyro_sws.runs.inputs import build_network, load_data, measured_batches


def certify_by_recipe(
    file: str | os.PathLike,
    recipe: str | os.PathLike,
    *,
    changes: Sequence[str] = (),
    data_dir: str | None = None,
    delta: float = 0.05,
    side: SideInformation = SideInformation(),  # noqa: B008  (frozen)
    looks: int = 1,
    fixed: Sequence[str] = (),
) -> Certified:
    """``certify`` with a recipe's network, training examples and, if it has one, test split.

    The recipe's code is run. Raises what ``certify`` raises, and for data without labels.
    """
    plan = read_recipe(Path(recipe), changes)
    network, data = named_parts(plan)
    splits = load_data(data, data_dir, chosen=True, alone=True)
    if isinstance(splits["train"], Tensor):
        raise NotCertifiable(
            f"data: {data.source.path} returns inputs alone, and without labels nobody knows what "
            "is a mistake; certify(..., unlabelled=) in Python bounds how often two networks differ"
        )
    return certify(
        file,
        build_network(network, plan.seed),
        measured_batches(splits["train"]),
        holdout=measured_batches(splits["test"]) if "test" in splits else None,
        likelihood=plan.likelihood,
        delta=delta,
        side=side,
        looks=looks,
        fixed=fixed,
        seed=plan.seed,
    )
