"""Lines of a report's text: of its walk, of what was not rewritten, of its certificate."""

from collections.abc import Iterator

from pyro_sws.assess.report.filters import score as shown
from pyro_sws.assess.report.shapes import CertificateRow, RewritingRow, WalkRow

SHOWN = 2  # tensors whose units stay as they are


def walk_text(walk: WalkRow, unit: str) -> str:
    """What the file was held to, and why it is no shorter."""
    own, reference, tolerance = (
        shown(walk[key], unit)  # type: ignore[literal-required]
        for key in ("score", "reference", "tolerance")
    )
    limit = f", limited by the {walk['limited_by']}" if "limited_by" in walk else ""
    return (
        f"walk: {own} on {walk['judged_on']} data, where the network has {reference} and "
        f"{tolerance} more was allowed; {walk['passes']:.3g} passes, {walk['files']} files{limit}"
    )


def left_alone_text(rewriting: RewritingRow) -> Iterator[str]:
    """What stays in the order that it had, and why."""
    left = list(rewriting["left_alone"].items())
    if left:
        named = "; ".join(f"{name}: {reason}" for name, reason in left[:SHOWN])
        more = f"; and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        yield f"units left in their order: {named}{more}"


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
