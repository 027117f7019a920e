"""The study of dense networks: what is rounded, and what is measured, on a small case."""

import numpy as np
import pytest


@pytest.fixture
def module(script):
    return script("coders.dense")


def test_symbols_are_the_nearest_multiples_of_the_step(module):
    weights = {"w": np.array([[-2.0, 0.0], [0.4, 2.0]], np.float32)}
    (symbols,), (plane,) = module.rounded(weights, 0.5)
    step = 0.5 * np.sqrt((4 + 0.16 + 4) / 4)
    distinct = np.unique(np.rint(weights["w"] / step))
    np.testing.assert_array_equal(distinct[symbols], np.rint(weights["w"] / step))
    assert distinct[plane.zero] == 0


def test_a_folded_kernel_has_the_scale_of_its_norm(module):
    kernel = np.ones((2, 1, 3, 3), np.float32)
    norm = {"bn1.weight": np.array([1.0, 2.0]), "bn1.running_var": np.array([4.0, 1.0]) - 1e-5}
    found = module.folded({"conv1.weight": kernel, **norm})
    np.testing.assert_allclose(found["conv1.weight"][:, 0, 0, 0], [0.5, 2])


def test_payloads_are_measured_in_bytes(module):
    rng = np.random.default_rng(0)
    row = module.measured(*module.rounded({"w": rng.normal(size=(6, 9))}, 1.0))
    assert row["weights"] == 54 and 0 < row["bytes_before"] <= row["bytes_order0"] + 1
