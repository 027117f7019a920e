"""Quantisation: every weight snaps to its most probable stored value, and nothing else happens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import CodebookRangeError, quantize
from pyro_sws.weights.weight_prior import MixturePrior


def posterior(means, weights, shapes, scales=None, deviation=0.05, dtype=torch.float32):
    j = len(means)
    mixture = Mixture(
        torch.tensor(means, dtype=dtype),
        torch.full((j,), deviation**-2, dtype=dtype),
        torch.full((j,), 1 / j, dtype=dtype),
    )
    group = Group("all", shapes)
    point = {"all.weights": torch.tensor(weights, dtype=dtype)}
    prior = MixturePrior(mixture, None if scales is None else torch.tensor(scales, dtype=dtype))
    raw = {"steps": torch.tensor(3)}
    return Posterior({"all": group}, point, {"all": prior}, raw, tau=1.0)


def test_every_weight_takes_the_nearest_value_when_components_are_alike():
    weights = [0.02, 0.45, -0.31, 0.26, -0.01, 0.5]
    q = quantize(posterior([0.0, 0.5, -0.25], weights, {"a": (2, 2), "b": (2,)}))
    np.testing.assert_array_equal(q.dequantize()["a"], [[0.0, 0.5], [-0.25, 0.5]])
    np.testing.assert_array_equal(q.dequantize()["b"], [0.0, 0.5])


def test_proportions_take_part_in_the_choice():
    mixture = Mixture(
        torch.tensor([0.0, 0.1]), torch.tensor([100.0, 100.0]), torch.tensor([0.999, 0.001])
    )
    group = Group("all", {"a": (1,)})
    point = {"all.weights": torch.tensor([0.08])}
    p = Posterior({"all": group}, point, {"all": MixturePrior(mixture)}, {}, tau=1.0)
    assert quantize(p).dequantize()["a"].tolist() == [0.0]


def test_weights_are_snapped_with_the_scale_that_is_stored():
    """0.1 is 0.0999755859375 in half precision: at 1.5 steps of that lies the boundary."""
    half = float(np.float16(0.1))
    between = (1.5 * half + 1.5 * float(np.float32(0.1))) / 2  # beyond it, and within 1.5 of 0.1
    q = quantize(posterior([0.0, 1.0, 2.0], [between], {"a": (1,)}, scales=[0.1]))
    assert q.scales["a"].dtype == np.float16 and q.scales["a"].tolist() == [half]
    np.testing.assert_array_equal(q.dequantize()["a"], np.float32([2 * half]))


@pytest.mark.parametrize(
    ("scale", "codebook_dtype", "stored"),
    [
        (65504.0, "float16", "float16"),
        (65520.0, "float16", "float32"),  # float16's infinity
        (2.0**-14, "float16", "float16"),
        (0.7 * 2.0**-14, "float16", "float32"),  # below the range of full precision
        (0.3, "float32", "float32"),
    ],
)
def test_a_scale_takes_more_than_two_bytes_only_where_its_range_or_the_dtype_asks(
    scale, codebook_dtype, stored
):
    p = posterior([0.0, 0.5], [0.5 * scale] * 4, {"a": (4,)}, scales=[scale] * 4)
    found = quantize(p, codebook_dtype).scales["a"]
    assert found.dtype == stored and found.shape == (1,)
    rounded = np.dtype(stored).type(found.astype(float)[0])
    assert abs(float(rounded) - scale) <= 2.0**-11 * scale


def test_a_tensor_of_zeros_needs_no_scale():
    weights, shapes = [0.0] * 4 + [0.2] * 2, {"a": (4,), "b": (2,)}
    found = quantize(posterior([0.0, 0.5], weights, shapes, scales=[0.3] * 4 + [0.4] * 2))
    assert list(found.scales) == ["b"]
    values = found.dequantize()
    assert not values["a"].any() and values["b"] == pytest.approx([0.2, 0.2], rel=1e-3)


def test_one_scale_beyond_the_range_makes_a_tensor_s_scales_float32_and_rounds_no_other_twice():
    p = posterior([0.0, 0.5], [0.1] * 2, {"a": (2, 1)}, scales=[0.3, 1e6])
    np.testing.assert_array_equal(
        quantize(p).scales["a"].ravel(), np.float32([np.float16(0.3), 1e6])
    )


def test_values_that_no_weight_takes_are_not_stored():
    q = quantize(posterior([0.0, 0.5, -0.25], [0.0, 0.51], {"a": (2,)}))
    assert q.codebooks["all"].tolist() == [0.0, 0.5]


def test_means_that_round_to_one_value_become_one_symbol():
    # 1e-9 is 0 in half precision: not a second zero. Beside 0.5 nothing is lost by that.
    means = [0.0, 1e-9, -1e-9, 0.5]
    q = quantize(posterior(means, means, {"a": (4,)}))
    assert q.codebooks["all"].tolist() == [0.0, 0.5]
    assert not np.signbit(q.codebooks["all"]).any()


# Half precision has steps of 2^-24 = 5.96e-8 near 0: 2e-8 becomes 0, 4e-8 one step, 1.5 times it.
@pytest.mark.parametrize("tiny", [[2e-8, -2e-8], [4e-8, 0.0], [0.0, 1.5e-6, 8.94e-8]])
def test_values_too_near_0_for_half_precision_are_refused(tiny):
    p = posterior(tiny, tiny, {"a": (len(tiny),)}, deviation=1e-9)
    with pytest.raises(CodebookRangeError, match="a: .* too near 0 for float16.*'float32'"):
        quantize(p)


def test_values_that_single_precision_holds_are_stored_in_it():
    means = [0.0, 2e-8, 4e-8]
    q = quantize(posterior(means, means, {"a": (3,)}, deviation=1e-9), "float32")
    np.testing.assert_array_equal(q.dequantize()["a"], np.array(means, np.float32))


def test_a_tensor_of_tiny_weights_is_refused_though_another_has_large_ones():
    p = posterior([0.5, 2e-8], [0.5, 0.5, 2e-8, 2e-8], {"a": (2,), "b": (2,)}, deviation=1e-9)
    with pytest.raises(CodebookRangeError, match="b: 2 of 2 weights"):
        quantize(p)


def test_zeros_that_snap_to_a_mean_beside_0_lose_nothing():
    assert (
        not quantize(posterior([1e-9, 0.5], [0.0, 0.0, 0.5], {"b": (2,), "a": (1,)}))
        .dequantize()["b"]
        .any()
    )


def test_scales_keep_tiny_weights():
    p = posterior([0.5, -1.0], [1e-8, -2e-8], {"a": (2,)}, scales=[2e-8, 2e-8])
    np.testing.assert_allclose(quantize(p).dequantize()["a"], [1e-8, -2e-8], rtol=1e-6)


# Single precision ends at 1.4e-45, and is short of digits below 1.2e-38: 9e-45 is 6 steps or 7.
@pytest.mark.parametrize("scale", [1e-50, 9.1e-45])
@pytest.mark.parametrize("codebook_dtype", ["float16", "float32"])
def test_scales_that_single_precision_loses_are_refused_with_a_remedy(scale, codebook_dtype):
    means, weights = [0.5, -1.0], [0.5 * scale, -scale]
    p = posterior(means, weights, {"a": (2,)}, [scale] * 2, dtype=torch.float64)
    with pytest.raises(CodebookRangeError, match="a: .* too near 0 .*constant factor") as found:
        quantize(p, codebook_dtype)
    assert "use codebook_dtype" not in str(found.value)


def test_a_scale_that_is_held_times_a_value_that_is_held_may_be_lost():
    scale = float(np.float32(2e-38))  # normal, as is the float16 2**-10, but 2e-41 is 14,000 steps
    held = [2.0**-10, 1.0]
    as_64 = {"deviation": 1e-9, "dtype": torch.float64}
    few = posterior(held, [scale * m for m in held], {"a": (2,)}, [scale] * 2, **as_64)
    np.testing.assert_allclose(quantize(few).dequantize()["a"], [2e-38 / 1024, 2e-38], rtol=1e-4)
    lone = posterior([2.0**-21, 0.0], [scale / 2**21] * 2, {"a": (2,)}, [scale] * 2, **as_64)
    with pytest.raises(CodebookRangeError, match="a: 2 of 2 weights"):  # 9.5e-45: 7 steps, 6.8
        quantize(lone)


@pytest.mark.parametrize("mean", [1e-50, 1e50])
def test_what_single_precision_does_not_hold_has_another_remedy(mean):
    p = posterior([mean, 0.0], [mean, mean], {"a": (2,)}, deviation=1e-60, dtype=torch.float64)
    for codebook_dtype in ("float16", "float32"):
        with pytest.raises(CodebookRangeError, match="constant factor"):
            quantize(p, codebook_dtype)


def test_the_codebook_is_stored_in_the_chosen_precision():
    p = posterior([0.1, 0.2], [0.1, 0.2], {"a": (2,)})
    assert quantize(p).codebooks["all"].dtype == np.float16
    exact = quantize(p, "float32").codebooks["all"]
    assert exact.dtype == np.float32
    np.testing.assert_array_equal(exact, np.array([0.1, 0.2], np.float32))


def test_scales_by_row_reach_the_file_as_one_number_a_row():
    weights = [0.5, 0.0, 5.0, -2.5]
    scales = [1.0, 1.0, 10.0, 10.0]
    q = quantize(posterior([0.0, 0.5, -0.25], weights, {"a": (2, 2)}, scales))
    assert q.scales["a"].shape == (2, 1)
    np.testing.assert_allclose(q.dequantize()["a"], [[0.5, 0.0], [5.0, -2.5]])


def test_raw_tensors_pass_through():
    q = quantize(posterior([0.0, 0.5], [0.0, 0.5], {"a": (2,)}))
    assert q.raw["steps"].item() == 3


def test_a_mean_beyond_half_precision_is_refused_with_the_remedy():
    p = posterior([0.0, 1e6], [0.0, 1e6], {"a": (2,)})
    with pytest.raises(ValueError, match="codebook_dtype='float32'"):
        quantize(p)
    assert quantize(p, "float32").codebooks["all"].tolist() == [0.0, 1e6]


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="choose from float16, float32"):
        quantize(posterior([0.0], [0.0], {"a": (1,)}), "int8")


def with_deviations(p, deviations):
    return replace(p, deviations={"all.weights": torch.tensor(deviations)})


def test_weights_of_little_signal_become_0():
    weights = [0.5, 0.5, -0.25, -0.25, 0.02, 0.26]
    p = with_deviations(
        posterior([0.0, 0.5, -0.25], weights, {"a": (2, 2), "b": (2,)}),
        [0.24, 0.26, 0.12, 0.13, 9.0, 0.0],  # signal to noise: above and below 2, twice; none; all
    )
    kept = quantize(p, signal_to_noise=2.0)
    assert kept.dequantize()["a"].tolist() == [[0.5, 0.0], [-0.25, 0.0]]
    assert kept.dequantize()["b"].tolist() == [0.0, 0.5]
    for off in (None, 0.0):
        assert quantize(p, signal_to_noise=off).dequantize()["a"].tolist() == [
            [0.5, 0.5],
            [-0.25, -0.25],
        ]


def test_a_value_that_only_weights_of_little_signal_take_is_not_stored():
    p = with_deviations(posterior([0.0, 0.5, -0.25], [0.5, -0.25], {"a": (2,)}), [9.0, 0.01])
    assert quantize(p, signal_to_noise=1.0).codebooks["all"].tolist() == [-0.25, 0.0]


@pytest.mark.parametrize(
    ("means", "deviations", "threshold", "message"),
    [
        ([0.0, 0.5], None, 1.0, "weights of group 'all' have none; fit a guide .*: normal"),
        ([0.1, 0.5], [1.0, 1.0], 1.0, "0, which is no value of group 'all'; give its prior a sp"),
        ([0.0, 0.5], [1.0, 1.0], -1.0, "signal_to_noise must be a number >= 0, or None, got -1.0"),
        ([0.0, 0.5], [1.0, 1.0], float("nan"), "signal_to_noise must be a number >= 0"),
    ],
)
def test_a_signal_to_noise_that_cannot_be_is_refused(means, deviations, threshold, message):
    p = posterior(means, [0.1, 0.5], {"a": (2,)})
    p = p if deviations is None else with_deviations(p, deviations)
    with pytest.raises(ValueError, match=message):
        quantize(p, signal_to_noise=threshold)
