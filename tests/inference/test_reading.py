"""What outputs mean, logits or probabilities, rates or logs, and where classes are; at once."""

import pytest
import torch
from problems import ONE_GROUP, classifier
from torch import nn
from torch.nn import functional as F

import pyro_sws as sws
from pyro_sws.inference.evaluation import evaluate_network
from pyro_sws.inference.likelihoods import Bernoulli, Categorical, Distilled, Poisson
from pyro_sws.recipes.recipe import read_recipe, to_toml

FLOAT32 = torch.device("cpu"), torch.float32
PROBABILITIES = "probabilities"


def generator():
    return torch.Generator().manual_seed(0)


def ending_in(*layers, outputs=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs), *layers)


class Ending(nn.Module):
    """A network that ends in a function, not in a module."""

    def __init__(self, function, outputs):
        super().__init__()
        self.net, self.function = ending_in(outputs=outputs), function

    def forward(self, inputs):
        return self.function(self.net(inputs))


def compressed(net, targets, likelihood, inputs=None, **options):
    inputs = classifier()[1] if inputs is None else inputs
    return sws.compress(
        net, [(inputs, targets)], prior=ONE_GROUP, likelihood=likelihood, epochs=1, **options
    )


def binary(width=1):
    return (classifier()[1][:, :width] > 0).float()


@pytest.mark.parametrize(
    "net",
    [
        ending_in(nn.Softmax(-1)),
        Ending(lambda x: x.softmax(-1), 3),
        Ending(lambda x: x.exp() / x.exp().sum(-1, keepdim=True), 3),
        Ending(lambda x: x.double().softmax(-1).float() * 0.9999, 3),
        Ending(lambda x: (1e6 * x).softmax(-1), 3),  # just 0 and 1
    ],
)
@pytest.mark.parametrize("likelihood", ["categorical", Distilled()])
def test_a_softmax_is_noticed_before_the_fit(net, likelihood):
    epochs, targets = [], classifier()[2]
    with pytest.raises(ValueError, match='each row sums to 1.*drop the last Softmax.*inputs="prob'):
        compressed(net, targets, likelihood, callback=epochs.append)
    assert not epochs


def fitted_by_hand(inputs):
    """The probability that the first input is above 0: what a trained network knows."""
    return 0.5 + 0.5 * torch.tanh(4 * inputs[:, :1])


class Known(nn.Module):
    """Outputs whose graph does not say that a sigmoid made them."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, inputs):
        return fitted_by_hand(inputs * self.scale)


@pytest.mark.parametrize(
    "net",
    [
        ending_in(nn.Sigmoid(), outputs=1),
        Ending(torch.sigmoid, 1),
        Ending(lambda x: x.sigmoid().clamp(1e-6, 1 - 1e-6), 1),
        Ending(lambda x: x.softmax(-1)[:, 1:], 2),
        Ending(lambda x: (1e6 * x).sigmoid(), 1),
        Known(),
    ],
)
def test_a_sigmoid_is_noticed_before_the_fit(net):
    with pytest.raises(ValueError, match=r'in \[0, 1\]\), logits were .* Sigmoid.*inputs="prob'):
        compressed(net, binary(), "bernoulli")


def rare(shares=(0.02, 0.03, 0.05), n=400):
    """Inputs (n, 3), and labels of which few are 1 that no network is sure of."""
    inputs = torch.randn(n, 3, generator=generator())
    wanted = torch.distributions.Normal(0.0, 1.0).icdf(1 - torch.tensor(shares))
    return inputs, (inputs > wanted).float() * (torch.rand(n, 3, generator=generator()) < 0.5)


class Rare(nn.Module):
    """What is known of rare labels, none above 1/2, by a function of logits."""

    def __init__(self, function):
        super().__init__()
        self.net, self.function = nn.Linear(3, 3), function
        with torch.no_grad():
            self.net.weight.copy_(torch.eye(3))
            self.net.bias.fill_(-4.5)

    def forward(self, inputs):
        return self.function(self.net(inputs))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.cat([part.sigmoid() for part in z.unbind(1)]).view(3, -1).T,
        lambda z: torch.stack([z.sigmoid(), (0.9 * z).sigmoid()]).mean(0),
        lambda z: torch.where(z > 9, 0.01, z.sigmoid()),
        lambda z: z.sigmoid() * 0.98 + 0.01,
        lambda z: 1 / (1 + (-z).exp()),
        lambda z: ((z / 2).tanh() + 1) / 2,
        lambda z: torch.special.ndtr(z / 2),
    ],
)
def test_probabilities_of_rare_labels_are_noticed(function):
    inputs, targets = rare()
    outputs = Rare(function)(inputs)
    assert outputs.max() < 0.5
    with pytest.raises(ValueError, match=r'in \[0, 1\].* Sigmoid.*inputs="prob'):
        Bernoulli().check_reading(outputs, targets)


def test_logits_of_rare_labels_raise_no_alarm():
    inputs, targets = rare()
    for function in (lambda z: z, lambda z: torch.cat([z[:, :1], z[:, 1:]], 1), F.hardtanh):
        Bernoulli().check_reading(Rare(function)(inputs), targets)


@pytest.mark.parametrize("seed", range(20))
def test_small_logits_of_a_network_that_knows_nothing_raise_no_alarm(seed):
    inputs, targets = rare()
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator()) / (5 + seed))
    outputs = net(inputs)
    assert 0 <= outputs.min() and outputs.max() <= 1
    Bernoulli().check_reading(outputs, targets)


@pytest.mark.parametrize(
    "function", [F.logsigmoid, lambda z: z.sigmoid().log(), lambda z: -F.softplus(-z)]
)
def test_logs_of_probabilities_are_noticed(function):
    inputs = torch.randn(400, 3, generator=generator())
    targets = (inputs > 0).float()
    outputs = Rare(lambda z: function(z + 4.5))(inputs)
    with pytest.raises(ValueError, match=r"logs of prob.*at most 0.* LogSigmoid.*Bernoulli\(inp"):
        Bernoulli().check_reading(outputs, targets)


# Rates and log-rates.


def counts(mean):
    """Inputs (400, 1), and counts whose mean grows with them."""
    inputs = torch.linspace(-1, 1, 400)[:, None]
    return inputs, torch.poisson(mean * (inputs + 1.5), generator=generator())


class Rates(nn.Module):
    """The true rates, or a function of them."""

    def __init__(self, mean, function):
        super().__init__()
        self.line, self.function = nn.Linear(1, 1), function
        with torch.no_grad():
            self.line.weight.fill_(mean)
            self.line.bias.fill_(1.5 * mean)

    def forward(self, inputs):
        return self.function(self.line(inputs))


@pytest.mark.parametrize("mean", [1.0, 20.0])
@pytest.mark.parametrize(
    "function", [torch.relu, lambda r: r.log().exp(), lambda r: F.softplus(r.expm1().log())]
)
def test_rates_are_noticed(mean, function):
    inputs, targets = counts(mean)
    with pytest.raises(ValueError, match=r'at least 0.*log-rates were .*Poisson\(inputs="rates"'):
        Poisson().check_reading(Rates(mean, function)(inputs), targets)


@pytest.mark.parametrize("mean", [1.0, 20.0])
def test_log_rates_raise_no_alarm(mean):
    inputs, targets = counts(mean)
    for function in (torch.log, lambda r: F.softplus(r.log()), lambda r: 0.1 + 0.01 * r):
        Poisson().check_reading(Rates(mean, function)(inputs), targets)


def test_rates_are_scored_as_torch_does():
    inputs, targets = counts(3.0)
    net = Rates(3.0, torch.relu)
    run = compressed(net, targets, Poisson(inputs="rates"), inputs)
    expected = F.poisson_nll_loss(net(inputs), targets, log_input=False, full=False, eps=0)
    expected += torch.lgamma(targets + 1).mean()
    assert run.report.score["before"] == pytest.approx(expected.item(), rel=1e-5)


def test_negative_rates_are_refused_and_a_rate_of_0_is_finite():
    likelihood = Poisson(inputs="rates")
    with pytest.raises(ValueError, match='at least 0, but the smallest .* is -2.*"log_rates"'):
        likelihood.check(torch.tensor([[-2.0]]), torch.tensor([[1.0]]))
    density = likelihood(torch.tensor([[0.0], [0.0]])).log_prob(torch.tensor([[0.0], [1.0]]))
    assert density[0] == pytest.approx(0) and -200 < density[1] < -80


def test_it_is_noticed_on_test_and_validation_data_and_by_fit_itself():
    net, targets = ending_in(nn.Sigmoid(), outputs=1), binary()
    model = sws.joint(net, ONE_GROUP, "bernoulli", 60)
    with pytest.raises(ValueError, match="Sigmoid"):
        sws.fit(model, sws.delta_guide(model), [(classifier()[1], targets)], epochs=1)


@pytest.mark.parametrize(
    ("net", "likelihood"),
    [
        (ending_in(), "categorical"),
        (ending_in(nn.LogSoftmax(-1)), "categorical"),
        (ending_in(nn.Sigmoid()), "categorical"),  # logits that are bounded, and no probabilities
        (ending_in(nn.ReLU()), "categorical"),
        (Ending(lambda x: -4 + 0.01 * x, 1), "bernoulli"),  # of rare labels; almost log p
        (Ending(lambda x: 0.3 + 0.01 * x, 1), "bernoulli"),  # knows nothing yet
        (Ending(lambda x: 0.5 + 0.01 * x, 1), "bernoulli"),
    ],
)
def test_logits_raise_no_alarm(net, likelihood):
    targets = classifier()[2] if likelihood == "categorical" else binary()
    compressed(net, targets, likelihood)


def test_a_network_that_copies_labels_has_logits():
    labels = torch.arange(30) % 3
    net = nn.Linear(3, 3)
    with torch.no_grad():
        net.weight.copy_(torch.eye(3))
        net.bias.zero_()
    compressed(net, labels, "categorical", inputs=F.one_hot(labels, 3).float())


def test_probabilities_of_0_and_1_are_scored_as_torch_does():
    p = torch.rand(40, 3, generator=generator())
    targets = (torch.rand(40, 3, generator=generator()) < 0.5).float()
    likelihood = Bernoulli(inputs=PROBABILITIES)
    found = evaluate_network(lambda x: x, likelihood, [(p, targets)], FLOAT32)
    expected = F.binary_cross_entropy(p.double(), targets.double(), reduction="sum")
    assert found.error_cost_nats == pytest.approx(expected.item(), rel=1e-5)
    assert found.score == pytest.approx(100 * ((p > 0.5) != (targets == 1)).double().mean().item())


def test_probabilities_of_classes_are_scored_as_torch_does():
    p = torch.randn(40, 5, generator=generator()).softmax(-1)
    labels = torch.randint(5, (40,), generator=generator())
    likelihood = Categorical(inputs=PROBABILITIES)
    found = evaluate_network(lambda x: x, likelihood, [(p, labels)], FLOAT32)
    expected = F.nll_loss(p.double().log(), labels, reduction="sum")
    assert found.error_cost_nats == pytest.approx(expected.item(), rel=1e-5)
    assert found.score == pytest.approx(100 * (p.argmax(1) != labels).double().mean().item())
    assert found.classes == 5


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(inputs=PROBABILITIES), Categorical(inputs=PROBABILITIES)]
)
def test_certain_probabilities_cost_much_and_have_a_finite_gradient(likelihood):
    p = torch.tensor([[0.0, 1.0]] * 2, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    targets = targets if isinstance(likelihood, Bernoulli) else torch.tensor([1, 0])
    right, wrong = likelihood(p).log_prob(targets)
    assert abs(right.item()) < 1e-6 and -200 < wrong.item() < -80
    (right + wrong).backward()
    assert p.grad.isfinite().all()


@pytest.mark.parametrize(
    ("likelihood", "outputs", "targets", "words"),
    [
        (Bernoulli(inputs=PROBABILITIES), [[1.5]], [[1.0]], r"in 1\.5\.\.1\.5"),
        (Categorical(inputs=PROBABILITIES), [[0.5, -0.5]], [0], "in 0..1"),
        (Categorical(inputs=PROBABILITIES), [[0.5, 0.1]], [0], r"must sum to 1; they sum to 0\.6"),
    ],
)
def test_what_are_no_probabilities_is_refused_as_such(likelihood, outputs, targets, words):
    with pytest.raises(ValueError, match=words):
        likelihood.check(torch.tensor(outputs), torch.tensor(targets))


def test_a_network_that_ends_in_a_sigmoid_is_compressed_as_it_is():
    net = ending_in(nn.Sigmoid(), outputs=1)
    run = compressed(net, binary(), Bernoulli(inputs=PROBABILITIES))
    wrong = (run.decoded(classifier()[1]) > 0.5) != (binary() == 1)
    assert run.report.score["decoded"] == pytest.approx(100 * wrong.double().mean().item())


@pytest.mark.parametrize("field", [{"inputs": "odds"}, {"class_dim": 2}])
def test_other_settings_are_refused(field):
    with pytest.raises(ValueError, match="categorical: "):
        Categorical(**field)


# Classes in the second dimension, as torch's own losses have them.


def second(steps, classes):
    """Sequences (40, 4, steps), labels, and a network of outputs (40, classes, steps)."""
    inputs = torch.randn(40, 4, steps, generator=generator())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Conv1d(4, classes, 1)
    return net, inputs, net(inputs).argmax(1)


@pytest.mark.parametrize(("steps", "classes"), [(5, 3), (3, 3)])
def test_classes_in_the_second_dimension_are_refused_unless_it_is_said(steps, classes):
    net, inputs, targets = second(steps, classes)
    with pytest.raises(ValueError, match=r"in dimension 1.*Categorical\(class_dim=1\)"):
        compressed(net, targets, "categorical", inputs)
    run = compressed(net, targets, Categorical(class_dim=1), inputs)
    assert run.report.score["before"] == 0
    wrong = (run.decoded(inputs).argmax(1) != targets).double().mean().item()
    assert run.report.score["decoded"] == pytest.approx(100 * wrong)
    logits = run.decoded(inputs).detach().double()
    cost = F.cross_entropy(logits, targets, reduction="sum").item() / torch.log(torch.tensor(2.0))
    assert run.report.description["label_bits"] == pytest.approx(cost.item(), rel=1e-4)


class Swapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, inputs):
        return self.net(inputs.transpose(1, 2)).transpose(1, 2)


class Reshaped(nn.Linear):
    """Its outputs may be read either way, and nothing tells which."""

    def forward(self, inputs):
        return super().forward(inputs.flatten(1)).view(len(inputs), 3, 3)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Swapped(nn.Linear(4, 3)), "seem to have their classes in dimension 1"),
        (nn.Sequential(nn.Conv1d(4, 3, 1), nn.LogSoftmax(1)), "seem to have"),
        (Reshaped(12, 9), "may have their classes in the last dimension or in dimension 1"),
    ],
)
def test_as_many_steps_as_classes_are_never_misread(net, words):
    _, inputs, targets = second(3, 3)
    with pytest.raises(ValueError, match=words):
        compressed(net, targets, "categorical", inputs)
    for class_dim in (1, -1):
        compressed(net, targets, Categorical(class_dim=class_dim), inputs)


def test_a_last_layer_over_time_is_not_taken_for_one_over_classes():
    _, inputs, targets = second(3, 3)
    net = nn.Sequential(nn.Conv1d(4, 3, 1), nn.Linear(3, 3))
    with torch.no_grad():
        net[0].load_state_dict(second(3, 3)[0].state_dict())
        net[1].weight.copy_(20 * torch.eye(3))
        net[1].bias.zero_()
    assert (net(inputs).argmax(1) == targets).all()
    with pytest.raises(ValueError, match=r"dimension 1.*Categorical\(class_dim=1\).*class_dim=-1"):
        compressed(net, targets, "categorical", inputs)
    compressed(net, targets, Categorical(class_dim=-1), inputs)


def test_a_last_layer_that_makes_the_last_dimension_needs_no_word():
    _, inputs, targets = second(3, 3)
    for net in (nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3, bias=False), nn.LogSoftmax(-1))):
        compressed(net, targets, "categorical", inputs.transpose(1, 2)[..., :3])
    compressed(Swapped(nn.Conv1d(3, 3, 1)), targets, "categorical", inputs.transpose(1, 2)[..., :3])


def test_a_second_dimension_that_is_said_and_is_not_there_is_refused():
    with pytest.raises(ValueError, match="classes in the last dimension"):
        Categorical(class_dim=1).check(torch.zeros(4, 5, 3), torch.zeros(4, 5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("table", "spec"),
    [
        ('{ family = "bernoulli", inputs = "probabilities" }', Bernoulli(inputs=PROBABILITIES)),
        ('{ family = "poisson", inputs = "rates" }', Poisson(inputs="rates")),
        ('{ family = "categorical", class_dim = 1 }', Categorical(class_dim=1)),
        ('{ family = "categorical", class_dim = -1 }', Categorical(class_dim=-1)),
        (
            '{ family = "distilled", share = 0.3, inputs = "probabilities" }',
            Distilled(0.3, inputs=PROBABILITIES),
        ),
    ],
)
def test_a_recipe_says_it_and_is_written_so(tmp_path, table, spec):
    text = f'network = "net.py:net"\ndata = "net.py:data"\nlikelihood = {table}\n'
    (tmp_path / "net.py").write_text("net = data = dict\n")
    path = tmp_path / "recipe.toml"
    path.write_text(text + '[[prior]]\nfamily = "spike_and_slabs"\n')
    plan = read_recipe(path)
    assert plan.likelihood == spec
    path.write_text(to_toml(plan, tmp_path))
    assert read_recipe(path).likelihood == spec
