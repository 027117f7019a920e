"""Bad input to ``compress``: refused with what was wrong, what was there, what would be right."""

import copy
from pathlib import Path

import pytest
import torch
from messages import assert_says
from problems import classifier
from torch import nn

import pyro_sws as sws
from pyro_sws import SpikeAndSlabs

PRIOR = SpikeAndSlabs(slabs=2, start_deviation=0.3)


def compress(batches=None, net=None, **keys):
    own, inputs, targets = classifier()
    given = [(inputs, targets)] if batches is None else batches
    return sws.compress(net or own, given, **{"prior": PRIOR, "epochs": 1} | keys)


def points():
    return classifier()[1:]


def refusal(error=ValueError, *arguments, **keys):
    """The message, which is one line."""
    with pytest.raises(error) as caught:
        compress(*arguments, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The network.


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    net = classifier()[0]
    net[2].weight.data[1, :2] = value
    assert_says(refusal(net=net), "parameter '2.weight'", "2 weights", "not finite", "mend it")


def test_a_network_without_float_parameters_is_refused():
    message = refusal(net=nn.Tanh())
    assert_says(message, "Tanh", "no float parameters", "give a network that has some")


# The data.


def test_no_batches_and_empty_batches_are_refused():
    inputs, targets = points()
    assert refusal(batches=[]).startswith("train has no batches; give at least one")
    assert refusal(batches=[(inputs[:0], targets[:0])]).startswith("train[0] is empty")
    with pytest.raises(ValueError, match="no examples: inputs and targets are empty"):
        sws.Batches(inputs[:0], targets[:0])


def test_a_one_shot_iterator_is_refused():
    inputs, targets = points()
    for once in (iter([(inputs, targets)]), zip([inputs], [targets], strict=True)):
        message = refusal(TypeError, batches=once)
        assert message.startswith("train is a one-shot iterator") and "give a list" in message
    message = refusal(TypeError, validation=iter([(inputs, targets)]))
    assert message.startswith("validation is a one-shot iterator")


def test_what_is_no_pair_of_tensors_is_refused():
    inputs, targets = points()
    assert "must be a re-iterable" in refusal(TypeError, batches=3)
    assert "train[0] must be a pair" in refusal(TypeError, batches=[(inputs,)])
    assert "takes 2 positional arguments but 3" in refusal(batches=[(inputs, targets, targets)])
    assert "pair of tensors" in refusal(TypeError, batches=[(inputs.numpy(), targets)])
    assert "60 inputs but 5 targets" in refusal(batches=[(inputs, targets[:5])])


WRONG_TARGETS = [
    (lambda t: t.int(), "targets must be int64 labels, got int32 of shape (60,)"),
    (lambda t: t.float(), "targets must be int64 labels, got float32 of shape (60,)"),
    (lambda t: t[:, None], "targets must have shape (60,), got int64 of shape (60, 1)"),
    (lambda t: t + 1, "labels run from 1 to 3, but the network has 3 outputs"),
    (lambda t: t - 1, "labels run from -1 to 1, but the network has 3 outputs"),
]


@pytest.mark.parametrize(("change", "words"), WRONG_TARGETS)
def test_targets_that_cannot_be_labels_are_refused(change, words):
    inputs, targets = points()
    with pytest.raises(ValueError) as caught:
        compress([(inputs, change(targets))])
    assert str(caught.value).startswith("categorical: ") and words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "keys", "remedy"),
    [
        (lambda t: t.int(), {}, "targets.long()"),
        (lambda t: t > 0, {}, "targets.long()"),
        (lambda t: t[:, None], {}, "targets.squeeze(-1)"),
        (lambda t: nn.functional.one_hot(t), {}, "targets.argmax(-1)"),
        (lambda t: nn.functional.one_hot(t).float(), {}, "targets.argmax(-1)"),
        (lambda t: t[:, None], {"likelihood": "gaussian"}, "targets.float()"),
        (lambda t: (t > 0).long()[:, None], {"likelihood": "bernoulli"}, "targets.float()"),
        (lambda t: t.float(), {"likelihood": "poisson"}, "targets.unsqueeze(-1)"),
    ],
)
def test_targets_that_mean_labels_say_how_to_make_them_some(change, keys, remedy):
    inputs, targets = points()
    net = nn.Linear(4, 1) if keys else None
    assert refusal(batches=[(inputs, change(targets))], net=net, **keys).endswith(f"give {remedy}")


def test_an_infinite_input_is_not_taken_for_a_layer_that_divides(caplog):
    inputs, targets = points()
    inputs[0, 0] = float("inf")
    message = refusal(batches=[(inputs, targets)])
    assert_says(message, "the inputs are not finite in 1 of 60")
    assert not caplog.records


@pytest.mark.parametrize(("change", "words"), WRONG_TARGETS)
def test_the_refusal_of_targets_is_one_line(change, words):
    inputs, targets = points()
    assert words in refusal(batches=[(inputs, change(targets))])


@pytest.mark.parametrize("which", ["test", "validation"])
def test_targets_that_are_only_scored_are_checked_too(which):
    inputs, targets = points()
    later = [(inputs, targets), (inputs, targets + 3)]  # not in the first batch, and yet at once
    rows = []
    for batches in ([(inputs, targets + 3)], later):
        message = refusal(callback=rows.append, **{which: batches})
        assert_says(message, which, "labels run from 3 to 5", "0..2")
    assert not rows


@pytest.mark.parametrize("which", ["test", "validation"])
def test_inputs_that_are_only_scored_are_named(which):
    inputs, targets = points()
    narrow = inputs[:, :2], targets
    for batches in ([narrow], [(inputs, targets), narrow]):
        message = refusal(**{which: batches})
        assert_says(message, which, "cannot compute outputs for inputs", "(60, 2)")


@pytest.mark.parametrize("test", [[], iter([points()]), [(points()[0], points()[1] + 3)]])
def test_test_data_that_cannot_be_is_refused_before_the_fit(test):
    rows = []
    with pytest.raises((ValueError, TypeError)):
        compress(test=test, callback=rows.append)
    assert not rows


# The choices.


@pytest.mark.parametrize("tau", [0, -1.0, float("nan")])
def test_a_tau_that_is_not_positive_is_refused(tau):
    assert refusal(tau=tau).startswith(f"tau must be a positive number, got {tau}; ")


class RunsOut:
    """Batches that come in so many passes and then no more."""

    def __init__(self, passes):
        self.passes = passes

    def __iter__(self):
        self.passes -= 1
        return iter([points()] if self.passes >= 0 else [])

    def __len__(self):
        return 1


@pytest.mark.parametrize(("passes", "said"), [(1, "in each pass"), (3, "empty in epoch 2")])
def test_what_runs_out_of_batches_is_refused_with_what_does_not(passes, said):
    message = refusal(batches=RunsOut(passes), epochs=3)
    assert message.startswith("batches is empty") and said in message


@pytest.mark.parametrize(
    ("train", "got"),
    [
        (points(), "a pair of tensors, which is one batch"),
        ("digits.toml", "str"),
        (points()[0], "Tensor"),
        ({"inputs": points()[0]}, "dict"),
        (points()[0].numpy(), "ndarray"),
        (Path("digits.toml"), "PosixPath"),
    ],
)
def test_what_can_be_walked_through_and_has_no_batches_is_refused(train, got):
    message = refusal(TypeError, batches=train)
    assert_says(message, "train must be a re-iterable", "such as a list", "got " + got)


def test_arrays_and_lists_in_place_of_tensors_say_how_to_make_one():
    inputs, targets = points()
    for made in (lambda t: t.numpy(), lambda t: t.tolist()):
        message = refusal(TypeError, batches=[(made(inputs), made(targets))])
        assert_says(message, "train[0]", "pair of tensors", type(made(inputs)).__name__)
        assert message.endswith("; give torch.as_tensor(...) of it")
        with pytest.raises(TypeError, match="targets must be a tensor.*; give torch.as_tensor"):
            sws.Batches(inputs, made(targets))
    with pytest.raises(TypeError, match=r"inputs must be a tensor \(n, ...\), got tensor\(1.\)"):
        sws.Batches(torch.tensor(1.0), targets)


def test_tensors_without_values_are_refused():
    inputs, targets = points()
    assert "train[0]: its inputs are on the meta device" in refusal(
        batches=[(inputs.to("meta"), targets)]
    )


@pytest.mark.parametrize(("key", "value"), [("shuffle", "no"), ("augment", "flip")])
def test_settings_of_batches_are_checked_as_they_are_given(key, value):
    with pytest.raises(TypeError, match=f"{key} must be .*, got '{value}'"):
        sws.Batches(*points(), **{key: value})


def test_an_infinite_tau_is_refused():
    assert "tau must be" in refusal((ValueError, FloatingPointError), tau=float("inf"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"likelihood": "normal"},
            "unknown likelihood 'normal'; choose from bernoulli, categorical, distilled, "
            "from_distribution, gaussian, heteroscedastic_gaussian, laplace, loss, poisson, "
            "soft_categorical, student_t",
        ),
        (
            {"guide": "mean_field"},
            "unknown guide 'mean_field'; choose from delta, delta_normal, laplace, low_rank, "
            "normal",
        ),
        ({"epochs": -1}, "epochs must be a whole number >= 0, got -1"),
        ({"epochs": 2.5}, "epochs must be a whole number >= 0, got 2.5"),
        ({"data_size": 0}, "data_size must be at least 1 example, got 0"),
        (
            {"prior": [sws.Rule(PRIOR, "fc*")]},
            "prior[0]: match 'fc*' matches no tensor; the network has 0.weight, 0.bias, 2.weight, "
            "2.bias",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_refused_with_what_could(keys, message):
    found = refusal(**keys)
    # A list of choices may grow.
    assert found.startswith(message.rsplit(", ", 1)[0])


@pytest.mark.parametrize("device", ["cudaa", "cuda:77", "", "meta", 1.5])
def test_a_device_where_nothing_is_computed_is_refused(device):
    assert_says(refusal(device=device), "device", f"cannot compute on {device!r}", "use 'cpu'")


@pytest.mark.parametrize("dtype", ["float32", float, torch.float16, torch.int64, 32])
def test_a_precision_that_no_fit_is_in_is_refused(dtype):
    assert refusal(dtype=dtype).startswith("dtype must be torch.float32 or torch.float64, got ")


@pytest.mark.parametrize(
    ("start", "remedy"),
    [
        ("net.safetensors", "safetensors.torch.load_file(path)"),
        (Path("net.pt"), "torch.load(path, weights_only=True)"),
        ("net.pth", "torch.load(path, weights_only=True)"),
        (nn.Linear(4, 3), "give dict(module.named_parameters())"),
        ([1.0], "give a dict of tensors by name"),
    ],
)
def test_a_start_without_names_says_what_gives_them(start, remedy):
    assert_says(refusal(TypeError, start=start), "start must be weights by tensor name", remedy)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"state_dict": {}, "epoch": 3}, "no prior covers a parameter 'state_dict'"),
        ({"0.bias": "x"}, "start: '0.bias' must be a tensor, got 'x'"),
        ({"0.bias": None}, "start: '0.bias' must be a tensor, got None"),
        ({"0.bias": torch.zeros(8) * 1j}, "start: '0.bias' must have real values, and is complex"),
    ],
)
def test_a_start_that_has_no_weights_is_refused(start, said):
    assert said in refusal(start=start)


@pytest.mark.parametrize("likelihood", [None, 3, nn.CrossEntropyLoss(), [sws.Categorical()]])
def test_what_is_no_likelihood_is_refused(likelihood):
    assert_says(refusal(likelihood=likelihood), "likelihood", "categorical", "Categorical(), got ")


@pytest.mark.parametrize("guide", [[], {}, None, 3])
def test_what_is_no_guide_is_refused(guide):
    assert_says(refusal(guide=guide), f"unknown guide {guide!r}", "delta")
    message = refusal(TypeError, guide=lambda model: guide)
    assert_says(message, "a guide must have", f"got {guide!r}", "delta_guide(model)")


@pytest.mark.parametrize("callback", [3, "print", [print]])
def test_a_callback_that_cannot_be_called_is_refused_before_the_fit(callback):
    message = refusal(TypeError, callback=callback)
    assert message == f"callback must be a function of a Progress, or None, got {callback!r}"


@pytest.mark.parametrize("ranks", [2, None, (0, 2)])
def test_what_is_no_ranks_is_refused(ranks):
    assert refusal(TypeError, ranks=ranks) == f"ranks must be of Ranks, got {ranks!r}"


def test_a_refinement_that_is_none_is_refused():
    assert "refinement must be a Refinement or None, got 30" in refusal(TypeError, refinement=30)


@pytest.mark.parametrize("prior", [[], "spike_and_slabs", SpikeAndSlabs])
def test_what_is_no_prior_is_refused(prior):
    assert "prior" in refusal((ValueError,), prior=prior)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"slab_shares": sws.Dirichlet(0.5)},
            ["Dirichlet of concentration 0.5", ">= 1", "merging"],
        ),
        ({"slab_precision": sws.Gamma(0.5, 1.0)}, ["Gamma of shape 0.5", "use a shape >= 1"]),
        ({"spike_precision": sws.Gamma(0.5, 1.0)}, ["Gamma of shape 0.5", "use a shape >= 1"]),
        ({"zero_proportion": sws.Beta(0.5, 5.0)}, ["Beta(0.5, 5)", "use counts >= 1"]),
    ],
)
def test_a_hyperprior_without_a_maximum_is_refused_with_the_remedy(fields, words):
    message = refusal(prior=SpikeAndSlabs(slabs=2, **fields))
    assert message.startswith("group 'all': no point estimate exists: ")
    assert all(word in message for word in words), message


def test_a_noise_precision_without_a_maximum_is_refused_too():
    inputs, _ = points()
    keys = {"net": nn.Linear(4, 1), "likelihood": sws.Gaussian(sws.Gamma(0.5, 1.0))}
    assert "Gamma of shape 0.5" in refusal(batches=[(inputs, inputs[:, :1])], **keys)


# The run.


def test_weights_that_diverge_are_told_by_epoch_and_step_and_no_warning_besides():
    # Warnings are errors here: Pyro's own about a NaN would be raised in our error's place.
    rates = sws.Rates(weights=1e30)
    message = refusal(FloatingPointError, fit=sws.Fitting(rates=rates), epochs=3)
    assert message.startswith("the loss became nan in epoch 2, step 1")
    assert "lower the learning rates" in message


def test_a_refused_network_and_generator_are_as_they_were():
    net, inputs, targets = classifier()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError):
        compress([(inputs, targets + 1)], net)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_compression_leaves_the_generator_as_it_was():
    state = torch.get_rng_state()
    compress(sws.Batches(*points(), 20))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("given", [lambda name: name, lambda name: [name], sws.Rule])
def test_the_name_of_a_prior_says_which_class_to_give(given):
    net, inputs, targets = classifier()
    with pytest.raises(ValueError, match=r"got the name 'grid'; give the family, sws\.Grid\(\)"):
        sws.compress(net, [(inputs, targets)], prior=given("grid"))
    with pytest.raises(ValueError, match=r"got 'gird', did you mean 'grid'\?; give one of sws\."):
        sws.compress(net, [(inputs, targets)], prior=given("gird"))
