"""Rules: the first match wins, and what matches nothing is an error rather than a surprise."""

import zlib

import pytest
import torch
from messages import assert_says
from problems import classifier
from torch import nn

from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule, apply_rules, as_rules

NARROW, WIDE = SpikeAndSlabs(slabs=2), SpikeAndSlabs(slabs=4)


class Tied(nn.Module):
    """An encoder and a decoder with one weight, a count of integers and an empty tensor."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decode.weight = self.encode.weight
        self.count = nn.Parameter(torch.tensor([3]), requires_grad=False)
        self.empty = nn.Parameter(torch.zeros(0))


class Own(nn.Linear):
    """A user's own layer."""


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), Own(8, 3))


def large(name, parameter):
    return parameter.numel() > 8


def covered(network, rules):
    groups, _, uncovered = apply_rules(network, rules)
    return {name: list(group.shapes) for name, group in groups.items()}, uncovered


def test_one_prior_covers_every_float_parameter_in_order():
    groups, priors, uncovered = apply_rules(net(), as_rules(WIDE))
    assert list(groups["all"].shapes.items()) == [
        ("0.weight", (8, 4)),
        ("0.bias", (8,)),
        ("2.weight", (3, 8)),
        ("2.bias", (3,)),
    ]
    assert priors == {"all": WIDE} and uncovered == ()


def test_the_first_match_wins():
    rules = [Rule(NARROW, "*.bias", "biases"), Rule(WIDE, "0.*", "first"), Rule(WIDE, "*", "rest")]
    groups, uncovered = covered(net(), rules)
    assert groups == {
        "biases": ["0.bias", "2.bias"],
        "first": ["0.weight"],
        "rest": ["2.weight"],
    }
    assert uncovered == ()
    assert apply_rules(net(), rules)[1] == {"biases": NARROW, "first": WIDE, "rest": WIDE}


def test_what_no_rule_matches_is_uncovered():
    assert covered(net(), [Rule(WIDE, "0.*")]) == (
        {"all": ["0.weight", "0.bias"]},
        ("2.weight", "2.bias"),
    )


def test_a_match_is_of_the_whole_name_and_minds_its_case():
    network = nn.ModuleDict({"Fc": nn.Linear(2, 2), "fc": nn.Linear(2, 2)})
    assert covered(network, [Rule(WIDE, "fc.*")])[0] == {"all": ["fc.weight", "fc.bias"]}
    with pytest.raises(ValueError, match="match 'fc' matches no tensor"):
        apply_rules(network, [Rule(WIDE, "fc")])


def test_tied_parameters_count_once_and_only_float_ones_count():
    assert covered(Tied(), as_rules(WIDE)) == (
        {"all": ["encode.weight", "encode.bias", "decode.bias"]},
        (),
    )


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("Conv2d", ["0.weight", "0.bias"]),
        (nn.Conv2d, ["0.weight", "0.bias"]),
        ("_ConvNd", ["0.weight", "0.bias"]),
        ("Own", ["3.weight", "3.bias"]),
        ("Linear", ["3.weight", "3.bias"]),
        (nn.Linear, ["3.weight", "3.bias"]),
        ("BatchNorm2d", ["1.weight", "1.bias"]),
    ],
)
def test_a_module_is_a_class_or_its_name_and_what_is_derived_from_it(module, found):
    assert covered(convolutional(), [Rule(WIDE, module=module)])[0] == {"all": found}


def test_a_parameter_of_the_network_itself_is_in_the_networks_own_class():
    assert covered(Tied(), [Rule(WIDE, module="Linear")])[1] == ()
    assert covered(nn.ParameterList([torch.zeros(3)]), [Rule(WIDE, module="ParameterList")]) == (
        {"all": ["0"]},
        (),
    )


def test_where_asks_a_function_about_each_tensor():
    groups, uncovered = covered(net(), [Rule(WIDE, where=large)])
    assert groups == {"all": ["0.weight", "2.weight"]} and uncovered == ("0.bias", "2.bias")


def test_every_condition_of_a_rule_must_hold():
    rule = Rule(WIDE, "*.weight", module="Linear", where=lambda name, p: name != "2.weight")
    assert covered(net(), [rule])[0] == {"all": ["0.weight"]}


def test_where_is_asked_only_about_what_the_other_conditions_and_earlier_rules_leave():
    asked = []
    rules = [
        Rule(WIDE, "0.bias", "first"),
        Rule(WIDE, "*.bias", "rest", "Linear", lambda name, p: not asked.append(name)),
    ]
    covered(net(), rules)
    assert asked == ["2.bias"]


def test_where_sees_what_the_caller_froze():
    network, inputs, _ = classifier()
    network[0].requires_grad_(False)
    rule = Rule(NARROW, where=lambda name, p: p.requires_grad)
    model = joint(network, [rule], "categorical", len(inputs))
    assert model.uncovered == ("0.weight", "0.bias")
    assert not any(p.requires_grad for p in model.net.parameters())
    assert network[2].weight.requires_grad


def test_each_makes_a_group_of_every_tensor_with_hyperparameters_of_its_own():
    network, inputs, _ = classifier()
    rules = [Rule(NARROW, "*.weight", "w", each=True), Rule(WIDE, group="rest")]
    assert covered(network, rules)[0] == {
        "w-0_weight": ["0.weight"],
        "w-2_weight": ["2.weight"],
        "rest": ["0.bias", "2.bias"],
    }
    start = joint(network, rules, "categorical", len(inputs)).start()
    assert start["w-0_weight.means"].shape == start["w-2_weight.means"].shape == (2,)
    assert (start["w-0_weight.means"] != start["w-2_weight.means"]).all()


def test_names_too_long_for_a_file_are_cut_and_stay_different():
    """Linux has 255 bytes for a name of a file; a checksum tells two long ones apart."""
    long = "a" * 300
    net = nn.ModuleDict({f"{long}{end}": nn.Linear(2, 1, bias=False) for end in "bc"})
    groups, _, _ = apply_rules(net, [Rule(WIDE, group="w", each=True)])
    assert len(groups) == 2 and all(len(name) < 200 for name in groups)
    for name, end in zip(groups, "bc", strict=True):
        checksum = zlib.crc32(f"w-{long}{end}_weight".encode())
        assert name.startswith("w-aaa") and name.endswith(f"-{checksum:08x}")
    with pytest.raises(ValueError, match="group must have at most 100 characters.*got 300"):
        Rule(WIDE, group=long)


def test_a_tied_parameter_has_one_group_and_the_module_of_its_first_name():
    groups, uncovered = covered(Tied(), [Rule(WIDE, group="g", each=True)])
    assert sorted(groups) == ["g-decode_bias", "g-encode_bias", "g-encode_weight"]
    assert uncovered == ()


def test_a_group_of_two_precisions_computes_in_the_wider():
    network = net()
    network[0].double()
    groups, *_ = apply_rules(network, [Rule(WIDE, "0.weight", "wide"), Rule(WIDE, "2.*", "rest")])
    assert groups["wide"].dtype == torch.float64 and groups["rest"].dtype == torch.float32
    for one in (network, network[::-1]):
        assert apply_rules(one, as_rules(WIDE))[0]["all"].dtype == torch.float64


def test_a_rule_that_matches_nothing_is_refused_with_the_networks_names():
    with pytest.raises(ValueError) as caught:
        apply_rules(net(), [Rule(WIDE, "0.*", "first"), Rule(WIDE, "fc*", "rest")])
    there = "0.weight, 0.bias, 2.weight, 2.bias"
    assert_says(caught.value, "prior[1]: match 'fc*' matches no tensor", there)


def test_a_rule_that_comes_too_late_is_refused_with_what_it_would_have_matched():
    with pytest.raises(ValueError) as caught:
        apply_rules(net(), [Rule(WIDE, "*", "all"), Rule(WIDE, "0.*", "first")])
    assert_says(caught.value, "prior[1]: match '0.*'", "an earlier rule", "0.weight, 0.bias")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [Rule(WIDE, module="Conv2D")],
            "prior[0]: module 'Conv2D' owns no tensor, did you mean 'Conv2d'?; "
            "the network's tensors are in BatchNorm2d, Conv2d, Own",
        ),
        (
            [Rule(WIDE, module=nn.LSTM)],
            "prior[0]: module 'LSTM' owns no tensor; "
            "the network's tensors are in BatchNorm2d, Conv2d, Own",
        ),
        (
            [Rule(WIDE, "0.*"), Rule(WIDE, module="Conv2d", group="late")],
            "prior[1]: module 'Conv2d' finds only tensors that an earlier rule has: "
            "0.weight, 0.bias",
        ),
        (
            [Rule(WIDE, "0.*", module="Linear")],
            "prior[0]: no tensor fulfils both conditions: match '0.*' finds 0.weight, 0.bias, "
            "module 'Linear' 3.weight, 3.bias",
        ),
        (
            [Rule(WIDE, "fc.*", module="Linear")],
            "prior[0]: match 'fc.*' matches no tensor; the network has "
            "0.weight, 0.bias, 1.weight, 1.bias, 3.weight, 3.bias",
        ),
        (
            [Rule(WIDE, "*.bias", where=large)],
            "prior[0]: where large is False for every tensor it is asked about: "
            "0.bias, 1.bias, 3.bias",
        ),
        (
            [Rule(WIDE, where=lambda name, p: p.numel())],
            "prior[0]: where <lambda> must return True or False, got 18 (int) for '0.weight'",
        ),
        (
            [Rule(WIDE, where=lambda name, p: p.sum() > 9)],
            "prior[0]: where <lambda> must return True or False, got tensor(False) (Tensor) "
            "for '0.weight'",
        ),
        (
            [Rule(WIDE, "3.*"), Rule(WIDE, group="b", where=lambda name, p: p.shape[4] > 2)],
            "prior[1]: where <lambda> fails for '0.weight': IndexError: tuple index out of range",
        ),
        (
            [Rule(WIDE, where=lambda name: True)],
            "prior[0]: where <lambda> fails for '0.weight': TypeError: "
            "<lambda>() takes 1 positional argument but 2 were given",
        ),
    ],
)
def test_a_condition_at_fault_is_named_with_what_is_there(rules, message):
    with pytest.raises(ValueError) as caught:
        apply_rules(convolutional(), rules)
    assert str(caught.value) == message


def test_tensors_whose_groups_would_bear_one_name_are_refused():
    network = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(2, 2)}), "a_b": nn.Linear(2, 2)})
    with pytest.raises(ValueError) as caught:
        apply_rules(network, [Rule(WIDE, "*.weight", "w", each=True)])
    both, remedy = ("'a.b.weight'", "'a_b.weight'"), "a rule of its own"
    assert_says(caught.value, "prior[0]: ", *both, "group 'w-a_b_weight'", remedy)
    rules = [Rule(WIDE, "a_b.*", "w-a_b_weight"), Rule(WIDE, "*.weight", "w", each=True)]
    with pytest.raises(ValueError, match=r"prior\[1\]: group 'w-a_b_weight' is taken"):
        apply_rules(network, rules)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"module": 3}, "module must be a class or its name, got 3"),
        ({"module": nn.Linear(2, 2)}, "module must be a class or its name, got Linear"),
        ({"where": "large"}, r"where must be a function \(name, parameter\), got 'large'"),
    ],
)
def test_a_condition_of_the_wrong_kind_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Rule(WIDE, **fields)


def test_two_rules_of_one_group_name_are_refused():
    with pytest.raises(ValueError, match=r"prior\[1\]: group 'all' is taken; give each rule its"):
        apply_rules(net(), [Rule(WIDE, "0.*"), Rule(WIDE, "*")])


@pytest.mark.parametrize("network", [nn.Tanh(), nn.ParameterList([Tied().count])])
def test_a_network_without_float_parameters_is_refused(network):
    with pytest.raises(ValueError, match="has no float parameters to compress"):
        apply_rules(network, as_rules(WIDE))


@pytest.mark.parametrize("group", ["", "a b", "a.b", "a/b", "all\n"])
def test_a_group_name_that_cannot_be_in_a_site_name_is_refused(group):
    with pytest.raises(ValueError, match="group must be letters, digits, '_' or '-'"):
        Rule(WIDE, group=group)
