"""The LeNets of Ullrich et al. 2017: a 784-300-100-10 perceptron and Caffe's LeNet-5. Torch only.

Parameter names are Caffe's (ip is "inner product"), so published weights load without renaming.
"""

import torch
from torch import Tensor, nn


def lenet_300_100(dropout: float = 0.0, input_dropout: float = 0.0) -> nn.Module:
    """784-300-100-10 with ReLU, 266,610 parameters; inputs (B, 1, 28, 28) or (B, 784)."""
    return LeNet300(dropout, input_dropout)


def lenet_5_caffe(dropout: float = 0.0) -> nn.Module:
    """Caffe's examples/mnist/lenet_train_test.prototxt, 431,080 parameters; inputs (B, 1, 28, 28).

    Caffe's own weights expect pixels / 256.
    """
    return LeNet5(dropout)


class LeNet300(nn.Module):
    """Rates are the probabilities of dropping an input and a hidden unit while training."""

    def __init__(self, dropout: float, input_dropout: float):
        super().__init__()
        self.ip1 = nn.Linear(784, 300)
        self.ip2 = nn.Linear(300, 100)
        self.ip3 = nn.Linear(100, 10)
        self.drop_input = nn.Dropout(input_dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.drop_input(inputs.flatten(1))
        hidden = self.drop(self.ip1(hidden).relu())
        hidden = self.drop(self.ip2(hidden).relu())
        return self.ip3(hidden)


class LeNet5(nn.Module):
    """The only ReLU is the one after ip1: the convolutions are linear up to their max pooling."""

    def __init__(self, dropout: float):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.ip1 = nn.Linear(50 * 4 * 4, 500)
        self.ip2 = nn.Linear(500, 10)
        # Caffe rounds the pooled size up, torch down; on 28 x 28 both sizes are even.
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.drop = nn.Dropout(dropout)
        for layer in (self.conv1, self.conv2, self.ip1, self.ip2):
            fill_as_caffe(layer)

    def forward(self, inputs: Tensor) -> Tensor:
        # A step takes a third less time on a CPU; contiguous() does nothing for one channel.
        inputs = inputs.clone(memory_format=torch.channels_last)
        hidden = self.pool(self.conv1(inputs))
        hidden = self.pool(self.conv2(hidden))
        hidden = self.drop(self.ip1(hidden.flatten(1)).relu())
        return self.ip2(hidden)


def fill_as_caffe(layer: nn.Conv2d | nn.Linear) -> None:
    """Caffe's "xavier" filler, uniform within sqrt(3 / fan_in) of zero, and zero biases."""
    # Not xavier_uniform_, which averages fan-in and fan-out; Caffe's default norm is fan-in alone.
    nn.init.kaiming_uniform_(layer.weight, mode="fan_in", nonlinearity="linear")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
