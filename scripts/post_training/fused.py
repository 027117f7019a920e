"""Batch norms in the layers before them: convolutions with biases, and nothing else. torch.fx."""

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from pyro_sws.weights.network import copied


def fused(net: nn.Module) -> nn.Module:
    """A network that computes the same in eval mode; each norm after a layer is an identity.

    Norms whose inputs go elsewhere too, or are no layer's, stay. Raises what torch.fx raises for
    networks that it cannot trace.
    """
    graph = fx.symbolic_trace(copied(net).eval())
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _BatchNorm):
            continue
        before = node.args[0]
        layer = modules[before.target] if before.op == "call_module" else None
        if isinstance(layer, nn.Conv1d | nn.Conv2d) and len(before.users) == 1:
            joined: nn.Module = fuse_conv_bn_eval(layer, modules[node.target])
        elif isinstance(layer, nn.Linear) and len(before.users) == 1:
            joined = fuse_linear_bn_eval(layer, modules[node.target])
        else:
            continue
        _replace(graph, before.target, joined)
        _replace(graph, node.target, nn.Identity())
    return graph.eval()


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, module)
