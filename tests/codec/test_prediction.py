"""What is expected of a weight: least squares against numpy's, and its use for kernels."""

import numpy as np
import pytest
from patterned_kernels import network, patterned

from pyro_sws.codec import prediction
from pyro_sws.codec.coders import CODERS, EXPECTING, Plane, dense, tensor_bits
from pyro_sws.codec.container import decode, encode
from pyro_sws.codec.stream import Stream


def guess(places=1):
    order, features = prediction.ORDER, prediction.FEATURES
    lengths = (order, places * order**2, places * features, places, order**2)
    return tuple([0] * length for length in lengths)


def learned(inputs, outputs):
    """The coefficients after these examples, for the second of two places."""
    state = guess(2)
    for x, y in zip(inputs.tolist(), outputs.tolist(), strict=True):
        state[0][:7] = x
        prediction.compare(state, 1, y)
    prediction.solve(state, 1)
    assert not any(state[2][:7])
    return np.array(state[2][7:]) / 65536


def examples(seed, count, size=6.0):
    rng = np.random.default_rng(seed)
    inputs = np.rint(rng.normal(size=(count, 7)) * size).astype(int)
    truth = rng.normal(size=7) / 2
    return inputs, np.rint(inputs @ truth + rng.normal(size=count) * size).astype(int)


@pytest.mark.parametrize("size", [2.0, 6.0, 300.0])
def test_the_coefficients_are_those_of_ridge_regression(size):
    """To a few units of 2**-16, where G is kept whole: 12 more bits than the sums have."""
    inputs, outputs = examples(0, 150, size)
    ridge = 16 * (outputs @ outputs) // 151 + 16
    expected = np.linalg.solve(inputs.T @ inputs + ridge * np.eye(7), inputs.T @ outputs)
    np.testing.assert_allclose(learned(inputs, outputs), expected, atol=1e-3)


def test_with_many_examples_the_ridge_and_halved_sums_do_not_matter():
    inputs, outputs = examples(1, 20_000, 300.0)
    expected = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    np.testing.assert_allclose(learned(inputs, outputs), expected, atol=5e-3)


def test_equal_neighbours_and_no_neighbours_have_coefficients_within_bounds():
    inputs, _ = examples(2, 100)
    same = np.repeat(inputs[:, :1], 7, 1)
    assert np.abs(learned(same, 3 * same[:, 0])).sum() < 4
    assert not learned(0 * inputs, inputs[:, 0]).any()


def test_sizes_are_four_classes_to_a_doubling():
    table = prediction.sizes_table()
    assert [table[n] for n in (0, 1, 3, 7, 15, 4095)] == [0, 4, 8, 12, 16, 48]
    assert table == sorted(table)


def coded(coder, symbols, levels):
    return coder.write(Stream(), [symbols], [Plane(symbols.shape, levels, levels // 2)])[0]


def test_kernels_that_mix_a_few_patterns_are_cheaper_by_what_is_expected():
    symbols = patterned()
    assert coded(EXPECTING, symbols, 31) < 0.95 * coded(CODERS["context"], symbols, 31)


def test_without_structure_what_is_expected_costs_little():
    """Further inputs that say nothing: 1.5 % at most."""
    symbols = np.random.default_rng(0).permutation(patterned().ravel()).reshape(patterned().shape)
    assert coded(EXPECTING, symbols, 31) < 1.015 * coded(CODERS["context"], symbols, 31)


def test_a_file_is_of_format_4_where_that_is_shorter():
    quantized = network()
    data = encode(quantized)
    assert data[3] == 4 and len(data) < 0.97 * len(encode(quantized, coder="order0"))
    assert decode(data) == quantized


def test_sparse_tensors_are_not_tried():
    symbols = np.zeros((80, 10), np.uint8)
    symbols[:10, :9] = 1
    plane = Plane((80, 10), 3, 0)
    assert not dense([symbols], [plane])
    symbols[:10] = 1
    assert dense([symbols], [plane])
    assert dense([symbols], [Plane((80, 10), 3, None)])


def test_the_bits_of_tensors_are_those_of_the_shorter_coder():
    tensors, planes = [patterned()], [Plane(patterned().shape, 31, 15)]
    both = [coder.write(Stream(), tensors, planes) for coder in (CODERS["context"], EXPECTING)]
    assert tensor_bits(tensors, planes) == min(both)


def test_both_implementations_expect_alike(monkeypatch):
    pytest.importorskip("numba")
    tensors, planes = [patterned()], [Plane(patterned().shape, 31, 15)]
    payloads = {}
    for name in ("python", "numba"):
        monkeypatch.setenv("PYRO_SWS_CODEC", name)
        payloads[name] = EXPECTING.encode(tensors, planes)
        assert (EXPECTING.decode(payloads[name], planes)[0] == tensors[0]).all()
    assert payloads["python"] == payloads["numba"]
