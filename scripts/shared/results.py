"""Where results lie, and how a script writes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_sws.files import write_whole

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1) + "\n")
    print(f"wrote {path.name}")
