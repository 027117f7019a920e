"""Three values with a learned magnitude: a grid of one step, in the density and in the file."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from every_prior import GROUP, WEIGHTS, density, log_joint, somewhere
from problems import classifier

import pyro_sws as sws
from pyro_sws.inference.hyperpriors import Beta, Dirichlet
from pyro_sws.inference.priors import Grid, Ternary


def as_grid(spec):
    return Grid(1, **{field.name: getattr(spec, field.name) for field in fields(spec)})


@pytest.mark.parametrize(
    "spec",
    [Ternary(), Ternary(Beta(3.0, 2.0), "free", 200.0, Dirichlet(2.0), "range", 0.05)],
)
def test_it_is_a_grid_of_one_step(spec):
    point = somewhere(spec, GROUP, WEIGHTS)
    grid = as_grid(spec)
    for site, value in grid.start(GROUP, WEIGHTS).items():
        assert torch.equal(value, spec.start(GROUP, WEIGHTS)[site])
    assert torch.equal(
        log_joint(spec, GROUP, point, WEIGHTS), log_joint(grid, GROUP, point, WEIGHTS)
    )


def test_its_density_is_symmetric_where_its_shares_are():
    spec = Ternary(0.5, 900.0, 400.0, "equal")
    found = density(spec, GROUP, somewhere(spec, GROUP, WEIGHTS))
    torch.testing.assert_close(found.log_prob(WEIGHTS), found.log_prob(-WEIGHTS))


def test_a_file_holds_three_values_a_tensor():
    net, inputs, targets = classifier()
    rule = sws.Rule(Ternary(0.5), each=True)
    result = sws.compress(
        net, [(inputs, targets)], prior=[rule], epochs=5, packing=sws.Packing(rewrite=False)
    )
    point = result.posterior.point
    for name, values in sws.decode(result.data).dequantize().items():
        a = point[f"all-{name.replace('.', '_')}.spacing"].half().item()
        assert set(values.ravel().tolist()) <= {-a, 0.0, a}
    sizes = [len(np.unique(values)) for values in result.quantized.dequantize().values()]
    assert max(sizes) == 3


def test_the_magnitude_starts_in_the_middle_of_the_large_weights():
    w = torch.cat([torch.zeros(40), torch.full((10,), 0.3), torch.full((10,), -0.3)]).double()
    w[:40] = torch.linspace(-0.01, 0.01, 40)
    group = sws.joint(torch.nn.Linear(60, 1, bias=False).double(), Ternary(), "gaussian", 1).groups
    assert Ternary().start(group["all"], w)["all.spacing"].item() == pytest.approx(0.3, rel=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"zero_proportion must be in \(0, 1\), got 0.0"):
        Ternary(zero_proportion=0.0)
