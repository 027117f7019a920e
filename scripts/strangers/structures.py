"""The networks that models/ lacks: perceptrons, recurrent ones, attention, ResNet-20. Torch only.

They are as a user would write them: nothing in them is there for the compression.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

CHARACTERS = 65  # distinct ones of tinyshakespeare
WINDOW = 64  # characters that a network of text sees at once
BANDS, FRAMES = 40, 64  # of a recording's log-mel spectrogram
SPOKEN = 10  # digits


def perceptron(*sizes: int) -> nn.Module:
    """Fully connected layers with ReLU between them; inputs (B, sizes[0])."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def spoken_cnn() -> nn.Module:
    """Three convolutions over time with batch norm; inputs (B, BANDS, FRAMES)."""
    return nn.Sequential(
        *_convolution(BANDS, 48, 5),
        *_convolution(48, 64, 3),
        *_convolution(64, 84, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(84, SPOKEN),
    )


def spectrogram_cnn() -> nn.Module:
    """Three convolutions over bands and time with batch norm; inputs (B, BANDS, FRAMES)."""
    channels = 1, 16, 40, 84
    layers: list[nn.Module] = [nn.Unflatten(1, (1, BANDS))]
    for fan_in, fan_out in pairwise(channels):
        convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], SPOKEN)]
    return nn.Sequential(*layers, *head)


def _convolution(channels_in: int, channels: int, size: int) -> list[nn.Module]:
    convolution = nn.Conv1d(channels_in, channels, size, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(2)]


class SpokenGRU(nn.Module):
    """A GRU over the frames, and a layer on the mean of its states; inputs (B, BANDS, FRAMES)."""

    def __init__(self, units: int = 64):
        super().__init__()
        self.gru = nn.GRU(BANDS, units, batch_first=True)
        self.linear = nn.Linear(units, SPOKEN)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.gru(inputs.transpose(1, 2))
        return self.linear(states.mean(1))


class TextGRU(nn.Module):
    """The next character after each; inputs (B, T) int64, outputs (B, T, CHARACTERS)."""

    def __init__(self, units: int = 128, width: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.gru = nn.GRU(width, units, batch_first=True)
        self.linear = nn.Linear(units, CHARACTERS)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(inputs))
        return self.linear(states)


class TextTransformer(nn.Module):
    """The next character after each, by attention; inputs (B, WINDOW), outputs as of TextGRU."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.position = nn.Parameter(0.02 * torch.randn(WINDOW, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, CHARACTERS)
        mask = torch.full((WINDOW, WINDOW), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.embedding(inputs) + self.position
        return self.linear(self.norm(self.encoder(hidden, mask=self.mask)))


class ResNet20(nn.Module):
    """For CIFAR-10 (He et al. 2016), names and shortcuts as Idelbayev's; inputs (B, 3, 32, 32)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16)
        self.layer2 = _stage(16, 32)
        self.layer3 = _stage(32, 64)
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(inputs)).relu()
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.linear(hidden.mean((2, 3)))


def _stage(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        Block(channels_in, channels), Block(channels, channels), Block(channels, channels)
    )


class Block(nn.Module):
    """Two convolutions and a shortcut without weights: every second pixel, zeros as channels."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.stride = channels // channels_in
        self.added = (channels - channels_in) // 2  # channels, on either side
        self.conv1 = nn.Conv2d(channels_in, channels, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(self.bn1(self.conv1(inputs)).relu()))
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, self.added, self.added))
        return (hidden + shortcut).relu()
