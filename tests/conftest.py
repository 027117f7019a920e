"""What every test gets: an empty Pyro parameter store, and hypothesis without a clock."""

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
