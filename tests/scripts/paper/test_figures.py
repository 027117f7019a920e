"""Pictures of a run, from its folder alone."""

import numpy as np


def test_tiles_stand_in_rows_with_a_gap_between_them(script):
    images = np.arange(12.0).reshape(3, 2, 2)
    sheet = script("paper.figures").tiles(images, columns=2)
    nan = np.nan
    expected = [
        [0, 1, nan, 4, 5],
        [2, 3, nan, 6, 7],
        [nan, nan, nan, nan, nan],
        [8, 9, nan, nan, nan],
        [10, 11, nan, nan, nan],
    ]
    np.testing.assert_array_equal(sheet, expected)


def test_pictures_of_a_run_are_drawn_from_its_folder_alone(script, folder, tmp_path):
    script("paper.figures").draw_run(folder, tmp_path, "small")
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"small_weights.png", "small_training.png", "small_0.png"}
