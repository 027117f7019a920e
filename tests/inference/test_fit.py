"""The fit: its history, schedules and rates, and what it refuses."""

import logging

import pyro
import pytest
import torch
from problems import ONE_GROUP, classifier
from pyro.infer.autoguide import AutoNormal
from rates import STILL
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from pyro_sws.inference.batches import Batches
from pyro_sws.inference.fit import fit
from pyro_sws.inference.fitting import Fitting, Rates
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Gaussian
from pyro_sws.inference.priors import SpikeAndSlabs


def problem(**keys):
    net, inputs, targets = classifier()
    return joint(net, ONE_GROUP, "categorical", 60, **keys), inputs, targets


def test_description_length_falls():
    model, inputs, targets = problem()
    history = fit(model, delta_guide(model), [(inputs, targets)], epochs=20).history
    assert history[-1]["negative_elbo_nats"] < history[0]["negative_elbo_nats"]


def test_epochs_for_short_beat_those_of_the_settings():
    model, inputs, targets = problem()
    settings = Fitting(epochs=5, rates=STILL)
    for more, expected in (({}, 5), ({"epochs": 2}, 2)):
        found = fit(model, delta_guide(model), [(inputs, targets)], settings, **more)
        assert len(found.history) == expected
    start = model.start()
    assert all(torch.allclose(start[site], x) for site, x in found.posterior.point.items())


def test_an_epochs_costs_are_means_over_its_examples_whatever_the_batches():
    model, inputs, targets = problem()
    rows = [
        fit(model, delta_guide(model), batches, settings=Fitting(epochs=1, rates=STILL)).history[0]
        for batches in (
            [(inputs, targets)],
            [(inputs[:59], targets[:59]), (inputs[59:], targets[59:])],
        )
    ]
    for cost in ("negative_elbo_nats", "error_cost_nats", "complexity_cost_nats"):
        assert rows[1][cost] == pytest.approx(rows[0][cost], rel=1e-5), cost


def test_history_has_the_mixture_and_the_validation_scores():
    model, inputs, targets = problem()
    batches = [(inputs, targets)]
    seen = []
    history = fit(
        model, delta_guide(model), batches, epochs=2, validation=batches, callback=seen.append
    ).history
    assert [progress.row for progress in seen] == history
    assert [(p.stage, p.done, p.total) for p in seen] == [("fit", 1, 2), ("fit", 2, 2)]
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert {len(values) for values in row["mixtures"]["all"].values()} == {4}
        assert 0 <= row["validation_posterior"] <= 100
        assert 0 <= row["validation_quantized"] <= 100


def test_a_rate_of_zero_leaves_its_sites_where_they_are():
    model, inputs, targets = problem()
    rates = Rates(means=0.0, proportions=0.0)
    point = fit(
        model, delta_guide(model), [(inputs, targets)], settings=Fitting(epochs=3, rates=rates)
    )
    start, found = model.start(), point.posterior.point
    for site, moves in {
        "all.weights": True,
        "all.means": False,
        "all.slab_precisions": True,
        "all.spike_precision": True,
        "all.slab_shares": False,
    }.items():
        assert torch.allclose(found[site], start[site]) != moves, site


def test_a_schedule_of_ones_own_is_followed():
    model, inputs, targets = problem()
    asked = []
    fit(
        model,
        delta_guide(model),
        Batches(inputs, targets, 30),
        settings=Fitting(epochs=2, schedule=lambda progress: asked.append(progress) or 0.0),
    )
    assert asked == [0.0, 0.25, 0.5, 0.75]


def test_a_guide_whose_spread_does_not_carry_tau_is_refused():
    model, inputs, targets = problem(tau=0.1)
    with pytest.raises(TypeError, match="AutoNormal does not scale its sites by tau"):
        fit(model, AutoNormal(model), [(inputs, targets)], epochs=1)


def test_a_loader_whose_length_is_unknown_is_counted():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(inputs, targets, strict=True))

    model, inputs, targets = problem()
    loader = torch.utils.data.DataLoader(Stream(), batch_size=20)
    assert len(fit(model, delta_guide(model), loader, epochs=2).history) == 2


def test_an_observed_site_of_a_prior_is_no_error_cost():
    class Judged(SpikeAndSlabs):
        def __call__(self, group):
            pyro.factor("judgement", torch.tensor(-1000.0))
            return super().__call__(group)

    net, inputs, targets = classifier()
    costs = []
    for family in (SpikeAndSlabs, Judged):
        model = joint(net, family(slabs=3), "categorical", 60)
        (row,) = fit(model, delta_guide(model), [(inputs, targets)], epochs=1).history
        costs.append(row["error_cost_nats"])
    assert costs[0] == pytest.approx(costs[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_fitted_in_single(dtype):
    net, *_ = classifier()
    net[0].to(dtype)  # of a network partly so, too
    model = joint(net, ONE_GROUP, "categorical", 60)
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}
    assert torch.equal(model.net[0].weight, net[0].weight.float())
    net[2].double()
    assert (
        next(iter(joint(net, ONE_GROUP, "categorical", 60).groups.values())).dtype
        == net[2].weight.dtype
    )


def test_mixed_precisions_are_refused():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(ValueError, match="weights are float32, float64"):
        joint(net, ONE_GROUP, "categorical", 60)


class Half(nn.Module):
    """The first layer's outputs have no gradient, for whatever reason."""

    def __init__(self, whole=False):
        super().__init__()
        self.body, self.whole = classifier()[0], whole

    def forward(self, x):
        hidden = self.body[0](x).tanh().detach()
        outputs = self.body[2](hidden)
        return outputs.detach() if self.whole else outputs


def test_weights_without_a_gradient_are_told_by_a_fit_of_ones_own(caplog):
    _, inputs, targets = classifier()
    model = joint(Half(), ONE_GROUP, "categorical", 60)
    with caplog.at_level(logging.WARNING, "pyro_sws"):
        fit(model, delta_guide(model), [(inputs, targets)], epochs=1)
    (record,) = caplog.records
    assert "reaches body.0.weight, body.0.bias: only the prior" in record.getMessage()
    model = joint(Half(whole=True), ONE_GROUP, "categorical", 60)
    with pytest.raises(ValueError, match="no gradient of the outputs of Half reaches a weight"):
        fit(model, delta_guide(model), [(inputs, targets)], epochs=1)
    model = joint(classifier()[0], ONE_GROUP, "categorical", 60)
    fit(model, delta_guide(model), [(inputs, targets)], epochs=1)
    assert len(caplog.records) == 1


def test_a_network_that_returns_no_tensor_is_refused():
    model = joint(nn.LSTM(4, 3), ONE_GROUP, "categorical", 6)
    batch = (torch.randn(6, 2, 4), torch.zeros(6, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="LSTM returns a tuple of shapes .*; say which"):
        fit(model, delta_guide(model), [batch], epochs=1)


def test_a_learned_noise_starts_at_its_hyperpriors_mean():
    net = nn.Linear(4, 1)
    model = joint(net, ONE_GROUP, Gaussian(Gamma(6.0, 2.0)), 60)
    assert model.start()["noise_precision"].item() == 3.0


def batches_of(inputs, targets):
    """The 60 examples in every form that shows them all."""
    data = TensorDataset(inputs, targets)
    return {
        "a list": list(zip(inputs.split(20), targets.split(20), strict=True)),
        "batches": Batches(inputs, targets, 20),
        "a loader": DataLoader(data, 20, shuffle=True),
        "a loader of draws": DataLoader(data, 20, sampler=RandomSampler(data, True, 600)),
    }


@pytest.mark.parametrize("kind", batches_of(torch.zeros(60, 4), torch.zeros(60)))
@pytest.mark.parametrize("size", [10, 59, 61, 60_000])
def test_another_number_of_examples_than_the_batches_have_is_an_error(kind, size):
    net, inputs, targets = classifier()
    model, batches = joint(net, ONE_GROUP, "categorical", size), batches_of(inputs, targets)[kind]
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"data_size = {size:,}, but .* shows 60 examples"):
        fit(model, delta_guide(model), batches, epochs=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("size", [60, 75, 120])
def test_examples_that_come_twice_may_be_one_or_two(size):
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", size)
    twice = [(inputs, targets), (inputs, targets)]
    assert fit(model, delta_guide(model), twice, epochs=1).history


class Stream:
    """A pass shows 20 of the data's examples, in a batch."""

    def __iter__(self):
        _, inputs, targets = classifier()
        return iter([(inputs[:20], targets[:20])])


class Noisy(TensorDataset):
    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        return inputs + torch.rand(()), targets


@pytest.mark.parametrize(
    "batches",
    [Stream(), DataLoader(Noisy(*classifier()[1:]), 20)],
    ids=["a stream", "a dataset that changes its examples"],
)
def test_what_a_pass_does_not_show_may_be_any_number(batches):
    model = joint(classifier()[0], ONE_GROUP, "categorical", 6000)
    assert fit(model, delta_guide(model), batches, epochs=1).history
