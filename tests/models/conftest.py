"""The files of models/ as modules, loaded by path as a recipe does: there is no such package."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

MODELS = Path(__file__).parents[2] / "models"
CIFAR_ROWS = {f"data_batch_{i}": i for i in range(1, 6)} | {"test_batch": 4}


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


@pytest.fixture(scope="session")
def augmentation():
    return load("augmentation")


@pytest.fixture
def cifar(tmp_path):
    """CIFAR-10's six binary files, of a few images each, in the folder that its archive has."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    random = np.random.RandomState(0)
    for name, n in CIFAR_ROWS.items():
        labels, pixels = random.randint(0, 10, (n, 1)), random.randint(0, 256, (n, 3072))
        content = np.hstack([labels, pixels]).astype(np.uint8).tobytes()
        (folder / f"{name}.bin").write_bytes(content)
    return folder
