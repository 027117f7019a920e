"""Guides with spread: -ELBO is E[error] + tau KL, and its optimum a posterior known in closed form.

The network is linear, its noise known, and its prior one Gaussian: ridge regression.
"""

from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from elbos import elbo_of
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS, classifier
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from regressions import NOISE, PRECISION, exact, regression, ridge
from scipy import stats
from small_recipe import write_recipe

import pyro_sws as sws
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.guides import guide_maker
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

SPREAD = ["delta_normal", "normal", "low_rank"]


def least(x, y, tau):
    """-tau log of the integral of p(D | w)^(1 / tau) p(w): -log p(D) where tau is 1."""
    n = len(y)
    cov = x @ x.T / PRECISION + np.eye(n) * tau / NOISE
    tempered = n / 2 * (np.log(2 * np.pi * tau / NOISE) - np.log(2 * np.pi / NOISE) / tau)
    return -tau * (tempered + stats.multivariate_normal.logpdf(y, cov=cov))


def put(elbo, **values):
    """Parameters by the end of their names, in unconstrained space."""
    for end, value in values.items():
        (parameter,) = (p for name, p in elbo.sites.items() if name.endswith(end))
        parameter.data.copy_(torch.as_tensor(value))


def losses(elbo, batch, count):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return torch.stack([elbo(*batch)[0] for _ in range(count)]).numpy()


# The objective.


@pytest.mark.parametrize("tau", [1.0, 0.2])
@pytest.mark.parametrize("name", SPREAD)
def test_a_draws_loss_is_error_plus_tau_times_log_q_over_p_of_scipys_densities(name, tau):
    x, y = regression()
    model, batch = ridge(x, y, tau, sws.GaussianPrior(sws.Gamma(3.0, 0.5)), sws.Gamma(4.0, 1.0))
    guide = sws.GUIDES[name](model)
    elbo = elbo_of(guide, model, batch)
    start = {site: value.numpy() for site, value in model.start().items()}
    deviation = 0.1 * np.sqrt(np.mean(start["all.weights"] ** 2))
    with torch.random.fork_rng():
        for seed in range(3):
            torch.manual_seed(seed)
            loss = elbo(*batch)[0].item()
            torch.manual_seed(seed)
            with pyro_step(elbo.store):
                drawn = {site: v.detach().numpy() for site, v in guide(*batch).items()}
            w, p, noise = drawn["all.weights"], drawn["all.precision"], drawn["noise_precision"]
            log_q = sum(
                stats.lognorm.logpdf(drawn[s], 0.1, scale=start[s])
                for s in ("all.precision", "noise_precision")
            )
            if name == "normal":
                log_q += stats.norm.logpdf(w, start["all.weights"], deviation).sum()
            if name == "low_rank":
                factor = deviation * elbo.sites["widths.all.weights.factor"].detach().numpy()
                cov = deviation**2 * np.eye(3) + factor @ factor.T
                log_q += stats.multivariate_normal.logpdf(w, start["all.weights"], cov)
            log_p = stats.norm.logpdf(w, scale=p**-0.5).sum()
            log_p += stats.gamma.logpdf(p, 3.0, scale=2.0) + stats.gamma.logpdf(noise, 4.0)
            error = -stats.norm.logpdf(y, x @ w, noise**-0.5).sum()
            assert loss == pytest.approx(error + tau * (log_q - log_p), rel=1e-9)


@pytest.mark.integration
@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_its_mean_is_the_closed_form_of_expected_error_and_divergence(tau):
    x, y = regression(orthogonal=False)
    model, batch = ridge(x, y, tau)
    elbo = elbo_of(sws.normal_guide(model), model, batch)
    m, s = np.array([0.9, -0.1, -0.4]), np.array([0.05, 0.1, 0.02])
    put(elbo, **{"weights": m, "deviation": np.log(s)})
    error = 20 * np.log(2 * np.pi / NOISE)
    error += NOISE / 2 * (((y - x @ m) ** 2).sum() + (x**2 @ s**2).sum())
    ratio = PRECISION * s**2
    divergence = 0.5 * (ratio + PRECISION * m**2 - 1 - np.log(ratio)).sum()
    found = losses(elbo, batch, 500)
    expected = error + tau * divergence
    assert abs(found.mean() - expected) < 5 * found.std() / 500**0.5


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_every_draw_from_the_exact_posterior_costs_the_log_evidence(tau):
    x, y = regression()
    model, batch = ridge(x, y, tau)
    elbo = elbo_of(sws.normal_guide(model), model, batch)
    mean, cov = exact(x, y, tau)
    put(elbo, weights=mean, deviation=np.log(np.diag(cov)) / 2)
    np.testing.assert_allclose(losses(elbo, batch, 5), least(x, y, tau), rtol=1e-10)


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_low_rank_has_a_correlated_posterior_in_its_family(tau):
    x, y = regression(orthogonal=False, size=2)
    model, batch = ridge(x, y, tau)
    elbo = elbo_of(sws.low_rank_guide(model, rank=1), model, batch)
    mean, cov = exact(x, y, tau)
    ratio = (cov[0, 0] / cov[1, 1]) ** 0.5  # g g' has cov's off-diagonal, and less on the diagonal
    g = np.abs(cov[0, 1]) ** 0.5 * np.array([ratio**0.5, np.sign(cov[0, 1]) * ratio**-0.5])
    deviation = (np.diag(cov) - g**2) ** 0.5
    put(elbo, weights=mean, deviation=np.log(deviation), factor=(g / deviation)[:, None])
    np.testing.assert_allclose(losses(elbo, batch, 5), least(x, y, tau), rtol=1e-10)


# The optimum that a fit reaches.

RATES = sws.Rates(weights=0.03, precisions=0.03, deviations=0.03)


@pytest.mark.integration
@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_a_fit_reaches_the_exact_posterior_on_an_orthogonal_design(tau):
    x, y = regression()
    model, batch = ridge(x, y, tau)
    fitted = sws.fit(
        model, sws.normal_guide(model), [batch] * 50, settings=sws.Fitting(epochs=12, rates=RATES)
    )
    mean, cov = exact(x, y, tau)
    deviation = np.diag(cov) ** 0.5
    found = fitted.posterior
    # Adam's own noise at the end of a cosine: some percent of a deviation.
    off = np.abs(found.point["all.weights"].numpy() - mean)
    np.testing.assert_array_less(off, 0.2 * deviation)
    np.testing.assert_allclose(found.deviations["all.weights"], deviation, rtol=0.1)
    assert fitted.history[-1]["negative_elbo_nats"] == pytest.approx(least(x, y, tau), abs=0.1)
    if tau == 1:
        assert fitted.bits_back_nats == pytest.approx(least(x, y, tau), abs=0.1)
    else:
        assert fitted.bits_back_nats is None


@pytest.mark.integration
@pytest.mark.parametrize("kind", [AutoNormal, AutoDiagonalNormal])
def test_a_guide_of_pyros_own_reaches_the_exact_posterior_at_tau_1(kind):
    x, y = regression()
    model, batch = ridge(x, y)
    settings = sws.Fitting(epochs=12, rates=sws.Rates(weights=0.05, other=0.05))
    fitted = sws.fit(model, kind(model), [batch] * 50, settings)
    mean, cov = exact(x, y, 1.0)
    off = np.abs(fitted.posterior.point["all.weights"].numpy() - mean)
    np.testing.assert_array_less(off, 0.3 * np.diag(cov) ** 0.5)
    assert fitted.history[-1]["negative_elbo_nats"] == pytest.approx(least(x, y, 1.0), abs=0.3)


@pytest.mark.integration
def test_low_rank_comes_closer_to_the_evidence_than_mean_field_where_weights_correlate():
    x, y = regression(orthogonal=False, size=2)
    x[:, 1] = x[:, 0] + x[:, 1]
    model, batch = ridge(x, y)
    start = {"all.weights": torch.tensor(exact(x, y, 1.0)[0])}
    rates = sws.Rates(weights=0.0, deviations=0.1)
    guides = sws.normal_guide(model, start), sws.low_rank_guide(model, start, rank=1)
    costs = [
        sws.fit(
            model, guide, [batch] * 100, settings=sws.Fitting(epochs=epochs, rates=rates)
        ).bits_back_nats
        for guide, epochs in zip(guides, (3, 7), strict=True)
    ]
    # KL of the best factorised Gaussian: half the log of det(diag precision) / det(precision).
    precision = np.linalg.inv(exact(x, y, 1.0)[1])
    gap = 0.5 * np.log(np.prod(np.diag(precision)) / np.linalg.det(precision))
    assert gap > 0.4
    assert costs[0] == pytest.approx(least(x, y, 1.0) + gap, abs=gap / 4)
    assert costs[1] == pytest.approx(least(x, y, 1.0), abs=gap / 4)


@pytest.mark.integration
@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_delta_normal_finds_the_best_lognormal_for_a_conjugate_gamma(tau):
    """u ~ N(m, s^2) for Gamma(A, B) of e^u: s^2 = 1 / A and e^m = A / B e^(-1 / 2A)."""
    x, y = regression(size=20)
    model, batch = ridge(x, y, tau, sws.GaussianPrior(sws.Gamma(3.0, 0.5)))
    rates = sws.Rates(weights=0.0, precisions=0.03, deviations=0.03)
    guide = sws.delta_normal_guide(model, draws=2000)
    found = sws.fit(
        model, guide, [batch] * 50, settings=sws.Fitting(epochs=12, rates=rates)
    ).posterior
    w = model.start()["all.weights"].numpy()
    shape, rate = 3.0 + len(w) / 2, 0.5 + (w**2).sum() / 2
    logs = found.draws["all.precision"].log().numpy()
    expected = np.log(shape / rate) - 1 / (2 * shape)
    assert logs.mean() == pytest.approx(expected, abs=0.03)
    # 2,000 draws: 1.6 %, and Adam's noise.
    assert logs.std() == pytest.approx(shape**-0.5, rel=0.1)
    assert found.deviations == {} and found.draws.keys() == {"all.precision"}


# Where it starts, and what it leaves.


@pytest.mark.parametrize("name", ["normal", "low_rank"])
def test_a_weights_deviation_starts_as_a_tenth_of_its_tensors_size(name):
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
    with torch.no_grad():
        net[1].weight.mul_(10)
        net[1].bias.zero_()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    batch = classifier()[1:]
    elbo = elbo_of(sws.GUIDES[name](model), model, batch)
    found = elbo.sites["widths.all.weights.deviation"].detach().exp()
    found = {t: v.flatten() for t, v in model.groups["all"].split(found).items()}
    whole = torch.cat([p.detach().flatten() for p in net.parameters()])
    for tensor, parameter in net.named_parameters():
        of = whole if tensor == "1.bias" else parameter.detach()  # zeros have no size of their own
        expected = 0.1 * of.square().mean().sqrt()
        torch.testing.assert_close(found[tensor], expected.expand(len(found[tensor])))


def test_the_start_may_be_given_site_by_site_and_is_not_written_into():
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    given = {"all.means": torch.tensor([-0.5, 0.1, 0.4])}
    before = given["all.means"].clone()
    guide = sws.normal_guide(model, given, deviation=0.01)
    elbo = elbo_of(guide, model, batch)
    torch.testing.assert_close(elbo.sites["locations.all.means"].detach(), before)
    sws.fit(model, guide, [batch], epochs=2)
    assert torch.equal(given["all.means"], before)


@pytest.mark.integration
@pytest.mark.parametrize("name", sws.GUIDES)
@pytest.mark.parametrize("prior", [EVERY_HYPERPRIOR, TWO_GROUPS])
def test_draws_and_deviations_are_those_of_the_guide(name, prior):
    net, *batch = classifier()
    model = sws.joint(net, prior, "categorical", 60, tau=0.3)
    found = sws.fit(model, sws.GUIDES[name](model), [batch], epochs=2).posterior
    if name == "delta":
        assert found.draws is None and found.deviations is None
        return
    weights = {f"{group}.weights" for group in model.groups}
    wide = model.start().keys() - (weights if name == "delta_normal" else set())
    assert found.draws.keys() == wide and found.deviations.keys() == wide & weights
    for site, draws in found.draws.items():
        shape = found.point[site].shape
        assert draws.shape == (8 if site in weights else 200, *shape)
        assert draws.isfinite().all() and draws.dtype == found.point[site].dtype
        if "precision" in site:
            assert (draws > 0).all()
        if "shares" in site:
            torch.testing.assert_close(draws.sum(-1), torch.ones(200))
    for site, deviations in found.deviations.items():
        scores = (found.draws[site] - found.point[site]) / deviations
        # 8 draws of some tens of weights, standard normal: of low rank they correlate.
        assert scores.square().mean() == pytest.approx(1, abs=0.4)


def test_a_free_sites_deviation_is_bounded_and_its_elbo_no_code_length():
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    guide = sws.normal_guide(model)
    elbo = elbo_of(guide, model, batch)
    means = model.start()["all.means"]
    start = 0.1 * means.square().mean().sqrt()
    with pyro_step(elbo.store):
        at_first = guide.widths.all.means.deviation.detach()
    torch.testing.assert_close(at_first, start.expand(3))
    put(elbo, **{"widths.all.means.deviation": torch.full((3,), 1e3)})
    with pyro_step(elbo.store):
        widest = guide.widths.all.means.deviation.detach()
    torch.testing.assert_close(widest, (30 * start).expand(3))
    assert not guide.kl_is_finite
    assert sws.fit(model, guide, [batch], epochs=1).bits_back_nats is None


def test_every_latent_must_have_spread_for_a_code_length():
    net, *batch = classifier()
    model = sws.joint(net, EVERY_HYPERPRIOR_AND_MEANS, "categorical", 60)
    for name, is_length in {"normal": True, "low_rank": True, "delta_normal": False}.items():
        fitted = sws.fit(model, sws.GUIDES[name](model), [batch], epochs=1)
        assert (fitted.bits_back_nats is not None) == is_length, name


EVERY_HYPERPRIOR_AND_MEANS = replace(EVERY_HYPERPRIOR, slab_means=sws.Normal(0.5))


def in_a_plate(group):
    one = group.constant(1.0)
    with pyro.plate(f"{group.name}.slabs", 3):
        means = pyro.sample(f"{group.name}.means", Normal(0 * one, 0.5 * one))
    return sws.MixturePrior(sws.Mixture(means, one.expand(3) * 25.0, one.expand(3) / 3))


@pytest.mark.parametrize("name", [*SPREAD, "laplace"])
def test_sites_in_a_plate_have_spread_too(name):
    net, *batch = classifier()
    model = sws.joint(net, sws.Custom(in_a_plate), "categorical", 60)
    found = sws.fit(model, sws.GUIDES[name](model), [batch], epochs=2).posterior
    assert found.draws["all.means"].shape == (200, 3)
    assert (found.draws["all.means"].std(0) > 0).all()


# Manners.


@pytest.mark.integration
@pytest.mark.parametrize("name", sws.GUIDES)
def test_a_second_guide_starts_afresh_and_a_fitted_one_goes_on(name):
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    first = sws.GUIDES[name](model)
    reached = sws.fit(model, first, [batch], epochs=3).posterior.point["all.weights"]
    start = model.start()["all.weights"]
    still = sws.Rates(*[0.0] * 6)
    second = sws.fit(
        model, sws.GUIDES[name](model), [batch], settings=sws.Fitting(epochs=1, rates=still)
    )
    again = sws.fit(model, first, [batch], settings=sws.Fitting(epochs=1, rates=still))
    torch.testing.assert_close(second.posterior.point["all.weights"], start)
    assert torch.equal(again.posterior.point["all.weights"], reached)
    assert not torch.equal(reached, start)


@pytest.mark.integration
@pytest.mark.parametrize("name", sws.GUIDES)
def test_a_seed_gives_the_same_posterior_and_leaves_pyro_and_torch_alone(name):
    net, *batch = classifier()
    model = sws.joint(net, TWO_GROUPS, "categorical", 60, tau=0.5)
    state, settings = torch.get_rng_state(), pyro.settings.get()
    first = sws.fit(model, sws.GUIDES[name](model), [batch], epochs=2, seed=3)
    assert torch.equal(torch.get_rng_state(), state) and pyro.settings.get() == settings
    assert not list(pyro.get_param_store().keys())
    with pyro.settings.context(module_local_params=True):
        second = sws.fit(model, sws.GUIDES[name](model), [batch], epochs=2, seed=3)
    for part in ("point", "draws", "deviations"):
        one, other = (getattr(fit.posterior, part) or {} for fit in (first, second))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[site], other[site]) for site in one), part


@pytest.mark.integration
@pytest.mark.parametrize("name", SPREAD)
def test_plain_svi_takes_it(name):
    net, *batch = classifier()
    model = sws.joint(net, EVERY_HYPERPRIOR, "categorical", 60)
    with pyro_step(), torch.random.fork_rng():
        svi = SVI(model, sws.GUIDES[name](model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        assert all(np.isfinite(svi.step(*batch)) for _ in range(3))


@pytest.mark.parametrize("name", SPREAD)
def test_held_hyperparameters_need_a_point(name):
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    with pytest.raises(ValueError, match="hyperparameters_every must be 1 for a GaussianGuide"):
        sws.fit(
            model,
            sws.GUIDES[name](model),
            [batch],
            settings=sws.Fitting(epochs=2, hyperparameters_every=2),
        )


@pytest.mark.parametrize("name", SPREAD)
def test_the_mean_over_two_ranks_is_the_whole(name):
    net, inputs, targets = classifier()
    model = sws.joint(net, EVERY_HYPERPRIOR, "categorical", 60, tau=0.3)
    batch = inputs[:31], targets[:31]
    elbo = elbo_of(sws.GUIDES[name](model), model, batch)
    found = []
    for ranks in (Ranks(), Ranks(0, 2), Ranks(1, 2)):
        elbo.model = replace(model, ranks=ranks)
        found.append(losses(elbo, batch, 1)[0])
    assert found[0] == pytest.approx((found[1] + found[2]) / 2, rel=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("name", sws.GUIDES)
def test_every_guide_leads_to_a_file(name):
    net, *batch = classifier()
    result = sws.compress(net, [batch], prior=ONE_GROUP, guide=name, epochs=3)
    assert sws.decode(result.data) == result.quantized
    assert result.report.bits_back_nats is None  # tau is not 1
    if name == "laplace":
        assert result.data == sws.compress(net, [batch], prior=ONE_GROUP, epochs=3).data


def test_the_report_has_the_code_length_where_there_is_one():
    net, *batch = classifier()
    prior = EVERY_HYPERPRIOR_AND_MEANS
    result = sws.compress(net, [batch], prior=prior, guide="normal", epochs=3, tau=1.0)
    assert result.report.to_dict()["bits_back_nats"] > 0


def test_weights_of_little_signal_become_0_by_the_guides_own_deviations():
    net, *batch = classifier()
    prior = sws.SpikeAndSlabs(
        slabs=3, zero_proportion=0.5, spike_precision=900.0, start_deviation=0.1
    )
    results = [
        sws.compress(
            net,
            [batch],
            prior=prior,
            guide="normal",
            epochs=3,
            packing=sws.Packing(signal_to_noise=threshold),
        )
        for threshold in (None, 0.0, 5.0)
    ]
    assert results[0].data == results[1].data
    posterior = results[2].posterior
    low = posterior.point["all.weights"].abs() < 5 * posterior.deviations["all.weights"]
    quantized = sws.quantize(results[2].packed, signal_to_noise=5.0).dequantize()
    flat = np.concatenate([quantized[t].ravel() for t in posterior.groups["all"].shapes])
    plain = sws.quantize(results[2].packed).dequantize()
    plain = np.concatenate([plain[t].ravel() for t in posterior.groups["all"].shapes])
    assert plain[low.numpy()].any()
    np.testing.assert_array_equal(flat, np.where(low, 0, plain))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "signal_to_noise needs posterior deviations"),
        ({"guide": "delta_normal"}, "signal_to_noise needs posterior deviations"),
        ({"guide": "normal", "refinement": sws.Refinement()}, "signal_to_noise and refinement"),
        (
            {"guide": "normal", "prior": replace(ONE_GROUP, zero_proportion=0.0)},
            "give its prior a spike",
        ),
    ],
)
def test_what_a_signal_to_noise_needs_is_asked_before_the_fit(keys, message):
    net, *batch = classifier()
    told, packing = [], sws.Packing(signal_to_noise=1.0)
    given = {"prior": ONE_GROUP, "packing": packing, "callback": told.append, **keys}
    with pytest.raises(ValueError, match=message):
        sws.compress(net, [batch], epochs=1, **given)
    assert not told


OWN = """
import pyro_sws as sws

def wide(model):
    return sws.low_rank_guide(model, rank=2, draws=7)
"""


@pytest.mark.integration
@pytest.mark.parametrize(("guide", "draws"), [("normal", 200), ("own_guides.py:wide", 7)])
def test_a_recipe_names_a_guide_of_ours_or_its_own_and_says_so_again(tmp_path, guide, draws):
    (tmp_path / "own_guides.py").write_text(OWN)
    path = write_recipe(tmp_path, guide=guide, signal_to_noise=0.5)
    result = run_recipe(read_recipe(path), tmp_path / "out")
    assert len(result.posterior.draws["all.means"]) == draws
    written = read_recipe(tmp_path / "out" / "recipe.toml")
    named = guide.replace("own", "../own")
    assert getattr(written.guide, "path", written.guide) == named
    assert written.packing.signal_to_noise == 0.5
    assert run_recipe(written, tmp_path / "again").data == result.data


def test_a_recipes_own_guide_that_is_not_there_is_named(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path, guide="points.py:broad"))
    with pytest.raises(ValueError, match="guide: points.py has no function or class 'broad'"):
        run_recipe(recipe, tmp_path / "out")


def test_a_recipes_own_guide_that_does_not_carry_tau_is_refused_before_any_training(tmp_path):
    (tmp_path / "own_guides.py").write_text("from pyro.infer.autoguide import AutoNormal")
    recipe = read_recipe(write_recipe(tmp_path, guide="own_guides.py:AutoNormal"))
    told = []
    with pytest.raises(TypeError, match="AutoNormal does not scale its sites by tau"):
        run_recipe(recipe, tmp_path / "out", callback=told.append)
    assert not told


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: sws.normal_guide(m, deviation=0.0), "deviation must be a positive .* got 0.0"),
        (lambda m: sws.low_rank_guide(m, rank=0), "rank must be a whole number >= 1, got 0"),
        (lambda m: sws.normal_guide(m, draws=-1), "draws must be a whole number >= 0, got -1"),
        (lambda m: guide_maker("norml")(m), "unknown guide 'norml'; choose from delta, delta_norm"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    model = sws.joint(classifier()[0], ONE_GROUP, "categorical", 60)
    with pytest.raises(ValueError, match=message):
        make(model)


def test_every_guide_is_a_point_or_carries_tau():
    model = sws.joint(classifier()[0], ONE_GROUP, "categorical", 60)
    for name, make in sws.GUIDES.items():
        guide = make(model)
        assert isinstance(guide, AutoDelta) or guide.carries_tau, name
