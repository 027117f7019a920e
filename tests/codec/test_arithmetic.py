"""The arithmetic coder: round trips, lengths against the exact probability, and hostile streams."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.codec.arithmetic import Decoder, Encoder
from pyro_sws.codec.errors import FormatError

sequences = st.lists(st.lists(st.booleans(), max_size=200), max_size=8)


def encode(sequences):
    stream = Encoder()
    for bits in sequences:
        stream.encode_bits(np.array(bits, dtype=bool))
    return stream.finish()


def decode(payload, counts):
    stream = Decoder(payload)
    found = [stream.decode_bits(count).tolist() for count in counts]
    stream.finish()
    return found


def probability(bits):
    """What the estimator assigns to the sequence, one bit after the other, exactly."""
    p, seen = Fraction(1), [0, 0]
    for bit in bits:
        p *= Fraction(2 * seen[bit] + 1, 2 * sum(seen) + 2)
        seen[bit] += 1
    return p


@given(sequences)
def test_what_goes_in_comes_out(bits):
    assert decode(encode(bits), map(len, bits)) == bits


@given(sequences)
def test_the_length_is_that_of_the_probability_to_within_a_byte_and_a_half(bits):
    ideal = -sum(math.log2(probability(b)) for b in bits)
    assert ideal - 8 < 8 * len(encode(bits)) < ideal + 12


@given(sequences)
def test_no_shorter_stream_would_do(bits):
    payload = encode(bits)
    if payload:
        with_less = payload[:-1]
        try:
            assert decode(with_less, map(len, bits)) != bits
        except FormatError:
            pass


def test_no_bits_are_no_bytes():
    assert encode([]) == encode([[], []]) == b""
    assert decode(b"", [0, 0]) == [[], []]


def test_the_first_bit_is_even_odds():
    """By hand: one bit 1 leaves the interval [1/2, 1), whose shortest number is 0x80."""
    assert encode([[1]]) == b"\x80"
    assert encode([[0]]) == b""
    # 1/2, then 1/4 of what is left at its upper end: [7/8, 1).
    assert encode([[0, 1]]) == b"\x60"  # [3/8, 1/2)


def test_a_carry_runs_through_a_row_of_full_bytes():
    """Fresh models make even odds, so their bits are the stream; a last 1 pushes past 0xff."""
    ones = [[1]] * 40
    for last in ([1] * 9, [1] * 9 + [0] * 3, [0] * 30 + [1] * 30):
        assert decode(encode([*ones, last]), [1] * 40 + [len(last)]) == [*ones, last]


@pytest.mark.parametrize("seed", range(20))
def test_carries_at_random_places_are_decoded(seed):
    rng = np.random.default_rng(seed)
    bits = [rng.random(50) < p for p in rng.random(60) ** 4]
    assert decode(encode(bits), [50] * 60) == [b.tolist() for b in bits]


def test_a_constant_sequence_costs_half_a_bit_per_doubling():
    """-log2 of binom(2n, n) / 4^n, about log2(pi n) / 2: no least probability stands in the way."""
    for n in (1000, 300_000):
        assert len(encode([np.zeros(n)])) <= math.log2(math.pi * n) / 16 + 1
        assert decode(encode([np.ones(n)]), [n]) == [[True] * n]


@given(st.binary(max_size=12), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_decode_or_are_refused(payload, counts):
    stream = Decoder(payload)
    try:
        for count in counts:
            assert len(stream.decode_bits(count)) == count
        stream.finish()
    except FormatError as error:
        assert "payload" in str(error)


def test_reading_stops_four_bytes_past_the_end():
    stream = Decoder(b"")
    for _ in range(8):  # fresh models take a bit each; at the 9th the first renewal is due
        stream.decode_bits(1)
    with pytest.raises(FormatError, match="ends early: its 0 bytes"):
        stream.decode_bits(1)


def test_bytes_that_nothing_needs_are_refused():
    with pytest.raises(FormatError, match="1 bytes of the payload are left over"):
        decode(b"\x80\0\0\0\0", [1])
