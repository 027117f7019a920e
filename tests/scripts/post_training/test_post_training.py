"""The study's line without data: methods on a small network, rows, tables and the picture."""

import pytest
import torch
from torch import nn


@pytest.fixture
def study(script):
    return script("post_training.post_training")


@pytest.fixture
def networks(script):
    return script("post_training.networks")


@pytest.fixture
def case(networks):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)).eval()
    inputs = torch.randn(300, 20)
    judge = networks.Judge(net, inputs[200:], lambda outputs: outputs.log_softmax(-1))
    return networks.Case(net, inputs[:200], judge, lambda net, most: 1.0)


@pytest.fixture
def rows(study, case, script, monkeypatch):
    grids = script("post_training.grids")
    few = [[grids.Grid(unit, step) for step in (0.2, 0.5, 1.0)] for unit in ("rms", "absmax")]
    monkeypatch.setattr(grids, "GRIDS", few)
    tools = study.Tools()
    found = [study.measured("lenet_5_caffe", m, case, tools, None) for m in ("rounding", "gptq")]
    return [row for each in found for row in each]


@pytest.mark.slow
def test_rows_come_to_tables_and_a_picture(study, script, rows, tmp_path):
    table = script("post_training.tables").post_training_tables({"rows": rows}, "source")
    assert "| lenet_5_caffe | 0.1 nats |" in table and "GPTQ" in table
    study.draw(rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.slow
def test_rows_are_a_front_and_one_of_them_alone_is_needlessly_good(study, rows):
    for method in ("rounding", "gptq"):
        own = [row for row in rows if row["method"] == method]
        sizes, nats = [row["bytes"] for row in own], [row["kl_nats"] for row in own]
        assert sizes == sorted(sizes, reverse=True) and nats == sorted(nats)
        assert sum(value < study.BEST for value in nats) <= 1 and max(nats) < study.WORST


@pytest.mark.slow
def test_what_new_rows_beat_is_left_out(study, rows):
    better = {**rows[-1], "setting": "better", "kl_nats": 0.0, "bytes": 1}
    own = [row for row in study.unbeaten([*rows, better]) if row["method"] == better["method"]]
    assert own == [better]


def test_nncodec_needs_its_environment(study, case):
    with pytest.raises(ValueError, match="--nncodec"):
        next(study.files(case, "nncodec", study.Tools()))


def test_memory_that_was_held_for_a_while_is_counted(script):
    memory = script("post_training.memory")
    result, megabytes = memory.peak_megabytes(lambda: len(bytearray(200_000_000)))
    assert result == 200_000_000
    assert megabytes is None or 190 < megabytes < 260


def test_a_norm_is_of_the_layer_before_it(script):
    lines = script("post_training.nncodec_lines")
    net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten())
    names, tensors = lines._numbered(net)
    blocks = lines._blocks(net, names)
    kinds = {name: blocks["parameter_type"][number] for name, number in names.items()}
    assert kinds == {
        "0.weight": "weight",
        "1.weight": "bn.gamma",
        "1.bias": "bn.beta",
        "1.running_mean": "bn.mean",
        "1.running_var": "bn.var",
    }
    assert set(blocks["block_identifier"].values()) == {"0"} and len(tensors) == 5
