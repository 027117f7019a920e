"""Codebook values: every float comes back, at the cost of the set that they are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyro_sws.codec.codebooks import UNSIGNED, code_codebook
from pyro_sws.codec.stream import Stream

DTYPES = list(UNSIGNED)


def coded(values):
    """-> bits, payload."""
    stream = Stream()
    code_codebook(stream, values.dtype, len(values), values)
    return stream.bits, stream.finish()


def back(payload, dtype, levels):
    stream = Stream(payload)
    found = code_codebook(stream, np.dtype(dtype), levels, np.zeros(0))
    stream.finish()
    return found


def assert_comes_back(values):
    found = back(coded(values)[1], values.dtype, len(values))
    assert found.dtype == values.dtype and found.tobytes() == values.tobytes()


@st.composite
def distinct_floats(draw):
    """Any finite values, one of the two zeros among them or not, in any order."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    floats = st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)
    shape = draw(st.integers(0, 40))
    return draw(hnp.arrays(dtype, shape, elements=floats, unique=True, fill=st.nothing()))


@given(distinct_floats())
def test_all_floats_come_back_in_their_order(values):
    assert_comes_back(values)
    assert_comes_back(np.sort(values))


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_values_come_back(dtype):
    info = np.finfo(dtype)
    values = [-info.max, -info.tiny, -info.smallest_subnormal, -0.0]
    values += [info.smallest_subnormal, info.tiny, 1, info.max]
    values = np.array(values, dtype)
    assert_comes_back(values)
    assert_comes_back(values[::-1].copy())
    for value in values:
        assert_comes_back(value[None])
        assert_comes_back(np.array([value, info.eps], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_small_codebooks_take_a_few_bits(dtype, levels):
    values = (np.arange(levels) - 1).astype(dtype)
    assert_comes_back(values)
    exponents = {"float16": 5, "float32": 8, "float64": 11}[dtype]
    # Fraction bits to leave out, the order, how many are below zero, which; 0 is a single bit.
    assert coded(values)[0] < 13 + 2 * (exponents + 1)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_long_codebook_comes_back(dtype):
    patterns = np.random.default_rng(0).permutation(0x7C00)[:4000].astype(np.uint16)
    values = np.sort(patterns.view(np.float16).astype(dtype))
    assert_comes_back(values)
    assert_comes_back(values[::-1].copy())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_longest_codebook_comes_back(dtype):
    assert_comes_back(np.arange(-(1 << 15), 1 << 15).astype(dtype) / 3)


@pytest.mark.parametrize("levels", [16, 256, 2000])
def test_a_sorted_set_costs_about_the_logarithm_of_the_number_of_sets(levels):
    """Positive float16: 31,743 magnitudes, of which all sets are as likely; at most half a bit
    a value is lost by the halving's uniform choices, and 20 bits at the start."""
    rng = np.random.default_rng(levels)
    patterns = np.sort(rng.choice(np.arange(1, 0x7C00), levels, replace=False))
    values = patterns.astype(np.uint16).view(np.float16)
    choices = math.lgamma(0x7C00) - math.lgamma(levels + 1) - math.lgamma(0x7C00 - levels)
    assert coded(values)[0] < choices / math.log(2) + 0.5 * levels + 20


def test_all_of_float16_costs_hardly_anything():
    everything = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16)
    assert coded(everything)[0] < 40
    assert_comes_back(everything)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_that_is_not_used_is_not_paid(dtype):
    """Values that float16 holds cost their longer exponents more: 3 bits, or 6."""
    half = np.sort(np.random.default_rng(4).normal(0, 0.1, 64).astype(np.float16))
    more = {"float32": 3, "float64": 6}[dtype]
    assert coded(half.astype(dtype))[0] < coded(half)[0] + more * len(half) + 8


def test_whole_numbers_cost_their_leading_bits():
    """1 to 16 have 3 bits of fraction in use; the order tells most of the rest."""
    values = np.arange(1, 17, dtype=np.float64)
    assert coded(values)[0] < 100 < 16 * 64


@given(st.binary(max_size=60), st.sampled_from(DTYPES), st.integers(0, 40))
def test_any_bytes_are_finite_values_or_refused(payload, dtype, levels):
    try:
        found = code_codebook(Stream(payload), np.dtype(dtype), levels, np.zeros(0))
    except ValueError as error:  # FormatError
        assert "payload ends early" in str(error) or "leave no room" in str(error)
    else:
        assert np.isfinite(found).all() and len(found) == levels
