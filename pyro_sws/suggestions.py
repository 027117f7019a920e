"""Did you mean ...? The known word that is nearest to a misspelt one."""

import difflib
from collections.abc import Sequence


def nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""
