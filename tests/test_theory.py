"""docs/theory.md: its example, its equations on numbers, and that what cites them finds them."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import pyro_sws
from pyro_sws.bounds.occam import hoeffding_bound, kl_inverse_bound, occam_bound
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior

ROOT = Path(pyro_sws.__file__).parents[1]
PAGE = (ROOT / "docs" / "theory.md").read_text()
EXAMPLE = PAGE[PAGE.index("## An example") :]
BITS = 8 * 900 + 20


def test_the_example_of_a_file():
    assert f"L = {BITS:,} bits" in EXAMPLE
    bounds = [100 * f(660, 60_000, BITS) for f in (occam_bound, kl_inverse_bound, hoeffding_bound)]
    assert "(11) gives {:.2f} %, (12) {:.2f} %, Hoeffding's {:.2f} %".format(*bounds) in EXAMPLE
    more = occam_bound(660, 60_000, BITS + 8) - occam_bound(660, 60_000, BITS)
    mistake = occam_bound(661, 60_000, BITS) - occam_bound(660, 60_000, BITS)
    assert f"as much as {more / mistake:.1f} more mistakes" in EXAMPLE


def test_the_bound_of_the_example_is_where_scipys_tail_is_its_price():
    bound = occam_bound(660, 60_000, BITS)
    price = math.log(0.05) - BITS * math.log(2)
    # scipy's own tail is 0 there: the term of 660 mistakes is nearly all of it.
    last = stats.binom.logpmf(660, 60_000, bound)
    ratio = 660 * (1 - bound) / (60_000 - 659) / bound
    assert last - math.log(1 - ratio) == pytest.approx(price, abs=1e-3)


def test_the_example_of_a_dead_zone():
    difference = math.log(0.999 / (0.001 / 16))
    assert f"D = {difference:.2f}" in EXAMPLE
    assert f"(8) is {0.02 * math.sqrt(2 * difference):.3f}" in EXAMPLE


@pytest.mark.parametrize("value", [0.05, 0.1, 0.4])
def test_a_weight_leaves_zero_where_equation_7_says(value):
    s, zero = 0.02, 0.99
    means, proportions = torch.tensor([0.0, value]), torch.tensor([zero, 1 - zero])
    prior = MixturePrior(Mixture(means, torch.full((2,), s**-2), proportions), None)
    border = value / 2 + s**2 * math.log(zero / (1 - zero)) / value
    near = torch.tensor([border * (1 - 1e-4), border * (1 + 1e-4)])
    assert prior.assign(near).tolist() == [0, 1]


def test_equation_8_is_the_least_border():
    s, difference = 0.02, 9.68
    values = np.linspace(0.001, 1, 100_000)
    borders = values / 2 + s**2 * difference / values
    assert borders.min() == pytest.approx(s * math.sqrt(2 * difference), rel=1e-6)
    assert values[borders.argmin()] == pytest.approx(s * math.sqrt(2 * difference), rel=1e-3)


def test_every_equation_that_is_cited_is_there():
    given = {int(n) for n in re.findall(r" \((\d+)\)$", PAGE, re.MULTILINE)}
    assert given == set(range(1, 14))
    said = "\n".join(path.read_text() for path in (ROOT / "pyro_sws").rglob("*.py"))
    cites = re.findall(r"theory\.md, eqs?\. ([\d ,and]+)", said)
    cited = {int(n) for each in cites for n in re.findall(r"\d+", each)}
    assert {7, 8, 11} <= cited <= given
