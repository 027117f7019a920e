"""Integers times one learned spacing: in the density, after merging, and in the file."""

import numpy as np
import pytest
import torch
from every_prior import density, log_joint, somewhere
from problems import classifier
from scipy import optimize

import pyro_sws as sws
from pyro_sws.inference.fit import fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Beta
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import Grid
from pyro_sws.weights.group import Group

GROUP = Group("all", {"w": (8, 10)}, torch.float64)
LEVELS = {"even": [-3, -2, -1, 0, 1, 2, 3], "powers_of_two": [-4, -2, -1, 0, 1, 2, 4]}


def on_a_grid(spacing, kind="even"):
    """Every level, but 0 most often."""
    levels = torch.tensor(LEVELS[kind], dtype=torch.float64)
    return spacing * torch.cat([levels.repeat(5), torch.zeros(45, dtype=torch.float64)])


def fitted(kind, epochs=10):
    net, inputs, targets = classifier()
    prior = Grid(3, kind, zero_proportion=0.4, start_deviation=0.02)
    model = joint(net, prior, "categorical", 60)
    return fit(model, delta_guide(model), [(inputs, targets)], epochs=epochs).posterior


@pytest.mark.parametrize("kind", LEVELS)
def test_a_file_holds_integers_and_one_spacing(kind):
    posterior = fitted(kind)
    decoded = sws.decode(sws.encode(sws.quantize(sws.merge(posterior))))
    spacing = posterior.point["all.spacing"].half().item()  # as a file has it
    (book,) = decoded.codebooks.values()
    assert set(book.tolist()) <= set(map(float, LEVELS[kind])) and len(book) > 3
    for name, values in decoded.dequantize().items():
        assert decoded.scales[name].size == 1 and decoded.scales[name].item() == spacing
        integers = book[decoded.symbols[name]].astype(np.float32)
        np.testing.assert_array_equal(values, integers * spacing)


@pytest.mark.parametrize("threshold", [0.01, 1e9])
def test_merging_leaves_the_levels(threshold):
    posterior = fitted("even", epochs=1)
    merged = sws.merge(posterior, threshold)
    assert merged.priors["all"].mixture.means.tolist() == [0, -3, -2, -1, 1, 2, 3]
    assert merged.merged["all"] == tuple((j,) for j in range(7))


@pytest.mark.parametrize("kind", LEVELS)
def test_the_spacing_of_weights_on_a_grid_is_found(kind):
    prior = Grid(3, kind, 0.6, 1e4, 1e4, "equal")  # deviations of 0.01
    w = on_a_grid(0.07, kind)

    def cost(spacing):
        point = {"all.spacing": torch.tensor(spacing, dtype=torch.float64)}
        return -log_joint(prior, GROUP, {**prior.start(GROUP, w), **point}, w).item()

    found = optimize.minimize_scalar(cost, bounds=(0.06, 0.08), options={"xatol": 1e-9})
    # Each weight lies where the slope of its own component is 0, and neighbours pull evenly.
    assert found.x == pytest.approx(0.07, rel=1e-4)


def test_widths_do_not_shrink_with_the_spacing():
    prior = Grid(2, zero_proportion=0.5, spike_precision=400.0, slab_precision=100.0)
    start = prior.start(GROUP, on_a_grid(0.07))
    for spacing in (0.01, 1.0):
        found = density(prior, GROUP, {**start, "all.spacing": torch.tensor(spacing).double()})
        deviations = found.mixture.deviations * found.scales[0]
        np.testing.assert_allclose(deviations, [0.05] + [0.1] * 4, rtol=1e-9)


def test_the_largest_weight_starts_on_the_grid():
    w = on_a_grid(0.07)
    assert Grid(5).start(GROUP, w)["all.spacing"].item() == pytest.approx(0.21 / 5)
    powers = Grid(5, "powers_of_two").start(GROUP, w)["all.spacing"].item()
    assert powers == pytest.approx(0.21 / 16)


def test_equal_weights_leave_a_spacing_to_start_from():
    start = Grid(3).start(GROUP, torch.zeros(80, dtype=torch.float64))
    assert start["all.spacing"] > 0


@pytest.mark.parametrize("steps, kind", [(16, "powers_of_two"), (2048, "even")])
def test_the_finest_grid_fits_the_file(steps, kind):
    group = Group("all", {"w": (2,)})
    w = torch.tensor([-1.0, 1.0])
    prior = Grid(steps, kind)
    found = density(prior, group, prior.start(group, w))
    means = found.mixture.means
    assert torch.equal(means.half().float(), means) and len(means.unique()) == 2 * steps + 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, r"steps must be in 1..2048 on a grid of even, got 0"),
        ({"steps": 2049}, r"steps must be in 1..2048 on a grid of even, got 2049"),
        (
            {"steps": 17, "kind": "powers_of_two"},
            r"steps must be in 1..16 on a grid of powers_of_two, got 17",
        ),
        ({"zero_proportion": 0.0}, r"zero_proportion must be in \(0, 1\), got 0.0"),
        ({"slab_precision": 0.0}, "slab_precision must be positive, got 0.0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Grid(**fields)


def test_starts_are_as_precise_as_the_group():
    start = Grid(3, zero_proportion=Beta(2.0, 1.0)).start(GROUP, on_a_grid(0.07))
    assert start["all.zero_proportion"].item() == 2 / 3
    assert start["all.slab_shares"].tolist() == [1 / 6] * 6


def test_a_point_of_any_kind_is_a_mixture():
    for kind in LEVELS:
        found = density(Grid(3, kind), GROUP, somewhere(Grid(3, kind), GROUP, on_a_grid(0.07)))
        assert found.mixture.levels.tolist() == LEVELS[kind]
        assert found.mixture.proportions.sum().item() == pytest.approx(1)
