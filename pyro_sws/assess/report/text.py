"""Lines of a report's text: of its walk, of what was not rewritten, of its certificate."""

import math
from collections.abc import Iterator

from pyro_sws.assess.report.filters import score as shown
from pyro_sws.assess.report.shapes import (
    Bounds,
    CertificateRow,
    HoldoutRow,
    PostTrainingRow,
    RewritingRow,
    WalkRow,
)

SHOWN = 2  # tensors whose units stay as they are
DISAGREEMENT = "errors of training examples are disagreement with the network as it was"


def walk_text(walk: WalkRow, unit: str) -> str:
    """What the file was held to, and why it is no shorter."""
    if "objective" in walk:
        what = {"certificate": "the bound", "mdl": "the description"}[walk["objective"]]
        least = shown(walk["score"], "percent" if walk["objective"] == "certificate" else "bits")
        return (
            f"walk: {what} was least, {least}, in {walk['passes']:.3g} passes and {walk['files']} "
            "files"
        )
    own, reference, tolerance = (
        shown(walk[key], unit)  # type: ignore[literal-required]
        for key in ("score", "reference", "tolerance")
    )
    limit = f", limited by the {walk['limited_by']}" if "limited_by" in walk else ""
    return (
        f"walk: {own} on {walk['judged_on']} data, where the network has {reference} and "
        f"{tolerance} more was allowed; {walk['passes']:.3g} passes, {walk['files']} files{limit}"
    )


def post_training_text(row: PostTrainingRow) -> str:
    """What the file was held to, and what the curvature said of it."""
    own, reference, tolerance = (
        shown(row[key], row["unit"])  # type: ignore[literal-required]
        for key in ("score", "reference", "tolerance")
    )
    each = "a prediction" if row["unit"] == "nats" else "an example"
    text = (
        f"post-training: {own} on {row['judged_on']} data, where the network has {reference} and "
        f"{tolerance} more was allowed; {row['files']} files; the curvature says that "
        f"{row['predicted_nats']:.3g} nats {each} are lost"
    )
    return f"{text}; {DISAGREEMENT}" if row["unit"] == "nats" else text


def left_alone_text(rewriting: RewritingRow) -> Iterator[str]:
    """What stays in the order that it had, and why."""
    left = list(rewriting["left_alone"].items())
    if left:
        named = "; ".join(f"{name}: {reason}" for name, reason in left[:SHOWN])
        more = f"; and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        yield f"units left in their order: {named}{more}"


def bounds_text(symbols: int, bounds: Bounds) -> str:
    """What the symbols take beside the floor without context and the context model's own ideal."""
    order0, ideal = bounds["order0_entropy_bits"], bounds["coder_ideal_bits"]
    text = f"symbols: {math.ceil(symbols / 8):,} bytes"
    if not (order0 > 0 and ideal > 0):
        return text
    return (
        f"{text}, {100 * symbols / order0:.0f}% of the memoryless (order-0) bound, "
        f"{100 * symbols / ideal:.1f}% of the context model's ideal length"
    )


def certificate_text(certificate: CertificateRow | None, reason: str | None) -> str:
    """What the file's length proves, or why it proves nothing."""
    if certificate is None:
        return f"certificate: none{f': {reason}' if reason else ''}"
    if certificate["vacuous"]:
        return (
            f"certificate: vacuous: {certificate['training_examples']:,} training examples are too "
            "few for a file of this length to say more than chance"
        )
    return (
        f"certificate: true error <= {certificate['bound_percent']:.1f}% with probability "
        f"{1 - certificate['delta']:.2f}"
    )


def holdout_text(holdout: HoldoutRow) -> str:
    """What examples that had no part in training prove."""
    looks = f", and that of all {holdout['looks']} files" if holdout["looks"] > 1 else ""
    return (
        f"held out: true error <= {holdout['bound_percent']:.2f}% with probability "
        f"{1 - holdout['delta']:.2f}{looks}, by {holdout['mistakes']:,} mistakes on "
        f"{holdout['examples']:,} examples"
    )
