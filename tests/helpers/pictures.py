"""Whether the pictures of runs and diagnoses are rendered: most of a small run's time.

Tests of the figures themselves (tests/assess/figures) render what they look at in any case.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pyro_sws.assess.figures.style import as_png
from pyro_sws.diagnosis import folder as diagnosis_folder
from pyro_sws.runs import folder as run_folder

PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of any


@contextmanager
def unrendered() -> Iterator[None]:
    """Figures are made, and stand in their files as the first bytes of a PNG alone."""
    with _drawn_by(lambda figure: PNG):
        yield


@contextmanager
def rendered() -> Iterator[None]:
    """As outside the tests."""
    with _drawn_by(as_png):
        yield


@contextmanager
def _drawn_by(function: Callable[..., bytes]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_folder, diagnosis_folder):
            patch.setattr(module, "as_png", function)
        yield
