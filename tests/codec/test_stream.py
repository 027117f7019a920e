"""The stream: integers at their exact cost, marks to come back to, and where reading stops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.codec import loops as compiled
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.loops import loops
from pyro_sws.codec.stream import Stream

counts = st.one_of(st.integers(1, 300), st.integers(1, 1 << 64))
choices = counts.flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


@pytest.fixture(params=["python", "numba"])
def implementation(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setenv("PYRO_SWS_CODEC", request.param)
    return loops(0)


@given(st.lists(choices, max_size=20))
def test_integers_come_back_and_cost_the_logarithm_of_the_number_of_cases(choices):
    stream = Stream()
    for count, value in choices:
        assert stream.uniform(count, value) == value
    # Each halving rounds its share of a range of at least 2^24 to one part.
    ideal = sum(math.log2(count) for count, _ in choices)
    assert stream.bits == pytest.approx(ideal, abs=1e-5 * (1 + ideal))
    again = Stream(stream.finish())
    assert [again.uniform(count) for count, _ in choices] == [value for _, value in choices]
    again.finish()


@pytest.mark.parametrize("count", [3, 1000, (1 << 31) - 1, (1 << 63) - 1, 1 << 64])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_no_case_is_cheaper_than_another(count, place):
    stream = Stream()
    stream.uniform(count, int(place * (count - 1)) if place < 1 else count - 1)
    assert stream.bits == pytest.approx(math.log2(count), abs=1e-4)


def test_one_case_costs_nothing_and_none_is_refused():
    stream = Stream()
    assert stream.uniform(1) == 0 and stream.bits == 0
    with pytest.raises(FormatError, match="leave no room"):
        stream.uniform(0)


def test_a_coin_takes_a_bit(implementation):
    stream = Stream(None, implementation)
    for bit in [1, 0, 1, 1, 0]:
        assert stream.coin(bit) == bit
    assert stream.bits == 5 and stream.finish() == bytes([0b10110000])


def test_resetting_forgets_what_came_after_the_mark(implementation):
    def written(detour):
        stream = Stream(None, implementation)
        stream.sequence(np.arange(500, dtype=np.uint8) % 3 // 2)
        mark = stream.mark()
        if detour:
            stream.sequence(np.arange(5000, dtype=np.uint8) % 5 % 2)
            stream.reset(mark)
        stream.uniform(1000, 777)
        return stream.finish()

    assert written(detour=True) == written(detour=False)


def test_a_reader_says_how_many_bits_were_read():
    stream = Stream()
    for value in (5, 17, 12345):
        stream.uniform(54321, value)
    again = Stream(stream.finish())
    for _ in range(3):
        again.uniform(54321)
    assert again.bits == pytest.approx(stream.bits, abs=1e-9)


@given(st.lists(st.booleans(), max_size=80))
def test_the_end_is_the_shortest_number_in_the_interval(bits):
    """By hand: coins are binary digits, and zeros at the end need not be written."""
    stream = Stream()
    for bit in bits:
        stream.coin(int(bit))
    out = max(0, len(bits) - 1) // 8  # bytes that have left the range of 32 bits
    assert len(stream.finish()) == out + any(bits[8 * out :])


def test_reading_stops_four_bytes_past_the_end(implementation):
    stream = Stream(b"", implementation)
    for _ in range(8):  # coins; at the 9th the first renewal is due
        stream.coin()
    with pytest.raises(FormatError, match="ends early: its 0 bytes"):
        stream.coin()


def test_bytes_that_nothing_needs_are_refused(implementation):
    stream = Stream(b"\x80\0\0\0\0", implementation)
    assert stream.coin() == 1
    with pytest.raises(FormatError, match="1 bytes of the payload are left over"):
        stream.finish()


def test_both_implementations_write_the_same_and_read_each_other(monkeypatch):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    bits = [(rng.random(n) < 0.03 * n**0.2).astype(np.uint8) for n in (0, 1, 9, 4000)]
    payloads = {}
    for name in ("python", "numba"):
        monkeypatch.setenv("PYRO_SWS_CODEC", name)
        stream = Stream(None, loops(0))
        for b in bits:
            stream.sequence(b)
        stream.uniform(1 << 40, 999_999_999_999)
        payloads[name] = stream.finish()
    assert payloads["python"] == payloads["numba"]
    again = Stream(payloads["python"], loops(0))
    assert all((again.sequence(np.zeros_like(b)) == b).all() for b in bits)
    assert again.uniform(1 << 40) == 999_999_999_999


def test_an_unknown_implementation_is_refused(monkeypatch):
    monkeypatch.setenv("PYRO_SWS_CODEC", "fortran")
    with pytest.raises(ValueError, match="unknown PYRO_SWS_CODEC 'fortran'; choose from auto"):
        loops(0)


def test_what_was_compiled_from_other_sources_is_not_taken_up(monkeypatch):
    """numba's own check sees one file of the three; a stale loop would write other bytes."""
    pytest.importorskip("numba")
    monkeypatch.setenv("PYRO_SWS_CODEC", "numba")
    name = loops(0).code_tensor.py_func.__qualname__
    monkeypatch.setattr(compiled.inspect, "getsource", lambda module: "another release")
    assert compiled._compile.__wrapped__().code_tensor.py_func.__qualname__ != name
    assert name.startswith("code_tensor_")
