"""Recipes that are shipped: listed, copied with what they need, and run from a wheel alone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyro_sws import cli
from pyro_sws.recipes import shipped
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import load_network

ROOT = Path(__file__).parents[2]


def test_every_recipe_of_the_repository_is_listed_with_a_sentence():
    names = {
        path.relative_to(ROOT / "models").with_suffix("").as_posix()
        for path in (ROOT / "models").rglob("*.toml")
    }
    assert shipped.recipes().keys() == names
    assert all(len(about) > 20 and "\n" not in about for about in shipped.recipes().values())


@pytest.mark.parametrize("name", shipped.recipes())
def test_a_copy_has_all_that_its_recipe_runs(name, tmp_path):
    first, *more = shipped.copy(name, tmp_path)
    plan = read_recipe(first)
    if plan.network.from_run is None and plan.network.start is None:
        load_network(plan)
    assert plan.data.source.check is not None and plan.data.source.function()
    assert {path.suffix for path in more} == {".py"}


def test_files_that_are_there_stay(tmp_path):
    (tmp_path / "mlp.py").write_text("mine")
    with pytest.raises(ValueError, match="mlp.py would be lost; choose another --out"):
        shipped.copy("digits", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mlp.py"]
    shipped.copy("digits", tmp_path, overwrite=True)
    assert "def digits_mlp" in (tmp_path / "mlp.py").read_text()


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="no recipe is called 'digit', did you mean 'digits'"):
        shipped.recipe_path("digit")
    with pytest.raises(ValueError, match="there are augmented/lenet_5_caffe, diabetes"):
        shipped.recipe_path("xyzzy")


def test_init_writes_and_says_what_is_next(tmp_path):
    result = CliRunner().invoke(cli.app, ["init", "diabetes", "--out", str(tmp_path / "own")])
    assert result.exit_code == 0
    assert f"next: pyro-sws run {tmp_path / 'own' / 'diabetes.toml'}" in result.stdout
    assert "digits" in CliRunner().invoke(cli.app, ["init", "--list"]).stdout


@pytest.mark.slow
def test_a_wheel_works_where_there_is_no_repository(tmp_path):
    """Built from the source distribution, as an index would have it."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "-w", str(tmp_path / "built"), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = (tmp_path / "built").glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {"pyro_sws/py.typed", "pyro_sws/__init__.pyi", "pyro_sws/models/digits.toml"} <= inside
    assert "pyro_sws/assess/report/page.html.j2" in inside
    assert not [name for name in inside if name.startswith(("tests", "scripts", "models"))]
    subprocess.run([*pip, "install", "--no-deps", "-t", str(tmp_path / "site"), wheel], check=True)
    (tmp_path / "work").mkdir()

    def python(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path / "work",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    where = python("-c", "import pyro_sws; print(pyro_sws.__file__)")
    assert where.startswith(str(tmp_path / "site"))
    assert "shrink" in python("-m", "pyro_sws", "--help")
    python("-m", "pyro_sws", "init")
    short = ["--set", "epochs=1", "--set", "pretraining.epochs=2", "--set", "refinement.epochs=1"]
    python("-m", "pyro_sws", "run", "digits.toml", "--out", "short", *short)
    assert "model.sws" in python("-m", "pyro_sws", "demo")
    assert (tmp_path / "work/runs/digits/report.html").is_file()
