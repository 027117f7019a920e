"""Which rows stand on which page, and how a table is put between its marks."""

import pytest

MARKED = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n"


@pytest.fixture
def tables(script):
    return script("update_tables")


def row(recipe, seed, error, size):
    score = {"before": 2.0, "decoded": error}
    numbers = {"file_bytes": size, "parameter_bytes": 90_000, "nonzero_percent": 1.0}
    return {"recipe": recipe, "seed": seed, "score": score, "start": None, **numbers}


def test_a_recipe_is_one_line_of_means_with_their_ranges(tables):
    rows = [row("digits", 0, 2.0, 800), row("digits", 1, 3.0, 1000), row("other", 0, 9.0, 1)]
    (line,) = tables.recipes_table(rows, ["digits", "lenet_300_100"]).splitlines()[2:]
    assert line == (
        "| 64-300-100-10, digits | 2.00 % | 2.50 % (2.00-3.00) | 900 (800-1,000) | 100x | 1.0 % "
        "| 2 | `models/digits.toml` |"
    )


def test_the_papers_own_settings_stand_with_the_results_alone(tables):
    pages = {path.name: content for path, content in tables.pages().items()}
    assert "models/paper/" not in "".join(pages["README.md"].values())
    everywhere = pages["results.md"]["all_recipes"]
    assert all(f"`models/{name}.toml`" in everywhere for name in tables.NAMES)


def test_what_stands_between_the_marks_is_replaced(tables):
    new = tables.replaced(MARKED, "a", "new")
    assert new == MARKED.replace("old", "new") and tables.replaced(new, "a", "old") == MARKED
    with pytest.raises(ValueError):
        tables.replaced(MARKED, "b", "new")
