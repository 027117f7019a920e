"""The page is a pure function of the folder: written anew, whole, whatever version made it."""

import json
import shutil

import pytest
from small_recipe import write_recipe

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.page import read_pictures, write_page, write_pictures

pytestmark = pytest.mark.integration

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    recipe = read_recipe(write_recipe(folder))
    run_recipe(recipe, folder / "out", command="pyro-sws run small.toml")
    return folder / "out"


@pytest.fixture
def copied(run, tmp_path):
    shutil.copytree(run, tmp_path / "out")
    return tmp_path / "out"


def test_the_page_is_made_of_the_folder_alone_and_always_the_same(run, copied):
    written = (run / "report.html").read_bytes()
    for older in (None, "<html>by anyone</html>"):
        (copied / "report.html").unlink()
        if older is not None:
            (copied / "report.html").write_text(older)
        write_page(copied)
        assert (copied / "report.html").read_bytes() == written


def test_report_and_page_say_what_was_read_and_how_it_was_asked_for(run):
    report, page = json.loads((run / "report.json").read_text()), (run / "report.html").read_text()
    sizes = {"training": 60, "validation": None, "test": 20}
    assert report["data"] == {"name": "points.py:points", **sizes}
    assert report["command"] == "pyro-sws run small.toml"
    assert "<code>pyro-sws run small.toml</code>" in page
    assert "60 training and 20 test examples" in page


def test_the_values_in_the_file_have_a_figure_of_each_group(run):
    captions = json.loads((run / "figures" / "captions.json").read_text())
    assert captions["all_values"].startswith("The weights as they are in the file")
    assert set(captions) == {path.stem for path in (run / "figures").glob("*.png")}


def test_the_page_follows_the_folder(copied):
    report = json.loads((copied / "report.json").read_text())
    (copied / "report.json").write_text(json.dumps(report | {"file_bytes": 123_456}))
    (copied / "recipe.toml").write_text("# another recipe")
    write_pictures(copied / "figures", {"training": (PNG, "An altered caption.")})
    write_page(copied)
    page = (copied / "report.html").read_text()
    for said in ("123,456 bytes", "# another recipe", "An altered caption."):
        assert said in page


def test_pictures_come_back_as_they_were_and_in_their_order(tmp_path):
    pictures = {"b": (PNG + b"b", 'The "second" café'), "a": (PNG + b"a", "The first")}
    write_pictures(tmp_path, pictures)
    assert list(read_pictures(tmp_path).items()) == list(pictures.items())


def test_a_folder_of_an_older_version_has_a_page_all_the_same(copied):
    """It has no captions, and a report without format, date and data."""
    (copied / "figures" / "captions.json").unlink()
    report = json.loads((copied / "report.json").read_text())
    for key in ("format", "date", "command", "data"):
        del report[key]
    (copied / "report.json").write_text(json.dumps(report))
    write_page(copied)
    page = (copied / "report.html").read_text()
    assert page.count("<figure>") == len(list((copied / "figures").glob("*.png")))
    assert "<figcaption>all before after</figcaption>" in page and "Made on" not in page


def test_report_json_alone_is_enough(run, tmp_path):
    shutil.copy(run / "report.json", tmp_path)
    write_page(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Compression ratio" in page and "<figure>" not in page and "Recipe</h2>" not in page


def test_diagnostics_are_a_part_of_the_page_where_there_are_any(copied):
    (copied / "diagnostics").mkdir()
    found = {"guide": "normal", "snapping": {"tensors": []}}
    write_pictures(copied / "diagnostics", {"mixture_pairs": (PNG, "Pairs.")})
    write_page(copied)
    assert "<h2>Diagnostics</h2>" not in (copied / "report.html").read_text()  # not finished
    (copied / "diagnostics" / "diagnostics.json").write_text(json.dumps(found))
    for _ in range(2):
        write_page(copied)
        page = (copied / "report.html").read_text()
        assert page.count("<h2>Diagnostics</h2>") == page.count("Pairs.</figcaption>") == 1


def test_a_report_of_a_newer_format_is_refused_and_the_page_stays(copied):
    page = (copied / "report.html").read_bytes()
    report = json.loads((copied / "report.json").read_text()) | {"format": 3}
    (copied / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match="report is format 3; this build reads up to 1"):
        write_page(copied)
    assert (copied / "report.html").read_bytes() == page
