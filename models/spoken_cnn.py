"""Convolutional networks over spectrograms, one- and two-dimensional. Torch only."""

from itertools import pairwise

from torch import nn


def spoken_cnn(bands: int = 40, classes: int = 10) -> nn.Module:
    """Three convolutions over time with batch norm; inputs (B, bands, frames)."""
    return nn.Sequential(
        *_convolution(bands, 48, 5),
        *_convolution(48, 64, 3),
        *_convolution(64, 84, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(84, classes),
    )


def spectrogram_cnn(bands: int = 40, classes: int = 10) -> nn.Module:
    """Three convolutions over bands and time with batch norm; inputs (B, bands, frames)."""
    channels = 1, 16, 40, 84
    layers: list[nn.Module] = [nn.Unflatten(1, (1, bands))]
    for fan_in, fan_out in pairwise(channels):
        convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes)]
    return nn.Sequential(*layers, *head)


def _convolution(channels_in: int, channels: int, size: int) -> list[nn.Module]:
    convolution = nn.Conv1d(channels_in, channels, size, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm1d(channels), nn.ReLU(), nn.MaxPool1d(2)]
