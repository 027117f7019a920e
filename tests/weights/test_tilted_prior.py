"""A spike that differs from weight to weight, against a mixture for each weight by torch."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from pyro_sws.weights.merge import merge_components, merge_pair
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.tilted_prior import TiltedPrior
from pyro_sws.weights.weight_prior import MixturePrior

N = 500


def shape(dtype=torch.float64):
    parts = ([0.0, 0.5, -0.4], [900.0, 100.0, 400.0], [0.9, 0.07, 0.03])
    return Mixture(*(torch.tensor(values, dtype=dtype) for values in parts))


def tilted(widths=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    offsets = 3 * torch.randn(N, generator=generator, dtype=dtype)
    ratios = torch.randn(N, generator=generator, dtype=dtype) if widths else None
    return TiltedPrior(shape(dtype), offsets, ratios)


def drawn(dtype=torch.float64):
    return 0.3 * torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=dtype)


def each_weights_mixture(prior):
    """By torch: a batch of N mixtures."""
    z = torch.sigmoid(prior.mixture.proportions[0].logit() + prior.offsets)
    rest = prior.mixture.proportions[1:] / prior.mixture.proportions[1:].sum()
    probabilities = torch.cat([z.unsqueeze(1), (1 - z).unsqueeze(1) * rest], dim=1)
    spike = prior.mixture.precisions[0] * torch.ones(N, dtype=z.dtype)
    if prior.log_ratios is not None:
        spike = spike * prior.log_ratios.exp()
    slabs = prior.mixture.precisions[1:].expand(N, -1)
    deviations = torch.cat([spike.unsqueeze(1), slabs], dim=1).rsqrt()
    components = Normal(prior.mixture.means.expand(N, -1), deviations)
    return MixtureSameFamily(Categorical(probabilities), components)


def leaves(prior):
    """The prior with tensors of its own to differentiate in, and those."""
    z = prior.mixture.proportions[0].detach().clone().requires_grad_()
    means, precisions, offsets = (
        value.detach().clone().requires_grad_()
        for value in (prior.mixture.means[1:], prior.mixture.precisions, prior.offsets)
    )
    shares = prior.mixture.proportions[1:] / prior.mixture.proportions[1:].sum()
    proportions = torch.cat([z.view(1), (1 - z) * shares])
    ratios = None if prior.log_ratios is None else prior.log_ratios.clone().requires_grad_()
    tensors = [z, means, precisions, offsets] + ([] if ratios is None else [ratios])
    spike_and_slabs = Mixture(torch.cat([means.new_zeros(1), means]), precisions, proportions)
    return TiltedPrior(spike_and_slabs, offsets, ratios), tensors


@pytest.mark.parametrize("widths", [False, True])
def test_log_prob_and_its_gradients_are_those_of_a_mixture_for_each_weight(widths):
    prior, tensors = leaves(tilted(widths))
    tensors = [drawn().requires_grad_(), *tensors]
    found = prior.log_prob(tensors[0])
    expected = each_weights_mixture(prior).log_prob(tensors[0]).sum()
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, tensors, retain_graph=True)
    for a, b in zip(gradients, torch.autograd.grad(expected, tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("places", [slice(100, 350), torch.tensor([3, 499, 4, 77])])
def test_some_weights_have_the_offsets_of_their_places(places):
    prior, w = tilted(), drawn()
    expected = each_weights_mixture(prior).log_prob(w)[places].sum()
    torch.testing.assert_close(prior.log_prob(w[places], places), expected)
    whole = prior.approximate_slopes(w)
    # Tables over different ranges of weights.
    torch.testing.assert_close(
        prior.approximate_slopes(w[places], places), whole[places], rtol=1e-2, atol=1e-1
    )


@pytest.mark.parametrize("widths", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_approximate_slopes_are_nearly_right(widths, dtype):
    prior, w = tilted(widths, dtype), drawn(dtype).requires_grad_()
    (exact,) = torch.autograd.grad(each_weights_mixture(prior).log_prob(w).sum(), w)
    found = prior.approximate_slopes(w)
    assert found.dtype == dtype and not found.requires_grad
    assert (found - exact).norm() < 5e-3 * exact.norm()


@pytest.mark.parametrize("widths", [False, True])
def test_each_weights_density_integrates_to_one(widths):
    prior = tilted(widths)
    for place in range(3):
        assert integral(prior, place) == pytest.approx(1, abs=1e-9)


def integral(prior, place):
    """Over one weight. At half a deviation, 1/60, trapezia are wrong by exp(-8 pi^2) of it."""
    grid = torch.linspace(-3, 3, 361, dtype=torch.float64)
    own = slice(place, place + 1)
    p = torch.stack([prior.log_prob(w.view(1), own) for w in grid]).exp()
    return torch.trapezoid(p, grid).item()


def test_without_offsets_it_is_the_mixture():
    zeros = torch.zeros(N, dtype=torch.float64)
    prior, plain, w = TiltedPrior(shape(), zeros, zeros), MixturePrior(shape()), drawn()
    torch.testing.assert_close(prior.log_prob(w), plain.log_prob(w), rtol=1e-14, atol=0)
    assert torch.equal(prior.assign(w), plain.assign(w))
    part = slice(3, 8)
    torch.testing.assert_close(prior.proportions(part), plain.proportions(part))


def test_zero_proportions_are_probabilities_of_the_spike():
    prior = tilted()
    expected = each_weights_mixture(prior).mixture_distribution.probs[:, 0]
    part = slice(20, 60)
    torch.testing.assert_close(prior.zero_proportions(part), expected[part])
    torch.testing.assert_close(prior.proportions(part)[1], expected[part].mean())  # -0.4, 0, 0.5


def test_weights_snap_to_the_most_responsible_component_of_their_own():
    prior, w = tilted(), drawn()
    mixtures = each_weights_mixture(prior)
    components = mixtures.component_distribution.log_prob(w.unsqueeze(1))
    best = (components + mixtures.mixture_distribution.logits).argmax(1)
    snapped = prior.codebook(slice(0, N))[prior.assign(w)]
    assert torch.equal(snapped, prior.mixture.means[best])
    assert (prior.assign(w) != MixturePrior(shape()).assign(w)).any(), "the offsets decide some"


def test_draws_are_at_zero_as_often_as_said():
    narrow = Mixture(shape().means, torch.full((3,), 1e6, dtype=torch.float64), shape().proportions)
    prior = TiltedPrior(narrow, torch.linspace(-4, 2, N, dtype=torch.float64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        at_zero = torch.stack([(prior.sample(N).abs() < 0.1).double() for _ in range(400)])
    z = prior.zero_proportions(slice(0, N))
    # Five standard errors of the mean over all draws, and weight by weight.
    assert abs(at_zero.mean() - z.mean()) < 5 * ((z * (1 - z)).mean() / at_zero.numel()).sqrt()
    assert ((at_zero.mean(0) - z).abs() < 5 * (z * (1 - z) / 400).sqrt()).all()


@pytest.mark.parametrize("pair", [(0, 1), (1, 2)])
def test_merging_leaves_a_density(pair):
    merged = merge_pair(shape(), *pair)
    prior = TiltedPrior(merged, torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64))
    for place in range(3):
        assert integral(prior, place) == pytest.approx(1, abs=1e-9)
    assert prior.proportions(slice(0, 3)).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(20))
def test_when_all_has_merged_there_is_nothing_but_the_spike(seed):
    # In single precision their proportions may sum to a little more or less than 1.
    generator = torch.Generator().manual_seed(seed)
    proportions = torch.rand(17, generator=generator).softmax(0)
    many = Mixture(torch.arange(17.0), torch.ones(17), proportions)
    merged, _ = merge_components(many, 1e9)
    prior = TiltedPrior(merged, torch.tensor([-30.0, 0.0, 30.0]))
    w = torch.tensor([0.1, 0.2, 0.3])
    expected = Normal(0.0, merged.precisions.rsqrt()).log_prob(w).sum()
    torch.testing.assert_close(prior.log_prob(w), expected)
    assert torch.equal(prior.zero_proportions(slice(0, 3)), torch.ones(3))
    assert prior.proportions(slice(0, 3)).tolist() == [1.0]
    torch.testing.assert_close(prior.approximate_slopes(w), -merged.precisions * w)
    assert prior.sample(3).isfinite().all()
