"""Zero proportions by tensor, row and column: by hand, and as logistic regression."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from every_prior import density, log_joint, somewhere
from scipy import optimize
from scipy.special import expit, logit

from pyro_sws.inference.priors import SpikeAndSlabs, Structured
from pyro_sws.weights.group import Group

SHAPE = SpikeAndSlabs(2, 0.9)


def group(**shapes):
    return Group("all", shapes, torch.float64)


def weights(of, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(of.size, generator=generator, dtype=torch.float64)


def zeros_at(prior, of, **effects):
    """Each weight's zero proportion, where the effects are as given, the rest at its start."""
    point = prior.start(of, weights(of))
    given = {f"all.{axis}_effects": torch.tensor(v).double() for axis, v in effects.items()}
    assert given.keys() <= point.keys()
    found = density(prior, of, {**point, **given})
    return found.zero_proportions(slice(0, of.size)).numpy()


def test_without_effects_it_is_spike_and_slabs():
    of = group(w=(5, 4), conv=(3, 2, 2, 2), b=(5,))
    w, shape_point = weights(of), somewhere(SHAPE, of, weights(of))
    prior = Structured(SHAPE, width_deviation=1.0)
    point = {**prior.start(of, w), **shape_point}
    found, plain = density(prior, of, point), density(SHAPE, of, shape_point)
    assert found.log_prob(w).item() == pytest.approx(plain.log_prob(w).item(), rel=1e-14)
    assert torch.equal(found.assign(w), plain.assign(w))
    for part in of.slices.values():
        assert torch.equal(found.codebook(part), plain.codebook(part))
        torch.testing.assert_close(found.proportions(part), plain.proportions(part))


def test_log_odds_of_a_matrix_add_up_by_hand():
    prior, of = Structured(SHAPE), group(w=(2, 3))
    found = zeros_at(prior, of, tensor=[0.25], row=[1.0, -1.0], column=[0.5, 0.0, -2.0])
    expected = expit(logit(0.9) + np.array([1.75, 1.25, -0.75, -0.25, -0.75, -2.75]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_columns_of_a_convolution_are_its_input_channels():
    prior, of = Structured(SHAPE), group(conv=(2, 3, 2, 1))
    rows, columns = [1.0, -1.0], [0.5, 0.0, -2.0]
    found = zeros_at(prior, of, row=rows, column=columns).reshape(2, 3, 2, 1)
    for out, into, y in np.ndindex(2, 3, 2):
        expected = expit(logit(0.9) + rows[out] + columns[into])
        assert found[out, into, y, 0] == pytest.approx(expected, rel=1e-12)


def test_a_vector_has_its_tensors_effect_alone():
    prior, of = Structured(SHAPE), group(b=(3,), w=(2, 2), c=(2,))
    found = zeros_at(prior, of, tensor=[1.0, 2.0, 3.0], row=[5.0, 5.0], column=[0.0, 0.0])
    expected = expit(logit(0.9) + np.array([1.0] * 3 + [7.0] * 4 + [3.0] * 2))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("axis, sizes", [("tensor", 3), ("row", 4 + 3), ("column", 2 + 5)])
def test_effects_are_as_many_as_there_are_units(axis, sizes):
    of = group(w=(4, 2), conv=(3, 5, 1, 1), b=(4,))
    start = Structured(SHAPE, by=(axis,)).start(of, weights(of))
    (site,) = start.keys() - SHAPE.start(of, weights(of)).keys()
    assert site == f"all.{axis}_effects" and start[site].tolist() == [0.0] * sizes


def test_no_tensor_with_rows_means_no_rows():
    of = group(b=(3,), c=(2,))
    prior = Structured(SHAPE, by=("row",))
    assert prior.start(of, weights(of)).keys() == SHAPE.start(of, weights(of)).keys()
    np.testing.assert_allclose(zeros_at(prior, of), 0.9, rtol=1e-12)


def test_a_row_of_counted_zeros_has_the_effect_of_penalised_logistic_regression():
    # Weights exactly at the spike or at the slab, a thousand deviations apart: counts.
    shape = SpikeAndSlabs(1, 0.9, 1e6, 1e6, "equal", initialization=(1.0,))
    prior, of = Structured(shape, by=("row",), deviation=1.5), group(w=(3, 40))
    zeros = np.array([40, 25, 0])
    w = torch.tensor([[0.0] * k + [1.0] * (40 - k) for k in zeros], dtype=torch.float64).view(-1)

    def slope(effect, k):  # of k log z + (40 - k) log(1 - z) - effect^2 / (2 deviation^2)
        return k - 40 * expit(logit(0.9) + effect) - effect / 1.5**2

    roots = [optimize.brentq(slope, -20, 20, (k,), 1e-14) for k in zeros]
    effects = torch.tensor(roots, dtype=torch.float64, requires_grad=True)
    point = {**prior.start(of, w), "all.row_effects": effects}
    (gradient,) = torch.autograd.grad(log_joint(prior, of, point, w), effects)
    # The log-density is concave in the effects: a point without slope is its maximum.
    assert gradient.abs().max() < 1e-9


def test_effects_on_the_width_multiply_the_spikes_precision():
    prior, of = Structured(SHAPE, by=("row",), width_deviation=1.0), group(w=(2, 1))
    point = {**prior.start(of, weights(of)), "all.spike_precision": torch.tensor(100.0).double()}
    point["all.row_width_effects"] = torch.tensor([0.0, np.log(9.0)])
    prior_at = density(prior, of, point)
    # A rescaled weight has a rescaled density, as long as the slabs are far away.
    far = replace(prior_at.mixture, means=torch.tensor([0.0, 9.0, 9.0]).double())
    found = replace(prior_at, mixture=far)
    first, second = (
        found.log_prob(torch.tensor([w]).double(), slice(i, i + 1)).item()
        for i, w in enumerate((0.06, 0.02))
    )
    assert second - first == pytest.approx(np.log(3.0), rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": SpikeAndSlabs(zero_proportion=0.0)}, "shape.zero_proportion must be above 0"),
        ({"by": ()}, r"by must name different axes, at least one, got \[\]"),
        (
            {"by": ("row", "row")},
            r"by must name different axes, at least one, got \['row', 'row'\]",
        ),
        ({"deviation": 0.0}, "deviation must be positive, got 0.0"),
        ({"width_deviation": -1.0}, "width_deviation must be positive, got -1.0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Structured(**fields)
