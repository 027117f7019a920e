"""How sure each weight is of its value: against torch's mixtures, and tables made by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from small_posteriors import DEVIATIONS, DOUBLE, MEANS, SHARES, mixture, posterior, weights
from torch.distributions import Categorical, MixtureSameFamily, Normal

from pyro_sws.assess.point.assignment_certainty import SURE, TIED, assignment_certainty, ties
from pyro_sws.weights.group import Group
from pyro_sws.weights.quantize import quantize
from pyro_sws.weights.tilted_prior import TiltedPrior
from pyro_sws.weights.weight_prior import MixturePrior, UniformlyQuantized

LEVELS = [-0.25, 0.0, 0.5]


def by_torch(w, offsets=None, ratios=None):
    """p(component j | w) from torch's densities alone, added up by value; (N, 3)."""
    log_shares = torch.tensor(SHARES, **DOUBLE).log().expand(len(w), -1).clone()
    deviations = torch.tensor(DEVIATIONS, **DOUBLE).expand(len(w), -1).clone()
    if offsets is not None:
        log_shares[:, 0] += offsets
        deviations[:, 0] *= (-ratios / 2).exp()
    components = Normal(torch.tensor(MEANS, **DOUBLE).expand(len(w), -1), deviations)
    family = MixtureSameFamily(Categorical(logits=log_shares), components)
    log_shares = log_shares.log_softmax(-1)
    joint = log_shares + components.log_prob(w.unsqueeze(1)) - family.log_prob(w).unsqueeze(1)
    each = joint.exp().numpy()
    return np.stack([each[:, np.array(MEANS) == level].sum(1) for level in LEVELS], axis=1)


def tilts(seed, size=60):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), **DOUBLE)


CASES = {
    "a mixture": (MixturePrior(mixture()), by_torch(weights())),
    "scaled": (  # by what float16 holds, as a file's scales are
        MixturePrior(mixture(), tilts(1).exp().half().double()),
        by_torch(weights() / tilts(1).exp().half().double()),
    ),
    "tilted": (
        TiltedPrior(mixture(), 2 * tilts(2), tilts(3)),
        by_torch(weights(), 2 * tilts(2), tilts(3)),
    ),
}


def joined(assignments, field):
    return np.concatenate(
        [getattr(assignments.tensors[name], field).numpy().ravel() for name in "ab"]
    )


@pytest.mark.parametrize("name", CASES)
def test_responsibilities_are_those_of_torch_value_by_value(name):
    prior, expected = CASES[name]
    ordered = np.sort(expected, axis=1)
    assignments = assignment_certainty(posterior(prior))
    np.testing.assert_allclose(joined(assignments, "responsibility"), ordered[:, -1], rtol=1e-10)
    margin = ordered[:, -1] - ordered[:, -2]
    np.testing.assert_allclose(joined(assignments, "margin"), margin, atol=1e-12)
    np.testing.assert_allclose(
        joined(assignments, "entropy_nats"), entropy(expected, axis=1), atol=1e-10
    )
    np.testing.assert_array_equal(joined(assignments, "assignment"), expected.argmax(1))
    np.testing.assert_array_equal(joined(assignments, "runner_up"), expected.argsort(1)[:, -2])
    found = assignments.tensors["a"].expected + assignments.tensors["b"].expected
    np.testing.assert_allclose(found, expected.sum(0), rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_it_is_about_the_values_that_quantize_takes(name):
    fitted = posterior(CASES[name][0])
    assignments, quantized = assignment_certainty(fitted), quantize(fitted)
    for tensor, found in assignments.tensors.items():
        book = quantized.codebooks[quantized.codebook_of[tensor]]
        stored = book[quantized.symbols[tensor]].astype(float)
        np.testing.assert_array_equal(found.values[found.assignment].numpy(), stored)


def test_a_weight_half_way_between_two_equal_components_is_tied():
    even = mixture([-0.5, 0.5], [0.125, 0.125], [0.5, 0.5])
    log_odds = np.log(0.95 / 0.05)  # at w the log-odds are 64 w
    flat = torch.tensor([0.0, 1e-6, -0.5, log_odds / 64], **DOUBLE)
    found = assignment_certainty(
        posterior(MixturePrior(even), flat, Group("all", {"w": (4,)}))
    ).tensors["w"]
    np.testing.assert_allclose(found.responsibility[[0, 3]], [0.5, 0.95], rtol=1e-9)
    np.testing.assert_allclose(found.margin[[0, 3]], [0, 0.9], atol=1e-9)
    assert found.entropy_nats[0] == pytest.approx(np.log(2))
    assert found.between.tolist() == [True, True, False, False]
    assert found.tied.tolist() == [True, True, False, False]
    assert ties([found]) == [{"values": [-0.5, 0.5], "weights": 2}]


def test_rows_count_by_tensor_and_by_group():
    assignments = assignment_certainty(posterior(MixturePrior(mixture())))
    expected = CASES["a mixture"][1]
    ordered = np.sort(expected, axis=1)
    between = ordered[:, -1] < SURE
    tied = ordered[:, -1] - ordered[:, -2] < TIED
    told = assignments.to_dict()
    assert [row["between"] for row in told["tensors"]] == [between[:40].sum(), between[40:].sum()]
    (group,) = told["groups"]
    assert (group["weights"], group["between"], group["tied"]) == (60, between.sum(), tied.sum())
    assert group["mean_entropy_nats"] == pytest.approx(entropy(expected, axis=1).mean())
    assert sum(row["weights"] for row in told["ties"]["all"]) == tied.sum() > 0


def test_of_a_single_value_every_weight_is_sure():
    one = mixture([0.0, 0.0], [0.1, 1.0], [0.5, 0.5])
    found = assignment_certainty(posterior(MixturePrior(one))).tensors["a"]
    np.testing.assert_allclose(found.responsibility, 1)
    np.testing.assert_allclose(found.entropy_nats, 0, atol=1e-15)
    assert (found.margin == 1).all() and found.assigned.tolist() == [40]


def test_means_that_round_to_one_value_are_one():
    near = mixture([0.5, 0.5 + 1e-5, -0.5], [0.1, 0.1, 0.1], [0.3, 0.3, 0.4])
    flat = torch.full((60,), 0.5, **DOUBLE)
    stored, exact = (
        assignment_certainty(posterior(MixturePrior(near), flat), dtype).tensors["b"]
        for dtype in ("float16", "float32")
    )
    assert (stored.margin > 0.99).all() and len(stored.values) == 2
    assert (exact.margin < TIED).all() and len(exact.values) == 3


def test_blocks_do_not_show():
    many = Group("all", {"a": (70_000,)}, torch.float64)
    flat = weights().repeat(1167)[:70_000]
    found = assignment_certainty(posterior(MixturePrior(mixture()), flat, many)).tensors["a"]
    few = assignment_certainty(posterior(MixturePrior(mixture())))
    expected = np.resize(joined(few, "margin"), 70_000)
    np.testing.assert_array_equal(found.margin, expected)


def test_a_prior_that_rounds_is_left_out_and_named():
    one = mixture([0.0], [1.0], [1.0])
    grid = UniformlyQuantized(one, torch.full((60,), 0.1, **DOUBLE), 4)
    assignments = assignment_certainty(posterior(grid))
    assert assignments.tensors == {} and assignments.left_out == ("all",)


def test_widened_components_are_said_to_mean_something_else():
    fitted = posterior(MixturePrior(mixture()))
    assert assignment_certainty(fitted).note is None
    assert (
        "9 times as wide as fitted" in assignment_certainty(fitted, widening=9.0).to_dict()["note"]
    )


def test_an_unknown_dtype_and_a_mean_beyond_it_are_refused():
    with pytest.raises(ValueError, match="unknown codebook_dtype"):
        assignment_certainty(posterior(MixturePrior(mixture())), "float8")
    far = dataclasses.replace(mixture(), means=torch.tensor([0.0, 1e6, 0.0, 1.0], **DOUBLE))
    with pytest.raises(ValueError, match="does not fit"):
        assignment_certainty(posterior(MixturePrior(far)))
