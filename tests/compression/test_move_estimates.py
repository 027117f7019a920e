"""Guesses: exact where the error cost is a quadratic and the code is an order-0 code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from pyro_sws.compression.component_moves import after
from pyro_sws.compression.move_estimates import Sensitivity, estimates
from pyro_sws.weights.group import Group
from pyro_sws.weights.merge import singles
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import quantize
from pyro_sws.weights.weight_prior import MixturePrior

NATS_PER_BIT = 0.3
MEANS = torch.tensor([0.5, -1.0, 0.0, 1.0, 1.5, -1.5], dtype=torch.float64)  # exact in float16
TARGET = 0.9  # where the made-up error cost of every weight is least


def posterior(scales=None, fixed_levels=False):
    generator = torch.Generator().manual_seed(0)
    near = torch.randint(len(MEANS), (300,), generator=generator)
    noise = 0.02 * torch.randn(300, generator=generator, dtype=torch.float64)
    weights = (MEANS[near] + noise) * (1 if scales is None else scales)
    mixture = Mixture(MEANS, torch.full_like(MEANS, 400.0), torch.full_like(MEANS, 1 / 6))
    prior = MixturePrior(mixture, scales, fixed_levels)
    group = Group("all", {"w": (200,), "b": (100,)}, torch.float64)
    found = Posterior({"all": group}, {"all.weights": weights}, {"all": prior}, {}, tau=1.0)
    return replace(found, merged=singles(found))


def tensors(p):
    return {n: torch.from_numpy(a).double() for n, a in quantize(p, "float32").dequantize().items()}


def cost(p):
    """A quadratic error cost, and the bits of a code with one table for all weights."""
    quantized = quantize(p, "float32")
    error = sum(2.0 * (w - TARGET).square().sum().item() for w in tensors(p).values())
    levels = len(quantized.codebooks["all"])
    counts = sum(np.bincount(s.ravel(), minlength=levels) for s in quantized.symbols.values())
    return error + NATS_PER_BIT * counts.sum() * entropy(counts, base=2)


def estimated(p):
    snapped = tensors(p)
    gradient = {name: 4.0 * (w - TARGET) for name, w in snapped.items()}
    curvature = {name: torch.full_like(w, 4.0) for name, w in snapped.items()}
    return estimates(p, snapped, Sensitivity(gradient, curvature), NATS_PER_BIT)


SCALES = torch.linspace(0.5, 2, 300, dtype=torch.float64)


@pytest.mark.parametrize("scales", [None, SCALES], ids=["unscaled", "scaled"])
def test_guesses_are_exact_for_a_quadratic_cost_and_an_order_0_code(scales):
    # Components are far apart: what merges takes no weight of a third one.
    p = posterior(scales)
    found = estimated(p)
    assert len(found) == 5 + 2 * 5  # each but zero, and each pair in two ways
    for move, nats in found:
        assert nats == pytest.approx(cost(after(p, [move])) - cost(p), abs=1e-3), move


def test_zero_is_never_deleted_and_merges_into_zero():
    p = posterior()
    with_zero = [move for move, _ in estimated(p) if (2,) in move.clusters]
    assert {move.clusters for move in with_zero} == {((1,), (2,)), ((2,), (0,))}
    for move in with_zero:
        assert 0.0 in after(p, [move]).priors["all"].mixture.means


def test_fixed_levels_have_no_moves():
    assert estimated(posterior(fixed_levels=True)) == []


def test_the_value_of_a_merge_is_the_mean_of_the_weights_that_snap_to_either():
    p = posterior()
    snapped, weights = torch.cat([*tensors(p).values()]), p.point["all.weights"]
    for move, _ in estimated(p):
        if move.clusters == ((3,), (4,)):
            theirs = weights[(snapped == 1.0) | (snapped == 1.5)]
            assert move.value == pytest.approx(theirs.mean().item())
