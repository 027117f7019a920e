"""Where results lie, and how a script writes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_sws.files import write_whole

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1) + "\n")
    print(f"wrote {path.name}")


def earlier_rows(path: Path) -> list[Mapping[str, Any]]:
    """The rows that are in a file of results already; none where there is no file."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def with_row(
    rows: Sequence[Mapping[str, Any]], new: Mapping[str, Any], keys: Sequence[str]
) -> list[Mapping[str, Any]]:
    """The rows, with this one at the end in place of the one that has the same under ``keys``."""
    return [*(row for row in rows if any(row[key] != new[key] for key in keys)), new]
