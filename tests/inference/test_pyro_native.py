"""A Pyro user's own tools work on the joint and its guide."""

import pyro
import pytest
import torch
from problems import EVERY_HYPERPRIOR, ONE_GROUP, classifier
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.autoguide.initialization import init_to_value

from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.joint import joint


@pytest.fixture
def problem():
    net, inputs, targets = classifier()
    return joint(net, EVERY_HYPERPRIOR, "categorical", 60), inputs, targets


def test_predictive_draws_targets_under_the_guide(problem):
    model, inputs, targets = problem
    guide = delta_guide(model)
    guide(inputs, targets)
    draws = Predictive(model, guide=guide, num_samples=5)(inputs)
    assert draws["targets"].shape == (5, 60)
    assert draws["all.weights"].reshape(5, -1).shape == (5, 67)
    torch.testing.assert_close(draws["all.weights"].reshape(5, -1)[0], model.start()["all.weights"])


def test_predictive_draws_from_the_prior(problem):
    model, inputs, _ = problem
    draws = Predictive(model, num_samples=3)(inputs)
    assert draws["all.weights"].reshape(3, -1).shape == (3, 67)
    assert draws["targets"].unique().max() <= 2


def test_render_model_draws_every_site(problem):
    model, inputs, targets = problem
    graph = pyro.render_model(model, model_args=(inputs, targets)).source
    for site in ("all.weights", "all.means", "all.zero_proportion", "targets"):
        assert site in graph


def test_condition_fixes_a_site(problem):
    model, inputs, targets = problem
    precision = torch.tensor(123.0)
    conditioned = poutine.condition(model, data={"all.spike_precision": precision})
    trace = poutine.trace(conditioned).get_trace(inputs, targets)
    assert trace.nodes["all.spike_precision"]["is_observed"]
    assert trace.nodes["all.weights"]["fn"].prior.mixture.precisions[0] == precision


def test_block_hides_a_site(problem):
    model, inputs, targets = problem
    hidden = poutine.block(model, hide=["all.means"])
    assert "all.means" not in poutine.trace(hidden).get_trace(inputs, targets).nodes


@pytest.mark.integration
def test_nuts_runs_on_the_joint(problem):
    model, inputs, targets = problem
    start = init_to_value(values=model.start())
    torch.manual_seed(0)
    kernel = NUTS(model, init_strategy=start, max_tree_depth=4)
    mcmc = MCMC(kernel, num_samples=8, warmup_steps=8, disable_progbar=True)
    mcmc.run(inputs, targets)
    samples = mcmc.get_samples()
    assert samples["all.weights"].shape == (8, 67)
    assert samples["all.weights"].std(0).max() > 0, "the chain moves"
    assert (samples["all.slab_precisions"] > 0).all()


def test_a_second_guide_does_not_start_where_the_first_one_ended():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", 60)
    svi = pyro.infer.SVI(
        model, delta_guide(model), pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO()
    )
    for _ in range(3):
        svi.step(inputs, targets)
    fresh = delta_guide(model)
    torch.testing.assert_close(fresh(inputs, targets)["all.weights"], model.start()["all.weights"])
