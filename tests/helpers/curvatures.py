"""Curvatures made by hand of networks whose second order is known."""

from typing import Any

import numpy as np
import torch
from regressions import NOISE, PRECISION
from torch import Tensor, nn

import pyro_sws as sws
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.curvature import Block, Curvature, Layout


def of_regression(x: np.ndarray, y: np.ndarray) -> Curvature:
    """What targets under noise of precision NOISE say of the weights, at their least squares."""
    moments = torch.tensor(x.T @ x / len(x))[None]
    rows = torch.full((1, 1), NOISE, dtype=torch.float64)
    at = torch.tensor(np.linalg.lstsq(x, y, rcond=None)[0])[None]
    layout = Layout.plain(tuple(at.shape))
    return Curvature({"weight": Block(at, moments, rows, layout)}, len(x))


def curved_ridge(x: np.ndarray, y: np.ndarray, tau: float = 1.0, prior: Any = None) -> Joint:
    """As ``ridge``, of the data's curvature in the place of the data."""
    net = nn.Linear(x.shape[1], 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(0.5, -0.5, x.shape[1]))
    return sws.joint(net, prior or sws.GaussianPrior(PRECISION), of_regression(x, y), tau=tau)


@torch.no_grad()
def of_classifier(net: nn.Sequential, inputs: Tensor) -> Curvature:
    """Of Linear, Tanh, Linear and logits: moments of each layer's inputs, and of its outputs.

    Those of the outputs are the means of the diagonals of J' (diag p - p p') J.
    """
    hidden, probabilities = net[:2](inputs), net(inputs).softmax(1)
    hessians = probabilities.diag_embed() - probabilities[:, :, None] * probabilities[:, None]
    second = net[2].weight
    inner = torch.einsum("kj,nkl,lj->nj", second, hessians, second) * (1 - hidden.square()).square()
    outer = hessians.diagonal(dim1=1, dim2=2)
    blocks = {}
    for layer, seen, rows in (("0", inputs, inner.mean(0)), ("2", hidden, outer.mean(0))):
        weight, bias = (net.get_parameter(f"{layer}.{kind}") for kind in ("weight", "bias"))
        moments = (seen.T @ seen / len(seen))[None]
        plain = Layout.plain(tuple(weight.shape))
        blocks[f"{layer}.weight"] = Block(weight.detach(), moments, rows[None], plain)
        alone = Layout((len(bias), 1), (0, 1))
        blocks[f"{layer}.bias"] = Block(bias.detach(), torch.ones(1, 1), rows[None], alone)
    return Curvature(blocks, len(inputs))
