"""Scores: strings that are called, and are strings in all else."""

import copy
import json
import math
import pickle
from dataclasses import dataclass, replace

import pytest
import tomli_w
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.evaluation import evaluate_network
from pyro_sws.inference.scores import KINDS, Score


@pytest.mark.parametrize(
    ("name", "of_a_quarter", "unit"),
    [
        ("error", 25, "percent"),
        ("exact_match_error", 25, "percent"),
        ("bits", 0.25, "bits"),
        ("nll", 0.25, "nats"),
        ("rmse", 0.5, "target units"),
        ("mae", 0.25, "target units"),
    ],
)
def test_a_score_is_made_of_a_mean_loss_and_has_a_unit(name, of_a_quarter, unit):
    assert Score(name)(0.25) == of_a_quarter and Score(name).unit == unit


def test_every_kind_is_told_above():
    assert len(KINDS) == 6


def test_a_score_is_a_string_in_all_else():
    score = sws.Categorical(score="bits").score
    assert score == "bits" and "bits" == score and score != "nll"
    assert repr(score) == "'bits'" and f"{score}" == "bits"
    assert hash(score) == hash("bits") and {"bits": 1}[score] == 1
    assert json.dumps(score) == '"bits"' and tomli_w.dumps({"a": score}) == 'a = "bits"\n'


@pytest.mark.parametrize(
    ("spec", "mean_loss", "shown"),
    [
        (sws.Categorical(score="bits"), 0.3, 0.3),
        (sws.Categorical(), 0.3, 30),
        (sws.Distilled(score="nll"), 0.3, 0.3),
        (sws.SoftCategorical(), 0.3, 30),
        (sws.Bernoulli(score="exact_match_error"), 0.3, 30),
        (sws.StudentT(), 0.09, 0.3),
        (sws.Laplace(score="rmse"), 0.09, 0.3),
        (sws.HeteroscedasticGaussian(score="nll"), -0.3, -0.3),
    ],
)
def test_a_specs_score_is_its_field_and_its_method(spec, mean_loss, shown):
    assert spec.score(mean_loss) == pytest.approx(shown)
    assert spec.score_name == spec.score and spec.score_unit == spec.score.unit
    for again in (replace(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert again == spec and hash(again) == hash(spec) and repr(again) == repr(spec)
        assert again.score(mean_loss) == spec.score(mean_loss)


def test_a_spec_with_another_score_is_another():
    assert sws.Categorical(score="bits") != sws.Categorical()
    assert "score='bits'" in repr(sws.Categorical(score="bits"))


class Halved(sws.Categorical):
    """Half the percentage."""

    def score(self, mean_loss):
        return 50 * mean_loss


@dataclass(frozen=True)
class Scaled(sws.Categorical):
    """The percentage times a field."""

    factor: float = 3.0

    def score(self, mean_loss):
        return self.factor * mean_loss


@pytest.mark.parametrize(("spec", "of_one"), [(Halved(), 50), (Scaled(), 3), (Scaled(2.0), 2)])
def test_a_method_of_that_name_in_a_derived_class_makes_the_score(spec, of_one):
    for one in (spec, replace(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert one.score(1.0) == of_one and one == spec and one.score_name == "error"
    batch = torch.zeros(4, 3), torch.ones(4, dtype=torch.int64)
    device_dtype = torch.device("cpu"), torch.float32
    found = evaluate_network(nn.Identity(), spec, [batch], device_dtype)
    assert found.score == of_one and math.isclose(found.mean_loss, 1)
