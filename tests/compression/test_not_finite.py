"""Outputs that are not finite: an error with stage and count, never a score made of them."""

import json
import logging

import pytest
import torch
from every_likelihood import SPECS, outputs_of, targets_of
from problems import ONE_GROUP, classifier
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import pyro_sws as sws
from pyro_sws.assess.draws.network_tree import network_tree
from pyro_sws.assess.point.predictive import compression_stages, predictions
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.evaluation import Evaluated, evaluate, evaluate_network, evaluate_together
from pyro_sws.inference.finite import NotFiniteError
from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import LIKELIHOODS, as_likelihood
from pyro_sws.inference.zero_rows import zero_divisors, zero_rows

FLOAT32 = torch.device("cpu"), torch.float32
# One value in a float that torch can have and that is no number.
BAD = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}


def with_bad_rows(rows, value, width=3):
    """A network whose outputs are the inputs' first columns, but for those examples."""

    def network(inputs):
        outputs = inputs[:, :width].clone()
        outputs[[int(n) in rows for n in inputs[:, 3]]] = value
        return outputs

    return network


def numbered(examples=10):
    inputs = torch.rand(examples, 4, generator=torch.Generator().manual_seed(0))
    inputs[:, 3] = torch.arange(examples)
    return inputs


def targets_for(name, examples=10, width=3):
    if name in ("categorical", "distilled"):
        return torch.zeros(examples, dtype=torch.int64)
    return torch.ones(examples, width)


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_examples_are_counted_over_all_batches_under_every_likelihood(name, value):
    inputs, width = numbered(), 2 if name == "heteroscedastic_gaussian" else 3
    network = with_bad_rows([1, 2, 7], value, width)
    targets = targets_of(name, outputs_of(name, (10, width)).float())
    batches = Batches(inputs, targets, 4, shuffle=False)
    with pytest.raises(NotFiniteError, match=r"^test: .*outputs.* not finite in 3 of 10 examples"):
        evaluate_network(network, SPECS[name], batches, FLOAT32)


def test_the_stage_is_named():
    batches = [(numbered(), targets_for("categorical"))]
    good, bad = with_bad_rows([], 0.0), with_bad_rows([3], float("nan"))
    for stage, words in {
        "before": "before compression",
        "decoded": "decoded from the file",
    }.items():
        networks = {"posterior": Evaluated(good, FLOAT32), stage: Evaluated(bad, FLOAT32)}
        with pytest.raises(ValueError, match=f"network {words} are not finite in 1 of 10"):
            evaluate_together(networks, as_likelihood("categorical"), batches)


def test_inputs_that_are_not_finite_are_the_data_s_fault_and_targets_too():
    inputs, targets = numbered(), targets_for("gaussian")
    inputs[4, 0] = float("nan")
    likelihood = as_likelihood("gaussian")
    with pytest.raises(ValueError, match="the inputs are not finite in 1 of 10 examples"):
        evaluate_network(lambda x: x[:, :3], likelihood, [(inputs, targets)], FLOAT32)
    targets[6] = float("inf")
    filled = numbered()
    with pytest.raises(ValueError, match="the targets are not finite in 1 of 10 examples"):
        evaluate_network(lambda x: x[:, :3], likelihood, [(filled, targets)], FLOAT32)


def test_a_network_that_mends_its_inputs_is_scored():
    inputs, targets = numbered(), targets_for("gaussian")
    inputs[4, 0] = float("nan")
    found = evaluate_network(
        lambda x: 1 + 0 * x[:, :3].nan_to_num(),
        as_likelihood("gaussian"),
        [(inputs, targets)],
        FLOAT32,
    )
    assert found.score == 0


@pytest.mark.parametrize(("name", "output"), [("gaussian", 1e30), ("poisson", 200.0)])
def test_a_log_density_that_overflows_is_no_score(name, output):
    batches = [(numbered(), targets_for(name))]
    network = with_bad_rows([0, 1], output)
    with pytest.raises(ValueError, match="log-density .* not finite in 2 of 10 examples"):
        evaluate_network(network, as_likelihood(name), batches, FLOAT32)


def test_test_inputs_that_are_not_finite_are_refused_before_the_fit():
    net, inputs, targets = classifier()
    bad = inputs.clone()
    bad[[3, 8]] = float("nan")
    epochs = []
    with pytest.raises(ValueError, match="test.*: the inputs are not finite in 2 of 60 examples"):
        sws.compress(
            net, [(inputs, targets)], test=[(bad, targets)], epochs=1, callback=epochs.append
        )
    assert not epochs


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_training_inputs_are_named_and_no_rate_is_blamed(value):
    net, inputs, targets = classifier()
    bad = inputs.clone()
    bad[[3, 5]] = value
    with pytest.raises(ValueError, match="^train, first.* not finite in 2 of 60 examples"):
        sws.compress(net, [(bad, targets)], prior=ONE_GROUP, epochs=1)
    with pytest.raises(ValueError, match="inputs are not finite in 2 of 120 examples") as found:
        sws.compress(net, [(inputs, targets), (bad, targets)], prior=ONE_GROUP, epochs=1)
    assert "rates" not in str(found.value)


def test_they_are_refused_in_a_later_batch_too():
    net, inputs, targets = classifier()
    bad = inputs.clone()
    bad[50] = float("nan")
    with pytest.raises(ValueError, match="test, one batch: the inputs are not finite in 1 of 20"):
        sws.compress(net, [(inputs, targets)], test=Batches(bad, targets, 20, False), epochs=1)


def with_a_bad_value(part, value, labelled=True):
    """The classifier's or a regression's batches; one value in the last one is bad."""
    net, inputs, labels = classifier()
    targets = labels if labelled else inputs[:, :3].clone()
    {"inputs": inputs, "targets": targets}[part][55, 1] = value
    return net, Batches(inputs, targets, 20, shuffle=False)


@pytest.mark.parametrize(
    ("part", "value", "likelihood"),
    [
        ("inputs", "nan", "categorical"),
        ("inputs", "nan", "distilled"),
        ("inputs", "nan", "gaussian"),
        ("targets", "inf", "gaussian"),
        ("targets", "-inf", sws.Gaussian(sws.Gamma(2.0, 2.0))),
    ],
)
def test_training_data_that_is_not_finite_is_named_and_no_learning_rate(part, value, likelihood):
    net, batches = with_a_bad_value(part, BAD[value], likelihood in ("categorical", "distilled"))
    model = joint(net, ONE_GROUP, likelihood, 60)
    before = torch.get_rng_state()
    with pytest.raises(NotFiniteError, match=f"the {part} are not finite in 1 of 60 examples"):
        sws.fit(model, sws.delta_guide(model), batches, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_training_data_that_the_network_mends_is_fitted():
    net, batches = with_a_bad_value("inputs", BAD["nan"])
    mends = Mends(net)
    model = joint(mends, ONE_GROUP, "categorical", 60)
    assert len(sws.fit(model, sws.delta_guide(model), batches, epochs=1).history) == 1


class Mends(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, inputs):
        return self.net(inputs.nan_to_num())


class OfUnitLength(nn.Module):
    """Its hidden vectors are divided by their length, which is 0 where all weights are."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8, bias=False), nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return self.last(hidden / hidden.norm(dim=-1, keepdim=True))


def test_a_refinement_that_snaps_to_no_network_says_so_and_what_to_do():
    _, inputs, targets = classifier()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = OfUnitLength()
    batches = [(inputs, targets)]
    narrow = sws.SpikeAndSlabs(slabs=2, zero_proportion=0.5, start_deviation=0.3)
    model = joint(net, narrow, "categorical", 60)
    posterior = posterior_at(model, model.start())
    with pytest.raises(NotFiniteError, match="as the refinement snaps it .* 60 of 60") as caught:
        sws.refine(model, posterior, batches, sws.Refinement(epochs=1, widening=1e6))
    assert "widening" in str(caught.value) and "first.weight" in str(caught.value)


# Classes that are ruled out.


class RulesOut(nn.Module):
    """Of the classes some have a logit of -inf."""

    def __init__(self, net, classes, by=-float("inf")):
        super().__init__()
        self.net, self.classes, self.by = net, classes, by

    def forward(self, inputs):
        outputs = self.net(inputs)
        out = torch.tensor([c in self.classes for c in range(outputs.shape[-1])])
        return outputs.masked_fill(out, self.by)


def ruling_out(classes, **more):
    net, inputs, _ = classifier()
    possible = [c for c in range(3) if c not in classes]
    targets = torch.tensor(possible)[torch.arange(60) % len(possible)]
    return RulesOut(net, classes, **more), inputs, targets, possible


@pytest.mark.parametrize("classes", [[1], [0, 2], [2]])
def test_a_class_that_is_ruled_out_costs_what_it_does_without_it(classes):
    net, inputs, targets, possible = ruling_out(classes)
    with torch.no_grad():
        rest, numbers = net(inputs)[:, possible], torch.arange(60) % len(possible)
    found = evaluate_network(net, as_likelihood("categorical"), [(inputs, targets)], FLOAT32)
    cost = nn.functional.cross_entropy(rest, numbers, reduction="sum")
    assert found.error_cost_nats == pytest.approx(float(cost), rel=1e-5)
    assert found.mistakes == int((rest.argmax(1) != numbers).sum())


@pytest.mark.parametrize(
    ("targets", "by"),
    [([0, 1, 1], -float("inf")), ([0, 2, 2], float("inf")), ([0, 2, 2], float("nan"))],
    ids=["a target ruled out", "inf", "nan"],
)
def test_other_infinities_are_no_prediction(targets, by):
    net, inputs, _, _ = ruling_out([1], by=by)
    batches = [(inputs[:3], torch.tensor(targets))]
    count = 3 if by != -float("inf") else 2
    with pytest.raises(NotFiniteError, match=f"not finite in {count} of 3 examples"):
        evaluate_network(net, as_likelihood("categorical"), batches, FLOAT32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_of_a_class_that_is_ruled_out_are_those_without_it(smoothing):
    net, inputs, targets, possible = ruling_out([1])
    teacher = net(inputs.flip(0)).detach()
    spec, numbers = sws.Distilled(label_smoothing=smoothing), torch.arange(60) % 2
    own = net(inputs).detach().requires_grad_()
    found = spec.taught(own, teacher).log_prob(targets)
    wanted = spec.taught(own[:, possible], teacher[:, possible]).log_prob(numbers)
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.grad(found.sum(), own)[0].isfinite().all()


@pytest.mark.integration
def test_a_network_that_rules_a_class_out_is_compressed():
    net, inputs, targets, possible = ruling_out([1])
    batches = [(inputs, targets)]
    keys = {"test": batches, "validation": batches, "refinement": sws.Refinement(epochs=1)}
    run = sws.compress(net, batches, prior=ONE_GROUP, epochs=1, **keys)
    decoded = sws.load(run.data, into=RulesOut(classifier()[0], [1]))
    with torch.no_grad():
        rest, numbers = decoded(inputs)[:, possible], torch.arange(60) % 2
    wrong = int((rest.argmax(1) != numbers).sum())
    assert run.report.score["decoded"] == pytest.approx(100 * wrong / 60)
    assert run.report.certificate["training_mistakes"] == wrong


@pytest.mark.integration
def test_a_target_that_is_ruled_out_is_named():
    net, inputs, targets, _ = ruling_out([1])
    targets[50] = 1
    with pytest.raises(NotFiniteError, match="log-density .* 1 of 60 .* rule the targets out"):
        sws.compress(net, Batches(inputs, targets, 20, shuffle=False), epochs=1)


@pytest.mark.integration
def test_a_class_that_is_ruled_out_hides_no_other_outputs_each_time():
    _, inputs, targets, _ = ruling_out([1])
    drops = nn.Sequential(nn.Linear(4, 3), Drops())
    fine = sws.SpikeAndSlabs(slabs=8, start_deviation=0.05)  # weights stay what they are
    keys = {"prior": fine, "epochs": 1}
    run = sws.compress(RulesOut(drops, [1]), [(inputs, targets)], **keys)
    assert run.report.certificate is None and "draws" in run.report.certificate_reason
    with pytest.raises(ValueError, match="when it is run again"):
        sws.compress(RulesOut(Counts(4, 3), [1]), [(inputs, targets)], **keys)


class Drops(nn.Module):
    def forward(self, inputs):
        return nn.functional.dropout(inputs, training=True)


class Counts(nn.Linear):
    passes = 0

    def forward(self, inputs):
        Counts.passes += 1
        return super().forward(inputs) * Counts.passes


def normed(kind):
    """A network with a layer that divides by its weights, trained by nobody; 60 points."""
    _, inputs, targets = classifier()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(kind(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 3))
    return net, inputs, targets


class Cosine(nn.Linear):
    """Rows divided by their norms, with nothing added to them."""

    def forward(self, inputs):
        return inputs @ (self.weight / self.weight.norm(dim=1, keepdim=True)).T + self.bias


def cosine(linear):
    return Cosine(linear.in_features, linear.out_features)


def old_weight_norm(linear):
    with pytest.warns(FutureWarning):
        normed = torch.nn.utils.weight_norm(linear)
    with torch.no_grad():  # it keeps its last weight, and with a graph could not be copied
        normed(torch.zeros(1, linear.in_features))
    return normed


NORMS = [weight_norm, spectral_norm, cosine, old_weight_norm]


@pytest.mark.parametrize("kind", NORMS)
def test_layers_that_divide_by_their_weights_are_named(kind):
    net, inputs, _ = normed(kind)
    model = joint(net, ONE_GROUP, "categorical", 60)
    (found,) = zero_divisors(model, inputs)
    assert found.startswith("0.") and "divided by its own size" in found
    state = net.state_dict()
    assert zero_divisors(joint(classifier()[0], ONE_GROUP, "categorical", 60), inputs) == []
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("kind", [weight_norm, cosine])
def test_a_row_that_snapped_to_0_is_named_with_the_stage_and_the_count(kind):
    net, inputs, targets = normed(kind)
    model = joint(net, ONE_GROUP, "categorical", 60)
    tensor = "0.parametrizations.weight.original1" if kind is weight_norm else "0.weight"
    weights = dict(net.named_parameters())
    rows = weights[tensor].detach().clone()
    rows[[1, 5]] = 0
    with pytest.raises(ValueError, match="once quantized are not finite in 60 of 60"):
        evaluate(model, weights | {tensor: rows}, [(inputs, targets)], stage="once quantized")
    assert f"{tensor} (2 of 8: 1, 5)" in zero_rows({tensor: rows})


NARROW = sws.SpikeAndSlabs(slabs=8, start_deviation=0.02)


def snapping_to_zero():
    """A weight-normed network with one row so small that it snaps to 0, whatever the fit does."""
    net, inputs, targets = normed(weight_norm)
    with torch.no_grad():
        rows = net[0].parametrizations.weight.original1
        rows.sign_()
        rows[2] *= 1e-5
    return net, inputs, targets


def test_compress_names_the_layer_before_the_fit_and_the_row_after_it(caplog):
    net, inputs, targets = snapping_to_zero()
    with (
        caplog.at_level(logging.WARNING, "pyro_sws"),
        pytest.raises(
            NotFiniteError,
            match=r"once quantized are not finite in 60 of 60 .*original1 \(1 of 8: 2\)",
        ),
    ):
        sws.compress(net, [(inputs, targets)], prior=NARROW, epochs=1)
    assert "0.parametrizations.weight.original1 is divided by its own size" in caplog.text


def test_a_snapped_network_that_is_none_does_not_end_the_fit():
    net, inputs, targets = snapping_to_zero()
    model = joint(net, NARROW, "categorical", 60)
    batches = [(inputs, targets)]
    history = sws.fit(model, sws.delta_guide(model), batches, epochs=2, validation=batches).history
    for epoch, row in enumerate(history, 1):
        assert row["validation_quantized"] is None and 0 <= row["validation_posterior"] <= 100
        assert f"validation after epoch {epoch}: " in row["validation_note"]
        assert "not finite in 60 of 60 examples" in row["validation_note"]
    json.dumps(history, allow_nan=False)


@pytest.mark.parametrize(
    "options",
    [{"refinement": sws.Refinement(epochs=1)}, {"packing": sws.Packing(merge_by="description")}],
)
def test_no_description_is_made_of_it(options):
    net, inputs, targets = snapping_to_zero()
    with pytest.raises(NotFiniteError, match="description.* once quantized are not finite in 60"):
        sws.compress(net, [(inputs, targets)], prior=NARROW, epochs=1, **options)


def test_no_probabilities_and_no_tree_are_made_of_it():
    net, inputs, targets = snapping_to_zero()
    model = joint(net, NARROW, "categorical", 60)
    batches = [(inputs, targets)]
    posterior = sws.fit(model, sws.delta_guide(model), batches, epochs=1).posterior
    quantized = sws.quantize(posterior)
    with pytest.raises(NotFiniteError, match="'snapped' are not finite in 60 of 60"):
        compression_stages(model, posterior, quantized, batches, draws=0)
    nan = {name: w * float("nan") for name, w in posterior.weights.items()}
    with pytest.raises(NotFiniteError, match="not finite in 60 of 60"):
        predictions(model, [nan], batches)
    with pytest.raises(NotFiniteError, match="drawn from the posterior are not finite in 60 of 60"):
        network_tree(model, posterior, posterior, batches, guide="delta", draws=0, prior_draws=0)


# Weights that float16 cannot hold.


def tiny(scale):
    """A classifier whose first layer is that much smaller, and whose inputs are as much larger."""
    net, inputs, targets = classifier()
    with torch.no_grad():
        net[0].weight *= scale
    return net, inputs / scale, targets


def test_weights_too_small_for_half_precision_are_refused_before_the_fit():
    net, inputs, targets = tiny(1e-8)
    epochs = []
    fine = sws.SpikeAndSlabs(slabs=4, start_deviation=2e-10)
    rules = [sws.Rule(fine, "0.weight", "a"), sws.Rule(NARROW, "*", "b")]
    with pytest.raises(ValueError, match="0.weight: .* too near 0 for float16.*'float32'"):
        sws.compress(net, [(inputs, targets)], prior=rules, epochs=1, callback=epochs.append)
    assert not epochs


@pytest.mark.parametrize("validated", [False, True])
def test_single_precision_holds_them(validated):
    net, inputs, targets = tiny(1e-6)
    batches = [(inputs, targets)]
    rules = [sws.Rule(sws.Scaled(), "0.weight", "a"), sws.Rule(NARROW, "*", "b")]
    run = sws.compress(
        net,
        batches,
        prior=rules,
        epochs=1,
        validation=batches if validated else None,
        packing=sws.Packing(codebook_dtype="float32"),
    )
    wrong = (run.decoded(inputs).argmax(1) != targets).double().mean().item()
    assert run.report.score["decoded"] == pytest.approx(100 * wrong)
