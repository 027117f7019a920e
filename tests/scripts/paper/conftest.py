"""A small finished run, for the film and the pictures."""

import pytest


@pytest.fixture(scope="session")
def folder(finished_runs):
    return finished_runs.folder("plain") / "out"
