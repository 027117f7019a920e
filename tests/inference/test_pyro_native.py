"""A Pyro user's own tools work on the joint and its guide."""

from dataclasses import replace

import arviz as az
import pyro
import pytest
import torch
from elbo_by_hand import Recorded, log_joint
from elbo_by_hand import problem as by_hand
from problems import EVERY_HYPERPRIOR, ONE_GROUP, classifier
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.reparam import LocScaleReparam

from pyro_sws.inference.density import Density
from pyro_sws.inference.fit import fit
from pyro_sws.inference.fitting import Fitting, Rates
from pyro_sws.inference.guides import (
    GUIDES,
    delta_guide,
    delta_normal_guide,
    low_rank_guide,
    normal_guide,
)
from pyro_sws.inference.hyperpriors import Normal
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


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_that_has_not_run_leaves_the_targets_to_the_model(guide, likelihood):
    net, inputs, _ = classifier()
    model = joint(net, EVERY_HYPERPRIOR, likelihood, 60)
    fresh = GUIDES[guide](model)
    draws = Predictive(model, guide=fresh, num_samples=2)(inputs)["targets"]
    assert "targets" not in fresh(inputs)
    assert not torch.equal(*draws)


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


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_of_a_conditioned_and_scaled_model_fits_it(guide, elbo):
    model, batch = by_hand()
    known = {"all.spike_precision": torch.tensor(123.0, dtype=torch.float64)}
    wrapped = poutine.scale(pyro.condition(model, known), scale=2.0)
    guide = GUIDES[guide](wrapped)
    guide(*batch)
    recorded = Recorded(guide)
    value = elbo().loss(wrapped, recorded, *batch)
    (draw,) = recorded.draws
    assert "all.spike_precision" not in draw
    trace = poutine.trace(guide).get_trace(*batch)
    if not guide.weights_have_spread and not hasattr(guide, "widths"):
        assert value == pytest.approx(-2 * float(log_joint({**draw, **known}, *batch)), rel=1e-6)
    factors = {trace.nodes[site]["scale"] for site in draw}
    assert factors == {2.0 * model.tau}, "log q, and a KL, count as log p does"


def test_a_guide_of_a_blocked_model_leaves_the_site_to_the_model():
    model, batch = by_hand()
    guide = delta_guide(poutine.block(model, hide=["all.means"]))
    assert "all.means" not in guide(*batch)


def test_a_guide_of_a_reparametrised_model_starts_and_fits():
    net, inputs, targets = classifier()
    prior = replace(EVERY_HYPERPRIOR, slab_means=Normal(0.5))
    model = joint(net, prior, "categorical", 60)
    wrapped = poutine.reparam(model, {"all.means": LocScaleReparam(0.0)})
    guide = delta_guide(wrapped)
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        svi = SVI(wrapped, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        losses = [svi.step(inputs, targets) for _ in range(20)]
    assert losses[-1] < losses[0]
    torch.testing.assert_close(
        delta_guide(wrapped)(inputs, targets)["all.weights"], model.start()["all.weights"]
    )


def test_a_guide_of_another_model_is_refused_with_what_there_is_for_it():
    with pytest.raises(TypeError, match="got other.*pyro.infer.autoguide"):

        def other():
            pass

        delta_guide(other)


def test_fit_refuses_what_it_would_not_see(problem):
    model, *batch = problem
    known = pyro.condition(model, {"all.spike_precision": torch.tensor(123.0)})
    with pytest.raises(TypeError, match="fit takes what joint.* pyro.infer.SVI"):
        fit(known, delta_guide(known), [batch], epochs=1)
    with pytest.raises(TypeError, match="guide is of a model inside Pyro's handlers"):
        fit(model, delta_guide(known), [batch], epochs=1)
    with pytest.raises(
        TypeError, match="AutoNormal does not scale .*; use one of GUIDES.*or tau=1"
    ):
        tempered = replace(model, tau=0.5)
        fit(tempered, AutoNormal(tempered), [batch], epochs=1)


def test_a_chain_on_an_estimate_of_the_prior_is_refused():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", 60, density=Density(prior_subsample=0.5))
    chain = MCMC(NUTS(model), num_samples=1, warmup_steps=1, disable_progbar=True)
    with pytest.raises(ValueError, match="prior_subsample estimates .* run NUTS on joint") as found:
        chain.run(inputs, targets)
    assert "\n" not in str(found.value)  # Pyro appends the shapes of its trace to others


def test_a_chain_may_run_on_an_estimate_from_all_weights():
    net, inputs, targets = classifier()
    exact = joint(net, ONE_GROUP, "categorical", 60)
    model = replace(exact, density=Density(prior_subsample=1.0))
    at = [poutine.trace(poutine.condition(m, m.start())) for m in (exact, model)]
    one, other = (trace.get_trace(inputs, targets).log_prob_sum() for trace in at)
    torch.testing.assert_close(one, other)
    chain = MCMC(NUTS(model, max_tree_depth=1), 2, warmup_steps=1, disable_progbar=True)
    chain.run(inputs, targets)
    assert {len(values) for values in chain.get_samples().values()} == {2}


def test_posterior_samples_go_into_predictive_together(problem):
    model, inputs, targets = problem
    guide = normal_guide(model, draws=6, weight_draws=4)
    posterior = fit(model, guide, [(inputs, targets)], epochs=1).posterior
    samples = posterior.samples()
    assert {len(values) for values in samples.values()} == {4}
    assert posterior.samples(9)["all.means"].shape == (9, 2)
    torch.testing.assert_close(
        posterior.samples(9)["all.means"][6:], posterior.draws["all.means"][:3]
    )
    for parallel in (False, True):
        targets = Predictive(model, posterior_samples=samples, parallel=parallel)(inputs)["targets"]
        assert targets.shape == (4, 60)


@pytest.mark.parametrize("make", [normal_guide, delta_normal_guide])
def test_draws_that_predictive_cannot_take_together_are_refused_with_the_remedy(make, problem):
    model, *batch = problem
    posterior = fit(model, make(model), [batch], epochs=1).posterior
    weights = "8" if make is normal_guide else "none"
    with pytest.raises(ValueError, match=rf"200 of .* {weights} of all.weights.*samples\(\)"):
        Predictive(model, posterior_samples=posterior.draws)
    assert len(dict(posterior.draws.items())["all.means"]) == 200, "for everybody else"


def test_draws_that_are_equally_many_go_into_predictive_as_they_are(problem):
    model, *batch = problem
    guide = normal_guide(model, draws=5, weight_draws=5)
    draws = fit(model, guide, [batch], epochs=1).posterior.draws
    found = Predictive(model, posterior_samples=draws, return_sites=["all.weights", "targets"])
    samples = found(batch[0])
    assert samples["targets"].shape == (5, 60)
    assert torch.equal(samples["all.weights"].reshape(5, 67), draws["all.weights"])


def test_samples_of_a_point_are_the_point(problem):
    model, *batch = problem
    posterior = fit(model, delta_guide(model), [batch], epochs=1).posterior
    samples = posterior.samples(2)
    assert all(torch.equal(v, posterior.point[site].expand(v.shape)) for site, v in samples.items())
    with pytest.raises(ValueError, match="count must be at least 1"):
        posterior.samples(0)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_arviz_has_the_log_likelihood_of_a_chain(problem):
    model, inputs, targets = problem
    torch.manual_seed(0)
    kernel = NUTS(model, init_strategy=init_to_value(values=model.start()), max_tree_depth=3)
    chain = MCMC(kernel, num_samples=6, warmup_steps=4, disable_progbar=True)
    chain.run(inputs, targets)
    if not hasattr(az, "from_pyro"):
        pytest.skip("ArviZ 1 has no from_pyro")
    tree = az.from_pyro(chain)
    assert az.loo(tree).n_data_points == 60
    found = tree.log_likelihood["targets"].values.reshape(6, 60)
    weights = chain.get_samples()["all.weights"]
    for row, flat in zip(found, weights, strict=True):
        w1, b1, w2, b2 = flat.split([32, 8, 24, 3])
        logits = torch.tanh(inputs @ w1.view(8, 4).T + b1) @ w2.view(3, 8).T + b2
        expected = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        torch.testing.assert_close(torch.from_numpy(row.copy()), expected, rtol=1e-4, atol=1e-4)


def test_a_saved_parameter_store_is_loaded_by_name(problem, tmp_path):
    model, inputs, targets = problem
    path = str(tmp_path / "store")
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}) as store:
        guide = delta_guide(model, name="mine")
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
        for _ in range(3):
            svi.step(inputs, targets)
        pyro.get_param_store().save(path)
        fitted = guide.median()
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}) as store:
        pyro.get_param_store().load(path)
        loaded = delta_guide(model, name="mine")(inputs, targets)
    for site, value in fitted.items():
        torch.testing.assert_close(loaded[site], value)
    assert not torch.equal(fitted["all.weights"], model.start()["all.weights"]) and store


@pytest.mark.parametrize("make", [delta_guide, normal_guide])
def test_a_loaded_store_that_would_not_be_used_is_an_error(make, problem, tmp_path):
    model, inputs, targets = problem
    path = str(tmp_path / "store")
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        svi = SVI(model, make(model), pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
        svi.step(inputs, targets)
        make(model)(inputs, targets)  # what another guide left behind is no loaded store
        pyro.get_param_store().save(path)
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        pyro.get_param_store().load(path)
        with pytest.raises(ValueError, match="store has loaded values of .*_guide_.*name='lenet'"):
            make(model)(inputs, targets)


@pytest.mark.parametrize("name", ["3", "", "le.net", "le net"])
def test_a_guides_name_is_a_word(name, problem):
    with pytest.raises(ValueError, match="name must be letters, digits"):
        delta_guide(problem[0], name=name)


def saved_store(guide, batch, path):
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        guide(*batch)
        pyro.get_param_store().save(path)


OTHERS = {
    "without a name": delta_guide,
    "of another name": lambda model: delta_guide(model, name="other"),
    "of another kind": lambda model: normal_guide(model, name="mine"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_was_loaded_by_name_is_not_left_unused(other, problem, tmp_path):
    model, *batch = problem
    path = str(tmp_path / "store")
    saved_store(delta_guide(model, name="mine"), batch, path)
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        pyro.get_param_store().load(path)
        with pytest.raises(ValueError, match="loaded values of delta_guide_mine, which this"):
            OTHERS[other](model)(*batch)
        delta_guide(model, name="mine")(*batch)
        OTHERS[other](model)(*batch)  # now what was loaded is used, and others may be made


@pytest.mark.parametrize("make", [delta_guide, normal_guide])
def test_what_was_loaded_of_another_network_is_refused(make, problem, tmp_path):
    model, *batch = problem
    path = str(tmp_path / "store")
    saved_store(make(model, name="mine"), batch, path)
    smaller = joint(torch.nn.Linear(4, 3), EVERY_HYPERPRIOR, "categorical", 60)
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        pyro.get_param_store().load(path)
        with pytest.raises(ValueError, match=r"all.weights of shape \(67,\).* model's is \(15,\)"):
            make(smaller, name="mine")(*batch)


def test_what_was_loaded_of_another_rank_is_refused(problem, tmp_path):
    model, *batch = problem
    path = str(tmp_path / "store")
    saved_store(low_rank_guide(model, name="mine", rank=2), batch, path)
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        pyro.get_param_store().load(path)
        with pytest.raises(ValueError, match=r"factor of shape \(67, 2\).* is \(67, 3\)"):
            low_rank_guide(model, name="mine", rank=3)(*batch)


@pytest.mark.parametrize("make", [delta_guide, normal_guide])
def test_fit_goes_on_from_a_loaded_store_and_leaves_it_as_it_was(make, problem, tmp_path):
    model, *batch = problem
    path = str(tmp_path / "store")
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        guide = make(model, name="mine")
        SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO()).step(*batch)
        fitted = guide.median()
        pyro.get_param_store().save(path)
    still = Fitting(epochs=1, rates=Rates(*[0.0] * 6))
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        pyro.get_param_store().load(path)
        before = {name: value.clone() for name, value in pyro.get_param_store().items()}
        found = fit(model, make(model, name="mine"), [batch], still).posterior.point
        fit(model, make(model, name="mine"), [batch], epochs=1)
        for name, value in pyro.get_param_store().items():
            assert torch.equal(value, before[name])
    assert not torch.equal(fitted["all.weights"], model.start()["all.weights"])
    for site, value in fitted.items():
        torch.testing.assert_close(found[site], value)
