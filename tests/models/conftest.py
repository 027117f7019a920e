"""The files of models/ as modules, loaded by path as a recipe does: there is no such package."""

import importlib.util
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "models"


def load(name):
    spec = importlib.util.spec_from_file_location(f"models_{name}", MODELS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lenet():
    return load("lenet")


@pytest.fixture(scope="session")
def mlp():
    return load("mlp")


@pytest.fixture(scope="session")
def data():
    return load("data")
