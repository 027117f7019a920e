"""The summed log-density and its gradients, against torch's own mixture and finite arithmetic."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.profiler import ProfilerActivity, profile

from pyro_sws.weights.density import blockwise
from pyro_sws.weights.density.blocks import Components, block_size
from pyro_sws.weights.density.log_density import (
    density_backend,
    log_densities,
    log_density,
    select_backend,
)

BLOCK_SIZE = block_size(3)
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


def each(w, means, precisions, log_proportions):
    components = Normal(means, precisions.rsqrt())
    mixing = Categorical(logits=log_proportions)
    return MixtureSameFamily(mixing, components).log_prob(w)


@pytest.fixture
def sorting_from_few(monkeypatch):
    monkeypatch.setattr(blockwise, "FEWEST_WEIGHTS", 4096)


def oracle(*values):
    return each(*values).sum()


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


@pytest.mark.parametrize("n", [1, BLOCK_SIZE, BLOCK_SIZE + 1])
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
    real = torch.Tensor.exp2_
    monkeypatch.setattr(torch.Tensor, "exp2_", lambda t: seen.append(t.min().item()) or real(t))
    log_density(*(a.detach() for a in arguments(torch.float32, (1e-3, 1e-3, 1e-3))))
    tiny = torch.finfo(torch.float32).tiny
    assert seen and 2 ** min(seen) > tiny


def test_weights_far_from_every_component_keep_a_finite_gradient():
    _, means, precisions, log_proportions = (a.detach() for a in arguments(torch.float32))
    w = torch.tensor([1e3, -1e3], requires_grad=True)
    log_density(w, means, precisions, log_proportions).backward()
    assert w.grad is not None and w.grad.isfinite().all()
    assert (w.grad.sign() == torch.tensor([-1.0, 1.0])).all(), "the gradient points home"


@pytest.mark.parametrize("function", [log_density, log_densities])
def test_second_derivatives_pass_torchs_finite_differences(function):
    values = arguments(torch.float64, deviations=(0.1, 0.2, 0.15), n=4)
    assert torch.autograd.gradgradcheck(function, values)


def test_the_hessian_of_the_sum_is_that_of_the_formula():
    w, *mixture = arguments(torch.float64, deviations=(0.1, 0.2, 0.15), n=7)
    found = torch.autograd.functional.hessian(lambda w: log_density(w, *mixture), w)
    expected = torch.autograd.functional.hessian(lambda w: formula(w, *mixture).sum(), w)
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected)


def test_torch_func_differentiates_twice():
    w, *mixture = (a.detach() for a in arguments(torch.float64, n=5))
    jacrev = torch.func.jacrev
    found = jacrev(jacrev(lambda w: log_density(w, *mixture)))(w)
    expected = jacrev(jacrev(lambda w: formula(w, *mixture).sum()))(w)
    torch.testing.assert_close(found, expected)


def test_each_weights_density_is_torchs():
    w, means, precisions, log_proportions = arguments(torch.float64)
    torch.testing.assert_close(
        log_densities(w, means, precisions, log_proportions),
        each(w, means, precisions, log_proportions),
    )


@pytest.mark.parametrize("upstream", ["uniform", "by weight"])
def test_gradients_of_each_weights_density_are_those_of_the_formula(upstream):
    values = arguments(torch.float64)
    n = len(values[0])
    by_weight = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grad = torch.tensor(2.5, dtype=torch.float64).expand(n) if upstream == "uniform" else by_weight
    found = torch.autograd.grad(log_densities(*values), values, grad)
    expected = torch.autograd.grad(formula(*values), values, grad)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def crowd(dtype, overlap):
    """48 components: narrow and wide, one dead, outliers and a weight far from everything."""
    generator = torch.Generator().manual_seed(3)
    w = 0.2 * torch.randn(20_000, generator=generator, dtype=torch.float64)
    w[:3] = torch.tensor([40.0, -7.0, 3.0], dtype=torch.float64)
    deviations = torch.logspace(-3, -1.5 if overlap else -2.5, 48, dtype=torch.float64)
    means = torch.linspace(-0.6, 0.6, 48, dtype=torch.float64)
    means = means[torch.randperm(48, generator=generator)]
    log_proportions = torch.full((48,), 1 / 48, dtype=torch.float64).log()
    log_proportions[7] = -87.0
    return [v.to(dtype).requires_grad_() for v in (w, means, deviations**-2, log_proportions)]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-5), (torch.float64, 1e-11)])
def test_skipping_components_changes_nothing(
    sorting_from_few, monkeypatch, overlap, dtype, tolerance
):
    exact = [v.detach().double().requires_grad_() for v in crowd(dtype, overlap)]
    sorts = count_calls(monkeypatch, blockwise, "bucket_order")
    monkeypatch.setattr(blockwise, "WORTH_OF_SORTING", -1)
    monkeypatch.setattr(blockwise, "CHUNK_SIZE", 7_000)
    total, found = gradients(log_density, crowd(dtype, overlap))
    expected_total, expected = gradients(lambda *v: formula(*v).sum(), exact)
    assert len(sorts) == 3, "this problem is one that is sorted, chunk by chunk"
    torch.testing.assert_close(total.double(), expected_total, rtol=1e-6, atol=0)
    for a, b in zip(found, expected, strict=True):
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()


def test_weighted_gradients_survive_the_sorting(sorting_from_few, monkeypatch):
    values = crowd(torch.float64, overlap=False)
    sorts = count_calls(monkeypatch, blockwise, "bucket_order")
    grad = torch.linspace(-1, 2, len(values[0]), dtype=torch.float64)
    densities = log_densities(*values)
    torch.testing.assert_close(densities, formula(*values))
    found = torch.autograd.grad(densities, values, grad)
    assert len(sorts) == 2, "forward and backward"
    for a, b in zip(found, torch.autograd.grad(formula(*values), values, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * b.abs().max().item())


def test_no_active_component_is_skipped():
    # The definition, weight by weight: within 600 nats of the most probable one.
    w, means, precisions, log_proportions = (v.detach() for v in crowd(torch.float64, True))
    components = Components.of(means, precisions, log_proportions)
    w = w.sort().values[:19_968].view(-1, 64)
    kept = blockwise.active(w[:, 0], w[:, -1], components)
    joint = log_proportions + Normal(means, precisions.rsqrt()).log_prob(w.unsqueeze(-1))
    counts = (joint > joint.amax(-1, keepdim=True) - 600).any(1).T
    assert not (counts & ~kept).any()
    assert kept.double().mean() < 0.9, "and some are skipped"


@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_is_not_a_number_stays_so_when_sorted(sorting_from_few, where):
    values = [v.detach().clone() for v in crowd(torch.float32, False)]
    values[where][5] = torch.nan
    assert log_density(*values).isnan()


def test_an_outlier_does_not_stop_the_sorting():
    w = torch.cat([torch.linspace(-0.1, 0.1, 999), torch.tensor([1e3])])
    ordered = w.flip(0)[blockwise.bucket_order(w.flip(0))]
    assert ordered[-1] == 1e3
    assert ordered[:500].max() < 0.02


def test_shapes_that_do_not_fit_are_refused():
    w, means, precisions, log_proportions = detached(torch.float32)
    with pytest.raises(ValueError, match=r"all \(J,\); got \(5000,\), \(3,\), \(2,\), \(3,\)"):
        log_density(w, means, precisions[:2], log_proportions)


def test_wide_components_are_not_worth_sorting(sorting_from_few):
    w, means, precisions, log_proportions = (v.detach() for v in crowd(torch.float32, True))
    wide = Components.of(means, torch.ones_like(precisions), log_proportions)
    assert not blockwise.sorting_pays(w, wide)
    assert blockwise.sorting_pays(
        w, Components.of(means, torch.full_like(means, 1e6), log_proportions)
    )


@pytest.mark.parametrize("asked", range(4))
def test_a_gradient_alone_is_that_among_all(asked):
    _, expected = gradients(log_density, arguments(torch.float64))
    values = [v.requires_grad_(i == asked) for i, v in enumerate(detached(torch.float64))]
    (found,) = torch.autograd.grad(log_density(*values), values[asked])
    torch.testing.assert_close(found, expected[asked])


def test_spread_out_memory_gives_the_same():
    values = detached(torch.float64)
    wide = torch.stack([values[0], values[0] + 1], dim=1)[:, 0].requires_grad_()
    assert not wide.is_contiguous()
    _, (expected, *_) = gradients(log_density, arguments(torch.float64))
    (found,) = torch.autograd.grad(log_density(wide, *values[1:]), wide)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_types_are_refused(dtype):
    _, *mixture = detached(torch.float32)
    with pytest.raises(TypeError, match=f"float32 or float64; got {dtype}"):
        log_density(torch.zeros(3, dtype=dtype), *mixture)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="'fast'; choose from auto, portable, compiled"):
        with density_backend("fast"):
            pass


def test_few_weights_are_never_compiled():
    assert select_backend(1000, 3, torch.float32, "cpu").name == "portable"
    with density_backend("portable"):
        assert select_backend(10**8, 3, torch.float32, "cpu").name == "portable"


def formula(w, means, precisions, log_proportions, offsets=None):
    residual = w.unsqueeze(-1) - means
    log_normal = 0.5 * (precisions.log() - precisions * residual**2) - math.log(2 * math.pi) / 2
    joint = log_proportions + log_normal
    if offsets is not None:  # of the first component alone
        joint = torch.stack([joint[:, 0] + offsets, *joint[:, 1:].unbind(1)], 1)
    return joint.logsumexp(-1)


def detached(dtype):
    return [v.detach() for v in arguments(dtype)]


def count_calls(monkeypatch, module, name):
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a: calls.append(1) or real(*a))
    return calls


@pytest.mark.parametrize("density", [log_density, lambda *a: log_densities(*a).sum()])
@pytest.mark.parametrize("given", [lambda: arguments(torch.float64), lambda: offset(torch.float64)])
def test_a_second_pass_backwards_through_the_same_graph_gives_the_same(density, given):
    values = given()
    total = 3 * density(*values)
    first = torch.autograd.grad(total, values, retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(total, values)
    for name, a, b, c in zip(NAMES, first, kept, second, strict=False):
        torch.testing.assert_close(a, c, rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")
        assert torch.equal(a, b), f"{name}: the first answer was written into"


@pytest.mark.integration
def test_no_second_vector_as_long_as_the_weights_is_made():
    _, *mixture = arguments(torch.float32)
    w = torch.linspace(-1, 1, 2_000_000).requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        (gradient,) = torch.autograd.grad(log_density(w, *mixture), w)
    made = [e.self_cpu_memory_usage for e in record.events()]
    assert sum(size >= gradient.nbytes for size in made) == 1


def test_few_weights_are_not_sorted():
    means = torch.linspace(-1, 1, 65)
    narrow_ones = Components.of(means, torch.full_like(means, 1e6), torch.zeros_like(means))
    w = torch.linspace(-1, 1, blockwise.FEWEST_WEIGHTS)
    assert blockwise.sorting_pays(w, narrow_ones) and not blockwise.sorting_pays(w[1:], narrow_ones)


# Offsets: the first component's proportion differs from weight to weight.

WIDE = (0.1, 0.2, 0.15)
NAMES = ("w", "means", "precisions", "log proportions", "offsets")


def offset(dtype, n=5000, spread=3.0, **kwargs):
    """The arguments, and offsets that decide between components."""
    values = arguments(dtype, n=n, **kwargs)
    generator = torch.Generator().manual_seed(5)
    offsets = spread * torch.randn(n, generator=generator, dtype=torch.float64)
    return [*values, offsets.to(dtype).requires_grad_()]


def assert_close_to_formula(values, found, upstream=None, rtol=1e-9):
    exact = [v.detach().double().requires_grad_() for v in values]
    expected = torch.autograd.grad(
        formula(*exact), exact, torch.ones_like(exact[0]) if upstream is None else upstream
    )
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert (a.double() - b).abs().max() <= rtol * (b.abs().max() + 1e-12), name


@pytest.mark.parametrize("n", [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_offsets_are_those_of_the_formula(n, dtype, tolerance):
    values = offset(dtype, n)
    total, found = gradients(log_density, values)
    assert total.dtype == dtype
    expected = formula(*(v.detach().double() for v in values)).sum()
    torch.testing.assert_close(total.double(), expected, rtol=tolerance / 10, atol=0)
    assert_close_to_formula(values, found, rtol=tolerance)


def test_the_offsets_gradient_is_the_first_components_responsibility():
    values = offset(torch.float64)
    _, found = gradients(log_density, values)
    w, means, precisions, log_proportions, offsets = values
    joint = log_proportions + Normal(means, precisions.rsqrt()).log_prob(w.unsqueeze(-1))
    joint[:, 0] += offsets
    torch.testing.assert_close(found[-1], joint.softmax(-1)[:, 0])


@pytest.mark.parametrize(
    "upstream",
    [
        torch.linspace(-1, 2, 5000, dtype=torch.float64),
        torch.tensor(2.5, dtype=torch.float64).expand(5000),
    ],
)
def test_each_weights_density_has_its_own_offset(upstream):
    values = offset(torch.float64)
    densities = log_densities(*values)
    torch.testing.assert_close(densities, formula(*values))
    assert_close_to_formula(values, torch.autograd.grad(densities, values, upstream), upstream)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_offsets_of_zero_are_no_offsets_exactly(dtype):
    *values, offsets = offset(dtype, spread=0.0)
    total, found = gradients(log_density, [*values, offsets])
    plain, expected = gradients(log_density, values)
    assert torch.equal(total, plain)
    for name, a, b in zip(NAMES, found, expected, strict=False):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("asked", range(5))
def test_with_offsets_a_gradient_alone_is_that_among_all(asked):
    _, expected = gradients(log_density, offset(torch.float64))
    values = [v.detach().requires_grad_(i == asked) for i, v in enumerate(offset(torch.float64))]
    (found,) = torch.autograd.grad(log_density(*values), values[asked])
    assert torch.equal(found, expected[asked])


@pytest.mark.parametrize("function", [log_density, log_densities])
def test_second_derivatives_in_offsets_pass_torchs_finite_differences(function):
    values = offset(torch.float64, n=4, deviations=WIDE)
    assert torch.autograd.gradcheck(function, values)
    assert torch.autograd.gradgradcheck(function, values)


def test_offsets_may_depend_on_the_other_arguments_and_be_differentiated_twice():
    """As those of a spike of another width: half a log ratio, less a term in w and precision."""
    w, means, precisions, log_proportions, ratios = offset(torch.float64, n=4, deviations=WIDE)

    def widened(density):
        def of(w, precisions):
            offsets = 0.5 * (ratios.detach() - ratios.detach().expm1() * precisions[0] * w.square())
            return density(w, means.detach(), precisions, log_proportions.detach(), offsets).sum()

        return of

    found = torch.autograd.functional.hessian(widened(log_density), (w, precisions))
    expected = torch.autograd.functional.hessian(widened(formula), (w, precisions))
    torch.testing.assert_close(found, expected)


def test_torch_func_differentiates_in_offsets():
    *values, offsets = (v.detach() for v in offset(torch.float64, n=5, deviations=WIDE))
    found = torch.func.jacrev(torch.func.jacrev(lambda o: log_density(*values, o)))(offsets)
    expected = torch.func.jacrev(torch.func.jacrev(lambda o: formula(*values, o).sum()))(offsets)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("where", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_offsets_what_is_not_a_number_stays_so(where, dtype):
    values = [v.detach().clone() for v in offset(dtype, n=50)]
    values[where][-1] = torch.nan
    assert log_density(*values).isnan()


@pytest.mark.parametrize("size", [-500.0, 500.0])
def test_huge_offsets_decide_for_one_side(size):
    values = [v.detach() for v in offset(torch.float32, n=100, deviations=WIDE)]
    values[-1] = torch.full((100,), size, requires_grad=True)
    total = log_density(*values)
    (first,) = torch.autograd.grad(total, values[-1])
    expected = formula(*(v.double() for v in values)).sum()
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=0)
    assert torch.equal(first.round(), torch.full((100,), float(size > 0)))


def test_offsets_survive_chunks_and_are_not_sorted(sorting_from_few, monkeypatch):
    monkeypatch.setattr(blockwise, "WORTH_OF_SORTING", -1)
    monkeypatch.setattr(blockwise, "CHUNK_SIZE", 7_000)
    sorts = count_calls(monkeypatch, blockwise, "bucket_order")
    offsets = torch.linspace(-50, 50, 20_000, dtype=torch.float64).requires_grad_()
    values = [*crowd(torch.float64, True), offsets]
    total, found = gradients(log_density, values)
    assert not sorts
    torch.testing.assert_close(total, formula(*values).sum())
    assert_close_to_formula(values, found)


def test_offsets_in_spread_out_memory_give_the_same():
    *values, offsets = offset(torch.float64)
    _, expected = gradients(log_density, [*values, offsets])
    wide = torch.stack([offsets, offsets + 1], dim=1).detach()[:, 0].requires_grad_()
    assert not wide.is_contiguous()
    (found,) = torch.autograd.grad(log_density(*values, wide), wide)
    torch.testing.assert_close(found, expected[-1])
    one = torch.tensor(
        0.7, dtype=torch.float64, requires_grad=True
    )  # expanded: no memory of its own
    (summed,) = torch.autograd.grad(log_density(*values, one.expand(len(values[0]))), one)
    _, each = gradients(log_density, [*values, torch.full_like(offsets, 0.7).requires_grad_()])
    torch.testing.assert_close(summed, each[-1].sum())


def test_offsets_of_another_number_are_refused():
    values = [v.detach() for v in offset(torch.float32, n=20)]
    with pytest.raises(ValueError, match=r"offsets must be as many as w, \(N,\); got .*, \(19,\)"):
        log_density(*values[:4], values[4][1:])
