"""The fewest bits at an error: against rate-distortion theory, brute force, and what comes back."""

import numpy as np
import pytest
import torch

from pyro_sws.compression.post_training.without_data import check_tolerance, on_grid

SIZE = 1 << 17


def gaussian(size=SIZE, seed=0, dtype=torch.float32):
    return (0.02 * torch.randn(size, generator=torch.Generator().manual_seed(seed))).to(dtype)


def heavy(size=SIZE):
    """Of a Laplace distribution."""
    generator = torch.Generator().manual_seed(1)
    return gaussian(size).sign() * torch.empty(size).exponential_(generator=generator)


def sparse():
    """One weight in twenty is not zero."""
    kept = torch.rand(SIZE, generator=torch.Generator().manual_seed(2)) < 0.05
    return gaussian() * kept


def values(grid, dtype=torch.float32):
    """The weights that come back, in the dtype that they had."""
    single = grid.codebook.astype(np.float32)[grid.symbols] * grid.step
    return torch.from_numpy(single).to(dtype).double()


def error(given, back):
    given = given.double()
    return float((back - given).square().sum() / given.square().sum())


def entropy(symbols):
    """Bits a weight, order 0."""
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def rounded(weights, tolerance):
    """Brute force: the largest step by which plain rounding keeps the tolerance."""
    low, high = 1e-6, float(weights.abs().max())
    for _ in range(50):
        step = (low * high) ** 0.5
        kept = error(weights, (weights / step).round().double() * step) <= tolerance
        low, high = (step, high) if kept else (low, step)
    return entropy((weights / low).round().numpy())


@pytest.mark.parametrize("tolerance", [1e-3, 5e-3, 0.05, 0.3])
def test_gaussian_weights_take_hardly_more_bits_than_any_code_must(tolerance):
    """At an error D a Gaussian takes log2(1 / D) / 2 bits; uniform steps 0.255 more at high rates
    (Gish & Pierce 1968)."""
    weights = gaussian()
    grid = on_grid(weights, tolerance)
    least = 0.5 * np.log2(1 / error(weights, values(grid)))
    assert least < entropy(grid.symbols) < least + 0.3


@pytest.mark.parametrize("weights", [gaussian(), heavy(), sparse()])
@pytest.mark.parametrize("tolerance", [1e-3, 5e-3, 0.05, 0.3])
def test_no_step_of_plain_rounding_is_shorter(weights, tolerance):
    grid = on_grid(weights, tolerance)
    assert entropy(grid.symbols) < rounded(weights, tolerance) + 0.005


def test_zeros_are_chosen_where_they_save_more_than_they_lose():
    """Of a heavy tail a tenth of a bit is saved in a bit, by theory and by trial."""
    weights = heavy()
    assert entropy(on_grid(weights, 0.3).symbols) < rounded(weights, 0.3) - 0.02


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("tolerance", [1e-5, 5e-3, 0.2])
def test_the_error_is_what_comes_back_and_all_of_it_is_used(dtype, tolerance):
    weights = gaussian(dtype=dtype)
    grid = on_grid(weights, tolerance)
    found = error(weights, values(grid, dtype))
    assert grid.relative_error == pytest.approx(found, rel=1e-6)
    assert 0.9 * tolerance < found <= tolerance


def test_units_of_weights_do_not_matter():
    weights = gaussian(4096)
    one, other = on_grid(weights, 0.01), on_grid(weights * 2.0**-40, 0.01)
    np.testing.assert_array_equal(one.symbols, other.symbols)
    assert other.step == pytest.approx(one.step * 2.0**-40, rel=1e-6)


def test_weights_of_both_signs_are_treated_alike():
    one, other = on_grid(gaussian(4097), 0.01), on_grid(-gaussian(4097), 0.01)
    np.testing.assert_array_equal(one.codebook[one.symbols], -other.codebook[other.symbols])


def test_a_grid_has_the_shape_of_its_tensor_whatever_its_memory():
    weights = gaussian(6000).reshape(20, 30, 10)
    turned = weights.permute(2, 0, 1)
    np.testing.assert_array_equal(
        on_grid(turned, 0.01).symbols, on_grid(weights, 0.01).symbols.transpose(2, 0, 1)
    )


def test_weights_of_three_values_keep_to_three():
    weights = gaussian(999).sign() * (gaussian(999, seed=1).abs() > 0.01) * 0.3
    grid = on_grid(weights, 1e-4)
    assert list(grid.codebook) == [-1, 0, 1]
    assert grid.relative_error < 1e-12


@pytest.mark.parametrize("weights", [torch.zeros(3, 4), torch.full((3, 4), -0.0)])
def test_zeros_stay_zeros(weights):
    grid = on_grid(weights, 0.01)
    assert list(grid.codebook) == [0] and not np.signbit(grid.codebook).any()
    assert grid.symbols.shape == (3, 4) and grid.relative_error == 0


def test_small_weights_of_either_sign_become_the_same_zero():
    grid = on_grid(gaussian(), 0.3)
    assert (grid.codebook == 0).sum() == 1 and not np.signbit(grid.codebook[grid.codebook == 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_largest_numbers_do_not_overflow(dtype):
    limit = torch.finfo(dtype).max
    weights = (gaussian(1000).clamp(-0.02, 0.02) / 0.02 * limit).to(dtype)
    back = values(on_grid(weights, 0.01), dtype)
    assert back.isfinite().all() and error(weights, back) <= 0.01


def test_the_smallest_numbers_of_half_precision_come_back():
    weights = (torch.arange(-30, 31).repeat(10) * 2.0**-24).half()
    assert error(weights, values(on_grid(weights, 0.005), torch.float16)) <= 0.005


def test_an_outlier_is_kept_beside_weights_that_are_small():
    weights = gaussian(1 << 16)
    weights[77] = 100.0
    back = values(on_grid(weights, 1e-6))
    assert error(weights, back) <= 1e-6 and back[77] == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("size", [1e300, 1e-200, 1e-40])
def test_numbers_beyond_float32_have_no_grid(size):
    assert on_grid(torch.tensor([[size, size / 3]], dtype=torch.float64), 0.01) is None


@pytest.mark.parametrize("tolerance", [0, 1e-7, 1.0, 2, float("nan")])
def test_a_tolerance_that_cannot_be_is_refused(tolerance):
    with pytest.raises(ValueError, match="relative squared error .* at least 1e-06 and below 1"):
        check_tolerance(tolerance)
