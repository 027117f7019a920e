"""Warnings: each appears where the prior contradicts the weights, and nowhere else."""

import pytest
import torch
from problems import classifier

from pyro_sws.assess.prior.description import describe_priors
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma
from pyro_sws.inference.priors import GaussianPrior, Grid, Scaled, ScaleMixture, SpikeAndSlabs

SETTLED = SpikeAndSlabs(slabs=4, start_deviation=0.05)  # nothing to warn of


def network(deviation=0.1, size=20_000):
    """One tensor of normal weights, its largest at 4 deviations."""
    net = torch.nn.Linear(size, 1, bias=False)
    ranks = (torch.arange(size) + 0.5) / size
    with torch.no_grad():
        net.weight.copy_(deviation * torch.special.ndtri(ranks))
    return net


def warnings(prior, net=None):
    return describe_priors(net or network(), prior, draws=1)["groups"]["all"]["warnings"]


def changed(**fields):
    return SpikeAndSlabs(**{"slabs": 4, "start_deviation": 0.05, **fields})


def test_a_prior_made_for_the_weights_is_left_in_peace():
    assert warnings(SETTLED) == []
    assert warnings(SETTLED, network(size=1_000)) == []


def test_a_beta_of_few_counts_is_swamped_by_a_large_group():
    (found,) = warnings(changed(zero_proportion=Beta(99.0, 1.0)))
    # 98 counts against 20,000 weights; as many counts of the same mean are 19,802 and 200.
    assert "all.zero_proportion is swamped: Beta(99, 1) says as much as 98 weights" in found
    assert "20,000, which outvote it 204 to 1; fix the value, or give Beta(19802, 200)" in found


@pytest.mark.parametrize("zero", [Beta(19_802.0, 200.0), Beta(201.0, 3.0), 0.99])
def test_counts_as_large_as_the_group_or_above_a_hundredth_of_it_are_not_swamped(zero):
    assert warnings(changed(zero_proportion=zero)) == []


def test_the_remedy_of_a_warning_is_one():
    (found,) = warnings(changed(spike_precision=Gamma(50.0, 0.02)))
    stronger = eval(found.rpartition("or give ")[2], {"Gamma": Gamma})
    assert warnings(changed(spike_precision=stronger)) == []


def test_each_slab_s_precision_answers_for_its_share_of_the_weights():
    # 2 (51 - 1) = 100 weights are a hundredth of 20,000 / 2 slabs, and not of 20,000 spikes.
    assert warnings(changed(slabs=2, slab_precision=Gamma(51.5, 0.2))) == []
    (found,) = warnings(changed(slabs=2, slab_precision=Gamma(50.5, 0.2)))
    assert "the group has 10,000 for each of its 2 entries" in found
    (found,) = warnings(changed(slabs=2, spike_precision=Gamma(51.5, 0.2)))
    assert "the group has 20,000, which" in found


@pytest.mark.parametrize(
    "fields",
    [
        {"spike_precision": "free", "slab_precision": "free"},
        {"slab_shares": Dirichlet(1.0)},
        {"zero_proportion": Beta(1.0, 1.0)},
    ],
)
def test_what_is_free_or_flat_does_not_mean_to_be_heard(fields):
    assert not any("swamped" in warning for warning in warnings(changed(**fields)))


def test_a_dirichlet_of_few_counts_is_swamped_too():
    (found,) = warnings(changed(slab_shares=Dirichlet(2.0)))
    assert "all.slab_shares is swamped: Dirichlet(2) says as much as 4 weights" in found


def test_a_prior_ten_times_too_wide_or_too_narrow_is_told():
    for deviation, wider in ((1.1, "wide"), (0.9, None), (0.011, None), (0.009, "narrow")):
        found = [w for w in warnings(GaussianPrior(precision=deviation**-2)) if "times too" in w]
        assert len(found) == (wider is not None)
        if wider is not None:
            assert f"times too {wider}" in found[0] and "the weights have 0.1;" in found[0]


def test_weights_that_are_all_alike_have_no_width_to_compare():
    assert not any("times too" in w for w in warnings(SETTLED, network(deviation=0)))


def test_weights_out_of_reach_are_counted():
    # One Gaussian of deviation 0.02: 6 of it are 0.12, or 1.2 deviations of the weights.
    (found,) = warnings(GaussianPrior(precision=0.02**-2))
    share = 2 * float(torch.special.ndtr(torch.tensor(-1.2)))
    count = int(found.partition(" of the weights")[0].replace(",", ""))
    assert count == pytest.approx(20_000 * share, abs=2)
    assert f"({100 * share:.2g} %)" in found and "more than 6 deviations" in found


@pytest.mark.parametrize("prior", [Scaled(SETTLED, deviation=0.1), Scaled(SETTLED), Grid(steps=4)])
def test_reach_and_width_are_measured_in_units_of_the_scale(prior):
    for deviation in (0.05, 0.1):
        assert not any("reach" in w or "spike's" in w for w in warnings(prior, network(deviation)))


def test_a_prior_without_zeros_is_told():
    (found,) = warnings(changed(zero_proportion=0.0))
    assert found.startswith("no weight is expected to be 0")


def test_a_spike_wider_than_the_spacing_of_the_slabs_is_told():
    # Slabs 0.4 apart. A Gamma whose mode is narrow mends what is wide at the start.
    means = (-0.6, -0.2, 0.2, 0.6)
    wide = [
        changed(initialization=means, spike_precision=0.44**-2),
        changed(initialization=means, spike_precision="free", start_deviation=0.44),
        changed(initialization=means, spike_precision=Gamma(5e3, 5e3 * 0.44**2)),
    ]
    narrow = [
        changed(initialization=means, spike_precision=0.36**-2),
        changed(initialization=means, spike_precision=Gamma(5e3, 2.0), start_deviation=0.44),
    ]
    told = [any("spike's deviation is 1.1 times" in w for w in warnings(p)) for p in wide[:2]]
    assert told == [True, True]
    # This one starts at 0.05, and is drawn to 0.44 only by the fit.
    assert not any("spike's" in w for p in (wide[2], *narrow) for w in warnings(p))


def test_a_spike_of_many_widths_is_as_wide_as_their_mean_square():
    # Laplace: exp(-|w| sqrt s) has variance 2 / s, which the nodes have to within a few percent.
    def told(deviation):
        prior = ScaleMixture(
            slabs=4, initialization=(-0.6, -0.2, 0.2, 0.6), spike_precision=2 * deviation**-2
        )
        return any("spike's" in warning for warning in warnings(prior))

    assert told(0.44) and not told(0.36)


def test_a_hyperprior_ten_times_from_the_start_is_told():
    near = Gamma(5e3, 5e3 * 0.0055**2)
    assert warnings(changed(spike_precision=near)) == []
    (found,) = warnings(changed(spike_precision=Gamma(5e3, 5e3 * 0.0045**2)))
    assert "all.spike_precision starts at deviation 0.05, 11 times from where Gamma(5000, " in found


def test_a_warning_names_its_group_s_sites_only():
    net = classifier()[0]
    found = describe_priors(net, SpikeAndSlabs(slabs=2, start_deviation=0.3))["groups"]["all"]
    assert len(found["warnings"]) == 2 and all("all." in w for w in found["warnings"])
