"""What no prior covers: rounded before the fit, with the error that the report states."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import pyro_sws as sws

CHANNELS = 20
MASK = -3.4e38


class Net(nn.Module):
    """A norm whose statistics are not folded, and buffers of several kinds."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.first, self.norm, self.last = (
            nn.Linear(6, CHANNELS),
            nn.BatchNorm1d(CHANNELS),
            nn.Linear(CHANNELS, 3),
        )
        with torch.no_grad():
            for p in self.parameters():
                p.uniform_(-0.5, 0.5, generator=draw)
            self.norm.running_mean.normal_(generator=draw)
            self.norm.running_var.normal_(generator=draw).exp_()
            self.norm.num_batches_tracked.fill_(1000)
        self.register_buffer("mask", torch.tensor([0.0, MASK, 0.0]))
        self.register_buffer("positions", torch.arange(40))

    def forward(self, x):
        shift = self.mask.clamp(min=-1) + self.positions[:3] / 100
        return self.last(torch.relu(self.norm(self.first(x)))) + shift


INPUTS = torch.randn(60, 6, generator=torch.Generator().manual_seed(4))
TARGETS = INPUTS.argmax(1) % 3


def compressed(raw, net=None, **keys):
    """With the units where they are."""
    packing = sws.Packing(raw=raw, fold=False, rewrite=False)
    prior = sws.SpikeAndSlabs(slabs=3)
    own = {"prior": prior, "epochs": 2, "packing": packing} | keys
    return sws.compress(Net().eval() if net is None else net, [(INPUTS, TARGETS)], **own)


@pytest.fixture(scope="module")
def runs():
    return {raw: compressed(raw) for raw in ("exact", "float16", "int8")}


ROUNDINGS = ["exact", "float16", "int8"]


@pytest.mark.parametrize("raw", ROUNDINGS)
def test_what_is_loaded_is_the_quantised_network_bit_for_bit(runs, raw):
    run, net = runs[raw], Net().eval()
    loaded = sws.load(run.data, into=net)
    assert sws.decode(run.data) == run.quantized == sws.quantize(run.packed)
    for name, tensor in loaded.state_dict().items():
        own = net.state_dict()[name].dtype
        assert tensor.dtype == own
        assert torch.equal(tensor, torch.tensor(run.quantized.tensors()[name]).to(own))
    score = run.report.score
    assert score["quantized"] == score["decoded"] == _error(loaded)


def _error(net, inputs=INPUTS):
    return pytest.approx(100 * (net(inputs).argmax(1) != TARGETS).double().mean().item())


def test_half_precision_is_numpy_s_and_eight_bits_keep_to_what_the_report_states(runs):
    given = {name: t.numpy() for name, t in Net().state_dict().items()}
    for name in ("norm.running_mean", "norm.running_var"):
        half = runs["float16"].quantized.raw[name]
        np.testing.assert_array_equal(half, given[name].astype(np.float16))
        assert half.dtype == np.float16
        for raw in ("float16", "int8"):
            stored = runs[raw].quantized.raw[name].astype(float)
            (row,) = [row for row in runs[raw].report.raw if row["name"] == name]
            error = np.abs(stored - given[name])
            assert row["largest_error"] == pytest.approx(error.max(), rel=1e-6)
            worst = (error / np.abs(given[name])).max()
            assert row["largest_relative_error"] == pytest.approx(worst, rel=1e-6)
    assert len(np.unique(runs["int8"].quantized.raw["norm.running_var"])) > CHANNELS / 2


def test_the_report_says_dtype_and_bytes_of_each_counted_by_hand(runs):
    """A grid takes a byte a value and three or four that say where it lies."""
    rows = {raw: {row["name"]: row for row in run.report.raw} for raw, run in runs.items()}
    for raw, run in runs.items():
        assert {n: row["bytes"] for n, row in rows[raw].items() if n in ("mask", "positions")} == {
            "mask": 12,  # -3.4e38 is beyond float16
            "positions": 2,  # from 0 in steps of 1
        }
        assert rows[raw]["mask"]["stored"] == "float32"
        assert rows[raw]["mask"]["largest_error"] == 0
        assert rows[raw]["norm.num_batches_tracked"]["bytes"] == 2
        assert 8 * sum(row["bytes"] for row in run.report.raw) == run.report.bits["raw"]
    for name in ("norm.running_mean", "norm.running_var"):
        assert rows["exact"][name]["bytes"] == 4 * CHANNELS
        assert rows["float16"][name]["bytes"] == 2 * CHANNELS
        assert 0 < rows["int8"][name]["bytes"] - CHANNELS <= 4
        assert rows["float16"][name]["given"] == "float32"
        assert rows["float16"][name]["coding"] == "plain"
    assert rows["int8"]["norm.running_mean"]["coding"] == "even grid"
    assert rows["int8"]["norm.running_var"]["coding"] == "logarithmic grid"


def test_a_tensor_that_loses_nothing_has_no_error(runs):
    for row in runs["exact"].report.raw:
        assert row["largest_error"] == row["largest_relative_error"] == 0


def far_from_half_precision():
    """Its first channel decides, and its running mean lies between two float16s.

    The outputs are (0.9 - relu(x - 2049), 0, ...): a shift by 1 makes another class of them.
    """
    net = Net().eval()
    with torch.no_grad():
        for p in (net.last.weight, net.last.bias, net.mask):
            p.zero_()
        net.positions.zero_()
        net.norm.running_mean[0], net.first.bias[0] = 2049.0, 2049.0
        net.norm.running_var[0] = net.norm.weight[0] = 1.0
        net.norm.bias[0] = 0.0
        net.last.weight[0, 0] = -1.0
        net.last.bias[0] = 0.9
    return net


def test_before_is_the_network_as_given_and_the_network_is_left_alone():
    net, rounded = far_from_half_precision(), far_from_half_precision()
    rounded.norm.running_mean[0] = 2048.0
    before = copy.deepcopy(net.state_dict())
    run = compressed("float16", net)
    assert run.quantized.raw["norm.running_mean"][0] == 2048.0
    assert _error(net).expected != _error(rounded)
    assert run.report.score["before"] == _error(net)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_a_folder_keeps_it_and_one_without_the_key_was_written_exact(runs, tmp_path):
    runs["int8"].save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    assert opened.plan.packing.raw == "int8" and opened.report.raw == runs["int8"].report.raw
    assert opened.quantized == runs["int8"].quantized == sws.quantize(opened.packed)
    recipe, sums = (tmp_path / "run" / name for name in ("recipe.toml", "checksums.sha256"))
    lines = recipe.read_text().splitlines()
    assert 'raw = "int8"' in lines
    recipe.write_text("\n".join(line for line in lines if line != 'raw = "int8"'))
    sums.unlink()
    assert sws.Run.open(tmp_path / "run").plan.packing.raw == "exact"


def test_a_walk_s_reference_is_the_network_as_given():
    net = far_from_half_precision()
    others = INPUTS.flip(1)
    run = sws.compress(
        net,
        [(INPUTS, TARGETS)],
        validation=[(others, TARGETS)],
        tolerance=100.0,
        budget=sws.Budget(passes=4),
        packing=sws.Packing(fold=False),
    )
    error = _error(net, others)
    assert run.report.walk["reference"] == run.report.score["before"] == error
    rounded = far_from_half_precision()
    rounded.norm.running_mean[0] = 2048.0
    assert error.expected != _error(rounded, others)
    assert sws.decode(run.data) == run.quantized


def test_parts_of_a_tensor_on_a_grid_still_take_a_byte_when_units_are_dropped():
    net = Net().eval()
    with torch.no_grad():
        net.last.weight[:, ::4] = 0
        net.norm.weight[::4] = 0
        net.norm.bias[::4] = 0
    run = compressed("int8", net, packing=sws.Packing(raw="int8", fold=False))
    assert sws.decode(run.data) == run.quantized
    for row in run.report.raw:
        if row["name"] in ("norm.running_mean", "norm.running_var"):
            assert row["bytes"] <= CHANNELS + 5


def test_parameters_without_a_rule_are_rounded_as_buffers_are():
    run = compressed("float16", prior=[sws.Rule(sws.SpikeAndSlabs(slabs=3), "*.weight")])
    np.testing.assert_array_equal(
        run.quantized.raw["first.bias"], Net().first.bias.detach().numpy().astype(np.float16)
    )
