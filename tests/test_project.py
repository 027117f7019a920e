"""What the project says of itself: one version everywhere, at no cost to who only imports."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_sws

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CITATION = (ROOT / "CITATION.cff").read_text()


@pytest.fixture
def not_asked_yet(monkeypatch):
    """As in a fresh process: the version is looked up again."""
    monkeypatch.delitem(vars(pyro_sws), "__version__", raising=False)


def test_the_version_is_that_of_the_project(not_asked_yet):
    assert pyro_sws.__version__ == PROJECT["project"]["version"]


def test_a_bare_folder_has_no_version(not_asked_yet, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert pyro_sws.__version__ == "unknown"
    monkeypatch.delitem(vars(pyro_sws), "__version__")  # not for the tests after this one


def test_the_version_costs_nothing_until_it_is_asked_for():
    check = "import sys, pyro_sws; assert 'importlib.metadata' not in sys.modules"
    # -S: what the environment's own start-up files import is not the package's doing.
    command = [sys.executable, "-S", "-c", check]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_citation_is_of_this_version_and_licence():
    fields = dict(re.findall(r"^([\w-]+): (.+)$", CITATION, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    assert fields["version"] == PROJECT["project"]["version"]
    assert fields["license"] == PROJECT["project"]["license"]
    assert fields["repository-code"].strip('"') == PROJECT["project"]["urls"]["Homepage"]


def test_the_source_distribution_holds_files_that_are_there():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert not [name for name in included if not (ROOT / name).exists()]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md"])
def test_every_make_target_that_a_page_names_is_there(name):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)`", (ROOT / name).read_text())) <= targets
