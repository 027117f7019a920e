"""What is timed is a network that rewriting finds something to do in."""

import pytest
import torch


@pytest.mark.parametrize("kind", ["perceptron", "images", "transformer"])
@pytest.mark.slow
def test_a_network_of_any_kind_is_rewritten(script, kind):
    growth = script("rewriting.growth")
    make, widths = growth.KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, example = make(32)
        row = growth.measured(kind, 32, rounds=1)
    quantized = growth.quantised(net.eval())
    done = growth.rewrite(net, quantized, example=example)
    assert 0 < done.silent < done.hidden and done.orders and not done.left_alone
    assert row["weights"] == quantized.size == sum(p.numel() for p in net.parameters())
    assert row["processor_seconds"] > 0 and widths == tuple(sorted(widths))
