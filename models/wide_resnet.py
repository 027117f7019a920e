"""The wide residual network of Zagoruyko & Komodakis 2016, for small images. Torch only.

WRN-d-k has d convolutions, three of them shortcuts, in three stages of (d - 4) / 6 blocks and of
16 k, 32 k and 64 k channels.
"""

from torch import Tensor, nn

STAGE_CHANNELS = 16, 32, 64  # before widening; each stage but the first halves the image


def wide_resnet(
    depth: int = 16, widening: int = 4, classes: int = 10, dropout: float = 0.0
) -> nn.Module:
    """WRN-depth-widening, 2,748,890 parameters by default; inputs (B, 3, 32, 32).

    ``dropout`` is the probability of dropping a unit between a block's convolutions.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6 n + 4 with n >= 1 blocks a stage, got {depth}")
    return WideResNet((depth - 4) // 6, widening, classes, dropout)


def convolution_or_linear(name: str, parameter: nn.Parameter) -> bool:
    """Whether a tensor is no batch norm's: a recipe's ``where``.

    A norm's scales lie around 1, far from all other weights, and a zero among them ends a channel.
    """
    return "norm" not in name


class WideResNet(nn.Module):
    """Three stages of pre-activation blocks, and the average over what is left of the image."""

    def __init__(self, blocks: int, widening: int, classes: int, dropout: float):
        super().__init__()
        self.conv = convolution(3, STAGE_CHANNELS[0])
        channels = STAGE_CHANNELS[0]
        stages = []
        for i, base in enumerate(STAGE_CHANNELS):
            wide = base * widening
            first = Block(channels, wide, 1 if i == 0 else 2, dropout)
            rest = [Block(wide, wide, 1, dropout) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels = wide
        self.stage1, self.stage2, self.stage3 = stages
        self.norm = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.stage3(self.stage2(self.stage1(self.conv(inputs))))
        return self.linear(self.norm(hidden).relu().mean((2, 3)))


class Block(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))); a 1 x 1 convolution carries x to a new shape."""

    def __init__(self, channels_in: int, channels: int, stride: int, dropout: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = convolution(channels_in, channels, stride=stride)
        self.norm2 = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(dropout)
        self.conv2 = convolution(channels, channels)
        same = channels_in == channels and stride == 1
        self.shortcut = None if same else convolution(channels_in, channels, 1, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        active = self.norm1(inputs).relu()
        # Where the shape changes, the shortcut follows the activation, as in the authors' code.
        shortcut = inputs if self.shortcut is None else self.shortcut(active)
        hidden = self.drop(self.norm2(self.conv1(active)).relu())
        return shortcut + self.conv2(hidden)


def convolution(channels_in: int, channels: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, size, stride, padding=size // 2, bias=False)
