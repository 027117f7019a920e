"""The frontier's tables, and bytes at an error, by hand."""

import pytest


def test_a_recipes_own_points_are_rows_under_its_path(script):
    keys = "test_error_percent", "trained_error_percent", "bytes", "nonzero_percent"
    point = {"network": "lenet_5_caffe", **dict.fromkeys(keys, 1.0)}
    own = {**point, "recipe": "models/augmented/lenet_5_caffe.toml", "is_recipe": True}
    other = {**point, "recipe": "models/lenet_5_caffe.toml", "is_recipe": False}
    rows = script("frontier.tables").recipe_rows({"points": [other, own]})
    assert [row["recipe"] for row in rows] == ["augmented/lenet_5_caffe"]


def test_bytes_at_an_error_are_on_a_line_between_the_fronts_points(script):
    bytes_at = script("frontier.tables").bytes_at
    front = [(400.0, 1.0), (100.0, 2.0)]
    assert bytes_at(front, 1.5) == pytest.approx(200)  # the geometric mean
    assert bytes_at(front, 1.0) == pytest.approx(400)
    assert bytes_at(front, 3.0) == 100 and bytes_at(front, 0.9) is None


def test_the_baseline_stands_beside_what_is_smaller_at_its_error(script):
    sizes = {("mixture", "tau 1"): (100, 2.0), ("mixture", "tau 0.1"): (400, 1.0)}
    sizes[("pruned", "density 0.1")] = (250, 1.5)
    points = [
        {"network": "lenet_5_caffe", "method": m, "name": n, "bytes": b, "test_error_percent": e}
        for (m, n), (b, e) in sizes.items()
    ]
    row = script("frontier.tables").baseline_table({"points": points}, ["mixture"]).splitlines()[2]
    assert row == "| LeNet-5-Caffe | pruned | density 0.1 | 250 | 1.50 % | 1 | 200 (-20 %) |"
