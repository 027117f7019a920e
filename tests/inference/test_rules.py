"""Rules: the first match wins, and what matches nothing is an error rather than a surprise."""

import pytest
import torch
from torch import nn

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


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


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
    assert str(caught.value) == (
        "prior[1]: match 'fc*' matches no tensor; "
        "the network has 0.weight, 0.bias, 2.weight, 2.bias"
    )


def test_a_rule_that_comes_too_late_is_refused_with_what_it_would_have_matched():
    with pytest.raises(ValueError) as caught:
        apply_rules(net(), [Rule(WIDE, "*", "all"), Rule(WIDE, "0.*", "first")])
    assert str(caught.value) == (
        "prior[1]: match '0.*' finds only tensors that an earlier rule has: 0.weight, 0.bias"
    )


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
