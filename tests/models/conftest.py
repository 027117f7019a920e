"""The files of models/ as modules, a user's empty cache, a network that is down."""

import importlib
from urllib.error import URLError

import numpy as np
import pytest

CIFAR_ROWS = {f"data_batch_{i}": i for i in range(1, 6)} | {"test_batch": 4}


def load(name):
    return importlib.import_module(f"models.{name}")


@pytest.fixture(scope="session")
def load_model():
    """A function from a file's name to its module."""
    return load


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


@pytest.fixture(scope="session")
def files():
    return load("files")


@pytest.fixture(autouse=True)
def cache(files, tmp_path, monkeypatch):
    """A user's cache, empty, and a network that is down."""

    def unreachable(url, timeout):
        raise URLError("no route to host")

    monkeypatch.delenv("PYRO_SWS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "urlopen", unreachable)
    return tmp_path / "cache" / "pyro-sws"


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
