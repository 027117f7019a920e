"""The report's part on diagnostics: HTML that goes between two marks of a page."""

from collections.abc import Mapping
from typing import Any

from pyro_sws.assess.page import MARKS, as_pictures, template


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
