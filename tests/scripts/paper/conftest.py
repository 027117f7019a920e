"""A small finished run, for the film and the pictures."""

import pytest
from small_recipe import write_recipe

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_recipe(read_recipe(write_recipe(folder)), folder / "out")
    return folder / "out"
