"""A row says what a network loses without data, and the table has it."""

import pytest
import torch
from torch import nn


@pytest.fixture
def case(script):
    networks = script("post_training.networks")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, inputs = nn.Linear(40, 5).eval(), torch.randn(100, 40)
    judge = networks.Judge(net, inputs, lambda outputs: outputs.log_softmax(-1))
    return networks.Case(net, inputs, judge, lambda net, most: 2.0)


def test_a_larger_tolerance_is_a_shorter_file_that_predicts_worse(script, case):
    rows = [script("post_training.tolerances").measured("net", case, t, 1.0) for t in (0.005, 0.1)]
    assert rows[0]["bytes"] > rows[1]["bytes"] and rows[0]["weights"] == 205
    assert 0 < rows[0]["kl_nats"] < rows[1]["kl_nats"] / 4
    table = script("post_training.tables").tolerances_table({"rows": rows}, "source")
    assert "| net | 0.005 |" in table and "| 1.00 -> 2.00 |" in table
