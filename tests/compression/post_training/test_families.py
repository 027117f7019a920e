"""The codebooks that prior families say, in files that are made after training."""

import numpy as np
import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro import distributions as dist
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.post_training.families import values_of

pytestmark = pytest.mark.integration
FINE = 1e-7  # a rate at which hardly anything is lost
SHAPE = sws.SpikeAndSlabs(slabs=6)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4)).eval()


def inputs():
    return torch.randn(80, 12, generator=torch.Generator().manual_seed(1))


def compressed(prior, rate=FINE, net=None, **more):
    net = net or network()
    fit = sws.PostTraining(rate=rate)
    return sws.compress(net, inputs(), prior=prior, fit=fit, tolerance=10.0, **more)


def values(prior):
    return values_of(sws.joint(network(), prior, sws.Categorical(), 80))


FREE = {
    "spike and slabs": SHAPE,
    "scaled": sws.Scaled(SHAPE),
    "scaled by row": sws.Scaled(SHAPE, by="row"),
    "structured": sws.Structured(SHAPE),
    "dirichlet process": sws.DirichletProcess(truncation=6),
    "sparse dirichlet": sws.SparseDirichlet(slabs=6),
    "scale mixture": sws.ScaleMixture(slabs=6),
}


SLOW = ("dirichlet process", "sparse dirichlet", "scale mixture")


@pytest.mark.parametrize(
    "prior",
    [
        pytest.param(prior, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, prior in FREE.items()
    ],
)
def test_tensors_of_a_group_share_as_many_values_as_the_prior_has(prior):
    run = compressed(prior)
    (book,) = run.quantized.codebooks.values()
    assert 2 < len(book) <= 7 and 0 in book
    assert set(run.quantized.codebook_of.values()) == {"all"}
    assert len(run.quantized.scales) == (4 if isinstance(prior, sws.Scaled) else 0)


def test_a_group_of_each_tensor_is_a_codebook_of_each():
    run = compressed(sws.Rule(SHAPE, each=True))
    assert len(run.quantized.codebooks) == 4
    assert all(len(book) <= 7 for book in run.quantized.codebooks.values())


def test_rows_have_scales_in_proportion_to_their_size():
    net = network()
    run = compressed(sws.Scaled(SHAPE, by="row"), net=net)
    sizes = net[0].weight.detach().square().mean(1).sqrt()
    scales = torch.as_tensor(run.quantized.scales["0.weight"].astype("float32")).flatten()
    ratios = scales / sizes
    assert ratios.tolist() == pytest.approx([float(ratios.mean())] * 10, rel=2e-3)  # of float16


@pytest.mark.parametrize(
    ("prior", "levels"),
    [
        (sws.Grid(steps=3), {-3, -2, -1, 0, 1, 2, 3}),
        (sws.Grid(steps=3, kind="powers_of_two"), {-4, -2, -1, 0, 1, 2, 4}),
        (sws.Ternary(), {-1, 0, 1}),
    ],
)
def test_a_grid_is_whole_numbers_times_one_spacing(prior, levels):
    run = compressed(prior)
    (book,) = run.quantized.codebooks.values()
    assert set(book.tolist()) <= levels and len(book) > 2
    assert len({float(scale.item()) for scale in run.quantized.scales.values()}) == 1


def test_the_default_is_multiples_of_a_step_of_each_tensors_own():
    run = compressed(None)
    for book in run.quantized.codebooks.values():
        assert np.array_equal(book, book.round())
    scales = [run.quantized.scales[name].item() for name in ("0.weight", "2.weight")]
    assert scales[0] != scales[1]


def test_multiples_by_row_are_multiples_of_a_step_of_each_row():
    run = compressed(sws.Scaled(sws.SpikeAndSlabs(initialization="multiples"), by="row"))
    (book,) = run.quantized.codebooks.values()
    assert np.array_equal(book, book.round())
    assert run.quantized.scales["0.weight"].shape == (10, 1)


def test_without_a_spike_no_weight_is_zero():
    run = compressed(sws.SpikeAndSlabs(slabs=6, zero_proportion=0))
    assert all(weights.all() for weights in run.quantized.dequantize().values())


def test_bits_that_are_worth_more_leave_fewer_values():
    fine, coarse = (compressed(SHAPE, rate) for rate in (FINE, 1e-3))
    sizes = [len(next(iter(run.quantized.codebooks.values()))) for run in (fine, coarse)]
    assert sizes[1] < sizes[0]
    assert len(coarse.data) < len(fine.data)


def test_network_that_has_few_values_keeps_them_in_the_file():
    """What no grid says: values that are far from evenly apart."""
    net = network()
    true = torch.tensor([-0.5, -0.08, 0.0, 0.11, 0.3])
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(true[torch.randint(5, parameter.shape, generator=generator)])
    run = compressed(sws.SpikeAndSlabs(slabs=16), rate=1e-9, net=net)
    grid = compressed(None, rate=1e-9, net=net)
    assert run.frontier.points[0].score < grid.frontier.points[0].score
    assert len(run.data) < len(grid.data)


def test_file_predicts_as_the_frontier_says():
    net = network()
    run = compressed(sws.Scaled(SHAPE, by="row"), net=net)
    held_out = inputs()[60:]
    with torch.no_grad():
        before, after = (
            each(held_out).log_softmax(-1) for each in (net, sws.load(run.data, into=net))
        )
    (point,) = run.frontier
    divergence = F.kl_div(after, before, log_target=True, reduction="batchmean")
    assert point.score == pytest.approx(float(divergence), rel=1e-3)


def own(group):
    means = pyro.sample(f"{group.name}.means", dist.Normal(0.0, 1.0).expand((3,)).to_event(1))
    ones = torch.ones(3)
    return sws.MixturePrior(sws.Mixture(means, 100 * ones, ones / 3))


def shared(group):
    width = pyro.sample("shared.width", dist.Gamma(2.0, 1.0))
    means, ones = torch.tensor([-0.1, 0.0, 0.1]), torch.ones(3)
    return sws.MixturePrior(sws.Mixture(means, width * ones, ones / 3))


def test_a_family_of_ones_own_has_the_values_of_its_mixture():
    (book,) = compressed(sws.Custom(own)).quantized.codebooks.values()
    assert len(book) == 3


def test_what_is_no_codebook_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="GaussianPrior.*gathers them at none; give one that does"):
        values(sws.GaussianPrior())
    with pytest.raises(ValueError, match="site 'shared.width' is several groups'"):
        values(sws.Rule(sws.Custom(shared), each=True))
