"""Any module, from batches of any form, under any likelihood: the loaded network is the quantised.

By default a covering selection: every form meets every likelihood, and a fifth of these, with every
module among them, are rewritten too, which takes most of the time. All combinations are slow.
"""

import copy
from itertools import product

import pytest
import torch
from every_combination import FORMS, LIKELIHOODS, MODULES, N, drawn, network
from torch.utils._pytree import tree_map

import pyro_sws as sws
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.weights.batch_norm import folded
from pyro_sws.weights.quantize import quantize

pytestmark = pytest.mark.filterwarnings("ignore:.*oneDNN")  # torch's, of LSTMs with projections
HALVES = [slice(0, N // 2), slice(N // 2, N)]  # a step each
EXACT, REWRITTEN = 1e-6, 1e-5  # of the largest output
# Sums of another order: 16 roundings of half precision.
ROUNDED = {dtype: 16 * torch.finfo(dtype).eps for dtype in (torch.float16, torch.bfloat16)}
EACH_FIFTH = 5
COVERING = [
    (list(MODULES)[i % len(MODULES)], *pair, i % EACH_FIFTH == 0)
    for i, pair in enumerate(product(FORMS, LIKELIHOODS))
]
OFTEN = [case for i, case in enumerate(COVERING) if i % EACH_FIFTH == 0]
MORE = [pytest.param(*case, marks=pytest.mark.slow) for case in COVERING if case not in OFTEN]


def compressed(net, x, form, likelihood, packing):
    """Two steps of a fit whose values are fine enough to tell apart."""
    make, said = FORMS[form]
    spec, _, y = LIKELIHOODS[likelihood]
    whole = x, drawn(N, 3, seed=1), y
    batches = [make(*tree_map(lambda tensor: tensor[half], whole)) for half in HALVES]  # noqa: B023
    fit = {"prior": default_rules(net), "epochs": 1, "tau": 1e-6, "packing": packing}
    return sws.compress(net, batches, likelihood=spec, **fit, **said)


def outputs(net, x, form):
    dtype = next(net.parameters()).dtype
    z = None if form == "pair" else drawn(N, 3, seed=1).to(dtype)
    with torch.no_grad():
        return net(x.to(dtype) if x.is_floating_point() else x, z).double()


def check(kind, form, likelihood, rewrite):
    """Fitted, quantised, rewritten, encoded, decoded and loaded: at each step the same function."""
    net, x = network(kind, LIKELIHOODS[likelihood][1]), MODULES[kind][1]
    given = copy.deepcopy(net.state_dict())
    run = compressed(net, x, form, likelihood, sws.Packing(rewrite=rewrite))
    assert all(torch.equal(given[name], tensor) for name, tensor in net.state_dict().items())
    quantized = quantize(run.packed)  # before units are dropped and ordered
    by_hand = folded(copy.deepcopy(net))
    stored = {name: torch.tensor(values) for name, values in quantized.tensors().items()}
    assert not by_hand.load_state_dict(stored, strict=False).unexpected_keys
    wanted = outputs(by_hand, x, form)
    largest = wanted.abs().max()
    assert largest > 0.05 and (wanted.std(0) > 1e-3).any() and wanted.isfinite().all()
    rounding = ROUNDED.get(next(net.parameters()).dtype, REWRITTEN)
    files = (
        [(sws.encode(quantized), EXACT), (run.data, rounding)] if rewrite else [(run.data, EXACT)]
    )
    for data, tolerance in files:
        loaded = sws.load(data, into=net)
        assert [t.dtype for t in loaded.state_dict().values()] == [t.dtype for t in given.values()]
        assert (outputs(loaded, x, form) - wanted).abs().max() <= tolerance * largest


@pytest.mark.integration
@pytest.mark.parametrize(("kind", "form", "likelihood", "rewrite"), [*OFTEN, *MORE])
def test_the_loaded_network_computes_what_the_quantised_one_does(kind, form, likelihood, rewrite):
    check(kind, form, likelihood, rewrite)


def test_the_selection_leaves_none_out():
    assert {kind for kind, *_, rewrite in OFTEN if rewrite} == set(MODULES)
    assert {form for _, form, *_ in OFTEN} == set(FORMS)
    assert {likelihood for _, _, likelihood, _ in OFTEN} == set(LIKELIHOODS)
    rows = {sws.LIKELIHOODS[s] if isinstance(s, str) else type(s) for s, *_ in LIKELIHOODS.values()}
    assert rows >= set(sws.LIKELIHOODS.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("form", FORMS)
def test_so_does_every_combination(kind, form):
    for i, likelihood in enumerate(LIKELIHOODS):
        check(kind, form, likelihood, rewrite=i % EACH_FIFTH == 0)
