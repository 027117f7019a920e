"""What tests get: an empty Pyro parameter store, hypothesis without a clock, scripts and runs."""

import importlib
import sys

import pyro
import pytest
from finished_runs import FinishedRuns
from hypothesis import HealthCheck, settings
from pictures import unrendered

# A busy machine is no counterexample.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def empty_parameter_store():
    with pyro.get_param_store().scope():
        yield


@pytest.fixture(scope="session", autouse=True)
def unrendered_pictures():
    """Tests that look at a run's pictures say ``with rendered()``."""
    with unrendered():
        yield


@pytest.fixture
def script(monkeypatch):
    """A function from a script's name, such as "frontier.tables", to its module."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # scripts add to it
    return lambda name: importlib.import_module(f"scripts.{name}")


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory):
    """Runs of the small recipe, of each kind that is asked for."""
    return FinishedRuns(tmp_path_factory.mktemp("finished"))
