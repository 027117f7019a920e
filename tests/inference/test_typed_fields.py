"""Fields of every settings value: what its annotation says, or an error that names the field."""

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest
import torch
from every_likelihood import SPECS
from messages import assert_says

import pyro_sws as sws
from pyro_sws.compression.refine import RefinementRates
from pyro_sws.inference.plain_numbers import flag, real, seed_number, whole
from pyro_sws.inference.typed_fields import check_fields

SETTINGS = [
    *(sws.Rates(), RefinementRates(), sws.Fitting(), sws.Refinement(), sws.Packing()),
    *(sws.Density(), sws.Pretraining(), sws.Ramp(2.0), sws.Nuts()),
    *(sws.Gamma(2.0, 3.0), sws.Beta(2.0, 3.0), sws.Dirichlet(2.0), sws.Normal(2.0)),
    *SPECS.values(),
    *(family() for family in sws.PRIORS.values()),
]
FIELDS = [
    pytest.param(settings, field, id=f"{type(settings).__name__}.{field.name}")
    for settings in SETTINGS
    for field in dataclasses.fields(settings)
]
NEVER = [1 + 2j, torch.ones(2, 2), object(), [[]], b"1", {"a": 1}]


NUMBERS = [
    pytest.param(settings, field.name, value, id=f"{type(settings).__name__}.{field.name}")
    for settings in SETTINGS
    for field in dataclasses.fields(settings)
    if isinstance(value := getattr(settings, field.name), int | float)
    and not isinstance(value, bool)
]


@pytest.mark.parametrize(("settings", "field"), FIELDS)
def test_what_no_field_can_be_is_refused_in_one_line_that_names_it(settings, field):
    name = "density" if field.name == "way" else field.name
    for value in NEVER:
        with pytest.raises((ValueError, TypeError)) as caught:
            dataclasses.replace(settings, **{field.name: value})
        message = str(caught.value)
        assert "\n" not in message and name in message
        assert "got" in message or "unknown" in message


@pytest.mark.parametrize(("settings", "name", "default"), NUMBERS)
def test_what_is_no_number_is_refused(settings, name, default):
    values = [True, "3", None, math.nan, -math.inf]
    for value in values if isinstance(default, int) else [*values, 10**400]:
        with pytest.raises(ValueError) as caught:
            dataclasses.replace(settings, **{name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("settings", "name", "default"), NUMBERS)
def test_numbers_of_numpy_and_torch_become_python_s(settings, name, default):
    scalar = np.int64 if isinstance(default, int) else np.float32
    for value in (scalar(default), np.array(default), torch.tensor(default)):
        own = getattr(dataclasses.replace(settings, **{name: value}), name)
        assert type(own) is type(default)
        assert own == pytest.approx(default, rel=1e-6)  # float32 has 24 bits


@dataclasses.dataclass(frozen=True)
class Made:
    """A field of each kind."""

    size: int = 1
    share: float | None = None
    way: Literal["up", "down"] = "up"
    means: tuple[float, ...] | Literal["even"] = "even"
    shape: sws.Gamma = sws.Gamma(1.0, 1.0)
    on: bool = True

    def __post_init__(self):
        check_fields(self, "made: ")


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_arrays_and_tensors_of_one_dimension_are_lists(make):
    found = sws.SpikeAndSlabs(2, initialization=make([-0.25, 0.5])).initialization
    assert found == (-0.25, 0.5) and {type(x) for x in found} == {float}
    for other in (make([[0.25]]), make(0.25)):
        with pytest.raises(ValueError, match="initialization must be"):
            sws.SpikeAndSlabs(1, initialization=other)


def test_lists_become_tuples_of_python_s_numbers():
    assert Made(means=[np.float32(0.5), 1]).means == (0.5, 1)
    assert type(Made(means=[np.float32(0.5)]).means[0]) is float
    assert Made(on=np.True_).on is True


@pytest.mark.parametrize(
    ("keys", "error", "said"),
    [
        ({"size": 2.5}, ValueError, ["made: size", "a whole number", "2.5"]),
        ({"share": "0.5"}, ValueError, ["made: share", "a number or None", "'0.5'"]),
        ({"way": "dwon"}, ValueError, ["made: unknown way 'dwon'", "'down'", "up, down"]),
        ({"way": 3}, ValueError, ["made: way", "'up' or 'down'", "3"]),
        ({"means": 0.5}, ValueError, ["made: means", "a list of numbers or 'even'", "0.5"]),
        ({"means": [0.5, "x"]}, ValueError, ["made: means", "a list of numbers", "'x'"]),
        ({"shape": 2.0}, TypeError, ["made: shape", "a Gamma", "2.0"]),
        ({"on": 1}, TypeError, ["made: on", "True or False", "1"]),
    ],
)
def test_an_error_says_the_field_what_it_must_be_and_what_it_is(keys, error, said):
    with pytest.raises(error) as caught:
        Made(**keys)
    assert_says(caught.value, *said)


def test_a_tensor_that_wants_a_gradient_is_no_number():
    with pytest.raises(ValueError, match="tau must be a number, got tensor.*requires_grad"):
        real("tau", torch.tensor(0.5, requires_grad=True))


def test_an_error_shows_a_long_value_in_one_short_line():
    with pytest.raises(ValueError) as caught:
        whole("size", torch.zeros(40, 40))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_seeds_are_those_that_torch_takes():
    assert seed_number("seed", 2**63 - 1) == 2**63 - 1
    for value in (-1, 2**63, 0.5, "1"):
        with pytest.raises(ValueError, match="seed must be"):
            seed_number("seed", value)


def test_flags_are_not_guessed():
    with pytest.raises(TypeError, match="each must be True or False, got 'no'"):
        flag("each", "no")
    with pytest.raises(TypeError, match="each must be True or False, got 1"):
        sws.Rule(sws.SpikeAndSlabs(), each=1)
    with pytest.raises(TypeError, match="match must be a text, got 3"):
        sws.Rule(sws.SpikeAndSlabs(), match=3)
