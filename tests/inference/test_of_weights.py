"""A curvature in the place of data: on a linear regression it is the data, elsewhere up to h^3."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from curvatures import curved_ridge, of_classifier, of_regression
from elbos import elbo_of
from every_prior import PRIORS
from messages import assert_says
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS, classifier
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide.initialization import init_to_value
from pyro.ops.stats import effective_sample_size
from regressions import NOISE, PRECISION, exact, regression, ridge
from scipy import stats
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.evaluation import error_cost, error_gradient, evaluate
from pyro_sws.inference.fit import complexity_cost
from pyro_sws.inference.guides.curvature import error_curvature
from pyro_sws.weights.curvature import Block, Curvature, Layout

NONE = (None, None)  # a batch where no data is read
RATES = sws.Rates(weights=0.03, deviations=0.03)


def curved(prior=EVERY_HYPERPRIOR, **settings):
    net, inputs, _ = classifier()
    return sws.joint(net, prior, of_classifier(net, inputs), **settings)


def least(x, y, tau):
    """-tau log of the integral of exp(-(w - at)' A (w - at) / 2 tau) p(w): a Gaussian's."""
    a, at = NOISE * x.T @ x, np.linalg.lstsq(x, y, rcond=None)[0]
    cov = np.eye(len(at)) / PRECISION + tau * np.linalg.inv(a)
    own = len(at) / 2 * np.log(2 * np.pi) - np.linalg.slogdet(a / tau)[1] / 2
    return -tau * (own + stats.multivariate_normal.logpdf(at, cov=cov))


# On a linear regression it is the data's likelihood.


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_its_density_is_the_datas_but_for_a_constant(tau):
    x, y = regression(orthogonal=False)
    (data, batch), model = ridge(x, y, tau), curved_ridge(x, y, tau)
    gaps = []
    for scale in (0.0, 1.0, -3.0):
        point = {"all.weights": scale * torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)}
        of_data = poutine.trace(poutine.condition(data, point)).get_trace(*batch)
        own = poutine.trace(poutine.condition(model, point)).get_trace()
        gaps.append(float(own.log_prob_sum() - of_data.log_prob_sum()))
    residuals = ((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum()
    constant = len(y) / 2 * np.log(2 * np.pi / NOISE) + NOISE / 2 * residuals
    np.testing.assert_allclose(gaps, constant, rtol=1e-9)


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_a_delta_guides_point_is_the_closed_forms_mode(tau):
    x, y = regression(orthogonal=False)
    model = curved_ridge(x, y, tau)
    settings = sws.Fitting(epochs=10, rates=RATES)
    fitted = sws.fit(model, sws.delta_guide(model), settings=settings, steps=50)
    mode = exact(x, y, tau)[0]
    np.testing.assert_allclose(fitted.posterior.point["all.weights"], mode, atol=1e-4)


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_every_draw_from_the_exact_posterior_costs_the_log_evidence(tau):
    x, y = regression()
    model = curved_ridge(x, y, tau)
    elbo = elbo_of(sws.normal_guide(model), model, NONE)
    mean, cov = exact(x, y, tau)
    for end, value in {"weights": mean, "deviation": np.log(np.diag(cov)) / 2}.items():
        (parameter,) = (p for name, p in elbo.sites.items() if name.endswith(end))
        parameter.data.copy_(torch.as_tensor(value))
    with torch.no_grad():
        drawn = [float(elbo(*NONE)[0]) for _ in range(5)]
    np.testing.assert_allclose(drawn, least(x, y, tau), rtol=1e-10)


@pytest.mark.integration
@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_a_normal_guide_reaches_the_exact_posterior_on_an_orthogonal_design(tau):
    x, y = regression()
    model, settings = curved_ridge(x, y, tau), sws.Fitting(epochs=12, rates=RATES)
    fitted = sws.fit(model, sws.normal_guide(model), settings=settings, steps=50)
    mean, cov = exact(x, y, tau)
    found, deviation = fitted.posterior, np.diag(cov) ** 0.5
    # Adam's own noise at the end of a cosine, as in the fit to data: some percent of a deviation.
    off = np.abs(found.point["all.weights"].numpy() - mean)
    np.testing.assert_array_less(off, 0.2 * deviation)
    np.testing.assert_allclose(found.deviations["all.weights"], deviation, rtol=0.1)
    assert fitted.history[-1]["negative_elbo_nats"] == pytest.approx(least(x, y, tau), abs=0.1)
    assert fitted.bits_back_nats is None


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_laplaces_deviations_are_those_given_the_other_weights(tau):
    x, y = regression(orthogonal=False)
    model = curved_ridge(x, y, tau)
    found = sws.fit(model, sws.laplace_guide(model), epochs=1).posterior.deviations["all.weights"]
    precision = np.linalg.inv(exact(x, y, tau)[1])
    np.testing.assert_allclose(found, np.diag(precision) ** -0.5, rtol=1e-9)


@pytest.mark.slow
def test_a_chain_has_the_posteriors_mean_and_covariance():
    x, y = regression(orthogonal=False)
    model = curved_ridge(x, y)
    kernel = NUTS(model, init_strategy=init_to_value(values=model.start()))
    chain = MCMC(kernel, num_samples=600, warmup_steps=200, disable_progbar=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        chain.run()
    draws = chain.get_samples()["all.weights"]
    mean, cov = exact(x, y, 1.0)
    away = (draws.numpy() - mean) @ np.linalg.inv(np.linalg.cholesky(cov)).T  # standard normal
    for power, variance in ((away, 1.0), (away**2 - 1, 2.0), (away * away[:, [1, 2, 0]], 1.0)):
        count = effective_sample_size(torch.tensor(power)[None]).numpy()
        # Five standard errors, from the autocorrelation of what is averaged.
        np.testing.assert_array_less(np.abs(power.mean(0)), 5 * np.sqrt(variance / count))


@pytest.mark.integration
def test_a_mixtures_fit_is_that_to_all_data_a_step_and_snaps_to_the_same_values():
    x, y = regression(orthogonal=False, size=12)
    prior = replace(EVERY_HYPERPRIOR, slabs=4)
    data, batch = ridge(x, y, 0.3, prior)
    start = {"weight": data.net.weight}
    model = sws.joint(data.net, prior, of_regression(x, y), tau=0.3, start=start)
    settings = sws.Fitting(epochs=3, rates=RATES)
    ours = sws.fit(model, sws.delta_guide(model), settings=settings, steps=40)
    theirs = sws.fit(data, sws.delta_guide(data), [batch] * 40, settings)
    gaps = []
    for one, other in zip(ours.history, theirs.history, strict=True):
        assert one["complexity_cost_nats"] == pytest.approx(other["complexity_cost_nats"])
        gaps.append(other["error_cost_nats"] - one["error_cost_nats"])
    assert gaps == pytest.approx([gaps[0]] * 3), "the targets' cost at the trained weights"
    symbols, expected = (sws.quantize(sws.merge(f.posterior)).dequantize() for f in (ours, theirs))
    np.testing.assert_array_equal(symbols["weight"], expected["weight"])


# Elsewhere it is the data's to second order.


def logistic(count=200):
    """A logistic regression at its optimum: x (n, 3), y (n, 1), w (1, 3)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3))
    y = (rng.random(count) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0.2]))).astype(float)
    w = np.zeros(3)
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ w))
        w += np.linalg.solve((x.T * (p * (1 - p))) @ x, x.T @ (y - p))
    p = 1 / (1 + np.exp(-x @ w))
    moments = torch.tensor((x.T * (p * (1 - p))) @ x / count)[None]
    at, one = torch.tensor(w)[None], torch.ones(1, 1, dtype=torch.float64)
    curvature = Curvature({"weight": Block(at, moments, one, Layout.plain((1, 3)))}, count)
    return (torch.tensor(x), torch.tensor(y)[:, None]), curvature


def test_the_difference_to_the_datas_cost_is_the_third_derivatives():
    (x, y), curvature = logistic()
    net = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    data = sws.joint(net, sws.GaussianPrior(1.0), "bernoulli", 200)
    model = sws.joint(net, sws.GaussianPrior(1.0), curvature)
    at = curvature.blocks["weight"].at
    direction = torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64)

    def gap(step):
        weights = {"weight": at + step * direction}
        costs = [error_cost(data, w, [(x, y)], {}) for w in (weights, {"weight": at})]
        return costs[0] - costs[1] - error_cost(model, weights, (), {})

    p = torch.sigmoid(x @ at.T)  # log(1 + e^f) has the derivatives p, p (1 - p), p (1 - p) (1 - 2p)
    third = float((p * (1 - p) * (1 - 2 * p) * (x @ direction.T) ** 3).sum())
    for step in (0.04, 0.02, 0.01):
        odd = (gap(step) - gap(-step)) / 2  # without the fourth derivative
        # What is left is the fifth derivative's: 0.58 step^2 of it here.
        assert odd == pytest.approx(third / 6 * step**3, rel=step**2)


def test_the_mode_under_a_prior_is_newtons_step_from_the_trained_weights():
    (x, _), curvature = logistic()
    net = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    net.weight.data.copy_(curvature.blocks["weight"].at)
    model = sws.joint(net, sws.GaussianPrior(50.0), curvature, tau=0.04)
    settings = sws.Fitting(epochs=6, rates=sws.Rates(weights=0.003))
    found = sws.fit(model, sws.delta_guide(model), settings=settings).posterior.weights["weight"]
    w, x = net.weight.detach().numpy()[0], x.numpy()
    p = 1 / (1 + np.exp(-x @ w))
    hessian = (x.T * (p * (1 - p))) @ x + 0.04 * 50 * np.eye(3)
    np.testing.assert_allclose(found[0], w - np.linalg.solve(hessian, 0.04 * 50 * w), atol=1e-6)


LAYOUTS = {
    "plain": ((4, 3), Layout.plain((4, 3)), 1, 4, 3),
    "kernels": ((4, 3, 2, 2), Layout.plain((4, 3, 2, 2)), 1, 4, 12),
    "grouped": ((4, 3, 2), Layout.grouped((4, 3, 2), 2), 2, 2, 6),
    "transposed": ((4, 3, 2), Layout.transposed((4, 3, 2), 2), 2, 3, 4),
}


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_its_gradient_and_diagonal_are_those_of_the_dense_matrix(name, full):
    shape, layout, groups, rows, columns = LAYOUTS[name]
    rng = np.random.default_rng(0)
    root = rng.normal(size=(groups, columns, columns))
    moments = root @ root.transpose(0, 2, 1)
    moments = moments if full else moments.diagonal(axis1=1, axis2=2)
    of_rows = rng.random((groups, rows))
    # The matrix in the order of (G, R, C), and where each of these is in the tensor.
    own = moments if full else np.stack([np.diag(m) for m in moments])
    dense = np.zeros((groups * rows * columns,) * 2)
    for i, (g, r) in enumerate(np.ndindex(groups, rows)):
        part = slice(i * columns, (i + 1) * columns)
        dense[part, part] = of_rows[g, r] * own[g]
    places = torch.arange(np.prod(shape)).reshape(shape)
    order = layout.matrix(places).flatten().numpy()
    assert sorted(order) == list(range(len(order)))

    net = nn.ParameterDict({"w": torch.zeros(shape, dtype=torch.float64)})
    at = torch.tensor(rng.normal(size=shape))
    block = Block(at, torch.tensor(moments), torch.tensor(of_rows), layout)
    model = sws.joint(net, sws.GaussianPrior(1.0), Curvature({"w": block}, 7))
    away = rng.normal(size=shape)
    gradient = error_gradient(model, {"w": at + torch.tensor(away)}, (), {})["w"].numpy()
    np.testing.assert_allclose(gradient.ravel()[order], 7 * dense @ away.ravel()[order])
    diagonal = error_curvature(model, model.start(), (), 1)["all.weights"].numpy()
    np.testing.assert_allclose(diagonal[order], 7 * np.diag(dense))


@pytest.mark.slow
def test_a_small_networks_weights_snap_as_with_data():
    net, inputs, targets = classifier()
    descent = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(200):
        descent.zero_grad()
        decay = 1e-3 * sum(w.square().sum() for w in net.parameters())
        (nn.functional.cross_entropy(net(inputs), targets) + decay).backward()
        descent.step()
    prior, rates = sws.SpikeAndSlabs(slabs=4, zero_proportion=0.5), sws.Rates(weights=3e-3)
    snapped = []
    for likelihood, batches in (
        ("categorical", [(inputs, targets)] * 100),
        (of_classifier(net, inputs), None),
    ):
        model = sws.joint(net, prior, likelihood, 60, tau=0.3)
        settings = sws.Fitting(epochs=10, rates=rates)
        fitted = sws.fit(model, sws.delta_guide(model), batches, settings)
        symbols = sws.quantize(sws.merge(fitted.posterior))
        snapped.append(np.concatenate([w.ravel() for w in symbols.dequantize().values()]))
    one, other = snapped
    assert 5 < (one == 0).sum() < 40
    np.testing.assert_array_equal(one == 0, other == 0)
    # No weight is in another component: those are further apart than the two fits' means of them.
    spacing = np.diff(np.unique(one)).min()
    assert np.abs(one - other).max() < spacing / 2


# As a model of Pyro's.


@pytest.mark.parametrize(
    ("prior", "guide"),
    [(p, g) for p in PRIORS for g in ("delta", "normal")] + [("every", g) for g in sws.GUIDES],
)
def test_every_prior_and_every_guide_fits_it(prior, guide):
    model = curved({**PRIORS, "every": EVERY_HYPERPRIOR}[prior], tau=0.3)
    fitted = sws.fit(model, sws.GUIDES[guide](model), epochs=2, steps=3)
    row = fitted.history[-1]
    assert len(fitted.history) == 2 and np.isfinite(row["negative_elbo_nats"])
    assert row["error_cost_nats"] > 0, "the prior moves the weights away"


def test_a_rows_elbo_is_the_curvatures_nats_and_tau_times_the_priors():
    model = curved(TWO_GROUPS, tau=0.3, start={"0.weight": torch.ones(8, 4)})
    row = sws.fit(model, sws.delta_guide(model), epochs=0).history[0]
    own = {**dict(model.net.named_parameters()), "0.weight": torch.ones(8, 4)}
    by_hand = 60 * float(model.likelihood.curvature.cost(own))
    assert row["error_cost_nats"] == pytest.approx(by_hand) and by_hand > 1
    complexity = complexity_cost(model, model.start())
    assert row["complexity_cost_nats"] == pytest.approx(complexity)
    assert row["negative_elbo_nats"] == pytest.approx(by_hand + 0.3 * complexity, rel=1e-5)


def test_data_size_counts_the_examples_it_is_said_to_be_of():
    net, inputs, _ = classifier()
    curvature, moved = of_classifier(net, inputs), {"0.weight": torch.zeros(8, 4)}
    assert sws.joint(net, ONE_GROUP, curvature).data_size == 60
    one, ten = (
        error_cost(sws.joint(net, ONE_GROUP, curvature, n), moved, (), {}) for n in (60, 600)
    )
    assert ten == pytest.approx(10 * one)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("guide", sws.GUIDES)
def test_pyros_own_svi_fits_it(guide, elbo):
    model = curved(start={"0.weight": torch.ones(8, 4)})
    guide = sws.GUIDES[guide](model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), elbo())
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}), torch.random.fork_rng():
        torch.manual_seed(0)
        losses = [svi.step() for _ in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_particles_side_by_side_cost_what_they_cost_one_by_one():
    model = curved(ONE_GROUP)
    guide = sws.normal_guide(model)
    with pyro.get_param_store().scope({"params": {}, "constraints": {}}), torch.random.fork_rng():
        torch.manual_seed(0)
        draws = Predictive(guide, num_samples=4)()
        draws = {site: v for site, v in draws.items() if site.startswith("all.")}
        together = pyro.plate("particles", 4, dim=-1)(model)
        shaped = {
            site: value.reshape(4, *model.start()[site].shape) for site, value in draws.items()
        }
        trace = poutine.trace(poutine.condition(together, shaped)).get_trace()
        trace.compute_log_prob()
        found = trace.nodes["curvature"]["log_prob"]
        for i in range(4):
            point = {site: value[i] for site, value in shaped.items()}
            alone = poutine.trace(poutine.condition(model, point)).get_trace()
            alone.compute_log_prob()
            torch.testing.assert_close(found[i], alone.nodes["curvature"]["log_prob"])
        assert Predictive(model, num_samples=3, parallel=True)()["all.weights"].shape[0] == 3


def test_the_mean_over_ranks_is_the_whole():
    model = curved(ONE_GROUP, tau=0.3, start={"0.weight": torch.ones(8, 4)})
    guide = sws.delta_guide(model)
    elbo = elbo_of(guide, model, NONE)
    whole = torch.stack(elbo(*NONE))
    parts = [replace(model, ranks=Ranks(rank, 2)) for rank in range(2)]
    costs = [torch.stack(Elbo(part, guide, elbo.store)(*NONE)) for part in parts]
    torch.testing.assert_close(torch.stack(costs).mean(0), whole)


# What is no likelihood of these weights, and what has no outputs.


def block(shape=(8, 4), moments=(1, 4, 4), rows=(1, 8), value=1.0):
    layout = Layout.plain(shape)
    return Block(torch.zeros(shape), torch.full(moments, value), torch.ones(rows), layout)


REFUSED = [
    ({"1.weight": block()}, ["1.weight", "does not have", "0.weight"]),
    ({}, ["no block", "0.weight", "forget"]),
    ({"0.weight": block(shape=(4, 8))}, ["'0.weight'", "weights are (4, 8)", "(8, 4)"]),
    ({"0.weight": block(moments=(1, 4))}, None),
    ({"0.weight": block(moments=(4, 4))}, ["moments are (4, 4)", "(1, 4, 4) or (1, 4)"]),
    ({"0.weight": block(rows=(8,))}, ["rows are (8,)", "(1, 8)"]),
    ({"0.weight": block(value=float("nan"))}, ["16 numbers", "moments", "not finite"]),
    ({"0.weight": replace(block(), rows=-torch.ones(1, 8))}, ["8 of its rows are below 0"]),
]


@pytest.mark.parametrize(("blocks", "said"), REFUSED)
def test_blocks_that_are_not_of_the_networks_tensors_are_refused(blocks, said):
    net, *_ = classifier()
    if said is None:
        sws.joint(net, ONE_GROUP, Curvature(blocks, 60))
        return
    with pytest.raises(ValueError) as refused:
        sws.joint(net, ONE_GROUP, Curvature(blocks, 60))
    assert_says(refused.value, *said)


def test_tensors_without_a_block_are_named_in_a_warning(caplog):
    net, *_ = classifier()
    with caplog.at_level(logging.WARNING, "pyro_sws"):
        sws.joint(net, ONE_GROUP, Curvature({"0.weight": block()}, 60))
    assert "no block of 0.bias, 2.weight, 2.bias: only the prior" in caplog.text


def test_what_no_rule_covers_stays_out_of_it():
    net, inputs, _ = classifier()
    model = sws.joint(net, [sws.Rule(ONE_GROUP, "0.*")], of_classifier(net, inputs))
    assert model.likelihood.curvature.blocks.keys() == {"0.weight", "0.bias"}


def test_the_callers_blocks_are_left_as_they_are():
    net, inputs, _ = classifier()
    curvature = of_classifier(net, inputs)
    before = {name: b.at.clone() for name, b in curvature.blocks.items()}
    model = sws.joint(net, ONE_GROUP, curvature, dtype=torch.float64)
    sws.fit(model, sws.delta_guide(model), epochs=2)
    assert all(torch.equal(b.at, before[name]) for name, b in curvature.blocks.items())
    assert {b.at.dtype for b in curvature.blocks.values()} == {torch.float32}


def test_the_network_is_not_run():
    class Unusable(nn.Linear):
        def forward(self, inputs):
            raise AssertionError("it was run")

    net = Unusable(4, 8)
    curvature = Curvature({"weight": block()}, 60)
    for guide in sws.GUIDES.values():
        model = sws.joint(net, ONE_GROUP, curvature)
        sws.fit(model, guide(model), epochs=1, steps=2)


DATA = classifier()[1:]
CALLS = [
    (lambda m: sws.fit(m, sws.delta_guide(m), [DATA]), TypeError, ["no data", "leave batches out"]),
    (
        lambda m: sws.fit(m, sws.delta_guide(m), validation=[DATA]),
        TypeError,
        ["no outputs", "leave validation out"],
    ),
    (lambda m: sws.fit(m, sws.delta_guide(m), steps=0), ValueError, ["steps", ">= 1", "0"]),
    (lambda m: m(*DATA), TypeError, ["reads no data", "model()"]),
    (lambda m: evaluate(m, {}, [DATA]), ValueError, ["test", "no outputs", "joint(net, prior"]),
    (lambda m: m.observed(DATA[0], DATA[0]), ValueError, ["no outputs", "draws no targets"]),
]


@pytest.mark.parametrize(("call", "error", "said"), CALLS)
def test_what_needs_data_or_outputs_says_that_there_are_none(call, error, said):
    with pytest.raises(error) as refused:
        call(curved())
    assert_says(refused.value, *said)


def test_a_likelihood_of_targets_needs_what_it_reads():
    net, inputs, targets = classifier()
    with pytest.raises(TypeError, match="joint needs data_size"):
        sws.joint(net, ONE_GROUP, "categorical")
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    with pytest.raises(TypeError, match="give batches of"):
        sws.fit(model, sws.delta_guide(model))
    with pytest.raises(TypeError, match="a step a batch; leave steps = 3 out"):
        sws.fit(model, sws.delta_guide(model), [(inputs, targets)], steps=3)
    with pytest.raises(TypeError, match=r"call model\(inputs, targets\)"):
        model()


def test_a_fit_without_data_repeats_itself_and_leaves_the_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        model = curved(tau=0.3)
        fitted = sws.fit(model, sws.normal_guide(model), epochs=2, steps=5, seed=3)
        found.append([row["negative_elbo_nats"] for row in fitted.history])
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_pages_example_does_what_it_says():
    page = (Path(__file__).parents[2] / "docs" / "likelihoods.md").read_text()
    section = page[page.index("## What a trained network's own curvature says") :]
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], names)
    x, y = names["x"].numpy(), names["y"].numpy()
    expected = np.linalg.solve(x.T @ x + 2 * np.eye(3), x.T @ y)
    found = names["fitted"].posterior.weights["weight"].numpy()
    np.testing.assert_allclose(found[0], expected[:, 0], atol=1e-4)
