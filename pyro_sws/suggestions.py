"""Did you mean ...? The known word that is nearest to a misspelt one."""

import difflib
from collections.abc import Sequence


def nearest(key: str, known: Sequence[str]) -> str:
    """ ", did you mean 'tau'?" for an error's end; empty where no known key is close."""
    close = difflib.get_close_matches(key, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""
