"""What a report warns of, each where it is so and nowhere else; and in the command line's end."""

import math

import pytest
import torch
from problems import ONE_GROUP, classifier
from torch import nn

import pyro_sws as sws
from pyro_sws.assess.report.warnings import warnings
from pyro_sws.inference.evaluation import Evaluated, evaluate_together
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Categorical
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import MixturePrior

FLOAT32 = torch.device("cpu"), torch.float32
COMPRESSED = {"header": 80, "codebooks": 100, "scales": 0, "symbols": 900, "raw": 0, "checksum": 32}


def posterior(weights=(0.5, 0.0), floored=()):
    mixture = Mixture(torch.tensor([0.0, 0.5]), torch.full((2,), 400.0), torch.full((2,), 0.5))
    point = {"all.weights": torch.tensor(weights)}
    groups = {"all": Group("all", {"w": (len(weights),)})}
    return Posterior(groups, point, {"all": MixturePrior(mixture)}, {}, 1.0, floored=dict(floored))


def scored(mistakes, examples=100):
    """Evaluations of networks that err on so many of the examples."""
    labels = torch.zeros(examples, dtype=torch.int64)

    def erring(wrong):
        right = 9.0 * (torch.arange(examples) >= wrong)
        return lambda x: torch.stack([right, 1 + x[:, 0]], 1)

    networks = {stage: Evaluated(erring(n), FLOAT32) for stage, n in mistakes.items()}
    return evaluate_together(networks, Categorical(), [(torch.zeros(examples, 1), labels)])


SAME = {"posterior": 3, "quantized": 3}


def told(p=None, mistakes=SAME, bits=COMPRESSED, examples=100):
    p = p or posterior()
    model = joint(classifier()[0], ONE_GROUP, "categorical", 60)
    mistakes = {"before": mistakes["posterior"], **mistakes}
    return warnings(model, p, sws.quantize(p), scored(mistakes, examples), bits)


def test_of_nothing_where_there_is_nothing():
    assert told() == []


def test_raw_tensors_that_are_more_than_half_of_the_file():
    assert told(bits=COMPRESSED | {"raw": 1112}) == []  # just half
    (found,) = told(bits=COMPRESSED | {"raw": 1120})
    assert "raw tensors are 50% of the file (140 of 279 bytes)" in found


def test_nothing_but_zeros():
    (found,) = told(posterior([0.01, 0.0]))
    assert "nothing but zeros is left" in found


def test_a_posterior_under_a_floor():
    p = posterior(floored={"all.weights": 2, "rest.weights": 0, "hyperparameters": 1})
    first, second = told(p)
    assert "all.weights: 2 weights" in first and "hyperparameters: 1 directions" in second


@pytest.mark.parametrize("examples", [100, 1000])
@pytest.mark.parametrize("before", [0, 10, 50])
def test_scores_that_differ_by_more_than_three_standard_errors(before, examples):
    def deviates(n):  # the two-proportion z statistic, of a textbook
        pooled = (before + n) / (2 * examples)
        return (n - before) / (examples * math.sqrt(2 * pooled * (1 - pooled) / examples)) > 3

    for after in range(before + 1, examples):
        found = told(mistakes={"posterior": before, "quantized": after}, examples=examples)
        assert bool(found) == deviates(after)
        if found:
            assert f"from {100 * before / examples:.4g} retrained" in found[0]
            return


def test_a_fit_that_made_it_worse_by_as_much():
    """The textbook's two-proportion z of 4 and 17 in 100 is 2.9986, of 4 and 18 it is 3.1639."""
    assert told(mistakes={"before": 4, "posterior": 17, "quantized": 17}) == []
    (found,) = told(mistakes={"before": 4, "posterior": 18, "quantized": 18})
    assert "from 4 before to 18 retrained (percent), by more than 3 standard errors" in found
    assert told(mistakes={"before": 90, "posterior": 4, "quantized": 4}) == []  # it was untrained


def test_a_score_that_became_better_is_no_warning():
    assert not told(mistakes={"posterior": 60, "quantized": 2})
    (found,) = told(mistakes={"posterior": 2, "quantized": 60})
    assert "from 2 retrained to 60 quantized (percent), by more than 3 standard errors" in found


def test_compress_reports_them():
    net, inputs, targets = classifier()
    buffered = nn.Sequential(net, nn.Identity())
    buffered[1].register_buffer("table", torch.randn(500))
    zeros = sws.SpikeAndSlabs(slabs=1, start_deviation=5.0)
    run = sws.compress(buffered, [(inputs, targets)], prior=zeros, epochs=1)
    raw, left = run.report.warnings[0], run.report.warnings[-1]
    assert "raw tensors are" in raw and "nothing but zeros is left" in left
    assert not any(w.any() for w in run.quantized.dequantize().values())
    assert run.report.text().endswith(f"warning: {left}")


def without_a_last_layer(**packing):
    """All weights of the last layer snapped to 0, none of the first; the last biases are raw."""
    net, inputs, targets = classifier()
    wide = sws.SpikeAndSlabs(slabs=1, start_deviation=5.0)
    fine = sws.SpikeAndSlabs(slabs=8, start_deviation=0.01)
    rules = [sws.Rule(wide, "2.weight", "last"), sws.Rule(fine, "0.*", "first")]
    options = {"epochs": 1, "packing": sws.Packing(**packing)}
    run = sws.compress(net, [(inputs, targets)], prior=rules, **options)
    return sws.decode(run.data).tensors(), run.report.warnings[-1]


def test_outputs_that_are_the_same_for_every_input():
    tensors, last = without_a_last_layer(rewrite=False)
    assert tensors["0.weight"].any() and not tensors["2.weight"].any() and tensors["2.bias"].any()
    assert "outputs are the same for every input; nothing but zeros is left of 2.weight" in last


def test_zeros_that_rewriting_makes_of_units_that_nothing_reads():
    tensors, last = without_a_last_layer(rewrite=True)
    assert not tensors["0.weight"].any() and not tensors["2.weight"].any()
    assert "nothing but zeros is left of the weights that a prior covers" in last
