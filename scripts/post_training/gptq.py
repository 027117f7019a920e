"""GPTQ (Frantar et al. 2023): rounding whose errors later weights of the row make up for.

Columns in falling order of their inputs' power, one layer after another on the inputs that the
layers before give once they are quantized. Without a rate term.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pyro_sws.weights.network import copied
from scripts.post_training import grids
from scripts.post_training.moments import layers, moments

DAMPING = 0.01  # of the mean power, as in the paper's code


def multiples(net: nn.Module, inputs: Tensor, steps: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Each parameter as multiples of its step."""
    tensors = grids.coded(net)
    found = {name: grids.rounded(values, steps[name]) for name, values in tensors.items()}
    own = copied(net)
    _fill(own, {name: found[name] * steps[name] for name in found})
    for layer in layers(net, inputs[:1]):
        for name, moment in moments(own, layer, inputs).items():
            rows = tensors[name].reshape(len(tensors[name]), -1)
            fed_back = with_feedback(rows, moment.numpy(), steps[name])
            found[name] = fed_back.reshape(tensors[name].shape)
            _fill(own, {name: found[name] * steps[name]})
    return found


def with_feedback(weights: np.ndarray, moment: np.ndarray, step: float) -> np.ndarray:
    """Multiples of the step for weights (rows, columns) of inputs with this second moment.

    Weights of inputs that are always 0 become 0.
    """
    if not step:
        return np.zeros(weights.shape, np.int64)
    power = np.diag(moment)
    dead = power == 0
    weights = np.where(dead, 0.0, weights)
    order = np.argsort(-power, kind="stable")
    damped = moment + np.diag(dead + DAMPING * power.mean())
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left = weights[:, order]
    found = np.zeros(weights.shape, np.int64)
    for i, column in enumerate(order):
        found[:, column] = np.rint(left[:, i] / step)
        error = (left[:, i] - step * found[:, column]) / upper[i, i]
        left[:, i + 1 :] -= np.outer(error, upper[i, i + 1 :])
    return found


@torch.no_grad()
def _fill(net: nn.Module, values: Mapping[str, np.ndarray]) -> None:
    for name, array in values.items():
        parameter = net.get_parameter(name)
        parameter.copy_(torch.from_numpy(array).to(parameter))
