"""Rewriting through norms, streams, groups, attention and recurrences: the same function."""

# ruff: noqa: E501

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from moved_units import change_of_outputs, dense, outputs
from real_networks import REAL, With
from sparse_networks import filled, nonzero, sparse
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.rewriting.axes import order_of
from pyro_sws.rewriting.links import find_links
from pyro_sws.rewriting.rewrite import rewrite
from pyro_sws.weights.structures import fed

SEEDS = st.integers(0, 2**32 - 1)


def doubled(example):
    return tree_map(lambda t: t.double() if t.is_floating_point() else t, example)


def real(kind):
    make, example, units = REAL[kind]
    return dense(make()), doubled(example), units


@pytest.mark.parametrize("kind", REAL)
def test_units_are_found_and_may_take_any_order(kind):
    net, example, units = real(kind)
    found = find_links(net, example)
    assert [link.units for link in found.links] == units and not found.left_alone
    for seed in range(3):
        assert change_of_outputs(net, example, seed=seed) < 1e-12


@pytest.mark.parametrize("kind", REAL)
def test_what_was_read_on_one_batch_holds_on_another(kind):
    net, example, _ = real(kind)
    found = find_links(net, example)
    one = tree_map(lambda t: t[:1], example)
    assert change_of_outputs(net, one, found) < 1e-12
    if kind in ("LSTM", "LSTM both ways", "GRU", "RNN", "a transformer by hand"):
        assert change_of_outputs(net, example[:, :2], found) < 1e-12  # shorter
        assert change_of_outputs(net, example[:, :5].repeat(2, 1), found) < 1e-12
        longer = find_links(net, example[:, :2])
        assert change_of_outputs(net, example, longer) < 1e-12


@pytest.mark.parametrize("kind", REAL)
def test_each_link_is_needed_whole(kind):
    """An order of all its places but one changes the outputs: else the test above says nothing."""
    net, example, _ = real(kind)
    found = find_links(net, example)
    link = found.links[-1]
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = outputs(net, example)
    (reading,) = [place for place in link.places if place.reads][-1:]
    order = np.roll(np.arange(link.units), 1)
    with torch.no_grad():
        index = torch.from_numpy(order_of(reading.layout, {link.leaf: order}))
        moved = tensors[reading.name]
        moved.copy_(moved.index_select(reading.axis, index))
    after = outputs(net, example)
    assert max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True)) > 1e-6


def quantized_of(net, *, dead, seed=0):
    """Sparse symbols; ``dead``: some units that could go are read by nothing."""
    q = sparse(net, seed, density=0.6)
    if not dead:
        return q
    symbols = {name: array.copy() for name, array in q.symbols.items()}
    for link in dead:
        for place in (place for place in link.places if place.reads):
            index = (slice(None),) * place.axis + (np.flatnonzero(place.unit == 0),)
            symbols[place.name][index] = 1  # the value 0
    return Quantized(symbols, q.codebooks, q.codebook_of, q.raw)


@pytest.mark.parametrize("kind", REAL)
def test_the_file_is_shorter_and_the_function_stays(kind):
    net, example, _ = real(kind)
    q = quantized_of(net, dead=())
    r = rewrite(net, q, example=example)
    assert len(encode(r.quantized)) <= len(encode(q))
    assert 0 <= r.largest_difference < 1e-10 and not r.left_alone


@pytest.mark.parametrize("kind", REAL)
def test_dead_units_are_dropped(kind):
    net, example, _ = real(kind)
    dead = [link for link in find_links(net, example).links if link.droppable]
    q = quantized_of(net, dead=dead)
    r = rewrite(net, q, length=nonzero, example=example)
    assert r.dropped > 0 and nonzero(r.quantized) < nonzero(q)
    assert len(encode(rewrite(net, q, example=example).quantized)) < len(encode(q))
    with torch.no_grad():
        pairs = zip(outputs(filled(net, q), example), outputs(r.network, example), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-10


def test_batch_norms_vectors_go_along_and_their_averages_stay():
    net, example, _ = real("residual images")
    q = sparse(net, 3, density=0.7)
    r = rewrite(net, q, example=example)
    assert r.orders
    for name in ("blocks.0.1.running_mean", "blocks.0.1.running_var"):
        assert sorted(r.quantized.raw[name]) == sorted(q.raw[name])


def stream(forward, **parts):
    """Two layers that make a stream of eight, what ``forward`` does with it, and a reader."""
    parts = {"one": nn.Linear(5, 8), "two": nn.Linear(8, 8), "head": nn.Linear(8, 3)} | parts
    return With(forward, **parts)


TRAPS = {
    "it is sliced": stream(lambda m, x: m.head(m.two(h := m.one(x)) + h)[:, :2] + h[:, 2:4]),
    "it is sliced and joined again": stream(
        lambda m, x: m.head(torch.cat([(h := m.one(x))[:, 3:], m.two(h)[:, :3]], -1))
    ),
    "it is chunked": stream(lambda m, x: (h := m.one(x).chunk(2, -1), m.head(m.two(torch.cat(h[::-1], -1))))[1]),
    "its chunks are taken in turn": stream(
        lambda m, x: m.head(torch.cat([t.relu() for t in m.one(x).chunk(4, -1)], -1)) + m.two(m.one(x))[:, :3]
    ),
    "it is joined to itself": stream(
        lambda m, x: m.wide(torch.cat([h := m.one(x), m.two(h)], -1)), wide=nn.Linear(16, 3)
    ),
    "it is transposed": stream(lambda m, x: m.head((m.one(x) @ m.two(m.one(x)).T) @ m.one(x))),
    "it is turned around": stream(lambda m, x: m.head(m.two(h := m.one(x)) + h.flip(-1))),
    "it is rolled": stream(lambda m, x: m.head(m.two(h := m.one(x)) + h.roll(1, -1))),
    "it is summed up": stream(lambda m, x: m.head(m.two(m.one(x)).cumsum(-1))),
    "it is indexed": stream(lambda m, x: m.head(m.two(m.one(x))[:, torch.tensor([1, 0, *range(2, 8)])])),
    "its largest unit is named": stream(lambda m, x: m.head(m.two(h := m.one(x)).relu()) + h.argmax(-1)[:, None]),
    "it is sorted": stream(lambda m, x: m.head(m.two(m.one(x)).sort(-1).values)),
    "it is reshaped to a square": stream(
        lambda m, x: m.head((m.two(m.one(x)).view(-1, 2, 4).transpose(1, 2)).flatten(1))
    ),
    "it is reshaped two ways": stream(
        lambda m, x: (h := m.one(x), m.head(m.two(h)) + h.view(-1, 2, 4).sum(1)[:, :3] + h.view(-1, 4, 2).sum(1)[:, :1])[1]
    ),
    "a weight is used twice": stream(lambda m, x: m.head(m.two(m.two(m.one(x)).relu()).relu())),
    "a weight is used transposed": stream(lambda m, x: F.linear(m.two(m.one(x)), m.one.weight.T)),
    "a weight is turned around": stream(lambda m, x: m.head(F.linear(m.one(x), m.two.weight.flip(0)))),
    "weights are added": stream(lambda m, x: m.head(F.linear(m.one(x), m.two.weight + m.two.weight.T))),
    "a constant of the forward's is added": stream(lambda m, x: m.head(m.two(m.one(x)) + torch.arange(8.0).double())),
    "a buffer is written into": stream(lambda m, x: (h := torch.zeros(len(x), 8).double(), h[:, 2:].copy_(m.one(x)[:, 2:]), m.head(m.two(h)))[2]),
    "a part is written into": stream(lambda m, x: (h := m.one(x), h[:, :2].mul_(2), m.head(m.two(h)))[2]),
    "it is the input too": stream(lambda m, x: m.head(m.two(h := torch.cat([x, x[:, :3]], -1)) + h)),
    "a norm over groups of it": stream(lambda m, x: m.head(m.norm(m.two(m.one(x)))), norm=nn.GroupNorm(2, 8)),
    "pairs of it are exchanged": stream(  # rotary places
        lambda m, x: m.head(torch.stack([-(h := m.two(m.one(x)))[:, 1::2], h[:, ::2]], -1).flatten(1))
    ),
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_a_stream_is_never_reordered_wrongly(trap):
    net, x = TRAPS[trap], torch.randn(4, 5).double()
    for seed in range(3):
        assert change_of_outputs(net, x, seed=seed) < 1e-12
    own = dense(net)
    q = quantized_of(own, dead=[link for link in find_links(own, x).links if link.droppable])
    r = rewrite(own, q, length=nonzero, example=x)
    pairs = zip(outputs(filled(own, q), x), outputs(r.network, x), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-10


def test_a_trap_says_what_held_its_units():
    left = find_links(dense(TRAPS["it is summed up"]), torch.randn(4, 5).double()).left_alone
    assert left["two.weight"] == "cumsum"


def test_tied_embeddings_move_with_the_stream():
    def forward(m, x):
        h = m.embed(x)
        return F.linear(h + m.two(F.gelu(m.one(h))), m.embed.weight)

    net = With(forward, embed=nn.Embedding(11, 6), one=nn.Linear(6, 9), two=nn.Linear(9, 6))
    x = torch.randint(0, 11, (3, 5))
    stream, hidden = find_links(net.eval(), x).links
    places = {(place.name, place.axis, place.reads) for place in stream.places}
    assert ("embed.weight", 1, True) in places and (stream.units, hidden.units) == (6, 9)
    assert change_of_outputs(net, x) < 1e-12


def test_a_chunk_in_a_loop_no_longer_hides_all_links():
    def forward(m, x):
        parts = [t * (k + 1) for k, t in enumerate(m.one(x).chunk(3, -1))]
        return m.two(torch.cat(parts, -1).relu())

    net = With(forward, one=nn.Linear(5, 9), two=nn.Linear(9, 2))
    x = torch.randn(4, 5).double()
    assert [link.units for link in find_links(net.eval(), x.float()).links] == [3, 3, 3]
    assert change_of_outputs(net, x) < 1e-12


def test_outputs_that_differ_are_left_alone_with_a_word(monkeypatch):
    net, example, _ = real("separable images")
    q = sparse(net, 3, density=0.7)
    rng = np.random.default_rng(0)
    broken = lambda axis, orders: rng.permutation(axis.size)  # noqa: E731  (of each place its own)
    monkeypatch.setattr("pyro_sws.rewriting.units.order_of", broken)
    shorter = itertools.count(10**6, -1)  # whatever is tried
    r = rewrite(net, q, example=example, length=lambda quantized: next(shorter))
    assert r.quantized == q and "outputs differed by" in r.left_alone["the network"]


BLOCKS = {
    "layer": lambda n, m: nn.Linear(n, m),
    "two layers": lambda n, m: nn.Sequential(nn.Linear(n, 6), nn.ReLU(), nn.Linear(6, m)),
    "normed": lambda n, m: nn.Sequential(nn.LayerNorm(n), nn.Linear(n, m), nn.Tanh()),
    "batch-normed": lambda n, m: nn.Sequential(nn.Linear(n, m), nn.BatchNorm1d(m), nn.ReLU()),
    "gated": lambda n, m: nn.Sequential(nn.Linear(n, 2 * m), nn.GLU(-1)),
}
JOINTS = {
    "follow": lambda h, y: y,
    "add": lambda h, y: h + y,
    "multiply": lambda h, y: h * y.sigmoid(),
    "swap halves": lambda h, y: torch.cat([y[:, 4:], h[:, :4]], -1),
    "interleave": lambda h, y: torch.stack([h, y], -1).flatten(1)[:, :8],
    "square": lambda h, y: (h.view(-1, 2, 4) * y.view(-1, 2, 4).softmax(1)).flatten(1),
    "columns": lambda h, y: (h.view(-1, 4, 2) + y.view(-1, 4, 2).mean(1, keepdim=True)).flatten(1),
    "normalize": lambda h, y: F.layer_norm(h + y, (8,)),
    "reverse": lambda h, y: h + y.flip(-1),
    "attend": lambda h, y: (h @ y.T).softmax(-1) @ h,
}


class Graph(nn.Module):
    """Blocks on a stream of eight, joined to it one after the other."""

    def __init__(self, blocks, joints, again):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(BLOCKS[block](8, 8) for block in blocks)
        self.joints, self.again = joints, again

    def forward(self, x):
        h = self.first(x)
        for block, joint in zip(self.blocks, self.joints, strict=False):
            h = JOINTS[joint](h, block(h))
        for k in self.again:
            h = h + self.blocks[k % len(self.blocks)](h)
        return self.last(h)


@settings(max_examples=12)
@drawn(
    blocks=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4),
    joints=st.lists(st.sampled_from(sorted(JOINTS)), min_size=4, max_size=4),
    again=st.lists(st.integers(0, 3), max_size=1),
    seed=SEEDS,
)
def test_random_graphs_of_blocks_compute_the_same(blocks, joints, again, seed):
    net, x = Graph(blocks, joints, again), torch.randn(4, 5).double()
    assert change_of_outputs(net, x, seed=seed) < 1e-9
    own = dense(net, seed)
    q = quantized_of(own, dead=[k for k in find_links(own, x).links if k.droppable], seed=seed)
    r = rewrite(own, q, length=nonzero, example=x)
    with torch.no_grad():
        before, after = fed(copy.deepcopy(filled(own, q)), x), fed(r.network, x)
    torch.testing.assert_close(after, before, rtol=1e-7, atol=1e-7)
