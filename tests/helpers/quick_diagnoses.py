"""Diagnoses of few draws and without pictures, for tests of what is made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from pyro_sws.diagnosis import diagnostics, folder
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters

FEW_DRAWS = 100
NO_PICTURE = b"\x89PNG"


@contextmanager
def few_draws() -> Iterator[None]:
    """Laplace's approximation is drawn from a tenth as often."""
    with pytest.MonkeyPatch.context() as patch:
        fewer = partial(laplace_hyperparameters, draws=FEW_DRAWS)
        patch.setattr(diagnostics, "laplace_hyperparameters", fewer)
        yield


@contextmanager
def quick_diagnoses() -> Iterator[None]:
    """Few draws, and figures that are made, but not rendered."""
    with few_draws(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "as_png", lambda figure: NO_PICTURE)
        yield
