"""The values in a file: each has a stem as high as its count, and zeros do not hide the others."""

import numpy as np
import pytest

from pyro_sws.assess.figures.codebook import COUNTED, codebook_values
from pyro_sws.assess.figures.style import as_png


def stems(figure):
    (drawn,) = [c for c in figure.axes[0].collections if c.get_gid() == "stems"]
    return {float(x): float(top) for ((x, _), (_, top)) in drawn.get_segments()}


def heading(figure):
    return figure.axes[0].get_title(loc="left")


def test_each_value_has_a_stem_as_high_as_its_count():
    assert stems(codebook_values({0.5: 7, -0.25: 12, 0.0: 981})) == {-0.25: 12, 0.5: 7}


def test_zero_is_said_and_marked_and_does_not_set_the_scale():
    figure = codebook_values({0.5: 7, -0.25: 12, 0.0: 981}, "Group all")
    assert heading(figure) == (
        "Group all: 19 weights at 2 values other than 0, 981 at 0 (98.1%, the triangle)"
    )
    assert figure.axes[0].get_ylim()[1] < 20
    assert [line.get_gid() for line in figure.axes[0].lines] == ["heads", "zero"]


def test_without_zeros_nothing_is_said_of_them():
    figure = codebook_values({0.5: 3})
    assert heading(figure) == "3 weights at 1 value other than 0"
    assert [line.get_gid() for line in figure.axes[0].lines] == ["heads"]


@pytest.mark.parametrize(("values", "counted"), [(COUNTED, COUNTED), (COUNTED + 1, 0)])
def test_counts_are_written_where_there_is_room_for_them(values, counted):
    figure = codebook_values({float(v): 1_234 for v in np.arange(1, values + 1)})
    assert [text.get_text() for text in figure.axes[0].texts] == ["1,234"] * counted


@pytest.mark.parametrize("counts", [{}, {0.0: 9}, {-2.5: 1}, {0.5: 0, 0.0: 3}])
def test_any_counts_can_be_drawn(counts):
    assert as_png(codebook_values(counts), dpi=30).startswith(b"\x89PNG")
