"""Rows of recipe runs, kept as if they had been run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def keep(runs: Iterable[Any], folder: Path, **numbers: float) -> None:
    """Rows of the runs as if they had been run, every next one with a larger ratio."""
    for i, run in enumerate(runs):
        row: dict[str, Any] = {
            **run.settings,
            "error_before_percent": 1.9,
            "error_unsnapped_percent": 1.8,
            "error_percent": 2.0,
            "nonzero_percent": 5.0,
            "nonzero_percent_snapped": 5.5,
            "values": 14,
            "ratio_paper": 45.0 + i,
            "ratio_paper_rewritten": 50.0 + i,
            "ratio": 90.0,
            "file_bytes": 12_345,
            **numbers,
        }
        path = run.path(folder)
        path.mkdir(parents=True)
        (path / "row.json").write_text(json.dumps(row))
