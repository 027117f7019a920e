"""Laplace's approximation drawn from a tenth as often: for tests of what is made of the draws."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from pyro_sws.diagnosis import diagnostics
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters

FEW = 100


@contextmanager
def few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        fewer = partial(laplace_hyperparameters, draws=FEW)
        patch.setattr(diagnostics, "laplace_hyperparameters", fewer)
        yield
