"""Sources: a recipe's file and the files beside it that it imports."""

import os
import sys

import pytest

from pyro_sws.recipes.sources import Source, path_of

LAYERS = """
from .sizes import width

class Layer:
    outputs = width()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(
        "from .layers import Layer\n\ndef net():\n    return Layer()\n"
    )
    (tmp_path / "layers.py").write_text(LAYERS)
    (tmp_path / "sizes.py").write_text("def width():\n    return 3\n")
    return tmp_path


def test_a_file_imports_what_lies_beside_it_and_that_its_own_neighbours(folder):
    before = list(sys.path)
    assert Source("net.py:net", {}, folder)().outputs == 3
    assert sys.path == before and not {"layers", "sizes"} & sys.modules.keys()


def test_neighbours_of_one_name_in_two_folders_are_two(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path in folder.glob("*.py"):
        (other / path.name).write_text(path.read_text().replace("3", "4"))
    widths = [Source("net.py:net", {}, place)().outputs for place in (folder, other, folder)]
    assert widths == [3, 4, 3]


def test_a_neighbour_is_read_again_with_a_file_that_has_changed(folder):
    source = Source("net.py:net", {}, folder)
    assert source().outputs == 3
    (folder / "sizes.py").write_text("def width():\n    return 50\n")
    net = folder / "net.py"
    os.utime(net, ns=(0, net.stat().st_mtime_ns + 10**9))
    assert source().outputs == 50


def test_a_class_of_a_neighbour_has_a_name_that_a_recipe_can_hold(folder):
    layer = type(Source("net.py:net", {}, folder)())
    assert path_of(layer, folder) == "layers.py:Layer"
    assert Source(path_of(layer, folder), {}, folder)().outputs == layer.outputs


def test_a_neighbour_that_is_not_there_is_named(folder):
    (folder / "layers.py").unlink()
    with pytest.raises(ModuleNotFoundError, match=r"layers"):
        Source("net.py:net", {}, folder)()
