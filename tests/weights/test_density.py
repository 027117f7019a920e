"""The summed log-density and its gradients, against torch's own mixture and finite arithmetic."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from pyro_sws.weights import density
from pyro_sws.weights.density import log_density

LOG_PROPORTIONS = torch.tensor([0.9, 0.06, 0.04], dtype=torch.float64).log()


def arguments(dtype, deviations=(0.01, 0.1, 0.05), n=5000):
    generator = torch.Generator().manual_seed(0)
    w = 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    w[: n // 2] *= 0.01
    values = (
        w,
        torch.tensor([0.0, 0.5, -0.4], dtype=torch.float64),
        torch.tensor(deviations, dtype=torch.float64) ** -2,
        LOG_PROPORTIONS,
    )
    return [v.to(dtype).requires_grad_() for v in values]


def oracle(w, means, precisions, log_proportions):
    components = Normal(means, precisions.rsqrt())
    mixing = Categorical(logits=log_proportions)
    return MixtureSameFamily(mixing, components).log_prob(w).sum()


def gradients(function, values):
    total = function(*values)
    return total, torch.autograd.grad(total, values)


@pytest.mark.parametrize("deviations", [(0.01, 0.1, 0.05), (0.25, 0.25, 0.25)])
def test_value_and_gradients_are_those_of_torchs_mixture(deviations):
    values = arguments(torch.float64, deviations)
    total, found = gradients(log_density, values)
    expected_total, expected = gradients(oracle, values)
    torch.testing.assert_close(total, expected_total, rtol=1e-10, atol=1e-10)
    for name, a, b in zip(("w", "means", "precisions"), found, expected, strict=False):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_gradient_of_the_log_proportions_counts_the_responsibilities():
    # torch normalises logits inside Categorical, so its own gradient is another function's.
    values = arguments(torch.float64)
    _, (*_, found) = gradients(log_density, values)
    w, means, precisions, log_proportions = values
    joint = log_proportions + Normal(means, precisions.rsqrt()).log_prob(w.unsqueeze(-1))
    torch.testing.assert_close(found, joint.softmax(-1).sum(0), rtol=1e-10, atol=1e-10)


def test_gradients_pass_torchs_finite_differences():
    values = arguments(torch.float64, deviations=(0.1, 0.2, 0.15), n=12)
    assert torch.autograd.gradcheck(log_density, values)


def test_single_precision_agrees_with_double():
    total, found = gradients(log_density, arguments(torch.float32))
    exact_total, exact = gradients(log_density, arguments(torch.float64))
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.double(), exact_total, rtol=1e-6, atol=0)
    for a, b in zip(found, exact, strict=True):
        # Worst case of a difference of near-equal numbers: relative to the largest entry.
        assert (a.double() - b).abs().max() <= 1e-5 * b.abs().max()


def test_high_precision_keeps_small_differences():
    w, mean = torch.tensor([1.0001]), torch.tensor([1.0])
    found = log_density(w, mean, torch.tensor([1e7]), torch.zeros(1))
    exact = Normal(mean.double(), torch.tensor([1e7]).double().rsqrt()).log_prob(w.double()).sum()
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [1, density.BLOCK_SIZE, density.BLOCK_SIZE + 1])
def test_blocks_cover_every_weight_once(n):
    _, means, precisions, log_proportions = (a.detach() for a in arguments(torch.float64))
    w = torch.linspace(-1, 1, n, dtype=torch.float64)
    found = log_density(w, means, precisions, log_proportions)
    torch.testing.assert_close(found, oracle(w, means, precisions, log_proportions))


def test_no_weights_have_no_cost():
    _, *mixture = (a.detach() for a in arguments(torch.float32))
    assert log_density(torch.empty(0), *mixture) == 0


def test_no_exponential_underflows_to_a_denormal(monkeypatch):
    seen = []
    real = torch.Tensor.exp_
    monkeypatch.setattr(torch.Tensor, "exp_", lambda t: seen.append(t.min().item()) or real(t))
    log_density(*(a.detach() for a in arguments(torch.float32, (1e-3, 1e-3, 1e-3))))
    tiny = torch.finfo(torch.float32).tiny
    assert seen and torch.tensor(min(seen)).exp() > tiny


def test_weights_far_from_every_component_keep_a_finite_gradient():
    _, means, precisions, log_proportions = (a.detach() for a in arguments(torch.float32))
    w = torch.tensor([1e3, -1e3], requires_grad=True)
    log_density(w, means, precisions, log_proportions).backward()
    assert w.grad is not None and w.grad.isfinite().all()
    assert (w.grad.sign() == torch.tensor([-1.0, 1.0])).all(), "the gradient points home"


def test_a_second_derivative_is_refused_rather_than_wrong():
    w, *mixture = arguments(torch.float64, n=3)
    (slope,) = torch.autograd.grad(w.square().sum(), w, create_graph=True)  # a plain one works
    assert slope.requires_grad
    with pytest.raises(RuntimeError, match="differentiated once; for more use Mixture.log_prob"):
        torch.autograd.grad(log_density(w, *mixture), w, create_graph=True)
