"""Where a fit starts: at the network's own weights, or at those it is given by tensor name."""

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, TWO_GROUPS, classifier
from pyro.infer import Trace_ELBO
from rates import STILL

import pyro_sws as sws
from pyro_sws.inference.isolation import pyro_step


def model_of(net, start, prior=TWO_GROUPS):
    return sws.joint(net, prior, "categorical", 60, start=start)


def doubled(net):
    return {name: 2 * parameter for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", sws.GUIDES)
def test_every_guide_starts_at_the_given_weights(name):
    net, inputs, targets = classifier()
    model, expected = model_of(net, doubled(net)), doubled(net)
    guide = sws.GUIDES[name](model)
    with pyro_step():
        Trace_ELBO().loss(model, guide, inputs, targets)
    for group in model.groups.values():
        for tensor, value in group.split(guide.median()[f"{group.name}.weights"]).items():
            torch.testing.assert_close(value, expected[tensor].detach())


def test_hyperparameters_start_from_the_given_weights_too():
    net = classifier()[0]
    values = model_of(net, doubled(net), ONE_GROUP).start()
    torch.testing.assert_close(
        values["all.means"], 2 * model_of(net, None, ONE_GROUP).start()["all.means"]
    )


def test_a_tensor_that_is_not_given_starts_as_the_network_has_it():
    net = classifier()[0]
    values = model_of(net, {"2.bias": np.array([7, 8, 9], np.float64)}).start()
    assert values["rest.weights"][-3:].tolist() == [7, 8, 9]
    assert values["rest.weights"].dtype == torch.float32
    torch.testing.assert_close(values["rest.weights"][:-3], net[2].weight.detach().flatten())


def test_a_fit_that_does_not_move_ends_where_it_started_and_changes_no_argument():
    net, inputs, targets = classifier()
    start = {name: tensor.detach().clone() for name, tensor in doubled(net).items()}
    model = model_of(net, start)
    fitted = sws.fit(
        model,
        sws.delta_guide(model),
        [(inputs, targets)],
        settings=sws.Fitting(epochs=1, rates=STILL),
    )
    assert all(torch.equal(fitted.posterior.weights[name], start[name]) for name in start)
    sws.fit(model, sws.delta_guide(model), [(inputs, targets)], epochs=1)
    assert all(torch.equal(start[name], 2 * p) for name, p in net.named_parameters())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            {"2.wieght": torch.zeros(3, 8)},
            "start: no prior covers a parameter '2.wieght'; covered are 0.weight, 2.weight",
        ),
        (
            {"2.bias": torch.zeros(3)},
            "start: no prior covers a parameter '2.bias'; covered are 0.weight, 2.weight",
        ),
        (
            {"2.weight": torch.zeros(8, 3)},
            "start: '2.weight' has shape (8, 3); the network's has (3, 8)",
        ),
        (
            {"2.weight": torch.full((3, 8), torch.nan)},
            "start: '2.weight' has 24 weights that are not finite",
        ),
    ],
)
def test_a_start_that_cannot_be_is_refused(start, message):
    with pytest.raises(ValueError) as caught:
        model_of(classifier()[0], start, [sws.Rule(ONE_GROUP, "*.weight")])
    assert str(caught.value) == message
