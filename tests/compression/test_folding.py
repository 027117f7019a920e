"""Batch norm, half precision and parametrised modules: to a file and back."""

import copy
import warnings

import pytest
import torch
from small_recipe import write_recipe
from torch import nn
from torch.nn.utils import parametrizations

import pyro_sws as sws
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.weights.batch_norm import folded, folded_weights

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CHANNELS = 6
RATES = ["weights", "means", "precisions", "proportions", "other"]


def network(dims, affine=True):
    """A convolution, batch norm and a linear layer, with statistics as after training."""
    net = nn.Sequential(
        CONVOLUTIONS[dims](2, CHANNELS, 3),
        NORMS[dims](CHANNELS, affine=affine),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(CHANNELS * 2**dims, 3),
    )
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.uniform_(-0.5, 0.5, generator=draw)
        if affine:
            net[1].weight.uniform_(0.5, 1.5, generator=draw)
        net[1].running_mean.uniform_(-0.5, 0.5, generator=draw)
        net[1].running_var.uniform_(0.5, 1.5, generator=draw)
        net[1].num_batches_tracked.fill_(12)
    return net.eval()


def examples(dims, count=24):
    inputs = torch.randn(count, 2, *[4] * dims, generator=torch.Generator().manual_seed(4))
    return inputs, inputs.flatten(1).sum(1).sign().long() + 1


def compressed(net, data, **more):
    """Two steps of a fit under a walk's own prior, whose values are fine enough to tell apart."""
    keys = {"prior": default_rules(net), "tau": 1e-6, "epochs": 2} | more
    return sws.compress(net, [data], **keys)


def precise(net, name):
    """The network in a precision, or in half with norms in single."""
    if name != "mixed":
        return net.to(getattr(torch, name))
    net = net.half()
    net[1].float()
    return net


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16", "mixed"])
@pytest.mark.parametrize(("dims", "affine"), [(1, True), (2, True), (3, True), (1, False)])
def test_the_network_in_the_file_is_the_quantised_one(dims, name, affine):
    net = precise(network(dims, affine), name)
    before = copy.deepcopy(net.state_dict())
    inputs, targets = examples(dims)
    run = compressed(net, (inputs, targets))
    assert run.report.folded_norms == int(affine)
    fresh = precise(network(dims, affine), name)
    loaded = sws.load(run.data, into=fresh)
    stored = run.quantized.tensors()
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, torch.tensor(stored[key]).to(tensor.dtype))
    outputs, exact = _outputs(loaded, inputs, name), _by_hand(stored, inputs, dims)
    rounding = {"float32": 1e-6, "float64": 1e-6, "bfloat16": 0.05}.get(name, 0.01)
    assert exact.abs().max() > 0.1
    assert (outputs - exact).abs().max() <= rounding * exact.abs().max()
    assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items())
    assert (run.data[3] == 3) == affine


def _outputs(net, inputs, name):
    """As a user computes them; of the mixed network layer by layer."""
    x = inputs.to(net[0].weight.dtype)
    for layer in net:
        own = next(layer.parameters(), None)
        x = layer(x if own is None else x.to(own.dtype))
    return x.detach().double()


def _by_hand(stored, inputs, dims):
    """The definition of each layer, in float64, with what the file holds."""
    t = {name: torch.tensor(values).double() for name, values in stored.items()}
    convolve = getattr(nn.functional, f"conv{dims}d")
    x = convolve(inputs.double(), t["0.weight"], t["0.bias"]).movedim(1, -1)
    x = (x - t["1.running_mean"]) / (t["1.running_var"] + 1e-5).sqrt()
    if "1.weight" in t:
        x = x * t["1.weight"] + t["1.bias"]
    return x.relu().movedim(-1, 1).flatten(1) @ t["4.weight"].T + t["4.bias"]


def test_a_folded_norm_that_is_raw_computes_what_the_given_one_does():
    net, (inputs, targets) = network(1), examples(1)
    rules = [sws.Rule(sws.SpikeAndSlabs(slabs=3), match="4.bias")]
    run = compressed(net, (inputs, targets), prior=rules, packing=sws.Packing(raw="exact"))
    loaded = sws.load(run.data, into=net)
    with torch.no_grad():
        loaded[4].bias.copy_(net[4].bias)
    assert loaded[1].running_mean.abs().max() == 0 and net[1].running_mean.abs().max() > 0
    expected = net(inputs)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(loaded(inputs), expected, rtol=1e-5, atol=1e-6)


def test_folding_saves_the_statistics_bytes():
    """Two float16 vectors, a count of one byte, their heads; all but ten bytes of a norm."""
    net, data = network(2), examples(2)
    lengths = {}
    for fold in (True, False):
        run = compressed(net, data, packing=sws.Packing(fold=fold, rewrite=False))
        symbols = sum(sws.inspect(run.data).bits[p] for p in ("symbols", "codebooks", "scales"))
        lengths[fold] = len(run.data) - symbols / 8
        assert sws.load(run.data, into=net)[1].num_batches_tracked == (0 if fold else 12)
    statistics = 2 * 2 * CHANNELS + 1
    assert statistics <= lengths[False] - lengths[True] <= statistics + 12


def test_a_file_with_a_fingerprint_is_folded_as_well():
    net, data = network(1), examples(1)
    run = compressed(net, data, packing=sws.Packing(fingerprint=True))
    assert sws.load(run.data, into=net)[1].running_mean.abs().max() == 0
    assert len(run.data) < len(compressed(net, data).data)


def test_unfolded_statistics_are_the_network_s_own():
    net, data = network(1), examples(1)
    packing = sws.Packing(fold=False, raw="exact")
    loaded = sws.load(compressed(net, data, packing=packing).data, into=net)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(loaded[1], name), getattr(net[1], name))


class ReadsStatistics(nn.Module):
    """Folding is not exact where code looks at a norm's statistics."""

    def __init__(self):
        super().__init__()
        self.body = network(1)

    def forward(self, x):
        return self.body(x) + self.body[1].running_mean.sum()


def test_a_network_whose_code_reads_statistics_is_refused_before_the_fit():
    told = []
    with pytest.raises(ValueError, match=r"once its batch norms are folded.*fold=False"):
        compressed(ReadsStatistics(), examples(1), callback=told.append)
    assert not told
    packing = sws.Packing(fold=False)
    run = compressed(ReadsStatistics(), examples(1), packing=packing)
    assert run.report.file_bytes == len(run.data)


def test_a_run_goes_on_from_its_weights_folded_or_not():
    net, data = network(1), examples(1)
    still = sws.Fitting(epochs=1, rates=sws.Rates(weights=1e-12, means=1e-12, precisions=1e-12))
    first = compressed(net, data)
    for fold in (True, False):
        again = first.with_prior(
            default_rules(net), fit=still, epochs=1, packing=sws.Packing(fold=fold)
        )
        inner = folded(net) if fold else net
        own = again.posterior.weights | {n: t for n, t in inner.named_buffers()}
        outputs = torch.func.functional_call(inner, own, data[0])
        fitted = dict(folded(net).named_buffers()) | first.posterior.weights
        expected = torch.func.functional_call(folded(net), fitted, data[0])
        torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


def test_a_folder_without_the_key_was_written_unfolded(tmp_path):
    net, data = network(1), examples(1)
    run = compressed(net, data)
    run.save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    assert opened.plan.packing.fold and opened.quantized == run.quantized
    recipe, sums = (tmp_path / "run" / name for name in ("recipe.toml", "checksums.sha256"))
    lines = recipe.read_text().splitlines()
    assert "fold = true" in lines
    recipe.write_text("\n".join(line for line in lines if line != "fold = true"))
    sums.unlink()
    assert not sws.Run.open(tmp_path / "run").plan.packing.fold


# Parametrised modules


def old(make):
    def deprecated(module):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(module)

    return deprecated


PARAMETRISED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight norm": old(nn.utils.weight_norm),
    "old spectral norm": old(nn.utils.spectral_norm),
}


def parametrised(make):
    torch.manual_seed(0)
    net = nn.Sequential(make(nn.Linear(8, 8)), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        net(torch.randn(30, 8) + 1)  # power iterations, running statistics
    return net.eval()


@pytest.mark.parametrize("name", PARAMETRISED)
def test_a_parametrised_module_is_filled_and_keeps_its_parametrisation(name):
    net = parametrised(PARAMETRISED[name])
    inputs = torch.randn(24, 8, generator=torch.Generator().manual_seed(4))
    targets = inputs.sum(1).sign().long() + 1
    run = compressed(net, (inputs, targets))
    fresh = parametrised(PARAMETRISED[name])
    loaded = sws.load(run.data, into=fresh)
    assert loaded.state_dict().keys() == net.state_dict().keys()
    stored = {n: torch.tensor(values) for n, values in run.quantized.tensors().items()}
    by_hand = parametrised(PARAMETRISED[name])
    by_hand.load_state_dict(stored, strict=False)
    outputs = loaded(inputs)
    assert outputs.abs().max() > 0.1 and not torch.equal(outputs, net(inputs))
    torch.testing.assert_close(outputs, by_hand(inputs), rtol=1e-6, atol=1e-6)
    assert loaded[1].running_mean.abs().max() == 0


# A recipe


NORMED = """
from torch import nn

def normed(hidden=8):
    return nn.Sequential(
        nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )
"""


def test_a_recipe_s_network_is_folded_once_it_is_trained_and_a_run_goes_on_from_it(tmp_path):
    (tmp_path / "normed.py").write_text(NORMED)
    network, still = "normed.py:normed", dict.fromkeys(RATES, 0.0)
    path = write_recipe(tmp_path, network=network, tau=1e-6)
    run = run_recipe(read_recipe(path), tmp_path / "first")
    assert run.data[3] == 3
    trained, inputs = run.network.eval(), torch.randn(20, 4)
    assert trained[1].running_mean.abs().max() > 0.01  # pre-training, in train mode
    assert torch.equal(run.given["1.running_mean"], trained[1].running_mean)
    model = run.plan.fitted_network(trained)
    torch.testing.assert_close(model(inputs), trained(inputs), rtol=1e-5, atol=1e-5)
    assert torch.equal(run.posterior.raw["1.running_var"], model[1].running_var)
    weights = {}
    for fold in (True, False):
        path = write_recipe(
            tmp_path, network=network, from_run="first", rates=still, fold=fold, tau=1e-6
        )
        again = run_recipe(read_recipe(path), tmp_path / f"again {fold}")
        weights[fold] = again.posterior.weights
        assert (again.data[3] == 3) == fold
    for name, folded_weight in folded_weights(trained, weights[False]).items():
        torch.testing.assert_close(folded_weight.float(), weights[True][name])
    assert not torch.equal(weights[True]["1.weight"], weights[False]["1.weight"])
