"""What shapes say: rows, images and feeders, by example."""

import numpy as np
import pytest

from pyro_sws.codec.tensor_layout import LONGEST_ROW, matrix, units


def seen(shape, *earlier):
    found = matrix(shape, [np.arange(count) for count in earlier])
    return found.rows, found.columns, found.width, None if found.feeder is None else found.feeder


def rows_columns_width(shape, *earlier):
    return seen(shape, *earlier)[:3]


@pytest.mark.parametrize(
    "shape, expected",
    {
        (): (1, 1, 0),
        (7,): (1, 7, 0),
        (1,): (1, 1, 0),
        (5, 1): (5, 1, 0),
        (3, 8): (3, 8, 0),  # neither a square nor three
        (3, 4): (3, 4, 0),  # a square of 2 is no image
        (3, 9): (3, 9, 3),
        (300, 784): (300, 784, 28),
        (10, 3 * 1024): (10, 3072, 32),  # three channels
        (10, 2 * 1024): (10, 2048, 0),
        (4, 3, 9): (4, 27, 0),  # kernels of one dimension
        (20, 1, 5, 5): (20, 25, 5),
        (50, 20, 3, 3): (50, 180, 3),
        (64, 32, 1, 1): (64, 32, 0),
        (8, 4, 2, 2): (8, 16, 0),
        (8, 2, 3, 4, 5): (8, 120, 5),
    }.items(),
)
def test_a_tensor_without_a_feeder_is_seen_as(shape, expected):
    assert rows_columns_width(shape) == expected
    assert seen(shape)[3] is None


@pytest.mark.parametrize(
    "shape, expected",
    {
        (1, LONGEST_ROW): (1, LONGEST_ROW, 256),  # 2^16 is a square
        (1, LONGEST_ROW + 1): (LONGEST_ROW + 1, 1, 0),
        (LONGEST_ROW + 1,): (LONGEST_ROW + 1, 1, 0),
        (15, 70_000): (15 * 70_000, 1, 0),
        (16, 70_000): (16, 70_000, 0),
    }.items(),
)
def test_a_few_rows_that_are_very_long_become_one_column(shape, expected):
    assert rows_columns_width(shape) == expected


def test_columns_are_fed_by_the_latest_layer_whose_units_divide_the_inputs():
    assert len(seen((10, 30), 30)[3]) == 30
    assert len(seen((10, 30), 30, 10)[3]) == 10  # the later of two that divide
    assert len(seen((10, 30), 30, 7)[3]) == 30
    assert len(seen((10, 20, 3, 3), 20, 9)[3]) == 20  # the inputs are 20, not 180
    assert seen((10, 30), 7, 60)[3] is None


def test_a_bias_is_fed_by_a_layer_of_as_many_units():
    assert len(seen((30,), 30, 10)[3]) == 30
    assert seen((30,), 10, 15)[3] is None


def test_a_single_unit_and_no_inputs_feed_nobody():
    assert seen((10, 30), 1)[3] is None
    assert seen((1,), 1)[3] is None
    assert seen((10, 0), 5)[3] is None
    assert seen((), 5)[3] is None


def test_the_columns_of_one_feeding_unit_may_be_an_image():
    assert rows_columns_width((500, 800), 50) == (500, 800, 4)  # 50 maps of 4 x 4
    assert rows_columns_width((100, 784), 784) == (100, 784, 0)  # a unit a column is no image
    assert rows_columns_width((100, 784), 4) == (100, 784, 14)


def test_units_count_the_nonzeros_of_each_row_of_all_further_dimensions():
    nonzero = np.zeros((3, 2, 2), bool)
    nonzero[0], nonzero[2, 1, 0] = True, True
    assert units((3, 2, 2), nonzero.ravel()).tolist() == [4, 0, 1]


@pytest.mark.parametrize("shape", [(), (5,), (0, 4), (4, 0)])
def test_vectors_and_empty_tensors_have_no_units(shape):
    assert units(shape, np.ones(shape, bool)) is None
