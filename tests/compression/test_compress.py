"""The main job end to end, on networks of every kind that a user may bring."""

import copy

import pytest
import torch
from problems import classifier
from rates import STILL
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_sws as sws

pytestmark = pytest.mark.integration


def test_the_file_holds_the_network_bit_for_bit(tmp_path):
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], epochs=3)
    result.save(tmp_path / "net.sws")
    loaded = sws.load(tmp_path / "net.sws", into=net)
    state = result.decoded.state_dict()
    assert all(torch.equal(loaded.state_dict()[name], state[name]) for name in state)
    assert (tmp_path / "net.sws").read_bytes() == sws.encode(result.quantized)
    assert [p.name for p in tmp_path.iterdir()] == ["net.sws"]


def test_the_pieces_do_what_the_whole_does():
    net, inputs, targets = classifier()
    whole = sws.compress(net, [(inputs, targets)], tau=0.1, epochs=3)
    plain = sws.compress(
        net, [(inputs, targets)], tau=0.1, epochs=3, packing=sws.Packing(rewrite=False)
    )
    model = sws.joint(net, sws.SpikeAndSlabs(), "categorical", data_size=60, tau=0.1)
    posterior = sws.fit(model, sws.delta_guide(model), [(inputs, targets)], epochs=3).posterior
    quantized = sws.quantize(sws.merge(posterior))
    assert sws.encode(quantized) == plain.data
    assert sws.encode(sws.rewrite(net, quantized).quantized) == whole.data


def test_the_same_seed_gives_the_same_bytes():
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    first, second = (sws.compress(net, batches, epochs=4, seed=3).data for _ in range(2))
    assert first == second


def test_a_data_loader_will_do():
    net, inputs, targets = classifier()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=20, shuffle=True)
    result = sws.compress(net, loader, test=loader, epochs=2)
    assert result.report.score["data"] == "test"


class Tied(nn.Module):
    """Encoder and decoder share one matrix."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.out = nn.Linear(5, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.embed(tokens))


def test_tied_weights_are_counted_and_stored_once():
    torch.manual_seed(0)
    net, tokens = Tied(), torch.randint(7, (40, 3))
    result = sws.compress(net, [(tokens, tokens)], epochs=2)
    assert result.report.parameters == 35
    assert list(result.quantized.tensors()) == ["embed.weight"]
    decoded = sws.load(result.data, into=net)
    assert decoded.out.weight is decoded.embed.weight


def test_buffers_travel_with_the_file():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    inputs, targets = torch.randn(30, 1, 6, 6), torch.randint(3, (30,))
    net(inputs)  # running statistics that are not the default ones
    before = copy.deepcopy(net.state_dict())
    packing = sws.Packing(fold=False, raw="exact")
    result = sws.compress(net, [(inputs, targets)], epochs=2, packing=packing)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    fresh = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    loaded = sws.load(result.data, into=fresh)
    torch.testing.assert_close(loaded(inputs), result.decoded(inputs))
    assert torch.equal(loaded[1].running_mean, before["1.running_mean"])


@pytest.mark.parametrize(
    ("likelihood", "targets", "name"),
    [
        ("gaussian", torch.randn(60, 3), "rmse"),
        (sws.Gaussian(sws.Gamma(3.0, 1.0)), torch.randn(60, 3), "rmse"),
        ("poisson", torch.randint(4, (60, 3)).float(), "nll"),
        ("bernoulli", torch.randint(2, (60, 3)).float(), "error"),
    ],
)
def test_every_likelihood_goes_all_the_way(likelihood, targets, name):
    net, inputs, _ = classifier()
    result = sws.compress(net, [(inputs, targets)], likelihood=likelihood, epochs=2)
    assert result.report.score["name"] == name
    assert result.report.score["decoded"] == result.report.score["quantized"]


def test_double_precision_is_kept():
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], epochs=2, dtype=torch.float64, device="cpu")
    assert result.posterior.point["all.weights"].dtype == torch.float64
    double = net.double()
    again = sws.compress(double, [(inputs.double(), targets)], epochs=2)
    assert again.report.parameter_bytes == 67 * 8
    assert sws.load(again.data, into=double)[0].weight.dtype == torch.float64


def test_uncovered_tensors_are_stored_as_they_are():
    net, inputs, targets = classifier()
    rules = [sws.Rule(sws.SpikeAndSlabs(slabs=3), match="*.weight")]
    result = sws.compress(
        net,
        [(inputs, targets)],
        prior=rules,
        epochs=2,
        packing=sws.Packing(rewrite=False, raw="exact"),
    )
    assert result.report.uncovered == ["0.bias", "2.bias"]
    assert torch.equal(result.decoded[0].bias, net[0].bias)
    assert result.report.bits["raw"] == 32 * 11


def test_a_larger_tau_makes_a_smaller_file():
    net, inputs, targets = classifier()
    quick = sws.Rates(weights=0.02, precisions=0.03)
    sizes = [
        len(
            sws.compress(
                net, [(inputs, targets)], tau=tau, fit=sws.Fitting(epochs=60, rates=quick)
            ).data
        )
        for tau in (1e-6, 1.0)
    ]
    assert sizes[1] < sizes[0]


def test_a_file_of_another_network_is_refused():
    net, inputs, targets = classifier()
    data = sws.compress(net, [(inputs, targets)], epochs=1).data
    with pytest.raises(ValueError, match=r"of another network: it has 2\.weight, 2\.bias"):
        sws.load(data, into=nn.Sequential(nn.Linear(4, 8)))
    wider = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    with pytest.raises(ValueError, match="'0.weight' has shape"):
        sws.load(data, into=wider)


def test_a_file_without_the_buffers_that_a_network_needs_is_refused():
    net, inputs, targets = classifier()
    data = sws.compress(net, [(inputs, targets)], epochs=1).data
    normed = copy.deepcopy(net)
    normed.insert(1, nn.BatchNorm1d(8, affine=False))
    renamed = nn.Sequential()
    for name, module in (("0", net[0]), ("norm", normed[1]), ("1", net[1]), ("2", net[2])):
        renamed.add_module(name, module)
    with pytest.raises(ValueError, match="lacks norm.num_batches_tracked, norm.running_mean"):
        sws.load(data, into=renamed)


def test_raw_tensors_keep_their_own_precision():
    net, inputs, targets = classifier()
    rules = [sws.Rule(sws.SpikeAndSlabs(slabs=3), match="*.weight")]
    result = sws.compress(
        net,
        [(inputs, targets)],
        prior=rules,
        epochs=1,
        dtype=torch.float64,
        packing=sws.Packing(rewrite=False, raw="exact"),
    )
    assert result.quantized.raw["0.bias"].dtype == "float32"
    assert torch.equal(result.decoded[0].bias, net[0].bias)


def test_rewriting_leaves_the_outputs_and_says_how_far_they_moved():
    net, inputs, targets = classifier()
    plain, shorter = (
        sws.compress(net, [(inputs, targets)], epochs=2, packing=sws.Packing(rewrite=rewrite))
        for rewrite in (False, True)
    )
    assert len(shorter.data) <= len(plain.data) and plain.report.rewriting is None
    moved = (shorter.decoded(inputs) - plain.decoded(inputs)).abs().max().item()
    assert shorter.report.rewriting["largest_difference"] == pytest.approx(moved, abs=1e-6)
    assert moved < 1e-5


def test_a_fingerprint_makes_a_smaller_file_for_this_architecture_alone():
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], epochs=2, packing=sws.Packing(fingerprint=True))
    sizes = result.report.variants
    assert result.report.file_bytes == sizes["fingerprint"] < sizes["self_contained"]
    assert torch.equal(sws.load(result.data, into=net)(inputs), result.decoded(inputs))
    with pytest.raises(ValueError, match="of another network: it has the fingerprint"):
        sws.load(result.data, into=nn.Linear(4, 3))
    with pytest.raises(ValueError, match="give the architecture"):
        sws.decode(result.data)


class Unsaved(nn.Sequential):
    """Its first layer is in no state dict."""

    def state_dict(self, *args, **kwargs):
        saved = super().state_dict(*args, **kwargs)
        return {name: tensor for name, tensor in saved.items() if not name.startswith("0.")}


def test_a_parameter_that_no_state_dict_has_is_compressed_too():
    net, inputs, targets = classifier()
    unsaved = Unsaved(*net)
    result = sws.compress(unsaved, [(inputs, targets)], epochs=1)
    assert result.report.variants["fingerprint"] < result.report.variants["self_contained"]
    assert set(result.quantized.symbols) == {"0.weight", "0.bias", "2.weight", "2.bias"}


# How it goes: settings, walks through the data, what is told.


def test_epochs_for_short_beat_those_of_the_settings():
    net, inputs, targets = classifier()
    settings = sws.Fitting(epochs=4, schedule="constant")
    long, short, other = (
        sws.compress(net, [(inputs, targets)], fit=fit, **more)
        for fit, more in ((settings, {}), (settings, {"epochs": 2}), (sws.Fitting(epochs=2), {}))
    )
    assert [len(run.history) for run in (long, short, other)] == [4, 2, 2]
    assert short.plan.fit == sws.Fitting(epochs=2, schedule="constant")
    # The rest of the settings is not lost: two steps at constant rates are no two of a cosine's.
    ends = [run.history[1]["complexity_cost_nats"] for run in (short, long, other)]
    assert ends[0] == ends[1] != ends[2]


class Counted(list):
    """A list that counts how often it is walked through."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


@pytest.mark.parametrize("size", [None, 60])
@pytest.mark.parametrize("merge_by", ["divergence", "description"])
@pytest.mark.parametrize("refined", [0, 2])
@pytest.mark.parametrize("judged", ["test", "validation"])
def test_training_data_is_walked_through_once_an_epoch_and_three_times_more(
    size, merge_by, refined, judged
):
    net, inputs, targets = classifier()
    train = Counted(zip(inputs.split(20), targets.split(20), strict=True))
    sws.compress(
        net,
        train,
        epochs=3,
        refinement=sws.Refinement(epochs=refined) if refined else None,
        packing=sws.Packing(merge_by=merge_by),
        data_size=size,
        **{judged: [(inputs, targets)]},
    )
    assert 3 + refined < train.walks <= 3 + refined + 3


def test_progress_is_told_stage_by_stage_with_each_row_of_history():
    net, inputs, targets = classifier()
    told = []
    run = sws.compress(
        net,
        [(inputs, targets)],
        epochs=3,
        refinement=sws.Refinement(epochs=2),
        callback=told.append,
    )
    assert [(p.stage, p.done, p.total) for p in told] == [
        ("fit", 1, 3),
        ("fit", 2, 3),
        ("fit", 3, 3),
        ("refine", 1, 2),
        ("refine", 2, 2),
    ]
    assert [p.row for p in told] == [*run.history, *run.refined.history[1:]]


# Another prior, from where a run stands.

FEW, WEIGHTS = sws.SpikeAndSlabs(slabs=3), [sws.Rule(sws.SpikeAndSlabs(slabs=3), match="*.weight")]


@pytest.mark.parametrize(
    "prior", [*(family() for family in sws.PRIORS.values()), FEW, [sws.Rule(FEW, "*", "renamed")]]
)
def test_without_a_step_another_prior_leaves_the_fitted_weights(prior):
    net, inputs, targets = classifier()
    first = sws.compress(net, [(inputs, targets)], epochs=3)
    second = first.with_prior(prior, fit=sws.Fitting(rates=STILL), epochs=1)
    assert all(
        torch.equal(w, second.posterior.weights[n]) for n, w in first.posterior.weights.items()
    )
    assert second.report.score["before"] == first.report.score["before"]
    assert second.network is net and len(second.history) == 1


def test_another_prior_changes_the_prior_alone():
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    packing = sws.Packing(rewrite=False)
    keys = {"test": batches, "tau": 0.1, "seed": 3, "packing": packing, "epochs": 3}
    first = sws.compress(net, batches, **keys)
    fitted = {name: w.clone() for name, w in first.posterior.weights.items()}
    second = first.with_prior(FEW)
    by_hand = sws.compress(net, batches, prior=FEW, start=fitted, **keys)
    assert second.data == by_hand.data and second.history[0]["epoch"] == 1
    assert all(torch.equal(first.posterior.weights[name], w) for name, w in fitted.items())
    third = second.with_prior(FEW, tau=0.2)
    assert (third.report.tau, third.report.seed, third.report.rewriting) == (0.2, 3, None)


def test_a_tensor_that_one_of_two_priors_does_not_cover_is_the_network_s_own():
    net, inputs, targets = classifier()
    partial = sws.compress(net, [(inputs, targets)], prior=WEIGHTS, epochs=3)
    whole = partial.with_prior(FEW, fit=sws.Fitting(rates=STILL), epochs=1)
    assert torch.equal(whole.posterior.weights["0.weight"], partial.posterior.weights["0.weight"])
    assert torch.equal(whole.posterior.weights["0.bias"], net[0].bias)
    again = whole.with_prior(WEIGHTS, epochs=3)
    assert torch.equal(again.posterior.raw["0.bias"], net[0].bias.half())


def test_a_change_that_compress_does_not_know_is_refused_with_the_nearest():
    net, inputs, targets = classifier()
    result = sws.compress(net, [(inputs, targets)], epochs=1)
    with pytest.raises(TypeError, match="unknown change 'epoch', did you mean 'epochs'?"):
        result.with_prior(FEW, epoch=3)
    with pytest.raises(TypeError, match="unknown change 'packin', did you mean 'packing'?"):
        result.with_prior(FEW, packin=sws.Packing())
    with pytest.raises(TypeError, match="unknown change 'net'"):
        result.with_prior(FEW, net=net)
    with pytest.raises(ValueError, match="prior: must be a spec"):
        result.with_prior(sws.SpikeAndSlabs)
