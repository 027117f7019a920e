"""One contract for every coder in CODERS: round trips, ideal lengths, no bytes of chance."""

import time

import numpy as np
import pytest
import structured_symbols
from coded_networks import coded_tensors, draw_symbols
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_sws.codec.coders import CODERS, MOST_PER_BYTE, Plane
from pyro_sws.codec.context_coder import MOST_LEVELS, may_have_contexts
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.order0 import shorter
from pyro_sws.codec.stream import Stream

every_coder = pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS)
STRUCTURED = {
    "columns": [structured_symbols.sparse_columns()],
    "rows": [structured_symbols.sparse_rows()],
    "links": list(structured_symbols.linked_layers()),
    "images": [structured_symbols.blobs()],
    "kernels": [structured_symbols.kernels()],
}


def planes(tensors, levels, zero):
    return [Plane(tensor.shape, levels, zero) for tensor in tensors]


def assert_comes_back(coder, tensors, planes):
    found = coder.decode(coder.encode(tensors, planes), planes)
    for symbols, tensor, plane in zip(found, tensors, planes, strict=True):
        np.testing.assert_array_equal(symbols, tensor)
        assert symbols.shape == tensor.shape and symbols.dtype == plane.dtype


@st.composite
def problems(draw):
    """Some tensors, each with an alphabet of its own, and their planes."""
    tensors, planes = [], []
    for _ in range(draw(st.integers(0, 3))):
        levels = draw(st.integers(1, 300) | st.sampled_from([256, 257, 1024, 1025, 2000]))
        tensors.append(draw(coded_tensors(levels)))
        zero = draw(st.none() | st.integers(0, levels - 1))
        planes.append(Plane(tensors[-1].shape, levels, zero))
    return tensors, planes


@every_coder
@given(problems())
def test_every_shape_alphabet_and_skew_comes_back(coder, problem):
    assert_comes_back(coder, *problem)


@every_coder
@pytest.mark.parametrize("kind", STRUCTURED)
@pytest.mark.parametrize("zero", [None, 0, 3])
def test_structured_tensors_come_back(coder, kind, zero):
    tensors = STRUCTURED[kind]
    assert_comes_back(coder, tensors, planes(tensors, structured_symbols.LEVELS, zero))


@settings(max_examples=30)
@given(problems())
def test_both_implementations_write_the_same_and_read_each_other(problem):
    pytest.importorskip("numba")
    tensors, planes = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRO_SWS_CODEC", "numba")
        compiled = CODERS["context"].encode(tensors, planes)
        patch.setenv("PYRO_SWS_CODEC", "python")
        assert CODERS["context"].encode(tensors, planes) == compiled
        plain = CODERS["context"].decode(compiled, planes)
        patch.setenv("PYRO_SWS_CODEC", "numba")
        again = CODERS["context"].decode(compiled, planes)
    for found in (plain, again):
        assert all((f == t).all() for f, t in zip(found, tensors, strict=True))


@pytest.mark.parametrize("kind", STRUCTURED)
def test_both_implementations_write_structured_tensors_alike(kind, monkeypatch):
    pytest.importorskip("numba")
    tensors, payloads = STRUCTURED[kind], {}
    for name in ("python", "numba"):
        monkeypatch.setenv("PYRO_SWS_CODEC", name)
        payloads[name] = CODERS["context"].encode(tensors, planes(tensors, 6, 0))
    assert payloads["python"] == payloads["numba"]
    found = CODERS["context"].decode(payloads["python"], planes(tensors, 6, 0))
    assert all((f == t).all() for f, t in zip(found, tensors, strict=True))


@every_coder
@given(problems())
def test_any_coders_payload_is_read_by_any(coder, problem):
    tensors, planes = problem
    payload = coder.encode(tensors, planes)
    for other in CODERS.values():
        found = other.decode(payload, planes)
        assert all((f == t).all() for f, t in zip(found, tensors, strict=True))


@given(st.data())
def test_contexts_never_take_two_bytes_more_than_order_0(data):
    levels = data.draw(st.integers(1, 300))
    symbols = data.draw(coded_tensors(levels))
    plane = Plane(symbols.shape, levels, data.draw(st.none() | st.integers(0, levels - 1)))
    payloads = [CODERS[name].encode([symbols], [plane]) for name in ("context", "order0")]
    assert len(payloads[0]) <= len(payloads[1]) + 2


@every_coder
@pytest.mark.parametrize("levels", [2, 3, 17, 256, 257])
@pytest.mark.parametrize("size", [1, 10, 1000, 5000])
@pytest.mark.parametrize("skew", [0.0, 1.5, 60.0])
def test_the_payload_takes_at_most_the_ideal_order_0_length(coder, levels, size, skew):
    symbols, zero = draw_symbols((size,), levels, skew), 0 if skew else None
    ideal = shorter(np.bincount(symbols, minlength=levels), zero)[1] / 8
    payload = coder.encode([symbols], [Plane((size,), levels, zero)])
    assert len(payload) < 1.001 * ideal + 2  # two bits for the way, and a byte begun


@every_coder
def test_more_levels_than_the_context_model_has_room_for_fall_back_to_order_0(coder):
    symbols = draw_symbols((30, 30), MOST_LEVELS + 1, 3.0)
    plane = [Plane((30, 30), MOST_LEVELS + 1, 0)]
    assert coder.encode([symbols], plane) == CODERS["order0"].encode([symbols], plane)
    assert_comes_back(coder, [symbols], plane)


def test_contexts_for_too_many_levels_are_refused():
    stream = Stream()
    stream.coin(1)
    with pytest.raises(FormatError, match="contexts for 1025 levels"):
        CODERS["context"].decode(stream.finish(), [Plane((3, 3), MOST_LEVELS + 1, 0)])


def test_contexts_take_tables_in_proportion_to_the_weights():
    """32,768 places and 64 a weight: 8,465 are fixed, and 384 for each level."""
    assert [may_have_contexts(1, levels) for levels in (2, 63, 64)] == [True, True, False]
    assert [may_have_contexts(1000, levels) for levels in (229, 230)] == [True, False]
    assert [may_have_contexts(1 << 30, levels) for levels in (1024, 1025)] == [True, False]


@pytest.mark.parametrize("levels, size", [(65, 6), (300, 900), (300, 2000), (1024, 100)])
def test_small_tensors_of_many_levels_come_back_in_time(levels, size):
    """Two hundred of them: at 10 ms of tables each this would take seconds."""
    tensors = [draw_symbols((size,), levels, 3.0, seed) for seed in range(200 * 6 // size or 1)]
    assert_comes_back(CODERS["context"], tensors, planes(tensors, levels, 0))


@every_coder
def test_one_level_or_no_weights_take_no_bytes(coder):
    symbols, nothing = np.zeros((30, 5), dtype=np.uint8), np.zeros((0, 5), dtype=np.uint8)
    assert coder.encode([symbols], [Plane((30, 5), 1, 0)]) == b""
    assert coder.encode([symbols], [Plane((30, 5), 1, None)]) == b""
    assert coder.encode([nothing, nothing], [Plane((0, 5), n, None) for n in (0, 9)]) == b""
    assert coder.encode([], []) == b""


def test_order_0_forgets_between_tensors():
    """Two copies in one stream take twice the length of one."""
    symbols = draw_symbols((40, 50), 9, 2.0)
    one, two = (CODERS["order0"].write(Stream(), [symbols] * n, [PLANE] * n) for n in (1, 2))
    assert two == pytest.approx([one[0]] * 2, abs=0.01)


PLANE = Plane((40, 50), 9, 0)


@every_coder
def test_the_same_symbols_give_the_same_bytes_and_are_left_alone(coder):
    symbols = draw_symbols((40, 50), 9, 2.0)
    before = symbols.copy()
    first = coder.encode([symbols], [PLANE])
    assert coder.encode([symbols.copy(order="F")], [PLANE]) == first
    assert coder.encode([symbols.astype(np.int64)], [PLANE]) == first
    assert (symbols == before).all()


@every_coder
def test_the_bits_of_tensors_sum_to_the_payloads(coder):
    tensors = STRUCTURED["links"] + STRUCTURED["kernels"]
    stream = Stream()
    bits = coder.write(stream, tensors, planes(tensors, 6, 0))
    assert sum(bits) == pytest.approx(stream.bits)
    assert 0 <= 8 * len(stream.finish()) - sum(bits) < 8 + 1


@every_coder
def test_an_altered_payload_never_reads_past_its_end(coder):
    symbols = draw_symbols((12, 20), 9, 2.0)
    plane = [Plane((12, 20), 9, 0)]
    payload = coder.encode([symbols], plane)
    for at in range(0, len(payload), 3):
        for altered in (payload[:at], payload[:at] + b"\xff" + payload[at + 1 :]):
            try:
                assert coder.decode(altered, plane)[0].max() < 9
            except FormatError:
                pass


def test_a_payload_too_short_for_so_many_symbols_is_refused_at_once():
    """Each symbol takes 5.5e-6 bits at least."""
    start = time.perf_counter()
    with pytest.raises(FormatError, match="2147483647 symbols cannot be in a payload of 3 bytes"):
        CODERS["context"].decode(b"abc", [Plane(((1 << 31) - 1,), 2, 0)])
    assert time.perf_counter() - start < 0.5
    assert 7 * MOST_PER_BYTE < (1 << 31) - 1


@every_coder
def test_a_constant_tensor_is_not_too_long_for_its_payload(coder):
    """The other side of the same bound: what the coders write, they read."""
    zeros = [np.zeros((100, 1000), np.uint8)]
    assert_comes_back(coder, zeros, [Plane((100, 1000), 2, 0)])


@pytest.mark.slow
@every_coder
def test_sixteen_million_zeros_are_not_too_long_for_their_payload(coder):
    pytest.importorskip("numba")
    zeros = [np.zeros((4096, 4096), np.uint8)]
    assert_comes_back(coder, zeros, [Plane((4096, 4096), 2, 0)])


def test_weights_without_any_value_are_refused():
    with pytest.raises(FormatError, match="has weights but no codebook value"):
        CODERS["context"].decode(b"", [Plane((3,), 0, None)])


@every_coder
def test_a_coder_needs_under_forty_microseconds_a_weight(coder):
    """Plain Python; ten times as long as measured."""
    symbols = draw_symbols((100, 196), 17, 5.0)
    start = time.perf_counter()
    assert_comes_back(coder, [symbols], [Plane(symbols.shape, 17, 0)])
    assert time.perf_counter() - start < 2 * symbols.size * 40e-6 * 10 / 4 + 1
