"""Attacks by text: TOML and JSON that nest without end, numbers and strings without bounds."""

import json

import pytest
import tomli_w
from small_recipe import table

from pyro_sws.assess.report.report import Report
from pyro_sws.compression.checkpoints.source import INDEX, checkpoint
from pyro_sws.files import read_json
from pyro_sws.recipes.changes import read_table
from pyro_sws.recipes.recipe import read_named
from pyro_sws.runs.reading import read_folder

DEEP = 100_000
RECIPES = {
    "brackets without end": "a = " + "[" * DEEP,
    "brackets that close": "a = " + "[" * DEEP + "]" * DEEP,
    "tables in one another": "a = " + "{b = " * DEEP,
    "dotted keys": "a." * 3000 + "b = 1",
    "a table header of dotted keys": "[" + "a." * 3000 + "b]",
    "an integer of 10,000 digits": "seed = " + "1" * 10_000,
    "a key twice": "seed = 1\nseed = 2",
    "no text": "\0" * 100,
}


@pytest.mark.parametrize("what", RECIPES)
def test_a_recipe_that_no_recipe_is_is_refused_in_one_line(what, tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(RECIPES[what])
    with pytest.raises(ValueError, match=r"odd\.toml: not TOML") as caught:
        read_table(path)
    assert len(str(caught.value)) < 500


def test_a_recipe_of_bytes_that_are_no_text_is_refused(tmp_path):
    (tmp_path / "odd.toml").write_bytes(b"seed = \xff\xfe")
    with pytest.raises(ValueError, match=r"odd\.toml: not TOML"):
        read_table(tmp_path / "odd.toml")


def test_a_string_of_10_mb_in_a_recipe_is_not_said_back(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(f'seed = "{"x" * 10**7}"\n')
    with pytest.raises(ValueError, match=r"odd\.toml") as caught:
        read_named(path, trusted=False)
    assert len(str(caught.value)) < 500


BOMBS = {
    "lists": "[" * DEEP + "]" * DEEP,
    "tables": '{"a":' * DEEP + "0" + "}" * DEEP,
    "no end": "[" * DEEP,
    "a number of 10,000 digits": "1" * 10_000,
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_json_bomb_is_a_value_error_that_names_the_file(what, tmp_path):
    (tmp_path / "a.json").write_text(BOMBS[what])
    with pytest.raises(ValueError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("what", BOMBS)
def test_an_index_that_is_a_json_bomb_is_refused(what, tmp_path):
    (tmp_path / INDEX).write_text(BOMBS[what])
    with pytest.raises(ValueError, match="not JSON"):
        checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["report.json", "history.jsonl"])
@pytest.mark.parametrize("what", BOMBS)
def test_a_run_folder_with_a_json_bomb_is_refused(finished_runs, what, name, tmp_path):
    folder = finished_runs.copy("plain", tmp_path)
    (folder / "checksums.sha256").unlink()
    (folder / name).write_text(BOMBS[what])
    with pytest.raises(ValueError, match="not JSON"):
        read_folder(folder)


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", '"a"', '{"groups": 0.5}', '{"groups": {"a": 1}}']
)
def test_a_report_that_is_no_report_is_refused(text):
    with pytest.raises(ValueError, match="report"):
        Report.from_dict(json.loads(text))


def test_the_recipe_that_the_tests_use_is_not_nested_too_deeply(tmp_path):
    (tmp_path / "a.toml").write_text(tomli_w.dumps(table()))
    assert read_table(tmp_path / "a.toml") == table()
