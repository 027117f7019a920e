"""The report as one HTML file that needs nothing else: no script, font or image from outside."""

import base64
import math
from collections.abc import Mapping
from functools import cache
from numbers import Real
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader, Template
from matplotlib.figure import Figure

from pyro_sws.assess.figures.style import as_png

MISSING = "–"
# Between these two lines a page has its part on diagnostics, once there is one.
MARKS = "<!-- diagnostics begin -->", "<!-- diagnostics end -->"
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
    "mixture_cross_entropy": (
        "fitted mixture as the code",
        "What the weights cost if the prior's own proportions were the table.",
    ),
    "coder_ideal": (
        "this file's coder",
        "What its decisions on the weights cost, before rounding to whole bytes.",
    ),
}


def page(
    report: Mapping[str, Any],
    figures: Mapping[str, tuple[Figure, str]],
    recipe: str | None = None,
) -> str:
    """HTML for a report (as in report.json), its recipe, and figures by name, each with a caption.

    What the report lacks shows as a dash, or leaves its section out.
    """
    return template("page.html.j2").render(
        report=report,
        parts=_parts(report.get("bits") or {}),
        stages=STAGES,
        description=DESCRIPTION,
        bounds=BOUNDS,
        standard_error=_standard_error(report.get("score") or {}),
        figures=as_pictures({n: (as_png(f), caption) for n, (f, caption) in figures.items()}),
        recipe=recipe,
        marks=MARKS,
    )


def as_pictures(drawn: Mapping[str, tuple[bytes, str]]) -> list[dict[str, str]]:
    """PNG files by name, each with a caption, as a template takes them."""
    return [
        {"name": name, "caption": caption, "png": base64.b64encode(png).decode()}
        for name, (png, caption) in drawn.items()
    ]


@cache
def template(name: str) -> Template:
    """One of the templates beside this file."""
    environment = Environment(
        loader=PackageLoader("pyro_sws.assess.report", "."),
        autoescape=True,  # always: by its name, the template is not HTML
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "bytes": lambda bits: _number(bits / 8) if _is_number(bits) else MISSING,
        "ratio": lambda value: f"{_number(value, 1)}×" if _is_number(value) else MISSING,
        "percent_of": _percent_of,
        "figure": _figure,
        "score": _score,
        "change": _change,
    }
    return environment.get_template(name)


def _parts(bits: Mapping[str, int]) -> list[dict[str, Any]]:
    """The file's parts that hold anything, the largest first."""
    total = sum(bits.values())
    held = sorted(((n, part) for part, n in bits.items() if n > 0), key=lambda p: -p[0])
    return [
        {
            "name": part,
            "bits": n,
            "percent": 100 * n / total,
            "share": _percent_of(n, total),
            "colour": PART_COLOURS[i % len(PART_COLOURS)],
            "meaning": PART_MEANINGS.get(part, ""),
        }
        for i, (n, part) in enumerate(held)
    ]


def _standard_error(score: Mapping[str, Any]) -> float | None:
    """Of an error rate, in points, from its finite number of examples; None for other scores."""
    error: Any = score.get("decoded")
    examples = score.get("examples")
    if score.get("unit") != "percent" or not _is_number(error) or not examples:
        return None
    return math.sqrt(error * (100 - error) / examples)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _number(value: Any, digits: int = 0) -> str:
    """12,345.68 with a true minus sign; a dash for what is no number."""
    return f"{value:,.{digits}f}".replace("-", "−") if _is_number(value) else MISSING


def _figure(value: Any, digits: int = 3) -> str:
    """Three significant digits, with a true minus sign."""
    return f"{value:.{digits}g}".replace("-", "−") if _is_number(value) else MISSING


def _percent_of(part: Any, whole: Any) -> str:
    if not (_is_number(part) and _is_number(whole) and whole > 0):
        return MISSING
    percent = 100 * part / whole
    return "< 0.1%" if 0 < percent < 0.05 else f"{percent:.1f}%"


def _score(value: Any, unit: Any = "") -> str:
    """A score with its unit: 1.94%, or 0.3127 nats."""
    if not _is_number(value):
        return MISSING
    text = f"{value:.2f}%" if unit == "percent" else f"{value:.4g} {unit or ''}"
    return text.strip().replace("-", "−")


def _change(value: Any, before: Any, unit: Any) -> str:
    """The signed difference between two scores: +0.05 points."""
    if not (_is_number(value) and _is_number(before)):
        return MISSING
    difference = value - before
    text = f"{difference:+.2f} points" if unit == "percent" else f"{difference:+.3g} {unit or ''}"
    return text.strip().replace("-", "−")


def with_diagnostics(
    page: str, found: Mapping[str, Any], pictures: Mapping[str, tuple[bytes, str]]
) -> str:
    """The page with its part on diagnostics; an older one is replaced.

    ``found`` is what diagnostics.json holds, ``pictures`` are PNG files, each with a caption.
    Raises ValueError for a page without the marks.
    """
    check_marks(page)
    begin, end = MARKS
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    part = template("diagnostics.html.j2").render(
        found=found, figures=as_pictures(pictures), components=_components(found.get("mixture", {}))
    )
    return before + begin + "\n" + part + "\n" + end + after


def check_marks(page: str) -> None:
    """Raise ValueError for a page that has no place for diagnostics."""
    if MARKS[1] not in page.partition(MARKS[0])[2]:
        raise ValueError(
            "the page has no place for diagnostics: it was written by an older version; run the "
            "recipe again for a new report"
        )


def _components(mixtures: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """By mixture and component, the rows of its mean, deviation and proportion."""
    return {name: by_component(found) for name, found in mixtures.items()}


def by_component(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Component -> "means", "deviations", "proportions" -> its row, if any; spikes first."""
    table: dict[str, dict[str, Any]] = {}
    for row in found.get("rows", ()):
        variable, bracket, rest = row["name"].partition("[")
        if bracket:
            table.setdefault(rest.removesuffix("]"), {})[variable] = row
    return dict(sorted(table.items(), key=lambda item: not item[0].startswith("spike")))
