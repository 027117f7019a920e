"""Attacks by run folders: code in their recipes, names and links that lead out of them."""

import json
import os
import re
from pathlib import Path

import pytest
from finished_runs import FinishedRuns

from pyro_sws.runs.frontier_files import read_frontier
from pyro_sws.runs.reading import read_folder, stored_architecture
from pyro_sws.runs.swap import NEXT, OLDER, REPORT, finish


@pytest.fixture
def half_swapped(tmp_path):
    """A folder, and in it a run that a killed process left; beside it a file of someone's."""
    folder = tmp_path / "out"
    (folder / NEXT).mkdir(parents=True)
    (folder / NEXT / REPORT).write_text("{}")
    (folder / REPORT).write_text("old")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    return folder


@pytest.mark.parametrize(
    "name", ["../precious/file", "a/../../precious/file", "/etc/hostname", "link/file"]
)
def test_an_older_run_s_names_remove_nothing_outside_the_folder(half_swapped, name):
    (half_swapped / "link").symlink_to(half_swapped.parent / "precious")
    (half_swapped / NEXT / OLDER).write_text(json.dumps([name]))
    with pytest.raises(ValueError, match="not in the folder"):
        finish(half_swapped)
    assert (half_swapped.parent / "precious" / "file").read_text() == "mine"
    assert (half_swapped / REPORT).read_text() == "old"  # nothing was touched


def test_a_link_in_the_folder_leads_no_new_file_out_of_it(half_swapped):
    (half_swapped / "frontier").symlink_to(half_swapped.parent / "precious")
    (half_swapped / NEXT / "frontier").mkdir()
    (half_swapped / NEXT / "frontier" / "file").write_text("theirs")
    (half_swapped / NEXT / OLDER).write_text("[]")
    with pytest.raises(ValueError, match="not in the folder"):
        finish(half_swapped)
    assert (half_swapped.parent / "precious" / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ["{}", "3", "[3]", "null", "[" * 100_000])
def test_an_older_run_s_names_that_are_none_are_refused(half_swapped, text):
    (half_swapped / NEXT / OLDER).write_text(text)
    with pytest.raises(ValueError, match=OLDER):
        finish(half_swapped)


def test_a_frontier_reads_no_file_outside_its_folder(tmp_path):
    (tmp_path / "secret.sws").write_bytes(b"secret")
    point = dict.fromkeys(
        ("step", "bytes", "score", "within", "width", "tau", "nonzero_percent", "passes"), 1
    )
    row = {**point, "seconds": 1, "file": "../../secret.sws"}
    told = dict.fromkeys(("reference", "tolerance", "unit", "judged_on"), 1)
    (tmp_path / "run" / "frontier").mkdir(parents=True)
    table = tmp_path / "run" / "frontier" / "frontier.json"
    table.write_text(json.dumps({**told, "points": [row]}))
    with pytest.raises(FileNotFoundError):
        read_frontier(tmp_path / "run")


def test_opening_a_folder_runs_nothing_that_its_recipe_names(finished_runs: FinishedRuns, tmp_path):
    folder = finished_runs.copy("plain", tmp_path)
    made, code = tmp_path / "made", tmp_path / "evil.py"
    code.write_text(f"open({str(made)!r}, 'w')\n\ndef net():\n    pass\n")
    recipe = folder / "recipe.toml"
    text = re.sub(r'(?m)^source = ".*"$', 'source = "../evil.py:net"', recipe.read_text())
    recipe.write_text(text)
    assert "evil.py" in recipe.read_text()
    parts = read_folder(folder)
    assert not made.exists()
    with pytest.raises(ValueError, match="is code that a run folder names"):
        parts.plan.network.source()
    assert not made.exists()


def test_a_run_s_file_that_is_a_link_to_nothing_is_refused(finished_runs: FinishedRuns, tmp_path):
    folder = finished_runs.copy("plain", tmp_path)
    (folder / "trained.safetensors").unlink()
    os.symlink(tmp_path / "nowhere", folder / "trained.safetensors")
    for read in (read_folder, stored_architecture):
        with pytest.raises(ValueError, match=r"trained\.safetensors: there is no such file"):
            read(folder)


def test_the_security_page_says_of_every_command_whether_it_runs_code():
    from pyro_sws.cli import app

    said = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    part = said[: said.index("## Hostile bytes")]
    commands = [c.name or c.callback.__name__ for c in app.registered_commands]
    assert commands
    assert not [name for name in commands if not re.search(rf"`(pyro-sws )?{name}`", part)]
