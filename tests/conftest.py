"""What tests get: an empty Pyro parameter store, hypothesis without a clock, and the scripts."""

import importlib
from pathlib import Path

import pyro
import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no counterexample.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def empty_parameter_store():
    with pyro.get_param_store().scope():
        yield


@pytest.fixture
def script(monkeypatch):
    """A function from the name of a script to its module, which finds its neighbours, too."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    return importlib.import_module
