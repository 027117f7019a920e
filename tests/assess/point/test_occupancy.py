"""Which values hold weights: counts made by hand, numbers in closed form, and each warning."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from small_posteriors import GROUP, mixture, posterior

from pyro_sws.assess.point.assignment_certainty import assignment_certainty
from pyro_sws.assess.point.occupancy import effective_number, occupancy, occupancy_warnings
from pyro_sws.assess.report.lengths import components_in_use
from pyro_sws.weights.quantize import quantize
from pyro_sws.weights.weight_prior import MixturePrior

FLAT = torch.tensor([0.0] * 40 + [-0.25] * 12 + [0.5] * 8, dtype=torch.float64)


def told(prior, flat=FLAT, widening=1.0, dtype="float16"):
    fitted = posterior(prior, flat)
    return occupancy_warnings(
        assignment_certainty(fitted, dtype, widening=widening), fitted, dtype
    )["all"]


@pytest.mark.parametrize("k", [1, 2, 16])
def test_equal_shares_amount_to_their_number(k):
    assert effective_number(np.full(k, 7.0)) == pytest.approx(k)


def test_the_effective_number_is_exp_of_scipys_entropy():
    counts = np.array([5.0, 0.0, 3.0, 90.0])
    assert effective_number(counts) == pytest.approx(np.exp(entropy(counts)))
    assert effective_number(np.zeros(3)) == 0


def test_counts_are_those_made_by_hand():
    found = occupancy(assignment_certainty(posterior(MixturePrior(mixture()), FLAT)))["all"]
    assert found["values"] == [-0.25, 0, 0.5]
    assert found["assigned"] == [12, 40, 8]
    np.testing.assert_allclose(found["prior"], [6, 42, 12])
    assert sum(found["expected"]) == pytest.approx(60)
    assert found["by_tensor"]["a"]["assigned"] == [0, 40, 0]
    assert found["by_tensor"]["b"]["assigned"] == [12, 0, 8]
    assert found["effective"]["assigned"] == pytest.approx(np.exp(entropy([12, 40, 8])))
    assert found["effective_without_zero"]["prior"] == pytest.approx(np.exp(entropy([6, 12])))


def test_without_zero_the_effective_number_is_the_reports():
    fitted = posterior(MixturePrior(mixture()))
    found = occupancy(assignment_certainty(fitted))["all"]
    expected = components_in_use(quantize(fitted), GROUP)["effective_components"]
    assert found["effective_without_zero"]["assigned"] == pytest.approx(expected)


def test_a_mixture_whose_values_all_hold_weights_is_left_in_peace():
    narrow = mixture([0.0, 0.5, -0.25], [0.05, 0.05, 0.05], [0.5, 0.2, 0.3])
    assert told(MixturePrior(narrow)) == []


def test_values_without_weights_are_named():
    more = mixture([0.0, 0.5, -0.25, 0.75], [0.05] * 4, [0.4, 0.2, 0.3, 0.1])
    (found,) = told(MixturePrior(more))
    assert found.startswith("1 of 4 values hold no weight: 0.75; ")


def test_a_width_below_half_the_spacing_of_the_codebook_is_at_its_floor():
    # float16 has 10 bits of mantissa: around 0.3, in [1/4, 1/2), values are 2^-12 apart.
    half = 2.0**-13

    def warned(mean, deviation, dtype="float16", widening=1.0):
        shape = mixture([0.0, mean], [0.05, deviation], [0.5, 0.5])
        flat = torch.tensor([0.0, 0.3] * 30, dtype=torch.float64)
        found = told(MixturePrior(shape), flat, widening, dtype)
        return any("narrower than" in warning for warning in found)

    assert warned(0.3, 0.99 * half) and not warned(0.3, 1.01 * half)
    assert not warned(0.3, 0.99 * half, "float32")
    assert not warned(0.3125, 0.99 * half), "5/16 is stored as it is"
    assert warned(0.3, 8.9 * half, widening=9.0) and not warned(0.3, 9.1 * half, widening=9.0)


def test_components_that_leave_no_valley_between_them_overlap():
    def warned(apart, deviations=(0.1, 0.2), widening=1.0):
        shape = mixture([0.0, apart], deviations, [0.5, 0.5])
        found = told(MixturePrior(shape), torch.tensor([0.0, apart] * 30).double(), widening)
        return [warning for warning in found if "overlap" in warning]

    (found,) = warned(0.19)
    assert "1 pair of components overlap" in found and "0 and 0.19, are 1.9 deviations" in found
    assert not warned(0.21)
    assert not warned(0.19, widening=1.2), "as fitted they were narrower"


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_what_overlaps_has_one_peak_whatever_the_proportions(share):
    shape = mixture([0.0, 0.19], [0.1, 0.2], [share, 1 - share])
    density = shape.log_prob(torch.linspace(-1, 1.5, 20_001, dtype=torch.float64))
    assert (density.diff().sign().diff() < 0).sum() == 1


def test_widths_of_one_value_do_not_overlap():
    assert not any("overlap" in w for w in told(MixturePrior(mixture())))
