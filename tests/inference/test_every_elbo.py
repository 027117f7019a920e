"""Every guide under every one of Pyro's ELBOs against formulas written out with torch alone."""

from operator import attrgetter

import numpy as np
import pyro
import pytest
import torch
from elbo_by_hand import (
    BATCH,
    DATA_SIZE,
    SUPPORTS,
    TAU,
    Recorded,
    log_joint,
    log_weight,
    problem,
    renyi,
)
from every_prior import PRIORS, somewhere, traced
from problems import TWO_GROUPS, classifier
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVGD,
    JitTrace_ELBO,
    Predictive,
    RBFSteinKernel,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model
from scipy import stats
from scipy.special import expit, log_softmax
from torch.distributions import biject_to, lowrank_multivariate_normal
from written_out import error_cost, written

import pyro_sws as sws
from pyro_sws.inference.guides import GUIDES
from pyro_sws.inference.hyperpriors import Gamma

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:TraceEnum_ELBO found no sample sites"),  # there is none
]

ALPHA = 0.3


def renyi_elbo(**settings):
    return RenyiELBO(alpha=ALPHA, **settings)


ELBOS = {
    "trace": Trace_ELBO,
    "mean_field": TraceMeanField_ELBO,
    "graph": TraceGraph_ELBO,
    "enum": TraceEnum_ELBO,
    "renyi": renyi_elbo,
}
PARTICLES = {
    "one": {"num_particles": 1},
    "in turn": {"num_particles": 3},
    "vectorised": {"num_particles": 3, "vectorize_particles": True},
}


@pytest.fixture(autouse=True)
def double_for_enum(request):
    """TraceEnum_ELBO makes weights for the particles in torch's default dtype."""
    given = torch.get_default_dtype()
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("elbo") == "enum":
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(given)


@pytest.fixture
def noises(monkeypatch):
    """What torch draws for Gaussians of low rank, in the order of the draws."""
    drawn = []
    real = lowrank_multivariate_normal._standard_normal

    def remembered(shape, dtype, device):
        drawn.append(real(shape, dtype, device))
        return drawn[-1]

    monkeypatch.setattr(lowrank_multivariate_normal, "_standard_normal", remembered)
    return drawn


@pytest.mark.parametrize("particles", PARTICLES)
@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("guide", GUIDES)
def test_value_and_gradient_are_those_written_out(guide, elbo, particles, noises):
    model, batch = problem()
    guide = GUIDES[guide](model)
    guide(*batch)
    noises.clear()
    recorded = Recorded(guide)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        estimator = ELBOS[elbo](max_plate_nesting=1, **PARTICLES[particles])
        value = estimator.loss_and_grads(model, recorded, *batch)
    found = {name: p.grad.clone() for name, p in guide.named_parameters()}
    _give_noise(recorded.draws, noises)
    weights = torch.stack([log_weight(guide, draw, batch) for draw in recorded.draws])
    assert len(weights) == PARTICLES[particles]["num_particles"]
    expected = -(renyi(weights, ALPHA) if elbo == "renyi" else weights.mean())
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    names = list(found)
    gradients = torch.autograd.grad(expected, list(guide.parameters()))
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def _give_noise(draws, noises):
    if not noises:
        return
    parts = [n.reshape(-1, n.shape[-1]) for n in noises]
    shared, own = (torch.cat(parts[i::2]) for i in (0, 1))
    for draw, *noise in zip(draws, shared, own, strict=True):
        draw["noise"] = noise


@pytest.mark.parametrize("elbo", [name for name in ELBOS if name != "renyi"])
@pytest.mark.parametrize("kind", [AutoDelta, AutoNormal])
def test_pyro_s_own_guides_leave_tau_in_the_model(kind, elbo):
    model, batch = problem()
    guide = kind(model, init_loc_fn=init_to_value(values=model.start()))
    guide(*batch)
    recorded = Recorded(guide)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        value = ELBOS[elbo](max_plate_nesting=1).loss_and_grads(model, recorded, *batch)
    (draw,) = recorded.draws
    log_q = sum(_log_q(guide, draw, site) for site in SUPPORTS if kind is AutoNormal)
    expected = log_q - log_joint(draw, *batch)
    assert value == pytest.approx(float(expected), rel=1e-5)


def _log_q(guide, draw, site):
    """AutoNormal's log-density of a site: a Gaussian in unconstrained space, not scaled by tau."""
    location, scale = (attrgetter(site)(own).detach() for own in (guide.locs, guide.scales))
    transform = biject_to(SUPPORTS[site])
    u = transform.inv(draw[site])
    log_q = torch.distributions.Normal(location, scale).log_prob(u).sum()
    return log_q - transform.log_abs_det_jacobian(u, draw[site]).sum()


def test_the_two_oracles_agree():
    model, batch = problem()
    point = somewhere_in(model)
    assert float(log_joint(point, *batch)) == pytest.approx(by_numpy(model, point, batch), rel=1e-9)


def somewhere_in(model, distance=0.2):
    """A point of the model at which nothing is special; float64."""
    group = model.groups["all"]
    weights = model.start()["all.weights"]
    moved = weights + 0.01 * torch.linspace(-1, 1, len(weights), dtype=weights.dtype)
    point = somewhere(model.priors["all"], group, moved, distance)
    return {**point, "all.weights": moved * (1 + distance)}


def by_numpy(model, point, batch):
    """The joint's log-density, by numpy and scipy."""
    inputs, targets = (a.numpy() for a in batch)
    weights = point["all.weights"].numpy()
    error = error_cost(weights, inputs, targets) * DATA_SIZE / len(targets)
    complexity = written(model.priors["all"], point, model.groups["all"]).complexity(weights)
    return -error - model.tau * complexity


def family(name):
    net, inputs, targets = classifier()
    model = sws.joint(net, PRIORS[name], "categorical", DATA_SIZE, tau=TAU, dtype=torch.float64)
    return model, (inputs[:BATCH].double(), targets[:BATCH])


@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("name", PRIORS)
def test_vectorised_particles_of_every_family_have_the_value_written_out(name, elbo):
    model, batch = family(name)
    point = somewhere_in(model)
    guide = sws.delta_guide(model, point)
    estimator = ELBOS[elbo](num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    assert estimator.loss(model, guide, *batch) == pytest.approx(
        -by_numpy(model, point, batch), rel=1e-5
    )


@pytest.mark.parametrize("name", PRIORS)
def test_each_particle_of_a_vectorised_trace_has_its_own_density(name):
    model, batch = family(name)
    points = [somewhere_in(model, distance) for distance in (0.0, 0.1, 0.3)]
    samples = {site: torch.stack([point[site] for point in points]) for site in points[0]}
    trace = Predictive(model, samples).get_vectorized_trace(*batch)
    latent = sum(
        trace.nodes[site]["fn"].log_prob(trace.nodes[site]["value"]).reshape(3) for site in samples
    )
    targets = trace.nodes["targets"]
    error = targets["fn"].log_prob(targets["value"]).reshape(3, BATCH).sum(1)
    for i, point in enumerate(points):
        expected = by_numpy(model, point, batch)
        found = TAU * latent[i] + DATA_SIZE / BATCH * error[i]
        assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_draws_in_parallel_have_the_shapes_of_draws_in_turn(name):
    model, (inputs, _) = family(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        in_turn = Predictive(model, num_samples=3)(inputs)
        parallel = Predictive(model, num_samples=3, parallel=True)(inputs)
    assert parallel.keys() == in_turn.keys()
    for site, draws in in_turn.items():
        assert parallel[site].shape == draws.shape, site
    weights = parallel["all.weights"].reshape(3, -1)
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("name", PRIORS)
def test_nuts_walks_on_the_density_written_out(name):
    model, batch = family(name)
    point = somewhere_in(model)
    sampled = traced(model.priors["all"], model.groups["all"], hyperparameters(point)).nodes
    transforms = {site: biject_to(sampled[site]["fn"].support) for site in hyperparameters(point)}
    free = {site: t.inv(point[site]) for site, t in transforms.items()}
    free["all.weights"] = point["all.weights"]
    start = init_to_value(values=point)
    potential = initialize_model(model, batch, init_strategy=start)[1]
    jacobian = sum(
        float(t.log_abs_det_jacobian(free[site], point[site]).sum())
        for site, t in transforms.items()
    )
    expected = -by_numpy(model, point, batch) - jacobian
    assert float(potential(free)) == pytest.approx(expected, rel=1e-5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kernel = NUTS(model, init_strategy=start, max_tree_depth=2)
        chain = MCMC(kernel, num_samples=2, warmup_steps=2, disable_progbar=True)
        chain.run(*batch)
    assert all(draws.isfinite().all() for draws in chain.get_samples().values())


def hyperparameters(point):
    return {site: value for site, value in point.items() if site != "all.weights"}


def test_a_plate_where_the_examples_are_is_refused():
    model, batch = problem()
    guide = sws.delta_guide(model)
    estimator = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=0)
    with pytest.raises(ValueError, match="dim -1, which is that of the examples.*max_plate_nestin"):
        estimator.loss(model, guide, *batch)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace. is deprecated")
def test_a_jit_is_refused_with_its_reason():
    model, batch = problem()
    guide = sws.delta_guide(model)
    guide(*batch)
    with pytest.raises(ValueError, match="torch.jit cannot trace .* take Trace_ELBO") as found:
        JitTrace_ELBO(ignore_jit_warnings=True).loss_and_grads(model, guide, *batch)
    assert "\n" not in str(found.value)  # Pyro appends the shapes of its trace to others


def test_svgd_moves_particles_uphill():
    model, batch = problem()
    with torch.random.fork_rng(), pyro.get_param_store().scope({"params": {}, "constraints": {}}):
        torch.manual_seed(0)
        svgd = SVGD(model, RBFSteinKernel(), pyro.optim.Adam({"lr": 0.05}), 3, max_plate_nesting=1)
        svgd.step(*batch)
        before, after = (joint_at(svgd, model, batch, steps) for steps in (0, 10))
    assert after.mean() > before.mean()


def joint_at(svgd, model, batch, steps):
    """Each particle's log-density, after so many more steps."""
    for _ in range(steps):
        svgd.step(*batch)
    particles = svgd.get_named_particles()
    points = [
        {s: v[i].reshape(v.shape[-1:] if v.dim() > 2 else ()) for s, v in particles.items()}
        for i in range(3)
    ]
    return torch.stack([log_joint(point, *batch) for point in points]).detach()


LIKELIHOODS = {
    "categorical": (sws.Categorical(), lambda y: y),
    "bernoulli": (sws.Bernoulli(), lambda y: torch.nn.functional.one_hot(y).double()),
    "poisson": (sws.Poisson(), lambda y: torch.nn.functional.one_hot(y).double() + 1),
    "gaussian": (
        sws.Gaussian(noise_precision=Gamma(3.0, 0.5)),
        lambda y: torch.nn.functional.one_hot(y).double(),
    ),
    "student_t": (
        sws.StudentT(5.0, noise_precision=Gamma(3.0, 0.5)),
        lambda y: torch.nn.functional.one_hot(y).double(),
    ),
    "laplace": (sws.Laplace(4.0), lambda y: torch.nn.functional.one_hot(y).double()),
}


@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_vectorised_particles_under_two_priors_and_every_likelihood(likelihood, elbo):
    net, inputs, labels = classifier()
    spec, encoded = LIKELIHOODS[likelihood]
    model = sws.joint(net, TWO_GROUPS, spec, DATA_SIZE, tau=TAU, dtype=torch.float64)
    batch = (inputs[:BATCH].double(), encoded(labels[:BATCH]))
    guide = sws.normal_guide(model)
    recorded = []

    def remembered(*args):
        trace = poutine.trace(guide).get_trace(*args)
        trace.compute_log_prob()
        recorded.append({name: site for name, site in trace.iter_stochastic_nodes()})
        return trace.nodes["_RETURN"]["value"]

    guide(*batch)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        estimator = ELBOS[elbo](num_particles=2, vectorize_particles=True, max_plate_nesting=1)
        value = estimator.loss(model, remembered, *batch)
    (sites,) = recorded
    weights = []
    for i in range(2):
        point = {n: s["value"].detach().reshape(2, *_shape(model, n))[i] for n, s in sites.items()}
        log_q = sum(float(s["fn"].log_prob(s["value"]).detach()[i].sum()) for s in sites.values())
        weights.append(_log_p(model, point, batch) - TAU * log_q)
    weights = torch.tensor(weights)
    expected = renyi(weights, ALPHA) if elbo == "renyi" else weights.mean()
    assert value == pytest.approx(-float(expected), rel=1e-5)


def _shape(model, site):
    return model.start()[site].shape


def _log_p(model, point, batch):
    """The joint's log-density by numpy and scipy, of two groups that make up the network."""
    inputs, targets = (a.numpy() for a in batch)
    first, rest = (point[f"{name}.weights"].numpy() for name in ("first", "rest"))
    hidden = np.tanh(inputs @ first[:32].reshape(8, 4).T + first[32:])
    outputs = hidden @ rest[:24].reshape(3, 8).T + rest[24:]
    complexity = sum(
        written(prior, point, model.groups[name]).complexity(point[f"{name}.weights"].numpy())
        for name, prior in model.priors.items()
    )
    match model.likelihood:
        case sws.Categorical():
            log_p = log_softmax(outputs, axis=1)[np.arange(len(targets)), targets]
        case sws.Bernoulli():
            log_p = stats.bernoulli.logpmf(targets, expit(outputs))
        case sws.Poisson():
            log_p = stats.poisson.logpmf(targets, np.exp(outputs))
        case sws.Gaussian():
            precision = float(point["noise_precision"])
            log_p = stats.norm.logpdf(targets, outputs, precision**-0.5)
            complexity -= stats.gamma.logpdf(precision, 3.0, scale=2.0)
        case sws.StudentT():
            precision = float(point["noise_precision"])
            log_p = stats.t.logpdf(targets, 5.0, outputs, precision**-0.5)
            complexity -= stats.gamma.logpdf(precision, 3.0, scale=2.0)
        case sws.Laplace():
            log_p = stats.laplace.logpdf(targets, outputs, 0.5)
    return log_p.sum() * DATA_SIZE / BATCH - TAU * complexity


def in_a_plate(group):
    """A prior with a plate, a factor and a deterministic site of its own."""
    one = group.constant(1.0)
    with pyro.plate(f"{group.name}.slabs", 3):
        means = pyro.sample(f"{group.name}.means", pyro.distributions.Normal(0 * one, one))
    pyro.deterministic(f"{group.name}.twice", 2 * means)
    pyro.factor(f"{group.name}.factor", -means.square().sum())
    return sws.MixturePrior(sws.Mixture(means, (one / 0.09).expand(3), (one / 3).expand(3)))


@pytest.mark.parametrize("particles", PARTICLES)
@pytest.mark.parametrize("elbo", ELBOS)
def test_a_prior_with_plate_and_factor_has_the_value_written_out(elbo, particles):
    net, inputs, targets = classifier()
    prior = sws.Custom(in_a_plate)
    model = sws.joint(net, prior, "categorical", DATA_SIZE, tau=TAU, dtype=torch.float64)
    batch = (inputs[:BATCH].double(), targets[:BATCH])
    point = model.start()
    weights, means = (point[f"all.{name}"].numpy() for name in ("weights", "means"))
    densities = stats.norm.pdf(weights[:, None], means, 0.3).mean(1)
    complexity = -np.log(densities).sum() - stats.norm.logpdf(means).sum() + (means**2).sum()
    error = error_cost(weights, *(a.numpy() for a in batch)) * DATA_SIZE / BATCH
    estimator = ELBOS[elbo](max_plate_nesting=1, **PARTICLES[particles])
    value = estimator.loss(model, sws.delta_guide(model), *batch)
    assert value == pytest.approx(error + TAU * complexity, rel=1e-5)
