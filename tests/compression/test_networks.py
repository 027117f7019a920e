"""Networks that a fit or a file could silently get wrong: refused in one line, or served rightly.

A loaded network's outputs are compared with what torch.nn.functional makes of the file's tensors.
"""

import copy
import warnings
from contextlib import nullcontext
from functools import cache

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from problems import classifier
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import pyro_sws as sws
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.pretrain import Pretraining, pretrain
from pyro_sws.weights.network import plain

pytestmark = pytest.mark.integration

PRIOR = sws.SpikeAndSlabs(slabs=2, start_deviation=0.3)


def compressed(net, inputs=None, targets=None, **keys):
    _, own_inputs, own_targets = classifier()
    inputs = own_inputs if inputs is None else inputs
    batches = [(inputs, own_targets if targets is None else targets)]
    return sws.compress(net, batches, **{"prior": PRIOR, "epochs": 1} | keys)


def refusal(net, *data, error=ValueError, **keys):
    """The message, which is one line; nothing was fitted."""
    rows = []
    with pytest.raises(error) as caught:
        compressed(net, *data, callback=rows.append, **keys)
    assert "\n" not in str(caught.value) and not rows
    return str(caught.value)


def tensors(run):
    arrays = sws.decode(run.data).tensors()
    return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}


def by_hand(run, inputs, first="0", second="2"):
    """Two linear layers around a tanh, of the file's own tensors."""
    t = tensors(run)
    hidden = F.linear(inputs, t[f"{first}.weight"], t[f"{first}.bias"]).tanh()
    return F.linear(hidden, t[f"{second}.weight"], t[f"{second}.bias"])


# Wrapped networks: the module inside, names without a prefix.

WRAPPED = {
    "compiled": torch.compile,
    "averaged": AveragedModel,
    "parallel": nn.DataParallel,
    "compiled and averaged": lambda net: torch.compile(AveragedModel(net)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch's own, as it imports its compiler
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_network_gives_the_file_of_the_network_inside(wrap):
    net, inputs, targets = classifier()
    wrapped = wrap(net)
    run = compressed(wrapped, test=[(inputs, targets)])
    assert run.data == compressed(net, test=[(inputs, targets)]).data
    assert list(tensors(run)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    for into in (wrapped, net):
        torch.testing.assert_close(sws.load(run.data, into=into)(inputs), by_hand(run, inputs))
    wrong = (by_hand(run, inputs).argmax(-1) != targets).double().mean().item()
    assert run.report.score["decoded"] == pytest.approx(100 * wrong)
    assert run.report.network == "Sequential" and sws.architecture(wrapped) == sws.architecture(net)


PARTLY = {
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "averaged": AveragedModel,
    "parallel": nn.DataParallel,
}


@pytest.mark.parametrize("wrap", PARTLY.values(), ids=PARTLY)
def test_wrapped_parts_of_a_network_are_taken_out_of_their_wrappers_too(wrap):
    net, inputs, _ = classifier()
    outside = copy.deepcopy(net)
    parts = nn.Sequential(nn.Sequential(wrap(outside[0])), net[1], wrap(outside[2]))
    names = list(parts.state_dict())
    run = compressed(parts)
    assert list(tensors(run)) == ["0.0.weight", "0.0.bias", "2.weight", "2.bias"]
    plain_parts = nn.Sequential(nn.Sequential(net[0]), net[1], net[2])
    assert run.data == compressed(plain_parts).data and list(parts.state_dict()) == names
    for into in (parts, plain_parts):
        decoded = sws.load(run.data, into=into)
        torch.testing.assert_close(decoded(inputs), by_hand(run, inputs, "0.0"))


class Doubled(AveragedModel):
    """A wrapper with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Original(nn.Module):
    """A part by the name that torch.compile has for what it wraps."""

    def __init__(self, part):
        super().__init__()
        self._orig_mod = part

    def forward(self, x):
        return 2 * self._orig_mod(x)


@pytest.mark.parametrize(("wrap", "prefix"), [(Doubled, "module"), (Original, "_orig_mod")])
def test_a_module_that_does_more_than_its_wrapper_is_left_in_it(wrap, prefix):
    net, inputs, _ = classifier()
    run = compressed(wrap(net))
    expected = 2 * by_hand(run, inputs, f"{prefix}.0", f"{prefix}.2")
    torch.testing.assert_close(run.decoded(inputs), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("wrap", PARTLY.values(), ids=PARTLY)
def test_a_hook_on_a_wrapper_would_be_lost_and_is_refused(wrap):
    wrapped = wrap(classifier()[0])
    wrapped.register_forward_hook(lambda module, inputs, outputs: -outputs)
    assert "has a forward hook of its own" in refusal(wrapped)
    assert "register the hook on that module" in refusal(nn.Sequential(wrapped))


def test_a_network_that_is_not_wrapped_is_itself():
    net = classifier()[0]
    assert plain(net) is net


# No network at all.


def test_what_is_no_module_is_a_type_error_with_the_remedy():
    net = classifier()[0]
    assert "the class Linear" in refusal(nn.Linear, error=TypeError)
    assert "load_state_dict" in refusal(net.state_dict(), error=TypeError)
    assert "load_state_dict" in refusal({"state_dict": net.state_dict()}, error=TypeError)
    assert "must be a torch.nn.Module, got str" in refusal("net.pt", error=TypeError)
    data = compressed(net).data
    for into, words in ((nn.Linear, "the class Linear"), (net.state_dict(), "load_state_dict")):
        with pytest.raises(TypeError, match=words):
            sws.load(data, into=into)


# Networks without values of their own.


def test_a_network_on_the_meta_device_is_refused():
    net = classifier()[0]
    assert "'0.weight' is on the meta device" in refusal(copy.deepcopy(net).to("meta"))
    data = compressed(net).data
    with pytest.raises(ValueError, match="meta device"):
        sws.load(data, into=copy.deepcopy(net).to("meta"))
    partly = copy.deepcopy(net)
    partly[2].register_buffer("scale", torch.ones(3, device="meta"))
    assert "buffer '2.scale' is on the meta device" in refusal(partly)


def test_a_lazy_and_a_scripted_network_are_refused():
    assert "has no shape yet" in refusal(nn.Sequential(nn.LazyLinear(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(4, 3))
        traced = torch.jit.trace(nn.Linear(4, 3), torch.ones(1, 4))
    assert "is a ScriptModule" in refusal(scripted) and "ScriptModule" in refusal(traced)
    assert "module '1' is a ScriptModule" in refusal(nn.Sequential(nn.Linear(4, 4), traced))


def test_sparse_weights_and_buffers_are_refused():
    net = nn.Linear(4, 3)
    net.weight = nn.Parameter(net.weight.detach().to_sparse())
    assert "parameter 'weight' is sparse_coo" in refusal(net)
    net = nn.Linear(4, 3)
    net.register_buffer("mask", torch.eye(3).to_sparse())
    assert "buffer 'mask' is sparse_coo" in refusal(net)


# Weights that the network does not read.


class Prepared(nn.Linear):
    """Its transposed weight is prepared in eval mode, as flows and folded layers do."""

    prepared = None

    def train(self, mode=True):
        super().train(mode)
        self.prepared = None if mode else self.weight.detach().t().contiguous()
        return self

    def forward(self, x):
        return super().forward(x) if self.prepared is None else x @ self.prepared + self.bias


class Lazily(nn.Linear):
    """The same, prepared at the first use, and never again."""

    def forward(self, x):
        if "kept" not in self.__dict__:
            self.kept = {"w": self.weight.detach() * 1}
        return x @ self.kept["w"].t() + self.bias


class Listed(nn.Module):
    """It reaches its first layer's weight through a list."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)
        self.weights = [self.one.weight]

    def forward(self, x):
        return self.two((F.linear(x, self.weights[0]) + self.one.bias).tanh())


class Adapted(nn.Linear):
    """Low-rank changes of a weight that eval() merges into it."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.down, self.up = (nn.Parameter(torch.randn(n)) for n in ((2, inputs), (outputs, 2)))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            sign = -1 if mode else 1
            self.weight.data += sign * self.up.data @ self.down.data
            self.merged = not mode
        return self

    def forward(self, x):
        weight = self.weight if self.merged else self.weight + self.up @ self.down
        return F.linear(x, weight, self.bias)


def around(layer):
    torch.manual_seed(0)
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 3))


class InACache(nn.Linear):
    """The same, in an object of its own."""

    class Cache:
        weight = None

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.cache = InACache.Cache()

    def forward(self, x):
        if self.cache.weight is None:
            self.cache.weight = 2 * self.weight.detach()
        return F.linear(x, self.cache.weight / 2, self.bias)


class Hooked(nn.Module):
    """A hook computes the first layer with the weight that the hook was made with."""

    def __init__(self):
        super().__init__()
        self.body = classifier()[0]
        weight = self.body[0].weight
        self.body[0].register_forward_hook(
            lambda module, inputs, _: F.linear(inputs[0], weight, module.bias)
        )

    def forward(self, x):
        return self.body(x)


class Remembered(nn.Linear):
    """Its transposed weight is computed once a module."""

    @cache  # noqa: B019
    def transposed(self):
        return self.weight.detach().t()

    def forward(self, x):
        return x @ self.transposed() + self.bias


class Folded(nn.Linear):
    """Its scale is folded into weight and bias for eval mode, with their graph."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.scale, self.folded = nn.Parameter(torch.rand(self.out_features) + 0.5), None

    def train(self, mode=True):
        super().train(mode)
        self.folded = None if mode else (self.weight * self.scale[:, None], self.bias * self.scale)
        return self

    def forward(self, x):
        return F.linear(x, *self.folded) if self.folded else super().forward(x) * self.scale


class InAList(nn.Module):
    """Its first layer is in a list, where no module registers it."""

    def __init__(self, trained=True):
        super().__init__()
        self.body = [nn.Linear(4, 8).requires_grad_(trained), nn.Tanh()]
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return self.head(x)


class InAnObject(InAList):
    """The same, in an object of its own."""

    class Parts:
        pass

    def __init__(self):
        super().__init__()
        self.parts, self.body = InAnObject.Parts(), self.body[1:]
        self.parts.first = nn.Parameter(torch.randn(8, 4))

    def forward(self, x):
        return super().forward(F.linear(x, self.parts.first))


def borrowed():
    """Another network's layer computes in the place of its own; once bound, once in a function."""
    nets, others = [classifier()[0] for _ in range(2)], [classifier(seed=1)[0] for _ in range(2)]
    nets[0][0].forward = others[0][0].forward
    nets[1][0].forward = lambda x: others[1][0](x)
    return nets


class Parted(nn.Module):
    """It keeps a part of its weight, transposed or not, as an attribute or a buffer."""

    def __init__(self, buffer):
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(8, 4)), nn.Linear(8, 3)
        first = self.weight.detach()[:4].t().clone()
        if buffer:
            self.register_buffer("first", first)
        else:
            self.first = first

    def forward(self, x):
        return self.head(torch.cat([x @ self.first, F.linear(x, self.weight[4:])], 1))


class Copied(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("copy", self.weight.detach().t().clone())

    def forward(self, x):
        return x @ self.copy + self.bias


UNREAD = {
    "in a list": (InAList, "parameters in body that no module registers"),
    "in a list, frozen": (lambda: InAList(trained=False), "parameters in body that no module"),
    "in an object": (InAnObject, "parameters in parts that no module registers"),
    "bound elsewhere": (lambda: borrowed()[0], "parameters in 0.forward that no module registers"),
    "in a function": (lambda: borrowed()[1], "parameters in 0.forward that no module registers"),
    "a part of it": (lambda: Parted(False), "'first', a copy of 'weight' or of a part"),
    "a part in a buffer": (lambda: Parted(True), "'first', a copy of 'weight' or of a part"),
    "a buffer": (lambda: around(Copied(4, 8)), "'0.copy', a copy of '0.weight'"),
    "remembered": (lambda: around(Remembered(4, 8)), "what it made of it when first used"),
    "folded": (lambda: around(Folded(4, 8)), "does not read '0.weight' but a copy"),
    "in a cache": (lambda: around(InACache(4, 8)), "a tensor that it keeps in '0.cache'"),
    "in a hook": (Hooked, "a function in 'body.0._forward_hooks'"),
    "prepared": (lambda: around(Prepared(4, 8)), "does not read '0.weight' but a copy"),
    "prepared already": (lambda: around(Prepared(4, 8)).eval(), "does not read '0.weight'"),
    "lazily prepared": (lambda: around(Lazily(4, 8)), "a tensor that it keeps in '0.kept'"),
    "listed": (Listed, "'one.weight' is read in place alone"),
    "adapted": (lambda: around(Adapted(4, 8)), "does not read '0.down' but a copy"),
}


@pytest.mark.parametrize(("make", "words"), UNREAD.values(), ids=UNREAD)
def test_a_weight_that_a_fit_cannot_reach_is_named_before_the_fit(make, words):
    net = make()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    assert words in refusal(net)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


class Snapshot(nn.Linear):
    """It computes with its weight of the beginning."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.first = [self.weight.detach().clone()]

    def forward(self, x):
        return F.linear(x, self.first[0], self.bias)


def test_a_snapshot_of_the_weight_is_found_however_many_layers_there_are():
    torch.manual_seed(0)
    deep = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(60)]
    net = nn.Sequential(Snapshot(4, 8), *deep, nn.Linear(8, 3))
    assert "'0.weight' but a tensor that it keeps in '0.first'" in refusal(net)


ELSEWHERE = classifier()[0]


class Elsewhere(nn.Linear):
    def forward(self, x):
        return ELSEWHERE(x)


def test_a_network_that_reads_none_of_its_parameters_is_refused():
    assert "no output of Elsewhere depends on its parameters" in refusal(Elsewhere(4, 3))
    net = classifier()[0]
    closed = nn.Sequential(*copy.deepcopy(net))
    closed.forward = lambda x: net(x)
    assert "a function in 'forward' has from outside" in refusal(closed)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.extra = classifier()[0], nn.Linear(4, 3)

    def forward(self, x):
        return self.body(x)


def unread_in(run):
    """The warnings of layers that are not used, among others of a fit this short."""
    return [warning for warning in run.report.warnings if "no output depends" in warning]


def test_a_layer_that_is_not_used_is_a_warning():
    _, inputs, _ = classifier()
    run = compressed(Unused())
    (warning,) = unread_in(run)
    assert warning.startswith("no output depends on extra.weight, extra.bias")
    torch.testing.assert_close(run.decoded(inputs), by_hand(run, inputs, "body.0", "body.2"))


class Teaches(nn.Module):
    """Other networks in attributes, with which it does not compute, and layers known twice."""

    def __init__(self):
        super().__init__()
        self.body, self.teacher = classifier()[0], [classifier(seed=1)[0]]
        self.layers = {"first": self.body[0]}
        self.body.register_buffer("ones", torch.ones(8))
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        hidden = self.body.ones * self.layers["first"](x)
        return self.body[2](self.norm(hidden).tanh())


def test_what_is_in_lists_and_not_computed_with_or_registered_too_is_no_hindrance():
    assert unread_in(compressed(Teaches())) == []


def test_a_layer_behind_zeros_or_dead_units_is_no_unused_one():
    net = classifier()[0]
    net[2].weight.data.zero_()
    assert unread_in(compressed(net)) == []
    dead = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    dead[0].bias.data.fill_(-100)
    assert unread_in(compressed(dead)) == []


def test_a_pruned_network_is_refused_with_the_remedy_and_taken_after_it():
    net, inputs, _ = classifier()
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    message = refusal(net)
    assert message.startswith("module '0' is pruned") and "prune.remove" in message
    prune.remove(net[0], "weight")
    run = compressed(net)
    torch.testing.assert_close(run.decoded(inputs), by_hand(run, inputs))


def test_loading_leaves_no_stale_copy():
    """Into a network that prepared its old weights in eval mode."""
    net, inputs, _ = classifier()
    run = compressed(net)
    into = around(Prepared(4, 8)).eval()
    into(inputs)
    torch.testing.assert_close(sws.load(run.data, into=into)(inputs), by_hand(run, inputs))


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_hooks_that_make_a_weight_anew_are_no_stale_copies():
    _, inputs, _ = classifier()
    net = around(nn.utils.weight_norm(nn.Linear(4, 8)))
    net(inputs).sum().backward()
    exact = sws.Packing(raw="exact")
    run = compressed(net, prior=[sws.Rule(PRIOR, "2.*")], packing=exact)
    t = tensors(run)
    t["0.weight"] = t["0.weight_v"] / t["0.weight_v"].norm(dim=1, keepdim=True) * t["0.weight_g"]
    hidden = F.linear(inputs, t["0.weight"], t["0.bias"]).tanh()
    expected = F.linear(hidden, t["2.weight"], t["2.bias"])
    torch.testing.assert_close(sws.load(run.data, into=net)(inputs), expected)


def test_a_file_that_gives_other_outputs_than_what_was_quantised_is_an_error():
    net, inputs, targets = classifier()
    run = compressed(net, packing=sws.Packing(rewrite=False))
    model = sws.joint(net, PRIOR, "categorical", 60, tau=0.03)
    snapped = sws.quantize(run.packed)
    own = run.posterior, snapped
    sws.report(net, model, *own, run.data, [(inputs, targets)], example=inputs)
    raw = {name: array.copy() for name, array in snapped.tensors().items()}
    raw["2.bias"][0] += 0.5
    other = sws.encode(Quantized({}, {}, {}, raw))
    with pytest.raises(ValueError, match="read back from the file computes other outputs"):
        sws.report(net, model, *own, other, [(inputs, targets)], example=inputs)


class Centred(nn.Module):
    """f(w) - f(w0), w0 the weights of the beginning, which are of a fixed seed."""

    def __init__(self, keep):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(3, 4, generator=generator))
        keep(self, self.weight.detach().clone())

    def forward(self, x):
        first = self.first[0] if isinstance(self.first, list) else self.first
        return x @ (self.weight - first).T


KEEP = {
    "unsaved buffer": lambda net, w: net.register_buffer("first", w, persistent=False),
    "attribute": lambda net, w: setattr(net, "first", w),
    "in a list": lambda net, w: setattr(net, "first", [w]),
}


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_weights_of_the_beginning_stay_in_a_network_that_still_has_them_as_its_weights(keep):
    """As with torch's own load_state_dict, and by hand: x (w - w0)'."""
    x, own, theirs = classifier()[1], Centred(keep), Centred(keep)
    first, found = own.weight.detach().clone(), torch.rand(3, 4)
    theirs.load_state_dict({"weight": found}, strict=False)
    data = sws.encode(Quantized({}, {}, {}, {"weight": found.numpy()}))
    outputs = sws.load(data, into=own)(x)
    assert torch.equal(outputs, theirs(x))
    torch.testing.assert_close(outputs, x @ (found - first).T)


def test_a_merged_network_cannot_be_filled():
    torch.manual_seed(0)
    net = Adapted(4, 3)
    found = {name: np.ones(p.shape, np.float32) for name, p in net.named_parameters()}
    data = sws.encode(Quantized({}, {}, {}, found))
    with pytest.raises(ValueError, match=r"own eval\(\) changed 'weight'"):
        sws.load(data, into=net)


# Weights without a gradient, and networks that write.


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.body, self.reentrant = classifier()[0], reentrant

    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_is_refused(reentrant):
    assert "activation checkpointing" in refusal(Checkpointed(reentrant))


class Behind(nn.Module):
    """The first layer is behind what stops gradients."""

    def __init__(self, stop):
        super().__init__()
        self.body, self.stop = classifier()[0], stop

    def forward(self, x):
        with self.stop():
            hidden = self.body[0](x)
        return self.body[2](hidden.clone().tanh())


@pytest.mark.parametrize("stop", [torch.no_grad, torch.inference_mode])
def test_weights_that_no_gradient_reaches_are_named(stop):
    message = refusal(Behind(stop))
    assert "body.0.weight, body.0.bias without a gradient" in message
    rules = [sws.Rule(PRIOR, "body.2.*")]
    run = compressed(Behind(stop), prior=rules)
    assert run.report.uncovered == ["body.0.weight", "body.0.bias"]


class Routed(nn.Module):
    """One of three experts computes each example; the first 8 are all expert 0's."""

    def __init__(self, stop=nullcontext):
        super().__init__()
        self.gate, self.stop = nn.Linear(4, 3), stop
        self.experts = nn.ModuleList(classifier(seed)[0] for seed in range(3))
        with torch.no_grad():
            self.gate.weight.copy_(torch.eye(3, 4))
            self.gate.bias.zero_()

    def forward(self, x):
        share, chosen = self.gate(x).softmax(-1).max(-1)
        outputs = x.new_zeros(len(x), 3)
        for k, expert in enumerate(self.experts):
            if len(rows := (chosen == k).nonzero()[:, 0]):
                with self.stop():
                    made = expert(x[rows])
                outputs = outputs.index_put((rows,), made * share[rows, None])
        return outputs


def by_expert():
    _, inputs, targets = classifier()  # whose targets are the gate's choices
    order = targets.argsort(stable=True)
    return inputs[order], targets[order]


def test_experts_that_the_first_examples_do_not_use_are_no_hindrance():
    inputs, targets = by_expert()
    assert (targets[:8] == 0).all() and set(targets.tolist()) == {0, 1, 2}
    run = compressed(Routed(), inputs, targets)
    assert unread_in(run) == [] and run.report.uncovered == []


def test_an_expert_that_no_example_uses_is_none_without_a_gradient():
    inputs, targets = by_expert()
    assert compressed(Routed(), inputs[targets < 2], targets[targets < 2]).report.uncovered == []


def test_experts_that_no_gradient_reaches_are_named():
    rules = [sws.Rule(PRIOR, "experts.*.0.weight")]
    message = refusal(Routed(torch.no_grad), *by_expert(), prior=rules)
    assert all(f"experts.{k}.0.weight" in message for k in range(3))


class Exit(nn.Module):
    """Examples of which the first layer is sure leave there."""

    def __init__(self):
        super().__init__()
        self.early, self.late = nn.Linear(4, 3), classifier()[0]
        with torch.no_grad():
            self.early.weight.copy_(30 * torch.eye(3, 4))
            self.early.bias.zero_()

    def forward(self, x):
        outputs = self.early(x)
        on = (outputs.detach().amax(-1) < 10).nonzero()[:, 0]
        return outputs.index_put((on,), self.late(x[on])) if len(on) else outputs


def test_layers_behind_an_early_exit_are_no_hindrance():
    _, inputs, targets = classifier()
    order = inputs[:, :3].amax(1).argsort(descending=True)
    assert unread_in(compressed(Exit(), inputs[order], targets[order])) == []


class Whole(nn.Linear):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


def test_a_network_in_inference_mode_is_refused():
    assert "no_grad, inference_mode" in refusal(Whole(4, 3))


class Clamped(nn.Linear):
    def forward(self, x):
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


def test_a_network_that_writes_into_its_weights_is_refused():
    assert "writes into its weights as it computes: weight" in refusal(Clamped(4, 3))
    trained = Clamped(4, 3)
    trained(torch.zeros(1, 4))  # its weights are where it wants them
    assert "writes into its weights as it computes: weight" in refusal(trained)
    tokens = torch.randint(7, (20, 3))
    embedding = nn.Sequential(nn.Embedding(7, 4, max_norm=1.0), nn.Linear(4, 7))
    assert "Embedding '0' has max_norm = 1" in refusal(embedding, tokens, tokens)
    bag = nn.Sequential(nn.EmbeddingBag(7, 4, max_norm=1.0), nn.Linear(4, 7))
    assert "EmbeddingBag '0' has max_norm = 1" in refusal(bag, tokens, tokens[:, 0])


class Particular(nn.Linear):
    """It fails for weights unlike its own."""

    def forward(self, x):
        assert self.weight.abs().max() < 1
        return super().forward(x)


def test_a_network_that_fails_for_other_weights_is_looked_at_with_its_own():
    assert unread_in(compressed(Particular(4, 3))) == []


class Keeps(nn.Linear):
    def forward(self, x):
        self.seen = super().forward(x)
        return self.seen


def test_a_module_that_keeps_an_activation_is_copied_without_it():
    _, inputs, _ = classifier()
    net = around(Keeps(4, 8))
    net(inputs)
    kept = net[0].seen
    run = compressed(net)
    torch.testing.assert_close(sws.load(run.data, into=net)(inputs), by_hand(run, inputs))
    assert net[0].seen is kept and kept.requires_grad


def test_the_pieces_work_under_inference_mode():
    net, inputs, targets = classifier()
    batches = [(inputs, targets)]

    def pieces():
        model = sws.joint(net, PRIOR, "categorical", 60, tau=0.03)
        fitted = sws.fit(model, sws.delta_guide(model), batches, epochs=1)
        return sws.encode(sws.quantize(sws.merge(fitted.posterior)))

    with torch.inference_mode():
        inside = pieces()
    assert inside == pieces()


@pytest.mark.parametrize("whole", [True, False])
def test_under_inference_mode_the_file_is_the_same(whole):
    net, inputs, targets = classifier()
    with torch.inference_mode():
        if whole:
            run = compressed(net)
        data = inputs.clone(), targets.clone()
        made = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        made.load_state_dict(net.state_dict())
    run = run if whole else compressed(made, *data)
    assert run.data == compressed(net).data


# Stochastic networks.


class Bayesian(PyroModule):
    def __init__(self):
        super().__init__()
        self.fc = PyroModule[nn.Linear](4, 3)
        self.fc.weight = PyroSample(dist.Normal(0.0, 1.0).expand([3, 4]).to_event(2))

    def forward(self, x):
        return self.fc(x)


class Draws(nn.Linear):
    def forward(self, x):
        return super().forward(x) + pyro.sample("noise", dist.Normal(0.0, 1.0))


class InStore(nn.Linear):
    def forward(self, x):
        return super().forward(x) * pyro.param("scale", torch.tensor(1.0))


def with_pyro_param():
    net = PyroModule[nn.Linear](4, 3)
    net.weight = PyroParam(torch.ones(3, 4), dist.constraints.positive)
    return net


STOCHASTIC = {
    "PyroSample": (Bayesian, "is a PyroModule"),
    "PyroModule": (lambda: nn.Sequential(PyroModule[nn.Linear](4, 3)), "'0' is a PyroModule"),
    "PyroParam": (with_pyro_param, "is a PyroModule"),
    "sample": (lambda: Draws(4, 3), "sample site 'noise'"),
    "param": (lambda: InStore(4, 3), "param site 'scale'"),
}


@pytest.mark.parametrize(("make", "words"), STOCHASTIC.values(), ids=STOCHASTIC)
def test_a_network_with_sites_of_pyro_is_refused_by_name(make, words):
    assert words in refusal(make())


def test_a_deterministic_site_in_a_network_is_no_hindrance():
    class Noted(nn.Linear):
        def forward(self, x):
            return pyro.deterministic("logits", super().forward(x))

    assert unread_in(compressed(Noted(4, 3))) == []


# What a file cannot hold, or would hold wrongly.


class Extra(nn.Linear):
    def __init__(self, state):
        super().__init__(4, 3)
        self.extra = state

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


@pytest.mark.parametrize("state", [torch.ones(3), {"scale": 2.0}, b"bytes"])
def test_extra_state_is_refused_and_none_is_taken(state):
    assert "has extra state" in refusal(nn.Sequential(Extra(state)))
    assert "register its tensors as buffers" in refusal(Extra(state))
    for nothing in (None, {}, torch.zeros(0, dtype=torch.uint8)):
        assert compressed(Extra(nothing)).report.file_bytes


class Saves(nn.Linear):
    """A tensor that is in the state dict alone."""

    def __init__(self):
        super().__init__(4, 3)
        self.scale = torch.full((3,), 2.0)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}scale"] = self.scale

    def forward(self, x):
        return self.scale * super().forward(x)


def test_what_only_a_state_dict_has_is_refused():
    assert "state_dict() of Sequential has 0.scale" in refusal(nn.Sequential(Saves()))
    named = classifier()[0]
    named.register_state_dict_post_hook(lambda module, state, *_: state.update({"more": 1}))
    assert "has more, no parameter and no buffer" in refusal(named)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_network_that_torch_quantised_is_refused():
    net = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 3)))
    kinds = {"0": torch.ao.quantization.default_dynamic_qconfig}
    partly = torch.ao.quantization.quantize_dynamic(net, kinds)
    assert "as quantized layers have" in refusal(partly)


def test_a_parameter_that_a_state_dict_leaves_out_is_in_the_file():
    net, inputs, _ = classifier()
    net.register_state_dict_post_hook(lambda module, state, *_: state.__delitem__("2.weight"))
    exact = sws.Packing(raw="exact", rewrite=False)
    run = compressed(net, prior=[sws.Rule(PRIOR, "0.*")], packing=exact)
    assert torch.equal(tensors(run)["2.weight"], net[2].weight)
    torch.testing.assert_close(sws.load(run.data, into=net)(inputs), by_hand(run, inputs))


def test_parameters_of_one_numpy_array_are_refused():
    """torch.from_numpy makes a storage of its own for each, at any place of the array."""
    for start in (0, 4):
        numbers = np.random.default_rng(0).normal(size=20).astype(np.float32)
        net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        for layer, at in ((0, 0), (2, start)):
            values = torch.from_numpy(numbers[at : at + 16].reshape(4, 4))
            net[layer].weight = nn.Parameter(values)
        assert "'0.weight' and '2.weight' share their memory" in refusal(net)


def test_ties_through_shared_storage_are_refused():
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight = nn.Parameter(one.weight.detach().t())
    message = refusal(nn.Sequential(one, nn.Tanh(), two))
    assert "'0.weight'" in message and "'2.weight'" in message and "tie them" in message
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight.data = one.weight.data
    assert "share their memory" in refusal(nn.Sequential(one, nn.Tanh(), two))


def test_parameters_side_by_side_in_one_storage_are_no_tie():
    both, net = torch.randn(8, 8), nn.Sequential(nn.Linear(4, 8, False), nn.Linear(8, 4, False))
    net[0].weight = nn.Parameter(both[:, :4])
    net[1].weight = nn.Parameter(both[:4, 4:].t().reshape(4, 4).repeat(1, 2))
    third = nn.Linear(4, 8, False)
    third.weight = nn.Parameter(both[:, 4:])
    assert compressed(nn.Sequential(*net, third)).report.file_bytes


def test_a_buffer_that_is_a_view_of_a_weight_is_refused():
    net = nn.Linear(4, 3)
    net.register_buffer("row", net.weight.detach()[0])
    assert "buffer 'row' shares its memory with parameter 'weight'" in refusal(net)
    net = nn.Linear(4, 3)
    net.register_buffer("row", net.weight.detach()[0], persistent=False)
    assert "buffer 'row'" in refusal(net)


class Counts(nn.Module):
    """An integer parameter comes first."""

    def __init__(self):
        super().__init__()
        self.steps = nn.Parameter(torch.tensor([3]), requires_grad=False)
        self.body = classifier()[0]

    def forward(self, x):
        return self.body(x)


def test_an_integer_parameter_may_come_first():
    _, inputs, _ = classifier()
    run = compressed(Counts())
    assert tensors(run)["steps"].tolist() == [3]
    torch.testing.assert_close(run.decoded(inputs), by_hand(run, inputs, "body.0", "body.2"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_buffers_in_dtypes_that_numpy_lacks_are_kept_exactly(dtype):
    net = classifier()[0]
    net.register_buffer("table", torch.tensor([0.5, -1.75, 3.0]).to(dtype))
    run = compressed(net)
    assert tensors(run)["table"].tolist() == [0.5, -1.75, 3.0]
    assert run.decoded.table.dtype == dtype
    assert torch.equal(run.decoded.table.float(), net.table.float())


def test_raw_tensors_that_the_fit_s_dtype_rounds_are_in_the_file_as_they_were():
    net, values = classifier()[0].double(), [1 / 3, 1e-300, 1e300, -0.0]
    net.register_buffer("table", torch.tensor(values, dtype=torch.float64))
    net.register_parameter("free", nn.Parameter(net.table / 2))
    rules = [sws.Rule(sws.SpikeAndSlabs(), "*.weight")]
    run = compressed(net, prior=rules, dtype=torch.float32)
    assert tensors(run)["table"].tolist() == values
    assert tensors(run)["free"].tolist() == [value / 2 for value in values]
    model = sws.joint(net, rules, "categorical", 60, dtype=torch.float32)
    net.table.mul_(3)
    model.refill(net)
    assert model.raw()["table"].tolist() == [3 * value for value in values]


# The inputs.


def test_inputs_that_a_network_cannot_take_are_refused_in_one_line():
    net, inputs, targets = classifier()
    pixels = (inputs.abs() * 9).to(torch.uint8)
    message = refusal(net, pixels)
    assert "inputs, uint8 of shape" in message and "inputs.float()" in message
    assert "inputs, float32 of shape (8, 3)" in refusal(net, inputs[:, :3]).replace("60,", "8,")
    embedding = nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(8, 3))
    assert "index out of range" in refusal(embedding, torch.full((60, 2), 7))
    for which in ("test", "validation"):
        assert "cannot compute outputs" in refusal(net, **{which: [(inputs[:, :3], targets)]})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("mask"), "KeyError('mask')"),
        (AttributeError("no attribute 'mask'"), "no attribute 'mask'"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
)
def test_what_a_forward_raises_is_one_line_that_names_the_network(error, words):
    class Fails(nn.Linear):
        def forward(self, x):
            raise error

    assert refusal(Fails(4, 3)).startswith("Fails cannot compute outputs for inputs, float32")
    assert words in refusal(Fails(4, 3))


def test_a_fit_alone_says_so_in_one_line_too():
    net, inputs, targets = classifier()
    model = sws.joint(net, PRIOR, "categorical", 60)
    with pytest.raises(ValueError, match="cannot compute outputs") as caught:
        sws.fit(model, sws.delta_guide(model), [(inputs[:, :3], targets)], epochs=1)
    assert "\n" not in str(caught.value)


def test_examples_of_as_many_inputs_as_targets_are_no_batch_either():
    net, inputs, _ = classifier()
    singles = torch.utils.data.Subset(torch.utils.data.TensorDataset(inputs, inputs), range(50))
    rows = torch.utils.data.DataLoader(singles, batch_size=None)
    with pytest.raises(ValueError, match=r"train\[0\] is one example, no batch"):
        sws.compress(nn.Linear(4, 4), rows, likelihood="gaussian", epochs=1)
    sampler = torch.utils.data.BatchSampler(range(50), 10, drop_last=False)
    whole = torch.utils.data.DataLoader(singles.dataset, batch_size=None, sampler=sampler)
    run = sws.compress(nn.Linear(4, 4), whole, likelihood="gaussian", epochs=1)
    assert run.report.score["examples"] == 50


def test_single_examples_and_sparse_inputs_are_refused():
    net, inputs, targets = classifier()
    singles = torch.utils.data.TensorDataset(inputs, targets)
    rows = torch.utils.data.DataLoader(singles, batch_size=None)
    with pytest.raises(ValueError, match=r"train\[0\] is one example, no batch.*batch_size"):
        sws.compress(net, rows, epochs=1)
    assert "inputs are sparse_coo; give inputs.to_dense()" in refusal(net, inputs.to_sparse())


# Numbers.


def test_numpy_numbers_are_numbers():
    net, inputs, targets = classifier()
    keys = {"epochs": 2, "seed": 3, "tau": 0.25, "data_size": 60}
    plain_run = compressed(net, **keys, refinement=sws.Refinement(epochs=1))
    run = compressed(
        net,
        epochs=np.int64(2),
        seed=np.uint8(3),
        tau=np.float32(0.25),
        data_size=np.int32(60),
        refinement=sws.Refinement(epochs=np.int64(1), widening=np.float32(9)),
    )
    assert run.data == plain_run.data
    assert type(run.report.seed) is int and type(run.report.tau) is float
    model = sws.joint(net, PRIOR, "categorical", np.int64(60), tau=np.float64(0.25))
    fitted = sws.fit(model, sws.delta_guide(model), [(inputs, targets)], epochs=1, seed=np.int64(3))
    assert len(fitted.history) == 1 and len(sws.Batches(inputs, targets, np.int64(20))) == 3
    assert [len(x) for x, _ in sws.Batches(inputs, targets, np.int64(25))] == [25, 25, 10]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"tau": "0.1"}, "tau must be a number, or 'certificate', 'mdl' of a walk; got '0.1'"),
        ({"data_size": 60.5}, "data_size must be a whole number, got 60.5"),
        ({"epochs": np.float64(2)}, "epochs must be a whole number >= 0, got np.float64(2.0)"),
    ],
)
def test_what_is_no_such_number_is_refused(keys, words):
    assert words in refusal(classifier()[0], **keys)


def test_a_name_that_safetensors_keeps_for_itself_is_refused():
    net = classifier()[0]
    net.register_parameter("__metadata__", nn.Parameter(torch.ones(3)))
    assert "'__metadata__', which safetensors keeps for itself" in refusal(net)


# A fixed number of examples: whole batches, wherever a few would do.


class OfAFixedBatch(nn.Sequential):
    """Its forward takes batches of so many, and no others."""

    def __init__(self, *layers, size):
        super().__init__(*layers)
        self.register_buffer("state", torch.zeros(size, 4), persistent=False)

    def forward(self, x):
        return super().forward(x + self.state)


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        (30, {}),
        (30, {"packing": sws.Packing(merge_by="description")}),
        (30, {"refinement": sws.Refinement(epochs=1)}),
        (600, {}),
    ],
)
def test_a_network_of_a_fixed_batch_has_the_file_of_one_that_takes_any(size, keys):
    net, inputs, targets = classifier()
    inputs, targets = inputs.repeat(20, 1)[: 2 * size], targets.repeat(20)[: 2 * size]
    inputs += 0.01 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    keys = {"prior": PRIOR, "epochs": 1, "test": batches} | keys
    run = sws.compress(OfAFixedBatch(*net, size=size), batches, **keys)
    free = sws.compress(net, batches, **keys)
    assert run.data == free.data
    assert run.report.score == free.report.score


def test_a_network_that_takes_no_whole_batch_either_is_refused():
    net, _, _ = classifier()
    assert "of shape (60, 4)" in refusal(OfAFixedBatch(*net, size=50))


# Gradients in torch's sparse layout.


class LooksUpSparsely(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.last = nn.Parameter(torch.ones(10, 6)), nn.Linear(6, 3)

    def forward(self, ids):
        return self.last(F.embedding(ids, self.rows, sparse=True).mean(1))


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_an_embedding_with_sparse_gradients_has_the_file_of_one_without(kind):
    ids = torch.arange(200).view(50, 4) % 10
    runs = []
    for sparse in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(kind(10, 6, sparse=sparse), nn.Flatten(), nn.LazyLinear(3))
            net(ids)
        runs.append(compressed(net, ids, torch.arange(50) % 3))
        assert net[0].sparse is sparse
        pretrain(net, [(ids, torch.arange(50) % 3)], "categorical", Pretraining(epochs=1))
    assert runs[0].data == runs[1].data


def test_a_forward_with_sparse_gradients_of_its_own_is_refused():
    ids = torch.arange(200).view(50, 4) % 10
    found = refusal(LooksUpSparsely(), ids, torch.arange(50) % 3)
    assert "gradient of rows is sparse" in found and "sparse=True" in found
