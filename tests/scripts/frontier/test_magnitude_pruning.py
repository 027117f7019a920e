"""The baseline's parts against what they claim."""

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, classifier

import pyro_sws as sws
from pyro_sws.compression.refine import Refinement, RefinementRates


def test_the_density_falls_from_all_to_its_goal(script):
    density_at = script("frontier.magnitude_pruning").density_at
    found = [density_at(progress, 0.02) for progress in np.linspace(0, 1, 101)]
    assert found[0] == 1 and found == sorted(found, reverse=True)
    assert all(value == 0.02 for value in found[70:])


def test_the_largest_weights_are_left(script):
    weights = torch.tensor([0.1, -0.5, 0.0, 0.3, -0.2])
    assert script("frontier.magnitude_pruning").largest(weights, 0.4).tolist() == [0, 1, 0, 1, 0]


def test_a_pruned_network_has_its_density_its_clusters_and_its_masks(script):
    module = script("frontier.magnitude_pruning")
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    model = sws.joint(net, ONE_GROUP, "categorical", 60, tau=0.05)
    settings = module.Pruning(density=0.3, levels=3, epochs=20)
    masked, posterior = module.pruned(model, batches, settings)
    flat = posterior.point["all.weights"]
    assert (flat != 0).sum() == round(0.3 * 67)
    prior = posterior.priors["all"].mixture
    values = sorted(set(sws.quantize(posterior).codebooks["all"].tolist()))
    assert len(prior) == 4 and set(values) <= set(prior.means.half().tolist())
    assert prior.proportions.sum().item() == pytest.approx(1)
    snapped = sws.quantize(posterior, "float32").dequantize()
    residual = flat - torch.cat([torch.from_numpy(a).flatten() for a in snapped.values()])
    assert residual.abs().max() < 0.5 * flat.abs().max()
    dense = {name: torch.ones_like(w) for name, w in posterior.weights.items()}
    kept = {name: dense[name] * masked.masks[name] for name in dense}
    assert torch.equal(masked.outputs(dense, inputs), model.outputs(kept, inputs))


def test_zeros_are_held_in_the_baselines_refinement(script):
    module = script("frontier.magnitude_pruning")
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    model = sws.joint(net, ONE_GROUP, "categorical", 60, tau=1e-4)
    masked, posterior = module.pruned(model, batches, module.Pruning(0.3, 3, 20))
    eager = Refinement(20, rates=RefinementRates(weights=0.02, means=0.02))
    found = sws.refine(masked, posterior, batches, eager)
    before, after = (sws.quantize(p).dequantize() for p in (posterior, found.posterior))
    assert found.epoch > 0
    assert not any(((before[name] == 0) & (after[name] != 0)).any() for name in before)
