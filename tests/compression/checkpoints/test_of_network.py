"""A network without data: its file, and that it is left as it was."""

import copy

import pytest
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.codec.container import inspect
from pyro_sws.inference.curvature_of import identity

POST = sws.PostTraining()


def network(seed=0):
    """With a batch norm whose statistics say something, and tied weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)]
        net = nn.Sequential(*body)
        for _ in range(20):
            net(1 + torch.randn(16, 3, 5, 5))
    return net.eval()


def shrunk(net, **settings):
    return sws.compress(net, None, fit=POST, **settings)


def inputs(n=64):
    return 1 + torch.randn(n, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def weight_errors(given, back):
    return {
        name: float((back[name] - w).double().square().sum() / w.double().square().sum())
        for name, w in given.items()
        if w.dim() > 1
    }


@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_weights_that_come_back_are_within_the_tolerance(tolerance):
    net = network()
    found = shrunk(net, tolerance=tolerance)
    back = sws.load(found.data, into=net)
    limit = 0.005 if tolerance is None else tolerance
    for name, error in weight_errors(net.state_dict(), back.state_dict()).items():
        assert 0.5 * limit < error <= limit, name
        told = {row.name: row.relative_error for row in found.rows}
        assert told[name] == pytest.approx(error, rel=1e-4)


@torch.no_grad()
def test_outputs_come_nearer_as_the_tolerance_falls():
    net, x = network(), inputs()
    off = [
        float((sws.load(shrunk(net, tolerance=t).data, into=net)(x) - net(x)).square().mean())
        for t in (1e-1, 1e-3, 1e-5)
    ]
    assert off[0] > 30 * off[1] > 900 * off[2] > 0


@torch.no_grad()
def test_batch_norms_are_folded_as_the_packing_says():
    net, x = network(), inputs()
    folded, kept = (
        shrunk(net, tolerance=1e-5),
        shrunk(net, tolerance=1e-5, packing=sws.Packing(fold=False)),
    )
    assert folded.bytes < kept.bytes
    for found in (folded, kept):
        torch.testing.assert_close(
            sws.load(found.data, into=net)(x), net(x), rtol=0, atol=0.02 * float(net(x).std())
        )
    assert inspect(folded.data).version in (3, 4)


def test_the_network_and_the_generator_are_left_as_they_were():
    net = network().train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    shrunk(net)
    assert net.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_dtype_comes_back_in_it(dtype):
    net = network().to(dtype)
    back = sws.load(shrunk(net).data, into=net)
    given = {name: w.double() for name, w in net.state_dict().items()}
    found = {name: w.double() for name, w in back.state_dict().items()}
    assert next(back.parameters()).dtype == dtype
    assert max(weight_errors(given, found).values()) <= 0.005


def test_a_result_is_saved_and_says_what_it_is(tmp_path):
    net = network()
    found = shrunk(net)
    found.save(tmp_path / "net.sws")
    assert isinstance(found, sws.Shrunk) and found.path is None
    assert (tmp_path / "net.sws").stat().st_size == found.bytes == len(found.data)
    assert {row.name for row in found.rows} == net.state_dict().keys()
    assert "b'" not in repr(found)
    sws.load(tmp_path / "net.sws", into=net)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_are_one_tensor():
    net = Tied()
    back = sws.load(shrunk(net).data, into=net)
    assert back.head.weight is back.embedding.weight


def test_a_checkpoint_that_names_tied_weights_twice_is_loaded(tmp_path):
    net = Tied()
    sws.shrink(net.state_dict(), tmp_path / "m.sws", tolerance=1e-6)
    back = sws.load(tmp_path / "m.sws", into=net)
    torch.testing.assert_close(back.head.weight, net.head.weight, rtol=0, atol=0.01)


def test_a_file_with_a_fingerprint_has_no_names():
    net = network()
    found = shrunk(net, packing=sws.Packing(fingerprint=True))
    assert b"running" not in found.data and found.bytes < shrunk(net).bytes
    sws.load(found.data, into=net)


def test_half_of_a_tensors_rounding_is_as_the_packing_says():
    net = network()
    found = [shrunk(net, packing=sws.Packing(raw=raw, fold=False)) for raw in ("int8", "exact")]
    assert found[0].bytes < found[1].bytes
    exact = sws.load(found[1].data, into=net)
    assert torch.equal(exact[1].running_var, net[1].running_var)


@pytest.mark.parametrize(
    "name, value", [("tau", 0.1), ("epochs", 3), ("test", [1]), ("prior", sws.Scaled())]
)
def test_what_would_say_nothing_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} says nothing of a network without data"):
        shrunk(network(), **{name: value})


def test_without_data_and_without_post_training_there_is_nothing_to_do():
    with pytest.raises(TypeError, match="train is None; give batches"):
        sws.compress(network(), None)
    with pytest.raises(ValueError, match="fit.rate says nothing"):
        sws.compress(network(), None, fit=sws.PostTraining(rate=1e-3))


def test_weights_that_are_not_finite_are_refused():
    net = network()
    net[4].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="tensor '4.weight' holds nan"):
        shrunk(net)


@pytest.mark.parametrize("net", [{"w": torch.zeros(2)}, nn.Linear, 3])
def test_what_is_no_network_is_refused(net):
    with pytest.raises(TypeError, match="net"):
        shrunk(net)


def test_errors_are_what_the_identity_says_of_the_weights():
    """Without data the curvature is the identity in units of a tensor's own mean square."""
    net = network()
    found = shrunk(net, packing=sws.Packing(fold=False))
    back = {n: w.detach() for n, w in sws.load(found.data, into=net).named_parameters()}
    curvature = identity(sws.joint(net, sws.SpikeAndSlabs(slabs=3), "categorical", 1))
    for row in found.rows:
        if row.name in back and len(row.shape) > 1:
            nats = float(curvature.blocks[row.name].cost(back[row.name]))
            assert 2 * nats == pytest.approx(row.relative_error, rel=1e-4)
