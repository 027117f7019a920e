"""Respect for the caller: nothing of theirs is different after a fit, and fits do not meet."""

import copy
import random
import threading

import numpy as np
import pyro
import torch
from problems import ONE_GROUP, classifier
from torch import nn

from pyro_sws.inference.batches import Batches
from pyro_sws.inference.fit import fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.joint import joint


def fitted(net, inputs, targets, epochs=3, seed=0):
    model = joint(net, ONE_GROUP, "categorical", len(inputs), tau=0.1)
    batches = Batches(inputs, targets, 20)
    return fit(model, delta_guide(model), batches, epochs=epochs, seed=seed, validation=batches)


def test_network_and_buffers_are_bit_equal():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)).train()
    before = copy.deepcopy(net.state_dict())
    _, inputs, targets = classifier()
    fitted(net, inputs, targets)
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())


def test_a_start_handed_to_the_guide_is_not_written_into():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", len(inputs), tau=0.1)
    start = {"all.weights": 0.5 * model.start()["all.weights"]}
    before = start["all.weights"].clone()
    guide = delta_guide(model, start)
    moved = fit(model, guide, [(inputs, targets)], epochs=2).posterior.point["all.weights"]
    assert torch.equal(start["all.weights"], before) and not torch.equal(moved, before)


def test_random_generators_are_where_they_were():
    net, inputs, targets = classifier()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    fitted(net, inputs, targets)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


def test_pyros_store_and_settings_are_as_they_were():
    store = pyro.get_param_store()
    pyro.param("mine", torch.tensor([1.0, 2.0]), constraint=pyro.distributions.constraints.positive)
    settings = pyro.settings.get()
    unconstrained = store._params["mine"]
    net, inputs, targets = classifier()
    fitted(net, inputs, targets)
    assert list(store.keys()) == ["mine"]
    assert store._params["mine"] is unconstrained
    assert torch.equal(pyro.param("mine"), torch.tensor([1.0, 2.0]).log().exp())
    assert pyro.settings.get() == settings
    assert pyro.distributions.Normal(0.0, 1.0)._validate_args == __debug__


def test_threads_and_default_dtype_are_as_they_were():
    before = torch.get_num_threads(), torch.get_default_dtype()
    net, inputs, targets = classifier()
    fitted(net, inputs, targets)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before


def test_it_works_in_pyros_other_parameter_mode():
    net, inputs, targets = classifier()
    expected = fitted(net, inputs, targets).posterior.point
    with pyro.settings.context(module_local_params=True):
        found = fitted(net, inputs, targets).posterior.point
    assert all(torch.equal(found[site], expected[site]) for site in expected)


def test_the_same_seed_gives_the_same_point_whatever_ran_before():
    net, inputs, targets = classifier()
    first = fitted(net, inputs, targets).posterior.point
    other, *data = classifier(seed=1)
    fitted(other, *data, seed=5)
    second = fitted(net, inputs, targets).posterior.point
    assert all(torch.equal(first[site], second[site]) for site in first)


def test_another_seed_gives_another_order_of_batches():
    net, inputs, targets = classifier()
    first = fitted(net, inputs, targets, seed=0).posterior.point["all.weights"]
    second = fitted(net, inputs, targets, seed=1).posterior.point["all.weights"]
    assert not torch.equal(first, second)


def test_two_threads_fit_without_meeting():
    net, inputs, targets = classifier()
    whole = [(inputs, targets)]

    def run():
        model = joint(net, ONE_GROUP, "categorical", 60)
        return fit(model, delta_guide(model), whole, epochs=15).posterior.point

    expected, found = run(), {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: run()})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for point in (found[0], found[1]):
        assert all(torch.equal(point[site], expected[site]) for site in expected)


def test_a_fit_on_the_cpu_seeds_no_other_devices_generator(monkeypatch):
    seeded = []
    net, inputs, targets = classifier()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    fitted(net, inputs, targets)
    assert seeded == []


def test_it_works_where_the_caller_has_gradients_off():
    net, inputs, targets = classifier()
    with torch.no_grad():
        fitted(net, inputs, targets)
        assert not torch.is_grad_enabled()
