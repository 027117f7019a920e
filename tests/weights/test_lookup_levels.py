"""The table of levels against the assignments themselves."""

import pytest
import torch

from pyro_sws.weights.lookup_tables import NODES, assign_by_table
from pyro_sws.weights.mixture import Mixture


def mixture(means, deviations, proportions, dtype=torch.float32):
    means, deviations = (torch.tensor(x, dtype=dtype) for x in (means, deviations))
    shares = torch.tensor(proportions, dtype=dtype)
    return Mixture(means, deviations**-2, shares / shares.sum())


MIXTURES = [
    mixture([0.0, 0.5, -0.3], [0.02, 0.05, 0.05], [0.9, 0.06, 0.04]),
    mixture([0.0, 0.0, 0.0, 0.2], [0.01, 0.05, 0.2, 0.02], [0.9, 0.05, 0.02, 0.03]),
    mixture([-0.4, -0.1, 0.0, 0.1, 0.1], [0.1, 0.01, 0.01, 0.2, 0.01], [1, 2, 30, 1, 2]),
    mixture([0.3], [0.1], [1.0]),
]


@pytest.mark.parametrize("of", MIXTURES)
@pytest.mark.parametrize("count", [0, 1, NODES, NODES + 1, 50_000])
def test_every_weight_has_its_own_level(of, count):
    w = 0.3 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    found = assign_by_table(of, w)
    assert found.dtype == torch.int64 and torch.equal(found, of.assign(w))


def test_weights_at_the_ends_at_the_nodes_and_all_alike():
    of = MIXTURES[2]
    for w in (torch.linspace(-1, 1, 2 * NODES - 1), torch.full((NODES + 1,), 0.1)):
        assert torch.equal(assign_by_table(of, w), of.assign(w))


def test_few_weights_are_assigned_one_by_one(monkeypatch):
    asked = []
    assign = Mixture.assign
    monkeypatch.setattr(Mixture, "assign", lambda m, w: asked.append(len(w)) or assign(m, w))
    w = 0.3 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assign_by_table(MIXTURES[0], w)
    assert asked[0] == NODES and asked[1] < 0.01 * len(w)
