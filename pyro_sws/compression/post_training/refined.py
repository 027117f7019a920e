"""Files of post-training, trained on: refinement of what the curvature chose. A driver."""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from pyro_sws.compression.post_training.sweep import Swept, point_of
from pyro_sws.compression.refine import Refined, Refinement, refine
from pyro_sws.inference.checkpoint import Checkpoint
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.progress import Callback
from pyro_sws.inference.teacher import Teacher

# Tolerances that the file may have lost that refinement sets out from: most of it comes back. The
# next is tried where it does not.
STARTS = 10.0, 3.0, 1.5
PULL = 3.0  # tau, in that of the file: what training makes up for, the curvature does not know
SOFT = 0.5  # as in a walk


def trained(
    model: Joint,
    swept: Swept,
    train: Iterable,
    settings: Refinement,
    *,
    soft: float = SOFT,
    pull: float = 1.0,
    codebook_dtype: str = "float16",
    seed: int = 0,
    callback: Callback | None = None,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  (keeps nothing)
) -> tuple[Swept, Refined | None]:
    """The shortest files that have lost up to so many tolerances, refined, until one is within.

    Args:
        model: what ``joint`` returned.
        swept: files of its network.
        train: a re-iterable of (inputs, targets).
        settings: of each refinement.
        soft: share of what the network itself predicts, in labels, see ``Distilled``.
        pull: factor on tau, which is the file's own times PULL: of a part of the data, its share.
        codebook_dtype: of the stored values, "float16" or "float32".
        seed: of shuffling, and of networks that draw.
        callback: is told of each epoch, of the stage "refine".
        checkpoint: where each refinement keeps how far it got.

    Returns:
        The files, the refined ones at their end, and what the last one came from; None where no
        refined one is within the tolerance and shorter than those that were.
    """
    likelihood = model.likelihood
    if hasattr(likelihood, "softened"):
        likelihood = likelihood.softened(soft)
    teacher = Teacher(partial(model.outputs, model.exact), model.data_size)
    unrefined, last = swept, None
    for most in STARTS:
        start = unrefined.shortest(most)
        if start is None or start is last:
            continue
        last, began = start, time.perf_counter()
        tau = PULL * pull * start.posterior.tau
        result = refine(
            replace(model, likelihood=likelihood, teacher=teacher, tau=tau),
            replace(start.posterior, tau=tau),
            train,
            settings,
            codebook_dtype=codebook_dtype,
            seed=seed,
            callback=callback,
            stage=checkpoint.stage(f"refine from {most:g}"),
        )
        seconds = swept.found[-1].point.seconds + time.perf_counter() - began
        point = point_of(
            model,
            swept.judge,
            result.posterior,
            codebook_dtype,
            len(swept.found),
            seconds,
            passes=settings.epochs,
        )
        own = replace(start, point=point, posterior=result.posterior)
        swept = replace(swept, found=(*swept.found, own))
        if swept.shortest() is own:
            return swept, result
    return swept, None
