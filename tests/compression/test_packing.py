"""How a fit becomes a file, as a value: what it refuses."""

import math

import pytest

from pyro_sws.compression.packing import Packing


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(
            (
                {"merge_threshold": threshold},
                f"threshold must be at least 0 nats, got {threshold}",
            )
            for threshold in (-1.0, -math.inf, math.nan)
        ),
        ({"raw": "int4"}, "unknown raw 'int4'.*; choose from float16, int8, exact"),
        ({"raw": None}, "raw must be 'float16', 'int8' or 'exact', got None"),
        ({"merge_by": "bytes"}, "unknown merge_by 'bytes'; choose from divergence, description"),
        (
            {"codebook_dtype": "int8"},
            "unknown codebook_dtype 'int8'; choose from float16, float32",
        ),
        *(
            (
                {"signal_to_noise": threshold},
                f"signal_to_noise must be a number >= 0, or None, got {threshold}",
            )
            for threshold in (-1.0, math.inf, math.nan)
        ),
    ],
)
def test_a_packing_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Packing(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"merge_threshold": 0.0},
        {"merge_threshold": math.inf},
        {"signal_to_noise": 0.0},
        {"codebook_dtype": "float32"},
        {"merge_by": "description"},
        {"raw": "exact"},
    ],
)
def test_the_ends_of_the_ranges_belong_to_them(fields):
    Packing(**fields)
