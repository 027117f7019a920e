"""The arithmetic coder: sequences against the exact probability of the estimator, and carries."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.codec.arithmetic import LEAST
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.stream import Stream

LEAST_BITS = -math.log2(1 - 2**-LEAST)  # of a decision
sequences = st.lists(st.lists(st.booleans(), max_size=200), max_size=8)


def encode(sequences):
    stream = Stream()
    for bits in sequences:
        stream.sequence(np.array(bits, dtype=np.uint8))
    return stream.finish()


def decode(payload, counts):
    stream = Stream(payload)
    found = [stream.sequence(np.zeros(count, np.uint8)).tolist() for count in counts]
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


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 300), st.integers(1, 300))
def test_a_prior_of_its_own_starts_the_counts_elsewhere(bits, zeros, ones):
    """Oracle: products of (zeros + 2 n0) / (zeros + ones + 2 n), in exact fractions."""
    stream, p, seen = Stream(), Fraction(1), [zeros, ones]
    stream.sequence(np.array(bits, np.uint8), zeros, zeros + ones)
    for bit in bits:
        p *= Fraction(seen[bit], sum(seen))
        seen[bit] += 2
    assert stream.bits == pytest.approx(-math.log2(p), abs=0.01)


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


@pytest.mark.parametrize("full", [0, 1, 3, 4, 5, 12])
def test_a_carry_that_is_due_at_the_end_reaches_the_byte_before_the_full_ones(full):
    """By hand: 0, then ones, leave [1/2 - tiny, 1/2); a number in the upper half carries up."""
    bits = [[0], *[[1]] * (7 + 8 * full), [0, 1, 1, 1]]
    assert decode(encode(bits), map(len, bits)) == bits
    assert encode(bits)[: full + 1] == b"\x7f" + b"\xff" * full


@pytest.mark.parametrize("seed", range(20))
def test_carries_at_random_places_are_decoded(seed):
    rng = np.random.default_rng(seed)
    bits = [rng.random(50) < p for p in rng.random(60) ** 4]
    assert decode(encode(bits), [50] * 60) == [b.tolist() for b in bits]


def test_a_constant_sequence_costs_half_a_bit_per_doubling():
    """-log2 of binom(2n, n) / 4^n, about log2(pi n) / 2, until the least share takes over."""
    for n in (1000, 100_000):
        closed_form = math.log2(math.pi * n) / 2
        assert len(encode([np.zeros(n)])) <= (closed_form + n * LEAST_BITS) / 8 + 1
        assert decode(encode([np.ones(n)]), [n]) == [[True] * n]


def test_every_bit_costs_at_least_the_least_share():
    """After 2^19 zeros the estimator would give a one less than the share that it keeps."""
    stream = Stream()
    stream.sequence(np.zeros(1 << 19, np.uint8))
    assert stream.bits >= (1 << 19) * LEAST_BITS
    before = stream.bits
    stream.sequence(np.zeros(100_000, np.uint8), zeros=1 << 29, total=(1 << 29) + 1)
    # The share is rounded down: a range of 2^24 to 2^32 loses up to 1/64 of it.
    assert stream.bits - before >= 100_000 * LEAST_BITS * 64 / 65


@given(st.binary(max_size=12), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_decode_or_are_refused(payload, counts):
    stream = Stream(payload)
    try:
        for count in counts:
            assert len(stream.sequence(np.zeros(count, np.uint8))) == count
        stream.finish()
    except FormatError as error:
        assert "payload" in str(error)
