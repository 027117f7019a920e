"""The report as one HTML file that needs nothing else: no script, font or image from outside."""

import base64
import math
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from jinja2 import ChainableUndefined, Environment, PackageLoader, Template

from pyro_sws.assess.report.filters import FILTERS, is_number, number, percent_of

if TYPE_CHECKING:  # its parts draw on libraries that a page does without
    from pyro_sws.assess.diagnostics import MixtureRow

Json: TypeAlias = Mapping[str, Any]  # a table of report.json or diagnostics.json, of any version
Picture = tuple[bytes, str]  # a PNG file, and its caption
PART_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8b96a1")
PART_MEANINGS = {
    "header": "names, shapes and lengths",
    "codebooks": "the values that the weights share",
    "scales": "what the values are multiplied by",
    "symbols": "which value each weight takes",
    "raw": "parameters without a prior, and buffers",
    "checksum": "to notice a damaged file",
}
STAGES = {  # key in report.score -> what the network is at that point
    "before": "as given",
    "posterior": "after fitting, weights not yet snapped",
    "quantized": "every weight snapped to its value",
    "decoded": "read back from the file",
}
DESCRIPTION = {  # key in report.description, without "_bits" -> its name, what it means
    "file": ("the file", "The network that it decodes to."),
    "label": (
        "the training targets, given that network",
        "−log₂ of the chance that the decoded network gives them: what is left to be said. For "
        "continuous targets it is a density, and can be negative.",
    ),
    "total": (
        "total description",
        "The smaller, the better the file pays for itself. Priors can be compared by it, not by "
        "the complexity cost or the −ELBO at the end of this page, which are densities.",
    ),
}
BOUNDS = {  # key in report.bounds, without "_bits" -> its name, what it means
    "order0_entropy": (
        "memoryless (order-0) bound",
        "A floor for codes with one fixed table a tensor, the table not counted. A code that looks "
        "at the neighbouring weights can go below it, and so can the file.",
    ),
    "enumerative": (
        "enumerative code",
        "Says how often each value occurs, then which of all such arrangements it is.",
    ),
    "nml": (
        "normalised maximum likelihood",
        "The memoryless bound, and the least worst-case price of not knowing the table beforehand.",
    ),
    "kt": (
        "adaptive (Krichevsky-Trofimov)",
        "Learns the table as it goes: within some bits of the least worst-case price.",
    ),
    "rate_distortion": (
        "rate-distortion, of the fitted density",
        "No code gives weights drawn from the fitted density as exactly in less; of these weights, "
        "and of what the network makes of them, it says nothing. A diagnostic.",
    ),
    "permutation": (
        "the order of the units",
        "What their freedom is worth: rewriting cannot have saved more.",
    ),
    "mixture_cross_entropy": (
        "fitted mixture as the code",
        "What the weights cost if the prior's own proportions were the table.",
    ),
}


def page(
    report: Json,
    figures: Mapping[str, Picture],
    recipe: str | None = None,
    diagnostics: Json | None = None,
    diagnostic_figures: Mapping[str, Picture] = MappingProxyType({}),
) -> str:
    """HTML for a report (as in report.json), its recipe, and figures by name, each with a caption.

    ``diagnostics`` are as in diagnostics.json, and have figures of their own. What the report lacks
    shows as a dash, or leaves its section out.
    """
    mixtures = (diagnostics or {}).get("mixture") or {}
    return _template().render(
        report=report,
        parts=_parts(report.get("bits") or {}),
        stages=_stages(report),
        description=DESCRIPTION,
        bounds=BOUNDS,
        standard_error=_standard_error(report.get("score") or {}),
        examples=_examples(report.get("data") or {}),
        fingerprinted=_fingerprinted(report),
        units=_units(report.get("rewriting") or {}),
        figures=_encoded(figures),
        recipe=recipe,
        diagnostics=diagnostics,
        components={name: by_component(found.get("rows", ())) for name, found in mixtures.items()},
        diagnostic_figures=_encoded(diagnostic_figures),
    )


def _stages(report: Json) -> dict[str, str]:
    """Those that the report has: on a walk the weights behind the values are no network."""
    return {k: what for k, what in STAGES.items() if k != "posterior" or not report.get("walk")}


def _encoded(pictures: Mapping[str, Picture]) -> list[dict[str, str]]:
    """PNG files by name, each with a caption, as a template takes them."""
    return [
        {"name": name, "caption": caption, "png": base64.b64encode(png).decode()}
        for name, (png, caption) in pictures.items()
    ]


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("pyro_sws.assess.report", "."),
        autoescape=True,  # always: by its name, the template is not HTML
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template("page.html.j2")


class Part(TypedDict):
    """A part of the file, and how its bar is drawn."""

    name: str
    bits: int
    percent: float
    share: str
    colour: str
    meaning: str


class Units(TypedDict):
    """What became of the hidden units; the last four sum to the first."""

    hidden: int
    silent_before: int
    dropped: int
    folded: int
    left: int


def _parts(bits: Mapping[str, int]) -> list[Part]:
    """The file's parts that hold anything, the largest first."""
    total = sum(bits.values())
    parts = sorted(((n, part) for part, n in bits.items() if n > 0), key=lambda p: -p[0])
    return [
        {
            "name": part,
            "bits": n,
            "percent": 100 * n / total,
            "share": percent_of(n, total),
            "colour": PART_COLOURS[i % len(PART_COLOURS)],
            "meaning": PART_MEANINGS.get(part, ""),
        }
        for i, (n, part) in enumerate(parts)
    ]


def _standard_error(score: Json) -> float | None:
    """Of an error rate, in points, from its finite number of examples; None for other scores.

    By Laplace's rule, (mistakes + 1) / (examples + 2): no mistake is no certainty.
    """
    error, examples = score.get("decoded"), score.get("examples")
    if score.get("unit") != "percent" or not is_number(error) or not examples:
        return None
    share = (error / 100 * examples + 1) / (examples + 2)
    return 100 * math.sqrt(share * (1 - share) / examples)


def _examples(data: Json) -> str:
    """How many there are of each split: 60,000 training and 10,000 test."""
    counts = [
        f"{number(data[split])} {split}"
        for split in ("training", "validation", "test")
        if is_number(data.get(split))
    ]
    return " and ".join([part for part in (", ".join(counts[:-1]), *counts[-1:]) if part])


def _fingerprinted(report: Json) -> bool:
    """Whether the file has a fingerprint in place of names and shapes."""
    sizes, size = report.get("variants") or {}, report.get("file_bytes")
    return size is not None and size == sizes.get("fingerprint") != sizes.get("self_contained")


def _units(rewriting: Json) -> Units | None:
    """What became of the hidden units; None where nothing is known of them."""
    if not all(is_number(rewriting.get(key)) for key in ("hidden", "silent", "dropped", "folded")):
        return None
    hidden, silent, dropped = (rewriting[key] for key in ("hidden", "silent", "dropped"))
    folded = min(rewriting["folded"], silent - dropped)
    return {
        "hidden": hidden,
        "silent_before": silent - dropped - folded,
        "dropped": dropped,
        "folded": folded,
        "left": hidden - silent,
    }


def by_component(rows: "Iterable[MixtureRow]") -> "dict[str, dict[str, MixtureRow]]":
    """Component -> "means", "deviations", "proportions" -> its row, if any; spikes first."""
    table: dict[str, dict[str, MixtureRow]] = {}
    for row in rows:
        variable, bracket, rest = row["name"].partition("[")
        if bracket:
            table.setdefault(rest.removesuffix("]"), {})[variable] = row
    return dict(sorted(table.items(), key=lambda item: not item[0].startswith("spike")))
