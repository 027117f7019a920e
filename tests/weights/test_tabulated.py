"""A tabulated mixture against the mixture itself: values, log-density and gradients."""

import pytest
import torch

from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.tabulated import tabulated


def mixture_of(width, dtype=torch.float64):
    means = torch.tensor([-3.0, -1.5, 0.0, 1.0, 2.5], dtype=dtype, requires_grad=True)
    shares = torch.tensor([0.05, 0.1, 0.7, 0.1, 0.05], dtype=dtype)
    return Mixture(means, torch.full_like(shares, width**-2), shares)


@pytest.mark.parametrize("width", [0.1, 0.4, 1.5])
def test_values_are_those_that_weights_snap_to(width):
    torch.manual_seed(0)
    mixture, w = mixture_of(width), 4 * torch.rand(5000, dtype=torch.float64) - 2
    values, _ = tabulated(mixture, w)
    exact = mixture.levels[mixture.assign(w)]
    # Those that differ lie within half a node of a border.
    other = values != exact
    assert other.double().mean() < 0.02
    moved = torch.stack([w - width / 16, w + width / 16])
    near = mixture.levels[mixture.assign(moved)]
    assert ((values == near[0]) | (values == near[1]))[other].all()


@pytest.mark.parametrize("width", [0.1, 0.4, 1.5])
def test_the_log_density_and_its_slopes_are_the_mixtures(width):
    torch.manual_seed(0)
    mixture = mixture_of(width)
    w = (3 * torch.randn(20_000, dtype=torch.float64)).requires_grad_()
    _, log_prob = tabulated(mixture, w)
    exact = mixture.component_log_prob(w).logsumexp(-1).sum()  # the formula, by autograd
    assert log_prob.item() == pytest.approx(exact.item(), rel=2e-3)
    read = torch.autograd.grad(log_prob, [w, mixture.means])
    true = torch.autograd.grad(exact, [w, mixture.means])
    # The nearest node is a sixteenth of a deviation away at most; a slope changes by as much there.
    assert (read[0] - true[0]).abs().max() < 4 / width / 16 * (1 + 9 / width**2 / 4)
    assert (read[0] - true[0]).abs().mean() < 0.05 / width
    assert torch.allclose(read[1], true[1], rtol=0.05, atol=0.02 * true[1].abs().max().item())


def test_gradients_go_straight_through_to_weights_and_by_value_to_means():
    mixture = mixture_of(0.2)
    w = torch.tensor([-3.1, -2.9, 0.1, 0.9, 1.1, 2.6], dtype=torch.float64, requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], dtype=torch.float64)
    values, _ = tabulated(mixture, w)
    assert values.tolist() == [-3.0, -3.0, 0.0, 1.0, 1.0, 2.5]
    for_w, for_means = torch.autograd.grad(values @ upstream, [w, mixture.means])
    assert torch.equal(for_w, upstream)
    assert for_means.tolist() == [3.0, 0.0, 4.0, 24.0, 32.0]


def test_weights_that_are_all_one_number_or_not_finite():
    mixture = mixture_of(0.2, torch.float32)
    values, log_prob = tabulated(mixture, torch.full((7,), 1.1))
    assert (values == 1).all()
    exact = mixture.component_log_prob(torch.tensor(1.1)).logsumexp(-1)
    assert log_prob.item() == pytest.approx(7 * exact.item(), rel=1e-4)
    with pytest.raises(FloatingPointError, match="not finite"):
        tabulated(mixture, torch.tensor([0.0, float("nan")]))
