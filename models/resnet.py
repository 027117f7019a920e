"""ResNet-20 for images of 32 x 32 pixels (He et al. 2016). Torch only."""

from torch import Tensor, nn


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
