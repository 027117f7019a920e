"""A plan: what it refuses, what a network is scored on, and that its keywords make it again."""

import re
from dataclasses import replace

import pytest
import torch
from problems import classifier

import pyro_sws as sws
from pyro_sws.compression.execute import execute
from pyro_sws.compression.plan import Data, NamedData, NamedNetwork, Plan, Unnamed
from pyro_sws.inference.progress import Progress
from pyro_sws.recipes.sources import Source

RULES = (sws.Rule(sws.SpikeAndSlabs(slabs=2)),)
NAMED = NamedNetwork(Source("net.py:f")), NamedData(Source("data.py:g"))


def test_a_run_s_plan_makes_the_run_again():
    net, inputs, targets = classifier()
    train, test = sws.Batches(inputs, targets, 20), [(inputs[:20], targets[:20])]
    packing = sws.Packing(codebook_dtype="float32", fingerprint=True)
    keys = {"test": test, "tau": 0.2, "epochs": 3, "seed": 5, "packing": packing, "data_size": 60}
    run = sws.compress(net, train, prior=RULES, **keys)
    again = sws.compress(net, train, **run.plan.arguments())
    assert again.data == run.data and again.plan.arguments() == run.plan.arguments()
    assert execute(run.plan).data == run.data


@pytest.mark.parametrize("given", ["test", "validation", "training"])
def test_a_network_is_scored_on_what_nothing_was_chosen_by_as_far_as_there_is_any(given):
    order = ["test", "validation", "training"]
    batches = {name: [name] for name in order[order.index(given) :]}
    data = Data(batches["training"], batches.get("validation"), batches.get("test"))
    assert data.judged == (given, [given])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Data(iter([])), TypeError, "train is a one-shot iterator"),
        (lambda: Data([], validation=iter([])), TypeError, "validation is a one-shot iterator"),
        (lambda: Data([], test=3), TypeError, "test must be a re-iterable"),
        (
            lambda: replace(NAMED[1], batch_size=0),
            ValueError,
            "batch_size must be at least 1, got 0",
        ),
        (
            lambda: replace(NAMED[0], start="a.safetensors", from_run="runs/b"),
            ValueError,
            "start = 'a.safetensors' and from_run = 'runs/b': give one of them",
        ),
        (lambda: Plan(*NAMED, RULES, tau=0), ValueError, "tau must be a positive number, got 0"),
        (lambda: Plan(*NAMED, RULES, seed=-1), ValueError, r"seed must be in 0..2\^63 - 1, got -1"),
        (lambda: Plan(*NAMED, RULES, seed=2**63), ValueError, r"seed must be in 0..2\^63 - 1, got"),
        (lambda: Plan(*NAMED, RULES, refinement=30), TypeError, "must be a Refinement or None"),
        (
            lambda: Plan(
                *NAMED,
                RULES,
                refinement=sws.Refinement(),
                packing=sws.Packing(signal_to_noise=1.0),
            ),
            ValueError,
            "signal_to_noise and refinement: give one of them",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("absent", ["network", "data"])
@pytest.mark.parametrize("instead", ["named", "unnamed"])
def test_a_plan_without_its_objects_is_not_executed(absent, instead):
    net, inputs, targets = classifier()
    whole = Plan(net, Data([(inputs, targets)]), RULES)
    named = dict(zip(("network", "data"), NAMED, strict=True))[absent]
    part = named if instead == "named" else Unnamed("a Sequential")
    with pytest.raises(TypeError, match=f"has a module and Data, not {type(part).__name__}"):
        execute(replace(whole, **{absent: part}))


def test_where_a_fit_sets_out_makes_no_other_plan():
    """Tensors cannot be compared by ==."""
    start = {"0.bias": torch.zeros(8)}
    assert Plan(*NAMED, RULES, start=start) == Plan(*NAMED, RULES)


def test_progress_within_a_larger_task_is_of_its_stage_there():
    row = {"epoch": 2}
    assert Progress("fit", 2, 3, row).within("trial 1") == Progress("trial 1: fit", 2, 3, row)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sws.Packing(rewrite="no"), "rewrite must be True or False, got 'no'"),
        (lambda: sws.Packing(fingerprint=1), "fingerprint must be True or False, got 1"),
        (lambda: sws.Packing(merge_threshold="0.1"), "merge_threshold must be a number"),
        (lambda: sws.Packing(signal_to_noise="1"), "signal_to_noise must be a number"),
        (lambda: sws.Density(prior_subsample="0.5"), "prior_subsample must be a number"),
        (lambda: sws.Fitting(epochs="3"), "epochs must be a whole number >= 0, got '3'"),
        (lambda: sws.Fitting(epochs=True), "epochs must be a whole number >= 0, got True"),
        (lambda: sws.Fitting(rates={"weights": 1}), "rates must be of Rates, got {"),
        (lambda: sws.Fitting(annealing={}), "annealing must be of Annealing"),
        (lambda: sws.Fitting(schedule=["cosine"]), "unknown schedule"),
        (lambda: sws.Rates(weights="1e-3"), "rates.weights must be a number, got '1e-3'"),
        (lambda: sws.Refinement(widening="9"), "refinement.widening must be a number"),
        (lambda: sws.Refinement(rates={}), "refinement.rates must be of RefinementRates"),
    ],
)
def test_a_setting_of_another_type_is_named_as_it_is_made(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("packing", {"rewrite": False}, "packing must be of Packing, got {"),
        ("density", "portable", "density must be of Density, got 'portable'"),
        ("fit", {"epochs": 1}, "fit must be of Fitting, got {"),
        ("likelihood", sws.Distilled, "likelihood: must be a spec"),
        ("tau", "0.1", "tau must be a number, or 'certificate', 'mdl' of a walk; got '0.1'"),
        ("seed", 0.5, "seed must be a whole number, got 0.5"),
        ("data_size", "200", "data_size must be a whole number, got '200'"),
    ],
)
def test_an_argument_of_another_type_is_named_before_the_fit(name, value, words):
    net, inputs, targets = classifier()
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        sws.compress(net, [(inputs, targets)], **{"epochs": 1, name: value})
