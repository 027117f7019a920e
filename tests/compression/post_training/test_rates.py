"""What symbols cost, beside what the coder makes of them."""

import math

import pytest
import torch

from pyro_sws.codec.coders import Plane, tensor_bits
from pyro_sws.compression.post_training.rates import Rates

MOST = 40


def drawn(density, shape=(60, 80), seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    values = (spread * torch.randn(shape, generator=generator)).round().clamp(-MOST, MOST)
    values = torch.where(values == 0, 1.0, values)
    return values * (torch.rand(shape, generator=generator) < density)


def coded_bits(symbols):
    low = int(symbols.min())
    levels = int(symbols.max()) - low + 1
    array = (symbols - low).numpy().astype("uint16")
    (bits,) = tensor_bits([array], [Plane(tuple(symbols.shape), levels, -low)])
    return bits


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
def test_total_is_about_what_the_coder_takes(density):
    symbols = drawn(density)
    assert Rates.of(symbols[None], MOST).total(symbols[None]) == pytest.approx(
        coded_bits(symbols), rel=0.1
    )


def test_rows_that_are_busy_make_nonzeros_cheap():
    density = torch.full((60, 1), 0.05)
    density[:20] = 0.9
    symbols = drawn(density)[None]
    zero, nonzero = Rates.of(symbols, MOST).at(0)
    assert nonzero[0, :20].max() < nonzero[0, 20:].min()
    assert zero[0, :20].min() > zero[0, 20:].max()


def test_zero_and_not_zero_are_probabilities():
    zero, nonzero = Rates.of(drawn(0.3)[None], MOST).at(slice(None))
    assert torch.allclose(2**-zero + 2**-nonzero, torch.ones_like(zero))


def test_bits_of_equally_likely_values():
    symbols = torch.tensor([1.0, -1.0, 2.0, -2.0]).repeat(2500).reshape(1, 100, 100)
    rates = Rates.of(symbols, MOST)
    each = rates.bits(torch.tensor([1.0, 2.0]), torch.zeros(()), torch.zeros(()))
    assert each.tolist() == pytest.approx([math.log2(4)] * 2, abs=1e-2)
